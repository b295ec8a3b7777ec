//! What a cluster of real processes leaves behind: the demo service's journal, the steps that subsystems logged, the registers.

use std::collections::BTreeSet;
use std::path::PathBuf;

use serde_json::Value;

use super::{DevCluster, PATIENCE, files_below, wait_for};
use crate::order_checker::Line;

/// The journal of the demo service: (instances that came up, of these beside another living one, recoveries by victim).
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct LicenceJournal {
    /// Nodes on which an instance came up, in order.
    pub ups: Vec<String>,
    /// Instances that found another one alive: there must be none.
    pub overlaps: usize,
    /// Victims whose licences were taken back, one for each recovery run.
    pub recovered: Vec<String>,
}

impl DevCluster {
    /// Reads the journal of the demo service.
    ///
    /// # Panics
    /// If a line cannot be understood.
    #[must_use]
    pub fn licence_journal(&self) -> LicenceJournal {
        let text = std::fs::read_to_string(self.dir().join(phalanx_node::licence_server::JOURNAL)).unwrap_or_default();
        let mut journal = LicenceJournal::default();
        for line in text.lines() {
            let entry: Value = serde_json::from_str(line).expect("a line of the journal is JSON");
            match entry["event"].as_str() {
                Some("up") => {
                    journal.ups.push(entry["node"].as_str().unwrap_or_default().to_owned());
                    journal.overlaps += usize::from(entry["overlap"] == true);
                }
                Some("recovered") => journal.recovered.push(entry["victim"].as_str().unwrap_or_default().to_owned()),
                Some(_) | None => {}
            }
        }
        journal
    }

    /// Asks the demo service for a licence until it answers, and gives the node that answered.
    ///
    /// # Panics
    /// If it does not answer in time.
    #[must_use]
    pub fn take_licence(&self) -> String {
        let port = std::fs::read_to_string(self.dir().join("licences.port")).expect("dev wrote the port");
        let url = format!("http://127.0.0.1:{}/take", port.trim());
        let answer = wait_for("an answer of the licence server", PATIENCE, || {
            let mut response = ureq::get(&url).call().ok()?;
            serde_json::from_str::<Value>(&response.body_mut().read_to_string().ok()?).ok()
        });
        answer["node"].as_str().expect("every answer names its node").to_owned()
    }

    /// Every line that command subsystems logged on any node.
    ///
    /// # Panics
    /// If a line is none.
    #[must_use]
    pub fn logged_steps(&self) -> Vec<Line> {
        let mut lines = Vec::new();
        for path in files_below(self.dir()).iter().filter(|path| path.to_string_lossy().ends_with("-steps.log")) {
            let log = std::fs::read_to_string(path).expect("a log can be read");
            lines.extend(crate::order_checker::parse(&log).expect("every line is a step"));
        }
        lines
    }

    /// Every line that command subsystems logged on any node, checked for order.
    ///
    /// # Panics
    /// With every step that was out of order.
    pub fn check_order(&self) {
        let lines = self.logged_steps();
        assert!(!lines.is_empty(), "the command subsystems logged nothing");
        let wrong = crate::order_checker::check(&lines);
        assert!(wrong.is_empty(), "steps out of order: {wrong:#?}");
    }

    /// Every transition that `node` keeps a trace of among those that command subsystems logged, checked for order; gives how
    /// many it had.
    ///
    /// # Panics
    /// With every step that was out of order.
    #[must_use]
    pub fn check_traces(&self, node: &str) -> usize {
        let socket = phalanx_node::dev::node_socket(self.dir(), node).display().to_string();
        let ids: BTreeSet<_> = self.logged_steps().into_iter().map(|line| line.transition).collect();
        let mut found = 0;
        for (term, counter) in ids {
            let output = self.run(&["--socket", &socket, "trace", &format!("{term}.{counter}"), "--format", "json"]);
            if output.status.success() {
                let trace = serde_json::from_slice(&output.stdout).expect("a trace is printed as JSON");
                let wrong = crate::order_checker::check_trace(&trace);
                assert!(wrong.is_empty(), "steps out of order in the trace of {node}: {wrong:#?}\n{trace:#?}");
                found += 1;
            }
        }
        found
    }

    /// Where the nodes of this cluster keep their processes, if they use cgroups.
    ///
    /// # Panics
    /// If the disk cannot be read.
    #[must_use]
    pub fn containments(&self) -> Vec<PathBuf> {
        let path = self.dir().join("cluster.disk");
        let disk = phalanx_node::daemon::open_disk(&path).expect("the disk can be opened");
        let configuration = disk.configurations().newest().expect("readable").expect("formatted");
        let mount = phalanx_node::containment::cgroup::mount_point().unwrap_or_default();
        let key = |node| phalanx_node::containment::containment_key(disk.superblock().cluster, &path, node);
        configuration.nodes.keys().map(|node| mount.join(key(*node))).collect()
    }

    /// Warden and daemon of a node, from its register: (warden, daemon).
    ///
    /// # Panics
    /// If the disk or the register cannot be read.
    #[must_use]
    pub fn processes_of(&self, node: &str) -> (u32, u32) {
        let disk = phalanx_node::daemon::open_disk(&self.dir().join("cluster.disk")).expect("the disk can be opened");
        let configuration = disk.configurations().newest().expect("readable").expect("formatted");
        let id = configuration.id_of(node).expect("a node of this cluster");
        let register = disk.registers().read(id).expect("readable").expect("a valid register");
        (register.fence.warden.pid, register.fence.daemon.pid)
    }
}
