//! Spec, Tables 2 and 3, with real processes: what `status --output json` shows is what the tables print.
//!
//! Every command of the service waits until the test lets it end, so every row stands until the test goes on. A second service with
//! such a stop command keeps a node from having left before the table says so. The rows are those of the tests of the rules.

#[path = "../../actors/protocol/tests/registration/printed.rs"]
mod printed;

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use phalanx_messages::admin::ServiceStatus;
use phalanx_tests::init_cluster::{InitCluster, NodeProcess};
use phalanx_tests::process_cluster::{MachineLock, PATIENCE, list, wait_for};
use serde_json::Value;

use printed::{Row, TABLE_2, TABLE_3, cells};

/// A cluster of three nodes that are down, and the rows that are still to come.
struct Table {
    cluster: InitCluster,
    rows: std::slice::Iter<'static, Row>,
    like_table_3: bool,
    /// Who had been notified in the row before.
    notified: BTreeSet<String>,
    _lock: MachineLock,
}

impl Table {
    /// `keys` of the service besides its commands, and other services. `@GATED:start@` is a command that waits.
    fn new(rows: &'static [Row], like_table_3: bool, services: &str) -> Self {
        let lock = MachineLock::take();
        let cluster = InitCluster::new(3);
        let gates = cluster.out().join("gates");
        fs::create_dir(&gates).expect("a directory can be made");
        let services = ["start", "stop", "notify", "anchor"].iter().fold(services.to_owned(), |text, action| {
            let gate = format!("{}/{action}-$PHALANX_NODE", gates.display());
            let runs = if *action == "start" { "; sleep 1000 &" } else { "" };
            let command = format!("{{ shell = 'until rm \"{gate}\"; do sleep 0.02; done 2> /dev/null{runs}' }}");
            text.replace(&format!("@{action}@"), &command)
        });
        cluster.edit(|text| format!("{text}\n{services}"));
        cluster.create_disk();
        Self { cluster, rows: rows.iter(), like_table_3, notified: BTreeSet::new(), _lock: lock }
    }

    fn boot(&self, node: &str) -> NodeProcess {
        self.cluster.start(node, &[], None)
    }

    fn gate(&self, action: &str, node: &str) -> PathBuf {
        self.cluster.out().join("gates").join(format!("{action}-{node}"))
    }

    /// The command that waits on that node goes on.
    fn release(&self, action: &str, node: &str) {
        let gate = self.gate(action, node);
        fs::write(&gate, "").expect("a file can be written");
        wait_for(&format!("{action} on {node} goes on"), PATIENCE, || (!gate.exists()).then_some(()));
    }

    /// What `status` says of the service.
    fn status(&self) -> Option<ServiceStatus> {
        let output = self.cluster.run(&["status", "--output", "json"]);
        let status: Value = serde_json::from_slice(&output.stdout).ok()?;
        let service = list(&status, "services").iter().find(|service| service["name"] == "service")?;
        Some(serde_json::from_value(service.clone()).expect("it is a status of a service"))
    }

    fn notified_by(status: &ServiceStatus) -> BTreeSet<String> {
        status.nodes.iter().filter(|(_, node)| node.notified).map(|(name, _)| name.clone()).collect()
    }

    /// The next row of the table is what comes after `event`, and is shown.
    fn shows(&mut self, event: &str) {
        let row = self.rows.find(|row| !row.passed).expect("another row");
        assert_eq!(row.event, event);
        let (before, mut last) = (self.notified.clone(), String::new());
        let status = wait_for(&format!("`{}` after `{event}`", row.cells), PATIENCE, || {
            let status = self.status()?;
            let newly = Self::notified_by(&status).difference(&before).cloned().collect();
            let shown = cells(&status, &newly, self.like_table_3);
            if shown != last {
                println!("{event}: {shown}");
            }
            last.clone_from(&shown);
            (shown == row.cells).then_some(status)
        });
        self.notified = Self::notified_by(&status);
    }

    fn has_no_intent(&self) -> bool {
        self.status().is_some_and(|status| status.state == "registered" && !status.flags["transfer_intent"])
    }

    fn assert_complete(mut self) {
        assert_eq!(self.rows.next().map(|row| row.event), None, "no row is left");
    }
}

/// Keeps a node from having left until the gate `anchor` is opened there.
fn anchor(node: &str) -> String {
    format!(
        "[[service]]\nname = \"anchor-{node}\"\nallowable_nodes = [\"{node}\"]\nleaves = \"processes\"\n\
         start_command = {{ shell = 'sleep 1000 &' }}\nstop_command = @anchor@\nstop_timeout = \"60s\"\n"
    )
}

/// The maturity time is 4 s instead of 5 min.
#[test]
fn table_2_with_real_processes() {
    let service = "[[service]]\nname = \"service\"\nallowable_nodes = [\"n0\", \"n1\"]\nmaturity_count = 2\n\
                   maturity_time = \"4s\"\nleaves = \"processes\"\nstart_command = @start@\nstart_timeout = \"60s\"\n\
                   stop_command = @stop@\nstop_timeout = \"60s\"\n";
    let mut table = Table::new(&TABLE_2, false, &[service.to_owned(), anchor("n0"), anchor("n1")].concat());
    table.shows("all down");
    let mut n2 = table.boot("n2");
    table.shows("N2 boots");
    let mut n0 = table.boot("n0");
    table.shows("N0 boots");
    table.shows("5 min elapse");
    table.release("start", "n0");
    table.shows("start completes");
    let mut n1 = table.boot("n1");
    table.shows("N1 boots");
    n2.terminate();
    table.shows("N2 leaves");
    assert_eq!(n2.wait_exit(), Some(0));
    n0.terminate();
    table.shows("N0 begins leave");
    table.release("stop", "n0");
    table.shows("at once");
    table.release("start", "n1");
    table.shows("start completes on N1");
    table.release("anchor", "n0");
    table.shows("N0 left");
    assert_eq!(n0.wait_exit(), Some(0));
    n1.terminate();
    table.shows("N1 begins leave");
    table.release("stop", "n1");
    table.shows("stop completes on N1");
    table.release("anchor", "n1");
    assert_eq!(n1.wait_exit(), Some(0));
    table.assert_complete();
}

/// N0 counts as stable after one second.
#[test]
fn table_3_with_real_processes() {
    let service = "[[service]]\nname = \"service\"\nnode_preferences = { ordered = [\"n0\"] }\nmaturity_count = 2\n\
                   maturity_time = \"5m\"\ntransfer_cost = \"free\"\nstable_time = \"1s\"\nleaves = \"processes\"\n\
                   start_command = @start@\nstart_timeout = \"60s\"\nstop_command = @stop@\nstop_timeout = \"60s\"\n\
                   notify_command = @notify@\nnotify_timeout = \"60s\"\n";
    let mut table = Table::new(&TABLE_3, true, service);
    table.shows("all down");
    let mut n0 = table.boot("n0");
    table.shows("N0 boots");
    table.release("start", "n0");
    table.shows("start completes");
    let _n1 = table.boot("n1");
    table.shows("N1 boots");
    table.release("notify", "n1");
    n0.terminate();
    table.release("stop", "n0");
    table.release("start", "n1");
    assert_eq!(n0.wait_exit(), Some(0));
    table.shows("N0 leaves");
    let _n2 = table.boot("n2");
    table.shows("N2 boots");
    table.release("notify", "n2");
    let _n0 = table.boot("n0");
    table.shows("N0 boots again");
    table.release("notify", "n0");
    table.shows("takeover");
    table.release("stop", "n1");
    table.shows("at once");
    table.release("start", "n0");
    table.shows("start completes on N0");
    table.release("notify", "n1");
    table.release("notify", "n2");
    wait_for("T ends with the notifications", PATIENCE, || table.has_no_intent().then_some(()));
    table.assert_complete();
}
