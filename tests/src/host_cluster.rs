//! A cluster of several hosts, beside others of the same process: one node in each network
//! namespace, on a disk for direct I/O that all of them open.
//!
//! No node can see or kill the processes of another host, so a fence agent gives the proof of a death: a script of the test, which
//! ends every process of a namespace.

mod agent;

use std::path::PathBuf;
use std::sync::Arc;

use phalanx_node::builder::TEST_HOST_VARIABLE;
use phalanx_node::test_host::{DiskPath, TEST_PATH_VARIABLE};
use rustix::process::Signal;
use serde_json::Value;

use crate::init_cluster::{InitCluster, NodeProcess};
use crate::lan::Lan;
use crate::process_cluster::{MachineLock, PATIENCE, find, list, phalanx, processes_naming, signal_process, wait_for};
use crate::requirement::{Requirement, available};
use crate::service_journal::ServiceJournals;

pub use agent::Agent;

/// The service that a formed cluster has.
pub const TICKER: &str = "ticker";
/// What the command line of a warden says.
const WARDEN: &str = " node run ";
/// What the command line of a daemon says.
const DAEMON: &str = " node daemon ";
/// Seconds between two ticks of the services of a cluster that is watched closely.
const TICK_SECONDS: f32 = 0.01;

/// The cluster. Its service `ticker` keeps a journal of its starts and of its ticks, as long as it lives.
#[derive(Debug)]
pub struct HostCluster {
    /// The links.
    pub lan: Lan,
    /// What its services have written.
    pub journals: ServiceJournals,
    cluster: InitCluster,
    hosts: Vec<Host>,
    _lock: Arc<MachineLock>,
}

/// A host and the last start of its node.
#[derive(Debug)]
struct Host {
    node: NodeProcess,
    /// How often its power was lost.
    boot: u32,
}

impl HostCluster {
    /// Forms a cluster of so many hosts, each with these fence agents in this order, with the service `ticker`.
    ///
    /// # Panics
    /// If it does not form in time.
    #[must_use]
    pub fn form(count: usize, agents: &[Agent]) -> Self {
        let formed = Self::form_without_services(count, agents);
        formed.define_ticker();
        formed
    }

    /// The same, and where its ticker runs; none if this machine cannot have it, which is said.
    ///
    /// # Panics
    /// If it does not form in time.
    #[must_use]
    pub fn with_ticker(count: usize, agents: &[Agent]) -> Option<(Self, usize)> {
        if !available(&[Requirement::Root, Requirement::Namespaces]) {
            return None;
        }
        let formed = Self::form(count, agents);
        let status = formed.wait("the ticker", |status| ticker(status).is_some());
        let node = ticker(&status).expect("it runs");
        Some((formed, node))
    }

    /// Defines the ticker, and waits until it ticks.
    ///
    /// # Panics
    /// If that does not happen in time.
    pub fn define_ticker(&self) {
        self.define(TICKER, TICK_SECONDS);
        let _ = self.wait("the ticker", |status| ticker(status).is_some());
        wait_for("its first tick", PATIENCE, || (self.journals.ticks(TICKER) > 0).then_some(()));
    }

    /// The same without services.
    ///
    /// # Panics
    /// If it does not form in time.
    #[must_use]
    pub fn form_without_services(count: usize, agents: &[Agent]) -> Self {
        Self::form_with(count, agents, "dev")
    }

    /// The same with that timing.
    ///
    /// # Panics
    /// If it does not form in time.
    #[must_use]
    pub fn form_with(count: usize, agents: &[Agent], timing: &str) -> Self {
        let lock = MachineLock::shared();
        let lan = Lan::with_hosts(count);
        let addresses = (0..count).map(|index| format!("{}:7600", Lan::ip(index))).collect();
        let cluster = InitCluster::at(addresses, None);
        let journals = ServiceJournals::new(cluster.out().join("journals"));
        let mut formed = Self { lan, journals, cluster, hosts: Vec::new(), _lock: lock };
        std::fs::create_dir(formed.agents()).expect("a directory can be made");
        agents.iter().for_each(|agent| agent.install(&formed.agents()));
        formed.cluster.edit(|text| {
            let direct = text.replace("backend = \"mmap\"", "backend = \"direct\"");
            let direct = direct.replace("timing = \"dev\"", &format!("timing = \"{timing}\""));
            format!("{direct}\n{}", formed.fencing(count, agents))
        });
        formed.cluster.create_disk_for(count);
        for index in 0..count {
            let node = formed.start(index, 0);
            formed.hosts.push(Host { node, boot: 0 });
        }
        let _ = formed.cluster.wait_joined(count);
        formed
    }

    fn agents(&self) -> PathBuf {
        self.cluster.out().join("agents")
    }

    fn fencing(&self, count: usize, agents: &[Agent]) -> String {
        if agents.is_empty() {
            return String::new();
        }
        let names: Vec<String> = agents.iter().map(|agent| format!("\"{}\"", agent.name())).collect();
        let node = |index: usize| {
            let told = |agent: &Agent| {
                let (host, switch) = (self.lan.host(index), self.switch(index).display().to_string());
                format!("agents.{} = {{ plug = \"{host}\", switch = \"{switch}\", power_timeout = 1 }}\n", agent.name())
            };
            format!("[[fencing.node]]\nname = \"n{index}\"\n{}", agents.iter().map(told).collect::<String>())
        };
        format!("[fencing]\nmethods = [{}]\n{}", names.join(", "), (0..count).map(node).collect::<String>())
    }

    fn start(&self, index: usize, boot: u32) -> NodeProcess {
        let path = std::env::var("PATH").unwrap_or_default();
        let path = format!("{}:{path}", self.agents().display());
        let host = format!("{}:{boot}", self.lan.host(index));
        let switch = self.switch(index).display().to_string();
        let environment = [("PATH", path.as_str()), (TEST_HOST_VARIABLE, &host), (TEST_PATH_VARIABLE, &switch)];
        self.cluster.start_in(self.lan.host(index), &format!("n{index}"), &environment)
    }

    fn switch(&self, index: usize) -> PathBuf {
        self.cluster.out().join(format!("n{index}.path"))
    }

    /// From now on the path of a host to the shared disk is like that.
    ///
    /// # Panics
    /// If the switch cannot be written.
    pub fn set_path(&self, index: usize, path: DiskPath) {
        // Written beside and renamed, so that nobody finds it empty.
        let (switch, beside) = (self.switch(index), self.cluster.out().join(format!("n{index}.path-next")));
        std::fs::write(&beside, path.text()).expect("written");
        std::fs::rename(beside, switch).expect("renamed");
    }

    /// Starts the node of a host again, whose last start has ended.
    pub fn start_again(&mut self, index: usize) {
        let boot = self.hosts[index].boot;
        self.hosts[index].node = self.start(index, boot);
    }

    /// The node of a host has ended, so it may be started again.
    pub fn has_ended(&mut self, index: usize) -> bool {
        self.hosts[index].node.has_ended()
    }

    /// Starts every node that has ended, and names them.
    pub fn start_ended(&mut self) -> Vec<usize> {
        let ended: Vec<usize> = (0..self.hosts.len()).filter(|index| self.has_ended(*index)).collect();
        ended.iter().for_each(|index| self.start_again(*index));
        ended
    }

    /// The file of a service that keeps a journal and ticks that often, with `keys` added to its definition.
    ///
    /// # Panics
    /// If it cannot be written.
    #[must_use]
    pub fn service_file(&self, name: &str, tick_seconds: f32, keys: &str) -> String {
        let command = self.journals.command(tick_seconds);
        let file = self.cluster.out().join(format!("{name}.txt"));
        let service = format!(
            "[[service]]\nname = \"{name}\"\nleaves = \"processes\"\nstart_command = {{ shell = \"{command}\" }}\n\
             stop_command = {{ shell = \"{command}\" }}\n{keys}"
        );
        std::fs::write(&file, service).expect("written");
        file.display().to_string()
    }

    /// Defines a service that keeps a journal, and waits until it is registered.
    ///
    /// # Panics
    /// If it is refused.
    pub fn define(&self, name: &str, tick_seconds: f32) {
        let applied = self.run(&["service", "apply", &self.service_file(name, tick_seconds, "")]);
        assert!(applied.status.success(), "{applied:?}");
    }

    /// Waits until what a daemon answers satisfies `condition`, and gives it.
    ///
    /// # Panics
    /// If that does not happen in time.
    #[must_use]
    pub fn wait(&self, what: &str, condition: impl Fn(&Value) -> bool) -> Value {
        self.cluster.wait_status(what, condition)
    }

    /// What a daemon answers now, if one does.
    #[must_use]
    pub fn status(&self) -> Option<Value> {
        let output = self.run(&["status", "--output", "json"]);
        serde_json::from_slice(&output.stdout).ok().filter(|status: &Value| status["source"] == "daemon")
    }

    /// Runs a command as an administrator.
    #[must_use]
    pub fn run(&self, arguments: &[&str]) -> std::process::Output {
        self.cluster.run(arguments)
    }

    /// Waits for the end of the node of a host, and gives its exit code.
    ///
    /// # Panics
    /// If it does not end in time.
    pub fn wait_exit(&mut self, index: usize) -> Option<i32> {
        self.hosts[index].node.wait_exit()
    }

    /// What the last start of the node of a host has said.
    #[must_use]
    pub fn said(&self, index: usize) -> String {
        self.hosts[index].node.said()
    }

    /// Every process of a host ends at once, as when its power is cut.
    pub fn power_off(&mut self, index: usize) {
        self.kill_all(index);
        self.hosts[index].boot += 1;
    }

    fn kill_all(&self, index: usize) {
        while let processes @ [_, ..] = &self.lan.processes(index)[..] {
            processes.iter().for_each(|pid| signal_process(*pid, Signal::KILL));
        }
    }

    /// Every process of a host is stopped, as when a virtual machine is paused.
    pub fn freeze(&self, index: usize) {
        let mut stopped = Vec::new();
        loop {
            let processes = self.lan.processes(index);
            processes.iter().for_each(|pid| signal_process(*pid, Signal::STOP));
            if processes == stopped {
                return; // nobody was born while the others were stopped
            }
            stopped = processes;
        }
    }

    /// What was stopped goes on.
    pub fn thaw(&self, index: usize) {
        self.lan.processes(index).iter().for_each(|pid| signal_process(*pid, Signal::CONT));
    }

    /// Processes of the node of a host, of that role as their command lines name it.
    fn processes_of(&self, index: usize, role: &str) -> Vec<u32> {
        let here = self.lan.processes(index);
        let named = processes_naming(&self.cluster.config(&format!("n{index}")).display().to_string());
        let is_meant = |(pid, line): &(u32, String)| here.contains(pid) && line.contains(role);
        named.into_iter().filter(is_meant).map(|(pid, _)| pid).collect()
    }

    /// Process ids of the warden and of the daemon of a host.
    ///
    /// # Panics
    /// If one of them does not live.
    #[must_use]
    pub fn warden_and_daemon(&self, index: usize) -> (u32, u32) {
        let one = |role| self.processes_of(index, role).first().copied().unwrap_or_else(|| panic!("no{role}lives"));
        (one(WARDEN), one(DAEMON))
    }

    /// Kills the daemon of a host. Its warden lives.
    pub fn kill_daemon(&self, index: usize) {
        self.processes_of(index, DAEMON).into_iter().for_each(|pid| signal_process(pid, Signal::KILL));
    }

    /// Kills warden and daemon of a host in one instant. What the node runs lives.
    pub fn kill_node(&self, index: usize) {
        let both = [WARDEN, DAEMON].map(|role| self.processes_of(index, role));
        both.into_iter().flatten().for_each(|pid| signal_process(pid, Signal::KILL));
    }

    /// Asks the node of a host to leave.
    pub fn leave(&self, index: usize) {
        self.hosts[index].node.terminate();
    }

    /// The file of a node as another host would have it: whatever it names relative to itself is another one, and the disk is the
    /// same under another name, else the node's processes, which a host of its own could not see, were taken for leftovers.
    ///
    /// # Panics
    /// If it cannot be copied.
    #[must_use]
    pub fn copied_file(&self, index: usize) -> PathBuf {
        let (directory, file) = (self.directory().join("copied"), format!("n{index}.toml"));
        std::fs::create_dir_all(&directory).expect("a directory can be made");
        std::fs::copy(self.directory().join("cluster.key"), directory.join("cluster.key")).expect("init wrote it");
        let (disk, link) = (self.cluster.disk(), directory.join("linked.disk"));
        std::fs::hard_link(&disk, &link).expect("a file has two names");
        let text = std::fs::read_to_string(self.directory().join(&file)).expect("init wrote it");
        let file = directory.join(file);
        let text = text.replace(&disk.display().to_string(), &link.display().to_string());
        std::fs::write(&file, text).expect("written");
        file
    }

    /// Runs that file on a host of its own name, beside whatever runs there, to its end.
    ///
    /// # Panics
    /// If it cannot be started.
    #[must_use]
    pub fn run_as_host(&self, name: &str, index: usize, file: &std::path::Path) -> std::process::Output {
        let mut command = std::process::Command::new("nsenter");
        command.arg(format!("--net=/run/netns/{}", self.lan.host(index))).arg(phalanx());
        command.args(["node", "run", "--no-wait", "--config"]).arg(file).env(TEST_HOST_VARIABLE, name);
        command.output().expect("phalanx can be started")
    }

    /// The node of a host listens elsewhere from its next start.
    ///
    /// # Panics
    /// If its file cannot be written.
    pub fn set_bind(&self, index: usize, address: &str) {
        let file = self.cluster.config(&format!("n{index}"));
        let text = std::fs::read_to_string(&file).expect("init wrote it");
        let text = text.replace("[interconnect]\n", &format!("[interconnect]\nbind = \"{address}\"\n"));
        std::fs::write(&file, text).expect("written");
    }

    /// What the fence agents were told, a line a call.
    #[must_use]
    pub fn agent_calls(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.agents().join("calls")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// The nodes on which the ticker ran, instance by instance.
    ///
    /// # Panics
    /// If two of them lived at the same time.
    #[must_use]
    pub fn ticked(&self) -> Vec<String> {
        let instances = self.journals.instances(TICKER).unwrap_or_else(|why| panic!("{why}"));
        instances.into_iter().map(|(_, node)| node).collect()
    }

    /// Where its files are, which every command of an administrator names.
    #[must_use]
    pub fn directory(&self) -> PathBuf {
        self.cluster.out()
    }

    /// What is configured, as `config show` prints it.
    ///
    /// # Errors
    /// What it said instead.
    pub fn configuration(&self) -> Result<Value, String> {
        let output = self.run(&["config", "show", "--output", "json"]);
        serde_json::from_slice(&output.stdout).map_err(|_| String::from_utf8_lossy(&output.stderr).into_owned())
    }

    /// Lets time pass in which something must not happen.
    #[expect(clippy::disallowed_methods, reason = "that nothing happens is seen by nothing but time")]
    pub fn let_pass(&self, ms: u64) {
        std::thread::sleep(std::time::Duration::from_millis(ms));
    }

    /// Its files stay when it ends. Gives their place.
    pub fn keep_files(&mut self) -> PathBuf {
        self.cluster.keep_files()
    }
}

impl Drop for HostCluster {
    fn drop(&mut self) {
        // Whatever a test has left behind on its hosts ends with it, before their namespaces go.
        (0..self.hosts.len()).for_each(|index| self.kill_all(index));
        phalanx_node::dev::remove_containments_of(&self.cluster.disk());
    }
}

/// The nodes of a status that are in that state.
#[must_use]
pub fn nodes_in(status: &Value, state: &str) -> Vec<usize> {
    let nodes = list(status, "nodes").iter().filter(|node| node["state"] == state);
    nodes.filter_map(|node| node["name"].as_str()?.strip_prefix('n')?.parse().ok()).collect()
}

/// The master of a status.
#[must_use]
pub fn master(status: &Value) -> Option<usize> {
    status["master"].as_str()?.strip_prefix('n')?.parse().ok()
}

/// Where the ticker runs, if it does.
#[must_use]
pub fn ticker(status: &Value) -> Option<usize> {
    runs_on(status, TICKER)
}

/// Where a service runs, if it does.
#[must_use]
pub fn runs_on(status: &Value, service: &str) -> Option<usize> {
    let service = find(status, "services", service).filter(|service| service["state"] == "registered")?;
    service["node"].as_str()?.strip_prefix('n')?.parse().ok()
}
