//! Client services by the command line, and what happens when their commands misbehave: one clear error, the right exit code,
//! and nothing lost.

use std::path::Path;
use std::process::Output;

use phalanx_tests::process_cluster::{DevCluster, PATIENCE, copy_program, find, phalanx, processes_naming, wait_for};
use serde_json::Value;

fn cluster() -> DevCluster {
    DevCluster::start(3, &["--no-demo-service"])
}

/// Applies one service, given by its keys.
fn apply(cluster: &DevCluster, name: &str, keys: &str, flags: &[&str]) -> Output {
    let file = cluster.dir().join(format!("{name}.services"));
    std::fs::write(&file, format!("[[service]]\nname = \"{name}\"\n{keys}")).expect("a file can be written");
    let file = file.to_string_lossy().into_owned();
    cluster.run(&[&["service", "apply", &file], flags].concat())
}

/// Exit code and what was said on stderr.
fn failure(output: &Output) -> (Option<i32>, String) {
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

fn stdout(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn service(cluster: &DevCluster, name: &str) -> Value {
    let status = cluster.status().expect("a node answers");
    find(&status, "services", name).expect("the service is there").clone()
}

#[test]
fn a_service_is_defined_changed_moved_held_and_removed() {
    let cluster = cluster();
    let keys = "allowable_nodes = [\"n0\", \"n1\"]\nstart_command = { shell = \"sleep 1000 &\" }\n";
    let planned = stdout(&apply(&cluster, "web", keys, &["--dry-run"]));
    assert!(planned.contains("+ service web\n") && planned.contains("web: start on n0: "), "{planned}");
    assert!(!cluster.succeed(&["service", "list"]).contains("web"), "a dry run changes nothing");
    assert!(stdout(&apply(&cluster, "web", keys, &[])).ends_with("web: registered on n0\n"));
    let again = stdout(&apply(&cluster, "web", keys, &[]));
    assert!(again.contains("nothing to apply"), "{again}");

    let before = service(&cluster, "web")["generation"].clone();
    let changed = stdout(&apply(&cluster, "web", &format!("{keys}start_timeout = \"5s\"\n"), &[]));
    assert!(changed.contains("~ service web\n    start_timeout: \"5s\"\n"), "{changed}");
    assert!(changed.contains("nothing is started or stopped"), "{changed}");
    assert_eq!(service(&cluster, "web")["generation"], before, "it was not touched");
    let shown = cluster.succeed(&["service", "show", "web"]);
    assert!(shown.contains("start_timeout = \"5s\""), "{shown}");

    assert_eq!(cluster.succeed(&["service", "transfer", "web"]), "web: registered on n1\n");
    let explained = cluster.succeed(&["explain", "web"]);
    assert!(explained.contains("[stays]") && explained.contains("not-allowable"), "{explained}");
    assert_eq!(cluster.succeed(&["node", "standby", "n1"]), "n1: done\n");
    assert_eq!(service(&cluster, "web")["node"], "n0");
    let refused = cluster.run(&["service", "transfer", "web", "--to", "n1"]);
    let (code, text) = failure(&refused);
    assert!(code == Some(1) && text.contains("it is on standby"), "{text}");
    assert_eq!(cluster.succeed(&["node", "unstandby", "n1"]), "n1: done\n");

    assert_eq!(cluster.succeed(&["service", "hold", "web"]), "web: registered on n0\n");
    let (code, text) = failure(&cluster.run(&["service", "transfer", "web"]));
    assert!(code == Some(1) && text.contains("phalanx service clear web"), "{text}");
    assert_eq!(cluster.succeed(&["service", "clear", "web"]), "web: registered on n0\n");
    let (code, text) = failure(&cluster.run(&["service", "remove", "web"]));
    assert!(code == Some(1) && text.contains("phalanx service deregister web"), "{text}");
    let stopped = cluster.succeed(&["service", "deregister", "web"]);
    assert_eq!(stopped, "web: de-registered (it is not asked to run)\n");
    assert_eq!(cluster.succeed(&["service", "remove", "web"]), "web: done\n");
    assert_eq!(cluster.run(&["service", "show", "web"]).status.code(), Some(105));
}

#[test]
fn orders_about_unknown_services_and_nodes_have_exit_code_105() {
    let cluster = cluster();
    assert!(apply(&cluster, "web", "allowable_nodes = [\"n0\"]\n", &[]).status.success());
    let orders: [&[&str]; 6] = [
        &["service", "register", "nothing"],
        &["service", "show", "nothing"],
        &["explain", "nothing"],
        &["service", "transfer", "web", "--to", "n9"],
        &["node", "standby", "n9"],
        &["node", "leave", "n9"],
    ];
    for order in orders {
        let (code, text) = failure(&cluster.run(order));
        assert_eq!(code, Some(105), "{order:?}: {text}");
        assert!(text.contains("there is no"), "{order:?}: {text}");
    }
    let (code, text) = failure(&cluster.run(&["service", "transfer", "web", "--to", "n1"]));
    assert!(code == Some(1) && text.contains("cannot go to n1: it is not in allowable_nodes"), "{text}");
    let (code, text) = failure(&apply(&cluster, "web", "allowable_nodes = [\"n7\"]\n", &[]));
    assert!(code == Some(78) && text.contains("names `n7`, which is no node"), "{text}");
}

#[test]
fn a_start_command_that_fails_is_tried_everywhere_and_its_words_are_shown() {
    let cluster = cluster();
    let keys = "start_command = { shell = \"echo broken by design >&2; exit 3\" }\nstart_retries = 0\n";
    let (code, text) = failure(&apply(&cluster, "bad", keys, &[]));
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("every allowable node failed to start it") && text.contains("broken by design"), "{text}");
    assert_eq!(service(&cluster, "bad")["state"], "failed");
    // The cure that the hint names.
    let cured = stdout(&apply(&cluster, "bad", "start_command = \"true\"\nstart_retries = 0\n", &[]));
    assert!(cured.ends_with("bad: registered on n0\n"), "{cured}");
}

#[test]
fn a_start_command_that_hangs_is_killed_with_everything_that_it_started() {
    let cluster = cluster();
    let mark = format!("{}/hanging", cluster.dir().display());
    copy_program(Path::new("/bin/sleep"), Path::new(&mark));
    let keys = format!(
        "allowable_nodes = [\"n1\"]\nstart_command = {{ shell = \"setsid {mark} 1000 & {mark} 1001\" }}\nstart_timeout = \"300ms\"\n\
         start_retries = 0\n"
    );
    let (code, text) = failure(&apply(&cluster, "bad", &keys, &[]));
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("300 ms"), "it says how long it was given: {text}");
    let left = || processes_naming(&mark).into_iter().filter(|(_, line)| line.starts_with(&mark)).collect::<Vec<_>>();
    assert_eq!(left(), [], "cleaned before it is called failed");
}

#[test]
fn fault_48_what_a_failed_start_command_leaves_behind_is_killed_before_the_next_node_starts_it() {
    let cluster = cluster();
    let mark = format!("{}/left-behind", cluster.dir().display());
    copy_program(Path::new("/bin/sleep"), Path::new(&mark));
    // It fails on n0, where it leaves a child, and on n1 it fails if that child is still there.
    let start = format!("if [ $PHALANX_NODE = n0 ]; then setsid {mark} 1000 & exit 1; else ! pgrep -f '^{mark}'; fi");
    let keys =
        format!("allowable_nodes = [\"n0\", \"n1\"]\nstart_command = {{ shell = \"{start}\" }}\nstart_retries = 0\n");
    let started = stdout(&apply(&cluster, "bad", &keys, &[]));
    assert!(started.contains("bad: registered on n1"), "{started}");
}

#[test]
fn a_stop_command_that_hangs_is_killed_and_counts_as_the_definition_says() {
    let cluster = cluster();
    let keys = |more: &str| {
        format!(
            "allowable_nodes = [\"n2\"]\nstart_command = \"true\"\nstop_command = \"sleep 1000\"\nstop_timeout = \"300ms\"\n\
             leaves = \"processes\"\n{more}"
        )
    };
    stdout(&apply(&cluster, "soft", &keys("stop_failure = \"ignore\"\n"), &[]));
    let stopped = cluster.succeed(&["service", "deregister", "soft"]);
    assert!(stopped.starts_with("soft: de-registered"), "{stopped}");
    assert_eq!(cluster.wait_joined(3)["services"][0]["state"], "de-registered");

    stdout(&apply(&cluster, "hard", &keys(""), &[]));
    let stopped = cluster.run(&["service", "deregister", "hard"]);
    let (code, told) = failure(&stopped);
    assert_eq!(code, Some(0), "{told}");
    assert!(told.contains("must be forced out"), "it says why: {told}");
    let status = cluster.wait_joined(2);
    assert_eq!(find(&status, "nodes", "n2").expect("configured")["state"], "inactive", "it could not let go");
    assert_eq!(service(&cluster, "hard")["state"], "de-registered");
}

#[test]
fn a_start_command_may_use_the_command_line_itself() {
    let cluster = cluster();
    let (program, out) = (phalanx().display().to_string(), cluster.dir().join("seen"));
    let config = cluster.dir().join("n0.toml");
    let start = format!(
        "{program} status > {out} && {program} config check {config} >> {out} && {program} service list >> {out}",
        out = out.display(),
        config = config.display()
    );
    stdout(&apply(&cluster, "curious", &format!("start_command = {{ shell = \"{start}\" }}\n"), &[]));
    let seen = std::fs::read_to_string(&out).expect("the start command has written it");
    assert!(seen.contains("cluster dev") && seen.contains("no mistake") && seen.contains("curious"), "{seen}");
}

#[test]
fn a_service_that_matures_shows_how_long_it_waits() {
    let cluster = cluster();
    let keys = "start_command = \"true\"\nmaturity_count = 9\nmaturity_time = \"2s\"\n";
    stdout(&apply(&cluster, "late", keys, &["--no-wait"]));
    let waiting = wait_for("the countdown", PATIENCE, || {
        let late = service(&cluster, "late");
        (late["state"] == "awaiting-maturity" && late["maturity_ms"].is_u64()).then_some(late)
    });
    assert!(waiting["maturity_ms"].as_u64().expect("just seen") <= 2_000, "{waiting}");
    let reason = waiting["reason"].as_str().expect("a reason");
    assert!(reason.starts_with("waits for 9 allowable nodes (3 up)") && reason.contains("for another"), "{reason}");
    assert!(cluster.wait_registered("late").starts_with('n'));
    let (code, text) = failure(&apply(&cluster, "never", "maturity_count = 9\nmaturity_time = \"1h\"\n", &[]));
    assert_eq!(code, Some(0), "nothing is started, so nothing is waited for: {text}");
    let (code, text) = failure(&cluster.run(&["service", "register", "never", "--within", "200ms"]));
    assert!(code == Some(124) && text.contains("waits for 9 allowable nodes"), "{text}");
}
