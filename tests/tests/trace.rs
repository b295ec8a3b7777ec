//! `phalanx trace` of real processes: who was late, also when the master changed on the way or a node does not answer.

use phalanx_messages::admin::Trace;
use phalanx_messages::membership::TransitionKind;
use phalanx_tests::order_checker::{check_trace, log_command};
use phalanx_tests::process_cluster::{DevCluster, PATIENCE, list, signal_process, wait_for};
use rustix::process::Signal;
use serde_json::Value;

/// A subsystem with two barriers of each kind whose commands run `work`.
fn subsystem(name: &str, level: u16, work: &str) -> String {
    let command = log_command("\"@DIR@/$PHALANX_NODE-steps.log\"", work);
    let actions =
        ["on_joining", "on_leaving", "on_forced_leaving"].map(|key| format!("{key} = {{ shell = '''{command}''' }}\n"));
    format!(
        "[[subsystem]]\nname = \"{name}\"\nlevel = {level}\ntimeout = \"2m\"\n\
         barriers = {{ joining = 2, leaving = 2, forced_leaving = 2 }}\n{}\n",
        actions.concat()
    )
}

fn start(nodes: usize, subsystems: &str) -> DevCluster {
    let file = tempfile::NamedTempFile::new().expect("a file can be made");
    std::fs::write(file.path(), subsystems).expect("it can be written");
    DevCluster::start(nodes, &["--no-demo-service", "--config", &file.path().display().to_string()])
}

fn trace(cluster: &DevCluster, arguments: &[&str]) -> Trace {
    let json = cluster.succeed(&[&["trace"], arguments, &["--format", "json"]].concat());
    serde_json::from_str(&json).expect("a trace is printed as JSON")
}

fn start_node(cluster: &DevCluster, node: &str) {
    wait_for("the next start", PATIENCE, || cluster.start_node(node).ok());
}

/// Level and barrier of each step.
fn stops(trace: &Trace) -> Vec<(u16, u8)> {
    trace.steps.iter().map(|step| (step.level, step.barrier)).collect()
}

#[test]
fn a_slow_subsystem_is_blamed_by_node_and_level_whichever_node_is_asked() {
    let slow = "case $PHALANX_NODE-$PHALANX_SUBJECT-$PHALANX_ACTION-$PHALANX_BARRIER in \
                n2-n1-joining-1) sleep 0.6;; esac";
    let cluster = start(3, &(subsystem("low", 100, "true") + &subsystem("slow", 500, slow)));
    let _ = cluster.succeed(&["node", "leave", "n1"]);
    start_node(&cluster, "n1");
    cluster.wait_joined(3);

    let last = trace(&cluster, &["last"]);
    for node in ["n0", "n1", "n2"] {
        let seen = trace(&cluster, &[&last.id, "--node", node]);
        assert_eq!((seen.node.as_str(), seen.kind), ("n1", TransitionKind::Joining));
        assert_eq!(stops(&seen), [(100, 0), (100, 1), (500, 0), (500, 1), (1000, 0)], "asked {node}");
        let blame = seen.blame.as_ref().expect("600 ms are told");
        assert_eq!((blame.node.as_str(), blame.level, blame.barrier), ("n2", 500, 1), "asked {node}: {seen:#?}");
        assert_eq!((blame.name.as_str(), blame.awaited), ("slow", false));
        assert!(blame.subsystem_ms >= Some(600) && blame.took_ms >= 600, "{blame:?}");
        assert_eq!(seen.missing, Default::default(), "all three answer");
        assert_eq!(seen.clock, cluster.status().expect("a node answers")["master"].as_str().expect("a master"));
        assert_eq!(check_trace(&seen), [""; 0]);
        for step in &seen.steps {
            assert_eq!(step.acknowledged_ms.keys().collect::<Vec<_>>(), step.nodes.keys().collect::<Vec<_>>());
            for (node, acknowledged_ms) in &step.acknowledged_ms {
                let own = &step.nodes[node];
                assert!(acknowledged_ms.is_some(), "the master saw it: {step:#?}");
                assert!(step.begun_ms <= own.notified_ms && Some(own.notified_ms) <= own.answered_ms, "{step:#?}");
            }
        }
    }

    let text = cluster.succeed(&["trace", &last.id]);
    assert!(text.contains("slowest: n2, level 500 (slow) barrier 2: "), "{text}");
    let perfetto: Value = serde_json::from_str(&cluster.succeed(&["trace", &last.id, "--format", "perfetto"]))
        .expect("trace events are JSON");
    let slices = list(&perfetto, "traceEvents").iter().filter(|event| event["ph"] == "X").count();
    assert_eq!(slices, 3 * 5, "a slice for each node, level and barrier");

    assert_eq!(cluster.run(&["trace", "99.99"]).status.code(), Some(105));
    assert_eq!(cluster.run(&["trace", "newest"]).status.code(), Some(2));
}

#[test]
fn a_trace_tells_the_whole_way_after_the_master_died_in_the_middle_of_it() {
    let brake = "while [ $PHALANX_NODE-$PHALANX_SUBJECT-$PHALANX_ACTION = n3-n3-joining ] && [ -e \"@DIR@/brake\" ]; \
                 do sleep 0.02; done";
    let cluster = start(4, &(subsystem("low", 100, "true") + &subsystem("slow", 500, brake)));
    let _ = cluster.succeed(&["node", "leave", "n3"]);
    std::fs::write(cluster.dir().join("brake"), "").expect("a file can be written");
    start_node(&cluster, "n3");
    let waits = |status: &Value| {
        list(status, "transitions")
            .iter()
            .find(|it| it["node"] == "n3" && it["awaiting"] == serde_json::json!(["n3"]))
            .cloned()
    };
    cluster.wait_master_status("a join that hangs", |status| waits(status).is_some_and(|it| it["level"] == 500));
    let status = cluster.status().expect("a node answers");
    let master = status["master"].as_str().expect("a master").to_owned();
    let id = waits(&status).expect("it hangs still")["id"].as_str().expect("an id").to_owned();
    let blame = wait_for("n3 to be the slowest so far", PATIENCE, || {
        trace(&cluster, &[&id]).blame.filter(|blame| blame.node == "n3" && blame.level == 500)
    });
    assert!(blame.awaited, "{blame:?}");

    signal_process(cluster.processes_of(&master).1, Signal::KILL);
    cluster.wait_status("another master", |status| status["master"].as_str().is_some_and(|node| node != master));
    std::fs::remove_file(cluster.dir().join("brake")).expect("the brake is on");
    cluster.wait_joined(3);

    let whole = trace(&cluster, &[&id]);
    assert!(whole.elapsed_ms.is_some(), "{whole:#?}");
    assert_eq!(check_trace(&whole), [""; 0]);
    assert_ne!(whole.clock, master);
    assert_eq!(whole.missing.get(&master).map(String::as_str), Some("is not a member now"), "{whole:#?}");
    let stops = stops(&whole);
    assert_eq!(
        stops[..2],
        [(100, 0), (100, 1)],
        "what the dead master had led is told by those who took part: {stops:?}"
    );
    assert_eq!(stops.last(), Some(&(1000, 0)), "{stops:?}");
    let first = &whole.steps[0];
    assert!(first.nodes.contains_key("n3") && !first.nodes.contains_key(&master), "{first:#?}");
    let last = whole.steps.last().expect("steps");
    assert!(last.acknowledged_ms.values().all(Option::is_some), "the new master saw it: {last:#?}");
    let blame = whole.blame.expect("somebody was slow");
    assert_eq!((blame.node.as_str(), blame.level), ("n3", 500));
}

#[test]
fn a_frozen_node_is_named_as_missing_and_the_rest_is_told() {
    let cluster = start(3, &subsystem("low", 100, "true"));
    let _ = cluster.succeed(&["node", "leave", "n2"]);
    start_node(&cluster, "n2");
    cluster.wait_joined(3);
    let id = trace(&cluster, &["last"]).id;
    let status = cluster.status().expect("a node answers");
    let master = status["master"].as_str().expect("a master");
    let (witness, frozen) = if master == "n0" { ("n0", "n1") } else { (master, "n0") };
    let daemon = cluster.processes_of(frozen).1;
    signal_process(daemon, Signal::STOP);
    let seen = trace(&cluster, &[&id, "--node", witness]);
    signal_process(daemon, Signal::CONT);
    let why = seen.missing.get(frozen).map(String::as_str);
    // It may have been forced out meanwhile, on a slow machine.
    assert!(matches!(why, Some("does not answer" | "is not a member now")), "{seen:#?}");
    assert_eq!(seen.missing.len(), 1, "{seen:#?}");
    for step in &seen.steps {
        assert_eq!(step.acknowledged_ms.len(), 3, "the master remembers the acknowledgements of all");
        assert!(step.acknowledged_ms[frozen].is_some() && !step.nodes.contains_key(frozen), "{step:#?}");
    }
}
