//! Monitors, the end of a service's processes, and what follows from a failure, on real processes: restarted where it is, then on
//! another node. What is measured is the order of what happens, never its time.

use std::path::Path;

use phalanx_tests::process_cluster::{DevCluster, PATIENCE, find, signal_process, wait_for};
use rustix::process::Signal;
use serde_json::Value;

fn cluster() -> DevCluster {
    DevCluster::start(2, &["--no-demo-service"])
}

fn apply(cluster: &DevCluster, name: &str, keys: &str) {
    let file = cluster.dir().join(format!("{name}.services"));
    std::fs::write(&file, format!("[[service]]\nname = \"{name}\"\n{keys}")).expect("a file can be written");
    let _ = cluster.succeed(&["service", "apply", &file.to_string_lossy()]);
}

fn service(status: &Value, name: &str) -> Value {
    find(status, "services", name).expect("the service is there").clone()
}

/// Waits until it is registered anew, and gives its node.
fn wait_next(cluster: &DevCluster, name: &str, before: &Value) -> Value {
    let status = cluster.wait_status("the service is registered anew", |status| {
        let service = service(status, name);
        service["state"] == "registered" && service["generation"] != before["generation"]
    });
    service(&status, name)
}

fn lines(path: &Path) -> Vec<String> {
    std::fs::read_to_string(path).unwrap_or_default().lines().map(str::to_owned).collect()
}

/// The process that the newest start has left running.
fn newest_process(journal: &Path) -> u32 {
    let line = lines(journal).pop().expect("it was started");
    line.split_once(' ').and_then(|(_, pid)| pid.parse().ok()).expect("a process id")
}

/// A service that is one process, and a journal of its starts: `NODE PROCESS`.
fn one_process(journal: &Path) -> String {
    format!(
        "allowable_nodes = [\"n0\", \"n1\"]\n\
         start_command = {{ shell = \"sleep 1000 & echo $PHALANX_NODE $! >> '{}'\" }}\n\
         restart = {{ limit = 1, window = \"10m\", backoff = \"10ms\" }}\n",
        journal.display()
    )
}

#[test]
fn a_service_whose_process_is_killed_is_restarted_where_it_is_and_then_on_another_node() {
    let cluster = cluster();
    let journal = cluster.dir().join("starts");
    apply(&cluster, "web", &one_process(&journal));
    let first = service(&cluster.status().expect("a node answers"), "web");
    signal_process(newest_process(&journal), Signal::KILL);
    let second = wait_next(&cluster, "web", &first);
    assert_eq!((&first["node"], &second["node"]), (&Value::from("n0"), &Value::from("n0")), "in place");
    signal_process(newest_process(&journal), Signal::KILL);
    let third = wait_next(&cluster, "web", &second);
    assert_eq!(third["node"], "n1", "once within the window was enough");
    let nodes: Vec<String> =
        lines(&journal).iter().filter_map(|line| Some(line.split_once(' ')?.0.to_owned())).collect();
    assert_eq!(nodes, ["n0", "n0", "n1"], "each time once");
}

/// What never left a process behind has none that could end.
#[test]
fn a_service_without_processes_is_not_taken_for_dead() {
    let cluster = cluster();
    apply(&cluster, "address", "start_command = \"true\"\n");
    let journal = cluster.dir().join("starts");
    apply(&cluster, "web", &one_process(&journal));
    let before = service(&cluster.status().expect("a node answers"), "address");
    // By then the end of the other service's process was seen.
    let web = service(&cluster.status().expect("a node answers"), "web");
    signal_process(newest_process(&journal), Signal::KILL);
    wait_next(&cluster, "web", &web);
    let after = service(&cluster.status().expect("a node answers"), "address");
    assert_eq!((&after["state"], &after["generation"]), (&Value::from("registered"), &before["generation"]));
}

#[test]
fn a_service_whose_monitor_fails_often_enough_is_restarted_and_its_output_is_shown() {
    let cluster = cluster();
    let well = cluster.dir().join("well");
    let keys = format!(
        "allowable_nodes = [\"n1\"]\n\
         start_command = {{ shell = \"touch '{well}'; echo it is started\" }}\n\
         monitor = {{ command = [\"test\", \"-e\", \"{well}\"], interval = \"50ms\", timeout = \"5s\", tolerance = 2 }}\n\
         restart = {{ limit = 5, window = \"10m\", backoff = \"10ms\" }}\n",
        well = well.display()
    );
    apply(&cluster, "web", &keys);
    let before = service(&cluster.status().expect("a node answers"), "web");
    std::fs::remove_file(&well).expect("its start command made it");
    let after = wait_next(&cluster, "web", &before);
    assert_eq!(after["node"], "n1");
    assert!(well.exists());
    let shown: Value = serde_json::from_str(&cluster.succeed(&["service", "show", "web", "--output", "json"])).unwrap();
    assert_eq!(shown["output_of"], "n1", "{shown:#}");
    assert_eq!(shown["output"], serde_json::json!(["it is started", "it is started"]), "{shown:#}");
    assert_eq!(shown["monitor"]["tolerance"], 2, "as n1 has counted: {shown:#}");
    assert!(shown["monitor"]["bad"].as_u64() >= Some(2), "{shown:#}");
    let text = cluster.succeed(&["service", "show", "web"]);
    assert!(text.contains("monitor: 0 bad in a row of 2 that are a failure"), "{text}");
    assert!(text.contains("last output on n1") && text.contains("\n  it is started\n"), "{text}");
    assert!(text.contains("tolerance = 2"), "{text}");
    let logs = cluster.logs();
    assert!(logs.contains("its monitor failed: exit status 1") && logs.contains("(2 in a row)"), "{logs}");

    let _ = cluster.succeed(&["service", "deregister", "web"]);
    let _ = cluster.succeed(&["service", "remove", "web"]);
    let kept = || {
        phalanx_tests::process_cluster::files_below(cluster.dir())
            .into_iter()
            .find(|path| path.file_name().is_some_and(|name| name == "service-web.log"))
    };
    wait_for("its output is removed with it", PATIENCE, || kept().is_none().then_some(()));
}

/// The public request: it names the registration, so that nobody speaks of an instance that is not there any more.
#[test]
fn a_failure_is_taken_of_the_present_registration_only() {
    let cluster = cluster();
    let token = cluster.dir().join("token");
    let keys = format!(
        "start_command = {{ shell = \"echo $PHALANX_GENERATION > '{}'; sleep 1000 &\" }}\n\
         restart = {{ limit = 5, window = \"10m\", backoff = \"10ms\" }}\n",
        token.display()
    );
    apply(&cluster, "web", &keys);
    let first = service(&cluster.status().expect("a node answers"), "web");
    let stale = cluster.run(&["service", "failed", "web", "--generation", "1.1"]);
    let text = String::from_utf8_lossy(&stale.stderr).into_owned();
    assert_eq!(stale.status.code(), Some(1), "{text}");
    assert!(text.contains("web") && text.contains(first["generation"].as_str().expect("it is registered")), "{text}");
    assert_eq!(service(&cluster.status().expect("a node answers"), "web")["generation"], first["generation"]);

    let number = std::fs::read_to_string(&token).expect("its start command wrote it");
    let _ =
        cluster.succeed(&["service", "failed", "web", "--generation", number.trim(), "--reason", "it does not answer"]);
    let second = wait_next(&cluster, "web", &first);
    let _ = cluster.succeed(&[
        "service",
        "failed",
        "web",
        "--generation",
        second["generation"].as_str().expect("it is registered"),
    ]);
    wait_next(&cluster, "web", &second);
}

/// A service that is one process, whose number is kept in a file, with a monitor that is counted.
fn kept_in_a_file(dir: &Path) -> String {
    format!(
        "allowable_nodes = [\"n0\"]\nleaves = \"state\"\n\
         start_command = {{ shell = \"sleep 1000 & echo $! > '{0}/pid'; echo start >> '{0}/starts'\" }}\n\
         stop_command = {{ shell = \"kill $(cat '{0}/pid') || true\" }}\n\
         monitor = {{ command = {{ shell = \"echo look >> '{0}/looks'; kill -0 $(cat '{0}/pid')\" }}, interval = \"50ms\" }}\n\
         restart = {{ limit = 5, window = \"10m\", backoff = \"10ms\" }}\n",
        dir.display()
    )
}

/// Held, killed by hand, and both are seen.
fn hold_and_kill(cluster: &DevCluster, kill: impl FnOnce()) {
    let _ = cluster.succeed(&["service", "hold", "web"]);
    kill();
    cluster.wait_status("the status tells that it has failed", |status| {
        let reason = service(status, "web")["reason"].as_str().unwrap_or_default().to_owned();
        reason.starts_with("it is held, and it has failed")
    });
}

/// Protocol §6.3, `H`: when a hold ends the state is found by looking, so that there are never two instances (I-R1).
#[test]
fn what_was_started_by_hand_during_a_hold_is_adopted_and_what_was_not_is_started_by_the_rules() {
    let cluster = cluster();
    let dir = cluster.dir().to_path_buf();
    apply(&cluster, "web", &kept_in_a_file(&dir));
    let kept = || std::fs::read_to_string(dir.join("pid")).expect("it was started").trim().parse().expect("a number");
    let first = service(&cluster.status().expect("a node answers"), "web");
    hold_and_kill(&cluster, || signal_process(kept(), Signal::KILL));

    let mut by_hand = std::process::Command::new("sleep").arg("1000").spawn().expect("sleep can be started");
    std::fs::write(dir.join("pid"), by_hand.id().to_string()).expect("a file can be written");
    let _ = cluster.succeed(&["service", "clear", "web"]);
    let looks = lines(&dir.join("looks")).len();
    wait_for("some looks", PATIENCE, || (lines(&dir.join("looks")).len() > looks + 3).then_some(()));
    let adopted = service(&cluster.status().expect("a node answers"), "web");
    assert_eq!((&adopted["state"], &adopted["generation"]), (&Value::from("registered"), &first["generation"]));
    assert_eq!((adopted["failures"].as_u64(), lines(&dir.join("starts")).len()), (Some(0), 1), "no second start");
    assert_eq!(by_hand.try_wait().expect("it is a child"), None, "and what was started by hand runs on");

    hold_and_kill(&cluster, || {
        by_hand.kill().expect("it is a child");
        by_hand.wait().expect("it is a child");
    });
    assert_eq!(lines(&dir.join("starts")).len(), 1, "nothing is begun for it");
    let _ = cluster.succeed(&["service", "clear", "web"]);
    wait_next(&cluster, "web", &first);
    assert_eq!(lines(&dir.join("starts")).len(), 2, "once");
    let _ = cluster.succeed(&["service", "deregister", "web"]);
}
