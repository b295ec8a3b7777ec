//! Programs outside the nodes as subsystems of a cluster of real processes: the Python example and `subsystem attach` (protocol
//! T-14 to T-17).

use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use phalanx_node::dev::node_socket;
use phalanx_tests::order_checker::{Kind, Line};
use phalanx_tests::process_cluster::{
    DevCluster, NOBODY, PATIENCE, find, list, phalanx, processes_naming, signal_process, wait_for,
};
use phalanx_tests::python_subsystem::PythonSubsystem;
use phalanx_tests::requirement::{Requirement, available};
use rustix::process::Signal;
use serde_json::Value;

const NODES: [&str; 3] = ["n0", "n1", "n2"];
const LEVEL: u16 = 500;

fn level_of<'a>(status: &'a Value, node: &str) -> &'a str {
    let levels = find(status, "nodes", node).map_or(&Value::Null, |node| &node["levels"]);
    levels[LEVEL.to_string()].as_str().unwrap_or("none")
}

fn at_rest(status: &Value) -> bool {
    list(status, "transitions").is_empty()
}

fn wait_attached(cluster: &DevCluster, nodes: &[&str]) {
    cluster.wait_status(&format!("level {LEVEL} joined on {nodes:?}"), |status| {
        at_rest(status) && nodes.iter().all(|node| level_of(status, node) == "joined")
    });
}

/// A dev cluster with the example on every node, attached one after the other.
fn attached(policy: &str) -> (DevCluster, Vec<PythonSubsystem>) {
    let cluster = DevCluster::start(3, &[]);
    let mut subsystems = Vec::new();
    for (count, node) in (1..).zip(NODES) {
        subsystems.push(PythonSubsystem::start(&cluster, node, &["--on-death", policy]));
        wait_attached(&cluster, &NODES[..count]);
    }
    (cluster, subsystems)
}

fn at_level(cluster: &DevCluster, kind: Kind, subject: &str) -> Vec<Line> {
    let steps = cluster.logged_steps().into_iter();
    let mut lines: Vec<Line> = steps
        .filter(|line| line.level == LEVEL && line.kind == kind && line.subject == subject && !line.ended)
        .collect();
    lines.sort();
    lines
}

/// Who was told, and which barriers, in order.
fn told(lines: &[Line]) -> (Vec<&str>, Vec<u8>) {
    let mut nodes: Vec<&str> = lines.iter().map(|line| line.node.as_str()).collect();
    nodes.sort_unstable();
    nodes.dedup();
    let mut barriers: Vec<u8> = lines.iter().map(|line| line.barrier).collect();
    barriers.dedup();
    (nodes, barriers)
}

#[test]
fn the_python_example_is_notified_in_the_right_order_on_every_node() {
    if !available(&[Requirement::Python]) {
        return;
    }
    let (cluster, mut subsystems) = attached("drop-level");
    // Spec, Fig. 10, for three nodes: everybody who has the level processes each barrier before the next one.
    assert_eq!(told(&at_level(&cluster, Kind::Joining, "n2")), (NODES.to_vec(), vec![0, 1]));

    // A graceful leave goes from the event manager down through the level, and the example ends with its node.
    let _ = cluster.succeed(&["node", "leave", "n2"]);
    assert_eq!(subsystems[2].wait().0, Some(0));
    assert_eq!(told(&at_level(&cluster, Kind::Leaving, "n2")), (NODES.to_vec(), vec![0]));

    // The node comes back without the level, then with it.
    wait_for("the next start", PATIENCE, || cluster.start_node("n2").ok());
    cluster.wait_joined(3);
    let _again = PythonSubsystem::start(&cluster, "n2", &[]);
    wait_attached(&cluster, &NODES);

    // A forced leave climbs through the level on the survivors.
    signal_process(cluster.processes_of("n1").1, Signal::KILL);
    cluster.wait_status("n1 recovered", |status| {
        at_rest(status) && find(status, "nodes", "n1").is_some_and(|node| node["state"] == "inactive")
    });
    assert_eq!(told(&at_level(&cluster, Kind::ForcedLeaving, "n1")), (vec!["n0", "n2"], vec![0]));
    cluster.check_order();
    assert!(cluster.check_traces("n0") > 3);
}

#[test]
fn a_mismatch_of_barrier_counts_is_refused_with_both_counts() {
    if !available(&[Requirement::Python]) {
        return;
    }
    let cluster = DevCluster::start(3, &[]);
    let _first = PythonSubsystem::start(&cluster, "n0", &[]);
    wait_attached(&cluster, &["n0"]);
    let (code, said) = PythonSubsystem::start(&cluster, "n1", &["--joining", "1"]).wait();
    let both = ["joining=2,leaving=1,forced_leaving=1", "joining=1,leaving=1,forced_leaving=1"];
    assert!(code == Some(1) && both.iter().all(|counts| said.contains(counts)), "{code:?}: {said}");

    let socket = node_socket(cluster.dir(), "n1").display().to_string();
    let attach = ["--socket", &socket, "subsystem", "attach", "--name", "audit", "--level", "500", "--", "true"];
    let output = cluster.run(&attach);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    assert!(said.contains(both[0]) && said.contains(both[1]), "{said}");
    let status = cluster.wait_joined(3);
    assert_eq!(level_of(&status, "n1"), "none");
}

/// Protocol T-17, `DropLevel`: it only watches, so its level leaves, its node stays, and nobody waits for it.
#[test]
fn killing_a_python_process_that_only_watches_costs_its_level() {
    if !available(&[Requirement::Python]) {
        return;
    }
    let (cluster, mut subsystems) = attached("drop-level");
    let runner = cluster.wait_registered("licences");
    subsystems[1].kill();
    cluster.wait_status("the level gone from n1 alone", |status| {
        at_rest(status) && level_of(status, "n1") == "none" && level_of(status, "n0") == "joined"
    });
    assert_eq!(
        told(&at_level(&cluster, Kind::Leaving, "n1")),
        (vec!["n0", "n2"], vec![0]),
        "the dead are told nothing"
    );
    let status = cluster.wait_joined(3);
    assert_eq!(find(&status, "nodes", "n1").expect("a node")["incarnation"], 1);
    assert_eq!(cluster.wait_registered("licences"), runner, "no service moves");
    cluster.check_order();
}

/// Protocol T-17: one that is back in time goes on, and its node never leaves.
#[test]
fn a_python_process_that_is_killed_and_started_again_in_time_resumes() {
    if !available(&[Requirement::Python]) {
        return;
    }
    let (cluster, mut subsystems) = attached("force-node");
    subsystems[2].kill();
    let again = wait_for("a successor", PATIENCE, || {
        let mut again = PythonSubsystem::start(&cluster, "n2", &["--on-death", "force-node"]);
        // The leave of another node is what it must answer first.
        let leaving = cluster.run(&["node", "leave", "n1", "--for", "20s"]);
        if leaving.status.success() { Some(again) } else { Some(again.wait()).and(None) }
    });
    assert_eq!(told(&at_level(&cluster, Kind::Leaving, "n1")).0, NODES);
    let status = cluster.wait_joined(2);
    assert_eq!(find(&status, "nodes", "n2").expect("a node")["incarnation"], 1);
    drop(again);
}

/// Protocol T-17, `ForceNode`: it may have held something, so its node is forced out and the others recover it there.
#[test]
fn killing_a_python_process_that_may_have_held_something_costs_its_node() {
    if !available(&[Requirement::Python]) {
        return;
    }
    let (cluster, mut subsystems) = attached("force-node");
    let before = cluster.wait_registered("licences");
    let victim = if before == "n0" { 0 } else { 1 };
    subsystems[victim].kill();
    let name = NODES[victim];
    cluster.wait_status("the node out", |status| {
        at_rest(status) && find(status, "nodes", name).is_some_and(|node| node["state"] == "inactive")
    });
    let others: Vec<&str> = NODES.into_iter().filter(|node| *node != name).collect();
    assert_eq!(told(&at_level(&cluster, Kind::ForcedLeaving, name)), (others, vec![0]));
    cluster.check_order();
    assert_eq!(cluster.licence_journal().overlaps, 0);
}

/// The command runs once for each step, and its exit code is the answer.
#[test]
fn an_attached_command_runs_for_every_step_and_its_exit_code_is_the_answer() {
    let cluster = DevCluster::start(2, &["--no-demo-service"]);
    let log = cluster.dir().join("attached.log");
    let script = format!(
        "echo $PHALANX_NODE $PHALANX_SUBSYSTEM $PHALANX_LEVEL $PHALANX_ACTION $PHALANX_SUBJECT $PHALANX_BARRIER >>{}",
        log.display()
    );
    let attach = |node: &str, level: &str, script: &str| {
        let mut command = Command::new(phalanx());
        command.arg("--socket").arg(node_socket(cluster.dir(), node)).args(["subsystem", "attach", "--name", "shell"]);
        command.args([
            "--level",
            level,
            "--barriers",
            "joining=2",
            "--on-death",
            "drop-level",
            "--",
            "sh",
            "-c",
            script,
        ]);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("phalanx can be started")
    };
    let mut attached = attach("n0", "500", &script);
    wait_attached(&cluster, &["n0"]);
    let listed: Value =
        serde_json::from_str(&cluster.succeed(&["subsystem", "list", "--output", "json"])).expect("JSON");
    let level =
        listed.as_array().and_then(|levels| levels.iter().find(|level| level["level"] == 500)).expect("a level");
    assert_eq!((&level["name"], &level["nodes"]), (&"shell".into(), &serde_json::json!({"n0": "joined"})));
    assert_eq!(level["barriers"]["joining"], 2);

    // Ctrl-C lets the level leave first.
    signal_process(attached.id(), Signal::INT);
    let end = wait_for("the end of attach", PATIENCE, || attached.try_wait().expect("a child can be waited for"));
    assert_eq!(end.code(), Some(0));
    let lines = std::fs::read_to_string(&log).expect("the command wrote");
    let expected = ["n0 shell 500 joining n0 0", "n0 shell 500 joining n0 1", "n0 shell 500 leaving n0 0"];
    assert_eq!(lines.lines().collect::<Vec<_>>(), expected);

    // A command that fails its own join costs the level, not the node (T-24).
    let mut failing = attach("n1", "600", "[ $PHALANX_ACTION != joining ] || [ $PHALANX_BARRIER != 0 ]");
    let end = wait_for("the end of attach", PATIENCE, || failing.try_wait().expect("a child can be waited for"));
    assert_eq!(end.code(), Some(0), "the level has left");
    let status = cluster.wait_joined(2);
    assert_eq!(find(&status, "nodes", "n1").expect("a node")["levels"]["600"], Value::Null);
}

/// Spec, Table 1, "Allowed Re-notifications", for a command: what is overtaken is told to stop, and the recovery runs.
#[test]
fn an_attached_command_that_is_overtaken_is_stopped() {
    let cluster = DevCluster::start(3, &["--no-demo-service"]);
    let mark = cluster.dir().display().to_string();
    // A join of another node hangs; a recovery does not.
    let script = format!(
        "[ $PHALANX_ACTION-$PHALANX_SUBJECT != joining-n2 ] || [ $PHALANX_NODE = n2 ] || exec sleep 1000.{}; \
         echo $PHALANX_ACTION $PHALANX_SUBJECT >>{mark}/$PHALANX_NODE-attached.log",
        std::process::id()
    );
    let attach = |node: &str| {
        let mut command = Command::new(phalanx());
        command.arg("--socket").arg(node_socket(cluster.dir(), node)).args(["subsystem", "attach", "--name", "shell"]);
        command.args(["--level", "500", "--", "sh", "-c", &script]).stdin(Stdio::null()).stderr(Stdio::null());
        command.spawn().expect("phalanx can be started")
    };
    let hanging = || {
        let naming = processes_naming(&format!("sleep 1000.{}", std::process::id()));
        naming.iter().filter(|(_, line)| line.starts_with("sleep")).count()
    };
    let mut first = attach("n0");
    wait_attached(&cluster, &["n0"]);
    let mut second = attach("n2");
    wait_for("a join that hangs", PATIENCE, || (hanging() == 1).then_some(()));
    signal_process(cluster.processes_of("n2").1, Signal::KILL);
    cluster.wait_status("n2 recovered", |status| {
        at_rest(status) && find(status, "nodes", "n2").is_some_and(|node| node["state"] == "inactive")
    });
    assert_eq!(hanging(), 0, "the overtaken command was stopped");
    let log = std::fs::read_to_string(cluster.dir().join("n0-attached.log")).expect("the command wrote");
    assert_eq!(log.lines().last(), Some("forced-leaving n2"), "{log}");
    for child in [&mut first, &mut second] {
        child.kill().ok(); // the second one has ended with its node
        child.wait().expect("a child can be waited for");
    }
}

#[test]
fn who_may_attach_is_decided_by_credentials() {
    if !available(&[Requirement::Python, Requirement::Root]) {
        return;
    }
    let cluster = DevCluster::start(1, &["--no-demo-service"]);
    let socket = node_socket(cluster.dir(), "n0");
    let mode = |path: &std::path::Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("root may");
    };
    mode(cluster.dir(), 0o777);
    mode(&socket, 0o666);
    let (code, said) = PythonSubsystem::start_as(&cluster, "n0", &[], Some((NOBODY, NOBODY))).wait();
    assert!(code == Some(1) && said.contains("user 65534 may not attach"), "{code:?}: {said}");
    mode(&socket, 0o660);
    std::os::unix::fs::chown(&socket, None, Some(NOBODY)).expect("root may");
    let _admitted = PythonSubsystem::start_as(&cluster, "n0", &[], Some((NOBODY, NOBODY)));
    wait_attached(&cluster, &["n0"]);
}
