//! The membership configuration changes while the cluster runs; nodes are fenced and confirmed dead by hand.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use phalanx_messages::admin::{AdminAnswer, AdminRequest};
use phalanx_messages::configuration::{NodeChange, NodeSettings};
use phalanx_node::cli::client::Client;
use phalanx_tests::process_cluster::{DevCluster, PATIENCE, find, phalanx, signal_process, wait_for};
use rustix::process::Signal;

/// A service that names one node, and one that runs.
const CONFIG: &str = r#"
[[service]]
name = "pinned"
allowable_nodes = ["n0", "n1"]
auto_register = "always"
start_command = { shell = "exec sleep 1000 &" }
leaves = "processes"
"#;

fn config() -> (tempfile::TempDir, PathBuf) {
    use std::os::unix::fs::PermissionsExt;
    let directory = tempfile::tempdir().expect("a directory");
    std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o755)).expect("readable by all");
    let path = directory.path().join("pinned.toml");
    std::fs::write(&path, CONFIG).expect("the file can be written");
    (directory, path)
}

/// A command that must fail with that exit code, saying that.
fn fails(cluster: &DevCluster, arguments: &[&str], code: i32, says: &str) {
    let output = cluster.run(arguments);
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "phalanx {arguments:?}: {error}");
    assert!(error.contains(says), "phalanx {arguments:?} should say {says:?}, and says: {error}");
}

/// A node that `dev` did not start; killed with the test.
struct Joiner(Child);

impl Drop for Joiner {
    fn drop(&mut self) {
        signal_process(self.0.id(), Signal::KILL);
        self.0.wait().ok();
    }
}

/// Writes the file of a fourth node from that of the first, as the text of `node add` says.
fn fourth_file(cluster: &DevCluster, address: &str) -> PathBuf {
    let first = std::fs::read_to_string(cluster.dir().join("n0.toml")).expect("dev wrote it");
    let (begin, rest) = first.split_once("[interconnect]\n").expect("dev writes [interconnect]");
    let rest = rest.split_once('\n').expect("a line follows").1;
    let begin = begin
        .replacen("name = \"n0\"", "name = \"n3\"", 1)
        .replacen("/state-n0", "/state-n3", 1)
        .replacen("/n0.sock", "/n3.sock", 1);
    let listed = format!("[[cluster.node]]\nname = \"n3\"\nid = 3\naddress = {address:?}\n");
    let (head, disk) = begin.split_once("[disk]").expect("dev writes [disk]");
    let text = format!("{head}{listed}\n[disk]{disk}[interconnect]\nbind = {address:?}\n{rest}");
    let path = cluster.dir().join("n3.toml");
    std::fs::write(&path, text).expect("the file can be written");
    path
}

fn free_address() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("bound").to_string()
}

fn node_in_configuration(cluster: &DevCluster, through: &str, name: &str) -> Option<serde_json::Value> {
    let output = cluster.run(&["--node", through, "config", "show", "--output", "json"]);
    let shown: serde_json::Value = serde_json::from_slice(&output.stdout).ok()?;
    find(&shown, "nodes", name).cloned()
}

/// Two clients that saw the same configuration, at the same time, through different nodes: one of them must look again.
fn two_changes_at_once(cluster: &DevCluster) {
    let client = |node: &str| Client::connect(&cluster.dir().join(format!("{node}.sock"))).expect("the node answers");
    let configuration = client("n0").ask(&AdminRequest::Configuration).expect("an answer");
    let AdminAnswer::Configuration(configuration) = configuration else { panic!("{configuration:?}") };
    let change = |votes| AdminRequest::Change {
        base: Some(configuration.record.revision),
        changes: vec![NodeChange::Set {
            name: "n0".to_owned(),
            address: None,
            settings: NodeSettings { votes: Some(votes), ..NodeSettings::default() },
        }],
        dry_run: false,
    };
    let codes = std::thread::scope(|scope| {
        let asks = [("n1", 5), ("n2", 6)].map(|(node, votes)| {
            let request = change(votes);
            scope.spawn(move || client(node).ask_patiently(&request).map_or_else(|exit| exit.code, |_| 0))
        });
        let mut codes = asks.map(|ask| ask.join().expect("no panic"));
        codes.sort_unstable();
        codes
    });
    assert_eq!(codes, [0, 75]);
}

#[test]
fn a_fourth_node_is_added_joins_is_changed_and_removed_while_a_service_runs() {
    let (_keep, path) = config();
    let cluster = DevCluster::start(3, &["--config", &path.to_string_lossy()]);
    let home = cluster.wait_registered("pinned");
    let generation = |status: &serde_json::Value| find(status, "services", "pinned").map(|it| it["generation"].clone());
    let before = generation(&cluster.status().expect("somebody answers"));
    let address = free_address();

    // Refusals have names and codes, and change nothing.
    fails(&cluster, &["node", "add", "n1", "--address", &address], 78, "node `n1` exists");
    let taken = node_in_configuration(&cluster, "n0", "n1").expect("n1")["address"].as_str().expect("text").to_owned();
    fails(&cluster, &["node", "add", "n3", "--address", &taken], 78, "belongs to node `n1`");
    fails(&cluster, &["node", "add", "n3", "--address", &address, "--id", "99"], 78, "must be below 16");
    fails(&cluster, &["node", "remove", "n2"], 1, "phalanx node leave n2");
    fails(&cluster, &["node", "set", "n7", "votes=1"], 105, "the cluster has n0, n1, n2");
    fails(
        &cluster,
        &["node", "set", "n1", "colour=red"],
        2,
        "address, votes, panic, shutdown_timeout, capacity, watchdog_attested",
    );

    // Added through a node that is not master, it is known everywhere, and joins.
    let status = cluster.wait_joined(3);
    let other = if status["master"] == "n1" { "n2" } else { "n1" };
    let output = cluster.run(&["--node", other, "node", "add", "n3", "--address", &address]);
    let steps = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && steps.contains("phalanx node run") && steps.contains("  id = 3"), "{steps}");
    assert!(node_in_configuration(&cluster, other, "n3").is_some(), "who was asked shows it at once");
    for node in ["n0", "n1", "n2"] {
        wait_for("n3 in the configuration", PATIENCE, || node_in_configuration(&cluster, node, "n3"));
    }
    let file = fourth_file(&cluster, &address);
    let log = std::fs::File::create(cluster.dir().join("n3.log")).expect("a log");
    let mut command = Command::new(phalanx());
    command.args(["node", "run", "--config"]).arg(&file).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
    let mut joiner = Joiner(command.spawn().expect("phalanx can be started"));
    cluster.wait_joined(4);
    fails(&cluster, &["node", "remove", "n3"], 1, "joined");

    // Set through the new node; every other one follows.
    let said = cluster.succeed(&["--node", "n3", "node", "set", "n3", "shutdown_timeout=10m", "votes=2"]);
    assert!(said.contains("n3 is changed"), "{said}");
    for node in ["n0", "n1", "n2", "n3"] {
        wait_for("the new votes of n3", PATIENCE, || {
            let shown = node_in_configuration(&cluster, node, "n3")?;
            (shown["votes"] == 2 && shown["shutdown_ms"] == 600_000 && shown["has_key"] == true).then_some(())
        });
    }
    assert!(cluster.succeed(&["node", "set", "n3", "votes=2"]).contains("nothing was committed"));
    two_changes_at_once(&cluster);

    // What is shown can be applied, and changes nothing; a changed file is one commit.
    let shown = cluster.succeed(&["config", "show"]);
    let file = cluster.dir().join("cluster.toml.txt");
    std::fs::write(&file, &shown).expect("the file can be written");
    let file = file.to_string_lossy().into_owned();
    drop(cluster.succeed(&["config", "check", &file]));
    let nothing = "the file says what the cluster has: nothing to apply\n";
    assert_eq!(cluster.succeed(&["config", "apply", &file]), nothing);
    std::fs::write(&file, shown.replace("shutdown_timeout = \"10m\"", "shutdown_timeout = \"20m\"")).expect("written");
    let line = "~ node n3\n    shutdown_timeout: 10m -> 20m\n";
    assert_eq!(cluster.succeed(&["config", "apply", &file, "--dry-run"]), line);
    assert_eq!(cluster.succeed(&["config", "apply", &file]), line);
    assert_eq!(cluster.succeed(&["config", "apply", &file]), nothing);

    // It leaves and is removed; nobody knows it any more. A node that a service names stays.
    drop(cluster.succeed(&["node", "leave", "n3"]));
    wait_for("the end of n3", PATIENCE, || joiner.0.try_wait().expect("a child can be waited for"));
    drop(cluster.succeed(&["node", "remove", "n3"]));
    cluster.wait_status("a cluster without n3", |status| find(status, "nodes", "n3").is_none());
    fails(&cluster, &["node", "remove", "n0"], 1, "`allowable_nodes` of service pinned");
    let status = cluster.wait_joined(3);
    assert_eq!((generation(&status), cluster.wait_registered("pinned")), (before, home), "the service never moved");
}

#[test]
fn a_node_is_fenced_by_hand_and_a_death_without_proof_is_confirmed_by_hand() {
    let (_keep, path) = config();
    let cluster = DevCluster::start(3, &["--config", &path.to_string_lossy(), "--subreaper"]);
    let status = cluster.wait_joined(3);
    let master = status["master"].as_str().expect("there is a master").to_owned();
    let others: Vec<&str> = ["n0", "n1", "n2"].into_iter().filter(|node| *node != master).collect();
    let (victim, witness) = (others[0], others[1]);

    fails(&cluster, &["fence", victim], 107, "--force");
    fails(&cluster, &["fence", "n7", "--force"], 105, "the cluster has");
    fails(&cluster, &["--node", victim, "fence", victim, "--force"], 1, "is the node that answers");
    fails(&cluster, &["fence", "confirm", victim, "--force"], 107, "is not being forced out");

    // Fenced while it runs, it panics, and its own warden proves its death. So does the master.
    let said = cluster.succeed(&["fence", victim, "--force", "--reason", "smoke"]);
    assert!(said.contains(&format!("{victim} is out after")), "{said}");
    let trace = cluster.succeed(&["trace", "last"]);
    assert!(trace.contains("forced out by the administrator: smoke"), "{trace}");
    drop(cluster.succeed(&["start", victim]));
    drop(cluster.succeed(&["fence", &master, "--force"]));
    drop(cluster.succeed(&["start", &master]));
    cluster.wait_joined(3);

    // Everything of a node dies at once, below a subreaper: there is no proof, and the others wait for the administrator.
    let output = Command::new(phalanx())
        .arg("--dir")
        .arg(cluster.dir())
        .args(["kill", victim, "--what", "host"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let kill = Joiner(output.expect("phalanx can be started"));
    let command = format!("phalanx fence confirm {victim}");
    cluster.wait_status("a victim that awaits its confirmation", |status| {
        let node = find(status, "nodes", victim).expect("a node");
        node["fence"]["awaiting"].as_str().is_some_and(|awaiting| awaiting.contains(&command))
    });
    fails(&cluster, &["fence", "confirm", victim], 107, "--force");
    // Refused as long as its register has not been silent for a whole lease; then taken.
    wait_for("an accepted confirmation", PATIENCE, || {
        let output = cluster.run(&["--node", witness, "fence", "confirm", victim, "--force"]);
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        match output.status.code() {
            Some(0) => Some(()),
            Some(107) => {
                assert!(error.contains("is alive: its register was written"), "{error}");
                None
            }
            code => panic!("{code:?}: {error}"),
        }
    });
    drop(kill);
    cluster.wait_joined(2);
    let trace = cluster.succeed(&["--node", witness, "trace", "last"]);
    assert!(trace.contains("death confirmed by") && trace.contains("(uid "), "{trace}");
    let log = std::fs::read_to_string(cluster.dir().join(format!("{witness}.log"))).expect("the log of the witness");
    assert!(log.contains("death confirmed by"), "every node logs whose word it was");
}
