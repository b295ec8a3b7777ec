//! What the command line says about the membership configuration without a cluster.

use std::path::Path;
use std::process::{Command, Output, Stdio};

use phalanx_tests::process_cluster::phalanx;

const NODE: &str = r#"[node]
name = "n0"
state_dir = "state"
panic = "exit"
[cluster]
name = "alpha"
key_file = "cluster.key"
[[cluster.node]]
name = "n0"
id = 0
address = "127.0.0.1:7600"
votes = 3
[disk]
backend = "mmap"
path = "disk"
timing = "dev"
[fencing]
methods = ["fence_ipmilan"]
[[fencing.node]]
name = "n0"
agents.fence_ipmilan = { ip = "10.0.0.1" }
"#;

fn run(directory: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(phalanx());
    command.current_dir(directory).args(arguments).stdin(Stdio::null());
    command.env("NO_COLOR", "1").env("PHALANX_SOCKET", directory.join("nobody.sock"));
    command.output().expect("phalanx can be started")
}

fn said(output: &Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn config_check_never_hides_which_fence_agents_cannot_run_and_refuses_secrets() {
    let directory = tempfile::tempdir().expect("a directory");
    std::fs::write(directory.path().join("n0.toml"), NODE).expect("written");
    let (code, out, error) = said(&run(directory.path(), &["config", "check", "n0.toml"]));
    assert!(code == Some(0) && out.contains("no mistake"), "{out}{error}");
    assert!(error.contains("warning: [fencing] names agents for n0") && error.contains("fence confirm"), "{error}");
    assert!(error.contains("fence_ipmilan is not installed on this host"), "{error}");

    let secret = NODE.replace("ip = \"10.0.0.1\"", "ip = \"10.0.0.1\", password = \"hunter2\"");
    std::fs::write(directory.path().join("n0.toml"), secret).expect("written");
    let (code, _, error) = said(&run(directory.path(), &["config", "check", "n0.toml"]));
    assert!(code == Some(78) && error.contains("fence.d/n0.toml"), "{error}");
    assert!(!error.contains("hunter2"), "a secret is not shown either: {error}");
}

#[test]
fn a_new_disk_has_what_the_file_says_and_shows_it_as_a_file() {
    let directory = tempfile::tempdir().expect("a directory");
    std::fs::write(directory.path().join("n0.toml"), NODE).expect("written");
    assert!(run(directory.path(), &["disk", "create", "--config", "n0.toml"]).status.success());
    let (code, shown, error) = said(&run(directory.path(), &["config", "show", "--disk", "disk"]));
    assert_eq!(code, Some(0), "{error}");
    for line in ["votes = 3", "panic = \"exit\"", "shutdown_timeout = \"5m\"", "methods = [\"fence_ipmilan\"]"] {
        assert!(shown.contains(line), "{shown}");
    }
    std::fs::write(directory.path().join("shown.toml"), &shown).expect("written");
    let (code, out, error) = said(&run(directory.path(), &["config", "check", "shown.toml"]));
    assert!(code == Some(0) && out.contains("for cluster alpha, 1 nodes"), "{out}{error}");
    let (code, json, _) = said(&run(directory.path(), &["--output", "json", "config", "show", "--disk", "disk"]));
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert!(code == Some(0) && json["nodes"][0]["fence"][0]["agent"] == "fence_ipmilan", "{json}");

    // A node that the database does not know is told how it gets there.
    let stranger = NODE.replace("\"n0\"", "\"n5\"");
    std::fs::write(directory.path().join("n5.toml"), stranger).expect("written");
    let key = phalanx_actors::interconnect::ClusterKey::generate().expect("a key");
    key.save(&directory.path().join("cluster.key")).expect("written");
    let (code, _, error) = said(&run(directory.path(), &["node", "run", "--no-wait", "--config", "n5.toml"]));
    assert!(code == Some(78) && error.contains("phalanx node add n5"), "{error}");
}

#[test]
fn mistakes_on_the_command_line_are_told_before_anybody_is_asked() {
    let directory = tempfile::tempdir().expect("a directory");
    let cases: [(&[&str], i32, &str); 6] = [
        (&["node", "set", "n0", "votes"], 2, "KEY=VALUE"),
        (&["node", "set", "n0", "panic=halt"], 2, "exit, reboot, crash or watchdog"),
        (&["node", "set", "n0", "shutdown_timeout=soon"], 2, "is not a duration"),
        (&["node", "add", "n3"], 2, "--address"),
        (&["fence"], 2, "which node?"),
        (&["config", "show"], 69, "no daemon answers"),
    ];
    for (arguments, expected, says) in cases {
        let (code, _, error) = said(&run(directory.path(), arguments));
        assert!(code == Some(expected) && error.contains(says), "{arguments:?}: {code:?} {error}");
    }
}

#[test]
fn every_help_has_an_example() {
    let directory = tempfile::tempdir().expect("a directory");
    let commands: [&[&str]; 8] = [
        &["config", "check"],
        &["config", "show"],
        &["config", "apply"],
        &["node", "add"],
        &["node", "remove"],
        &["node", "set"],
        &["fence"],
        &["fence", "confirm"],
    ];
    for command in commands {
        let arguments: Vec<&str> = command.iter().copied().chain(["--help"]).collect();
        let (code, help, _) = said(&run(directory.path(), &arguments));
        assert!(code == Some(0) && help.contains("Example") && help.contains("  phalanx "), "{command:?}: {help}");
    }
}
