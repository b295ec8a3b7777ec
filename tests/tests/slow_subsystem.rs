//! A subsystem that needs long on one node delays what the level order demands, and nothing else.
//!
//! What is demanded (protocol §5.2). Levels of one transition follow each other (T-2, T-3), so a join that is slow at a level
//! enters no higher one. One graceful batch runs at a level at a time (T-5), so other joins and leaves wait at *that* level.
//! The forced leave of a node that has the level is recovered there by everybody who has it, a node in the middle of its join
//! included (§5.1, T-9); so recovery of that level and of all above it, the event manager with its fail-over among them, waits
//! for the slow node (T-10), and joins and leaves wait for the recovery (T-19).
//!
//! What is not: the mark and the proof of death (T-7), recovery of every level below (T-9 holds the slow step as a whole),
//! levels that the victim does not have, and everything at other levels (T-5). In particular a level that one node has alone
//! delays nobody but that node.
//!
//! Slow means here: until the test lets go. Nothing is timed.

use phalanx_messages::Level;
use phalanx_tests::order_checker::{Kind, Line, log_command};
use phalanx_tests::process_cluster::{DevCluster, PATIENCE, find, list, signal_process, wait_for};
use rustix::process::Signal;
use serde_json::Value;

/// The level that is slow, and the node on which it is.
const SLOW_LEVEL: Level = Level(500);
const SLOW_NODE: &str = "n3";
/// While this file is there, the slow node's own join does not end at the slow level.
const BRAKE: &str = "brake";

/// A subsystem whose every command logs its begin and end and runs `work` in between.
fn subsystem(dir: &str, name: &str, level: Level, work: &str) -> String {
    let command = log_command(&format!("\"{dir}/$PHALANX_NODE-steps.log\""), work);
    let actions =
        ["on_joining", "on_leaving", "on_forced_leaving"].map(|key| format!("{key} = {{ shell = '''{command}''' }}\n"));
    format!("[[subsystem]]\nname = \"{name}\"\nlevel = {level}\ntimeout = \"2m\"\n{}\n", actions.concat())
}

fn slow(dir: &str) -> String {
    let own_join = format!("[ $PHALANX_ACTION-$PHALANX_NODE-$PHALANX_SUBJECT = joining-{SLOW_NODE}-{SLOW_NODE} ]");
    subsystem(dir, "slow", SLOW_LEVEL, &format!("while {own_join} && [ -e \"{dir}/{BRAKE}\" ]; do sleep 0.02; done"))
}

fn brake(cluster: &DevCluster) {
    std::fs::write(cluster.dir().join(BRAKE), "").expect("a file can be written");
}

fn let_go(cluster: &DevCluster) {
    std::fs::remove_file(cluster.dir().join(BRAKE)).expect("the brake is on");
}

/// The slow node's join has begun at the slow level and waits there for the slow node alone.
fn is_slow(status: &Value) -> bool {
    let joining = |transition: &&Value| transition["node"] == SLOW_NODE && transition["kind"] == "joining";
    let transition = list(status, "transitions").iter().find(joining);
    transition.is_some_and(|it| it["level"] == SLOW_LEVEL.0 && it["awaiting"] == serde_json::json!([SLOW_NODE]))
}

fn state<'a>(status: &'a Value, node: &str) -> &'a str {
    find(status, "nodes", node).and_then(|node| node["state"].as_str()).unwrap_or_default()
}

fn serves_elsewhere(status: &Value, victim: &str) -> bool {
    let service = find(status, "services", "licences");
    service.is_some_and(|service| service["state"] == "registered" && service["node"] != victim)
}

fn kill(cluster: &DevCluster, node: &str) {
    signal_process(cluster.processes_of(node).1, Signal::KILL);
}

fn start(cluster: &DevCluster, node: &str) {
    wait_for("the next start", PATIENCE, || cluster.start_node(node).ok());
}

/// The slow node leaves and comes back with the brake on; gives the node that runs the service.
fn begin_slow_join(cluster: &DevCluster) -> String {
    let _ = cluster.succeed(&["node", "leave", SLOW_NODE]);
    brake(cluster);
    start(cluster, SLOW_NODE);
    cluster.wait_master_status("a join that hangs at the slow level", is_slow);
    cluster.wait_registered("licences")
}

#[test]
fn a_slow_level_that_one_node_has_alone_delays_only_that_node() {
    let cluster = DevCluster::start(4, &[]);
    let file = cluster.dir().join(format!("{SLOW_NODE}.toml"));
    let own = std::fs::read_to_string(&file).expect("dev wrote it");
    std::fs::write(&file, own + "\n" + &slow(&cluster.dir().display().to_string())).expect("it can be written");
    let victim = begin_slow_join(&cluster);
    let before = cluster.licence_journal().recovered.len();

    // A forced leave goes through every level, the service fails over, and the victim joins again.
    kill(&cluster, &victim);
    cluster.wait_status("the victim out, its service elsewhere, and the join as slow as before", |status| {
        is_slow(status) && state(status, &victim) == "inactive" && serves_elsewhere(status, &victim)
    });
    assert_ne!(cluster.take_licence(), victim);
    start(&cluster, &victim);
    let back =
        cluster.wait_status("the victim joined again", |status| is_slow(status) && state(status, &victim) == "joined");

    // So does a graceful leave.
    let runner = find(&back, "services", "licences").and_then(|service| service["node"].as_str()).expect("registered");
    let _ = cluster.succeed(&["node", "leave", runner]);
    cluster.wait_status("the leaver out, and the join as slow as before", |status| {
        is_slow(status) && state(status, runner) == "inactive" && serves_elsewhere(status, runner)
    });

    // The slow node itself entered no level above.
    let status = cluster.status().expect("a node answers");
    assert_eq!(find(&status, "nodes", SLOW_NODE).expect("a node")["levels"]["1000"], "inactive", "T-2");
    let_go(&cluster);
    cluster.wait_joined(3);
    cluster.check_order();
    let journal = cluster.licence_journal();
    assert_eq!((journal.overlaps, &journal.recovered[before..]), (0, &[victim][..]), "{journal:?}");
}

/// The lines of one victim's recovery at one level.
fn recovery<'a>(steps: &'a [Line], victim: &'a str, level: Level) -> impl Iterator<Item = &'a Line> {
    steps.iter().filter(move |line| {
        line.kind == Kind::ForcedLeaving && line.subject == victim && line.level == level.0 && line.ended
    })
}

/// Waits until the victim is recovered at the level by all of `nodes`.
fn wait_recovered(cluster: &DevCluster, victim: &str, level: Level, nodes: &[&str]) {
    wait_for("the recovery of a lower level", PATIENCE, || {
        let steps = cluster.logged_steps();
        let by = |node: &&str| recovery(&steps, victim, level).any(|line| line.node == *node);
        nodes.iter().all(by).then_some(())
    });
}

#[test]
fn a_slow_level_that_every_node_has_delays_recovery_from_that_level_up_alone() {
    let template = tempfile::NamedTempFile::new().expect("a file can be made");
    let demo = include_str!("../../configs/dev.toml");
    let service = &demo[demo.find("[[service]]").expect("the demo service")..];
    let levels = subsystem("@DIR@", "low", Level::DLM, "true") + &slow("@DIR@");
    std::fs::write(template.path(), levels + service).expect("it can be written");
    let cluster = DevCluster::start(4, &["--config", &template.path().display().to_string()]);
    let first = begin_slow_join(&cluster);
    let others: Vec<&str> = ["n0", "n1", "n2"].into_iter().filter(|node| *node != first).collect();
    let (second, survivor) = (others[0], others[1]);

    // Below the slow level recovery goes on, the node in the middle of its join included.
    kill(&cluster, &first);
    wait_recovered(&cluster, &first, Level::DLM, &[second, survivor, SLOW_NODE]);
    let waits_at_the_slow_level = |status: &Value, victim: &str| {
        let recovers =
            |it: &&Value| it["node"] == victim && it["kind"] == "forced-leaving" && it["level"] == SLOW_LEVEL.0;
        let transition = list(status, "transitions").iter().find(recovers);
        transition.is_some_and(|it| it["awaiting"] == serde_json::json!([SLOW_NODE]))
    };
    cluster.wait_master_status("a recovery that waits for the slow node", |status| {
        waits_at_the_slow_level(status, &first)
    });

    // So it does for the next victim, which then catches up with the first (T-10).
    kill(&cluster, second);
    wait_recovered(&cluster, second, Level::DLM, &[survivor, SLOW_NODE]);
    cluster.wait_master_status("both recoveries in one batch that waits for the slow node", |status| {
        waits_at_the_slow_level(status, &first) && waits_at_the_slow_level(status, second)
    });
    let journal = cluster.licence_journal();
    assert_eq!(journal.recovered, [""; 0], "the event manager is above the slow level");

    let_go(&cluster);
    cluster.wait_joined(2);
    wait_for("the fail-over", PATIENCE, || (!cluster.licence_journal().recovered.is_empty()).then_some(()));
    assert_ne!(cluster.take_licence(), first);
    cluster.check_order();
    let journal = cluster.licence_journal();
    assert_eq!((journal.overlaps, &journal.recovered[..]), (0, &[first.clone()][..]), "{journal:?}");
    let steps = cluster.logged_steps();
    let begun = |line: &&Line| !line.ended && line.node == SLOW_NODE && line.level == SLOW_LEVEL.0;
    let joins = |line: &&Line| line.kind == Kind::Joining && line.subject == SLOW_NODE && line.restart > 0;
    assert!(steps.iter().filter(begun).any(|line| joins(&line)), "T-9: the join was held and began again");
}
