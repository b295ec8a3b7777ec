//! A production-like cluster as docs/operations.md describes it: made by hand, grown, shrunk and changed while a service runs.

use std::net::TcpListener;
use std::process::Output;

use phalanx_tests::init_cluster::InitCluster;
use phalanx_tests::process_cluster::{MachineLock, find};
use serde_json::Value;

fn said(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn clock(status: &Value) -> Value {
    find(status, "services", "clock").cloned().unwrap_or_default()
}

/// Everything that was started for the service, in order: each start with its node, each stop.
fn journal(cluster: &InitCluster) -> String {
    std::fs::read_to_string(cluster.out().join("clock.journal")).unwrap_or_default()
}

#[test]
fn a_cluster_is_set_up_grown_shrunk_and_changed_while_a_service_runs() {
    let _lock = MachineLock::take();
    // phalanx init, phalanx disk create, three times phalanx node run.
    let cluster = InitCluster::new(3);
    cluster.create_disk();
    let mut nodes: Vec<_> = ["n0", "n1", "n2"].map(|node| cluster.start(node, &[], None)).into();
    let _ = cluster.wait_joined(3);

    // A service.
    let journal_path = cluster.out().join("clock.journal").display().to_string();
    let services = |timeout: &str| {
        format!(
            "[[service]]\nname = \"clock\"\nnode_preferences = {{ ordered = [\"n1\"] }}\n\
             start_command = {{ shell = \"echo start $PHALANX_NODE >> {journal_path}; sleep 1000 &\" }}\n\
             stop_command = {{ shell = \"echo stop $PHALANX_NODE >> {journal_path}\" }}\nleaves = \"processes\"\n{timeout}"
        )
    };
    let file = cluster.out().join("services.txt").display().to_string();
    std::fs::write(&file, services("")).expect("written");
    assert!(said(&cluster.run(&["service", "apply", &file])).ends_with("clock: registered on n1\n"));

    // A fourth node, while it runs.
    let address = {
        let host = cluster.address(0).rsplit_once(':').expect("host:port").0;
        TcpListener::bind((host, 0)).expect("a free port").local_addr().expect("bound").to_string()
    };
    assert!(said(&cluster.run(&["node", "add", "n3", "--address", &address])).contains("n3 is added with id 3"));
    let own = std::fs::read_to_string(cluster.config("n0")).expect("init wrote it");
    let own = own.replacen("name = \"n0\"", "name = \"n3\"", 1); // [node] comes first
    let own = own.replace("state/n0", "state/n3").replace("n0.sock", "n3.sock");
    let fourth = format!("{own}\n[[cluster.node]]\nname = \"n3\"\nid = 3\naddress = \"{address}\"\n");
    std::fs::write(cluster.config("n3"), fourth).expect("written");
    nodes.push(cluster.start("n3", &[], None));
    let grown = cluster.wait_joined(4);

    // The node that runs the service goes for good.
    assert!(said(&cluster.run(&["node", "leave", "n1"])).contains("n1 has left"));
    let refused = cluster.run(&["node", "remove", "n1"]);
    let text = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(refused.status.code() == Some(1) && text.contains("node_preferences"), "a service names it: {text}");
    let without = services("").replace("node_preferences = { ordered = [\"n1\"] }\n", "");
    std::fs::write(&file, &without).expect("written");
    let changed = said(&cluster.run(&["service", "apply", &file]));
    assert!(changed.contains("(left out)") && changed.contains("nothing is started or stopped"), "{changed}");
    assert!(said(&cluster.run(&["node", "remove", "n1"])).contains("n1 is removed"));
    let moved = cluster.wait_status("a clock elsewhere", |status| clock(status)["state"] == "registered");
    assert!(find(&moved, "nodes", "n1").is_none(), "{moved:#}");

    // A change of the service touches nothing that runs.
    let before = journal(&cluster);
    std::fs::write(&file, without + "start_timeout = \"5s\"\n").expect("written");
    assert!(said(&cluster.run(&["service", "apply", &file])).contains("start_timeout: \"5s\""));
    assert_eq!(journal(&cluster), before);
    assert!(said(&cluster.run(&["config", "show"])).contains("start_timeout = \"5s\""));
    let whole = cluster.out().join("whole.txt").display().to_string();
    std::fs::write(&whole, said(&cluster.run(&["config", "show"]))).expect("written");
    assert!(said(&cluster.run(&["config", "apply", &whole])).contains("nothing to apply"));

    let second = clock(&moved)["node"].as_str().expect("placed").to_owned();
    assert_eq!(clock(&grown)["node"], "n1");
    assert_eq!(journal(&cluster), format!("start n1\nstop n1\nstart {second}\n"), "never twice at once, never touched");

    // SIGTERM takes all of them out; the disk is sound afterwards.
    nodes.iter().for_each(phalanx_tests::init_cluster::NodeProcess::terminate);
    let ended: Vec<_> = nodes.iter_mut().map(|node| node.wait_exit()).collect();
    assert_eq!(ended, [Some(0); 4]);
    let disk = cluster.disk().display().to_string();
    assert!(said(&cluster.run(&["disk", "check", &disk])).contains("sound"));
}
