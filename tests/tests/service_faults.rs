//! Faults of the fault table that concern client services, in clusters of real processes.

use phalanx_messages::register::ClaimPhase;
use phalanx_tests::process_cluster::{DevCluster, PATIENCE, find, signal_process, wait_for};
use rustix::process::Signal;
use serde_json::Value;

/// Applies services, given by their keys.
fn apply(cluster: &DevCluster, text: &str) {
    let file = cluster.dir().join("services.toml");
    std::fs::write(&file, text.replace("@DIR@", &cluster.dir().display().to_string())).expect("a file can be written");
    drop(cluster.succeed(&["service", "apply", &file.to_string_lossy(), "--no-wait"]));
}

/// Kills a daemon and waits for nothing.
fn kill(cluster: &DevCluster, node: &str) {
    let (_, daemon) = cluster.processes_of(node);
    signal_process(daemon, Signal::KILL);
}

/// Lines that the commands have written, as words.
fn journal(cluster: &DevCluster) -> Vec<Vec<String>> {
    let text = std::fs::read_to_string(cluster.dir().join("journal")).unwrap_or_default();
    text.lines().map(|line| line.split(' ').map(str::to_owned).collect()).collect()
}

fn deeds<'a>(journal: &'a [Vec<String>], deed: &str) -> Vec<&'a [String]> {
    journal.iter().filter(|line| line[0] == deed).map(|line| &line[1..]).collect()
}

fn service<'a>(status: &'a Value, name: &str) -> &'a Value {
    find(status, "services", name).expect("the service is there")
}

/// Who owns the decisions, by the disk, as soon as somebody does: nodes are joined before one of them has claimed.
fn decision_maker(cluster: &DevCluster) -> String {
    let disk = phalanx_node::daemon::open_disk(&cluster.dir().join("cluster.disk")).expect("the disk");
    let owner = wait_for("somebody who decides", PATIENCE, || {
        let registers = disk.decisions().read_all().expect("readable");
        let owners = registers.into_iter().filter_map(|(node, register)| {
            let claim = register?.claim;
            (claim.phase == ClaimPhase::Owner).then_some((claim.term, node))
        });
        owners.max().map(|(_, owner)| owner)
    });
    disk.configurations().newest().expect("readable").expect("formatted").name_of(owner)
}

/// The start runs on while the decision maker dies; the next one repeats the operation, which is run once.
#[test]
fn fault_46_a_decision_maker_that_dies_with_a_start_under_way_is_followed_by_one_that_does_not_repeat_it() {
    let cluster = DevCluster::start(3, &["--no-demo-service"]);
    cluster.wait_joined(3);
    let decides = decision_maker(&cluster);
    let runner = ["n0", "n1", "n2"].into_iter().find(|node| *node != decides).expect("two others");
    apply(
        &cluster,
        &format!(
            "[[service]]\nname = \"slow\"\nallowable_nodes = [\"{runner}\"]\n\
             start_command = {{ shell = 'echo \"start $PHALANX_NODE $PHALANX_OPERATION\" >> \"@DIR@/journal\"; sleep 2; sleep 1000 &' }}\n"
        ),
    );
    wait_for("the start", PATIENCE, || (!journal(&cluster).is_empty()).then_some(()));
    kill(&cluster, &decides);
    cluster.wait_status("the service, decided by somebody else", |status| {
        let out = find(status, "nodes", &decides).is_some_and(|node| node["state"] == "inactive");
        out && service(status, "slow")["state"] == "registered"
    });
    assert_ne!(decision_maker(&cluster), decides);
    let journal = journal(&cluster);
    assert_eq!(deeds(&journal, "start").len(), 1, "{journal:?}");
}

/// Whoever recovers dies in its recovery command: it is run again elsewhere, for the same victim, and nothing starts before.
#[test]
fn fault_51_a_recovery_is_run_again_when_its_node_dies() {
    let cluster = DevCluster::start(3, &["--no-demo-service"]);
    cluster.wait_joined(3);
    apply(
        &cluster,
        "[[service]]\nname = \"web\"\nleaves = \"processes\"\n\
         start_command = { shell = 'echo \"start $PHALANX_NODE\" >> \"@DIR@/journal\"; sleep 1000 &' }\n\
         recovery_command = { shell = 'echo \"recovery $PHALANX_NODE $PHALANX_VICTIM\" >> \"@DIR@/journal\"; sleep 2' }\n",
    );
    let first = cluster.wait_registered("web");
    kill(&cluster, &first);
    let second = wait_for("a recovery", PATIENCE, || Some(deeds(&journal(&cluster), "recovery").first()?[0].clone()));
    kill(&cluster, &second);
    let status = cluster.wait_status("the service on the last node", |status| {
        let web = service(status, "web");
        web["state"] == "registered" && web["node"] != first.as_str() && web["node"] != second.as_str()
    });
    let third = service(&status, "web")["node"].as_str().expect("a node").to_owned();
    let journal = journal(&cluster);
    let recovered: Vec<Vec<String>> = deeds(&journal, "recovery").into_iter().map(<[String]>::to_vec).collect();
    assert_eq!(recovered, [[second.clone(), first.clone()], [third.clone(), first.clone()]], "{journal:?}");
    let started: Vec<&String> = deeds(&journal, "start").into_iter().map(|words| &words[0]).collect();
    assert_eq!(started, [&first, &third], "{journal:?}");
}

/// A start that takes very long delays nothing else: what was lost is recovered and starts elsewhere meanwhile.
#[test]
fn a_service_with_a_long_start_does_not_delay_the_recovery_of_another() {
    let cluster = DevCluster::start(3, &["--no-demo-service"]);
    cluster.wait_joined(3);
    apply(
        &cluster,
        "[[service]]\nname = \"long\"\nallowable_nodes = [\"n0\"]\nstart_timeout = \"300s\"\n\
         start_command = { shell = 'echo \"start long\" >> \"@DIR@/journal\"; sleep 120' }\n\
         [[service]]\nname = \"quick\"\nallowable_nodes = [\"n1\", \"n2\"]\nnode_preferences = { ordered = [\"n1\"] }\n\
         leaves = \"processes\"\nstart_command = { shell = 'sleep 1000 &' }\n\
         recovery_command = { shell = 'echo \"recovery quick\" >> \"@DIR@/journal\"' }\n",
    );
    assert_eq!(cluster.wait_registered("quick"), "n1");
    wait_for("the long start", PATIENCE, || (!deeds(&journal(&cluster), "start").is_empty()).then_some(()));
    kill(&cluster, "n1");
    let status = cluster.wait_status("the quick one elsewhere", |status| {
        let quick = service(status, "quick");
        quick["state"] == "registered" && quick["node"] == "n2"
    });
    assert_eq!(service(&status, "long")["state"], "starting", "it is starting still");
    let journal = journal(&cluster);
    assert_eq!((deeds(&journal, "recovery").len(), deeds(&journal, "start").len()), (1, 1), "{journal:?}");
}
