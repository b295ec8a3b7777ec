//! The command line against running nodes: what `--output json` prints is what docs/schemas says, logs, `status --watch`, the
//! three shells of `phalanx init`, and a node whose talk nobody reads.

use std::io::{BufRead, BufReader};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};

use phalanx_messages::register::OwnState;
use phalanx_tests::init_cluster::InitCluster;
use phalanx_tests::process_cluster::{
    DevCluster, MachineLock, PATIENCE, find, list, phalanx, signal_process, wait_for,
};
use phalanx_tests::requirement::Requirement;
use rustix::process::Signal;
use serde_json::Value;

/// Checks a value against the schema of a command.
fn check(command: &str, value: &Value) {
    let all = phalanx_node::cli::schema::all().expect("schemas");
    let (_, text) = all.iter().find(|(known, _)| *known == command).expect("a command of the table");
    let schema: Value = serde_json::from_str(text).expect("JSON");
    let validator = jsonschema::validator_for(&schema).expect("a schema");
    let wrong: Vec<String> =
        validator.iter_errors(value).map(|error| format!("{}: {error}", error.instance_path)).collect();
    assert!(wrong.is_empty(), "{command}: {wrong:#?}\n{value:#}");
}

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect()
}

/// Something that follows, with its lines.
struct Follower {
    child: Child,
    lines: Receiver<String>,
}

impl Follower {
    fn start(cluster: &DevCluster, arguments: &[&str]) -> Self {
        let mut command = Command::new(phalanx());
        command.arg("--dir").arg(cluster.dir()).args(arguments).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.stderr(Stdio::null()).spawn().expect("phalanx can be started");
        let output = BufReader::new(child.stdout.take().expect("piped"));
        let (sender, lines) = channel();
        std::thread::spawn(move || output.lines().map_while(Result::ok).all(|line| sender.send(line).is_ok()));
        Self { child, lines }
    }

    /// The next line that satisfies `condition`.
    fn wait(&self, what: &str, condition: impl Fn(&str) -> bool) -> String {
        wait_for(what, PATIENCE, || self.lines.try_iter().find(|line| condition(line)))
    }

    fn interrupt(mut self) {
        signal_process(self.child.id(), Signal::INT);
        let child = &mut self.child;
        let ended = wait_for("its end", PATIENCE, || child.try_wait().expect("a child can be waited for"));
        assert_eq!(ended.code(), Some(0));
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        signal_process(self.child.id(), Signal::KILL);
        self.child.wait().ok();
    }
}

/// Every command that prints JSON, while its cluster runs.
fn check_schemas(cluster: &DevCluster) {
    let json = |arguments: &[&str]| -> Value {
        let text = cluster.succeed(&[arguments, &["--output", "json"]].concat());
        serde_json::from_str(&text).expect("JSON")
    };
    let mut checked = vec!["logs"];
    let directory = cluster.dir().to_path_buf();
    let path = |name: &str| directory.join(name).to_string_lossy().into_owned();
    let services = "[[service]]\nname = \"extra\"\nstart_command = \"true\"\nrecovery_command = \"true\"\n";
    std::fs::write(path("extra.services"), services).expect("written");
    let whole = cluster.succeed(&["config", "show"]).replace("shutdown_timeout = \"5m\"", "shutdown_timeout = \"6m\"");
    std::fs::write(path("whole.cluster"), whole).expect("written");
    // Another disk for what formats one: the same file with another path.
    let config = std::fs::read_to_string(path("n0.toml")).expect("dev wrote it");
    let other = config.replace(cluster_disk_line(&config), "path = \"other.disk\"");
    std::fs::write(path("other.config"), other).expect("written");
    let (disk, extra, whole, other) =
        (path("cluster.disk"), path("extra.services"), path("whole.cluster"), path("other.config"));
    let other_disk = path("other.disk");
    for (command, more) in [
        ("status", vec![]),
        ("node list", vec![]),
        ("service list", vec![]),
        ("subsystem list", vec![]),
        ("service show", vec!["licences"]),
        ("trace", vec!["last"]),
        ("service apply", vec![extra.as_str()]),
        ("explain", vec!["extra"]),
        ("service transfer", vec!["extra"]),
        ("service hold", vec!["extra"]),
        ("service clear", vec!["extra"]),
        ("simulate", vec!["--fail", "n1"]),
        ("service deregister", vec!["extra", "--dry-run"]),
        ("service register", vec!["extra"]),
        ("node standby", vec!["n1"]),
        ("node unstandby", vec!["n1"]),
        ("service deregister", vec!["extra"]),
        ("service remove", vec!["extra"]),
        ("config show", vec![]),
        ("config apply", vec![whole.as_str()]),
        ("key status", vec![]),
        ("timing", vec![]),
        ("disk show", vec![disk.as_str()]),
        ("disk check", vec![disk.as_str()]),
        ("disk create", vec!["--config", other.as_str()]),
        ("disk repair", vec![other_disk.as_str()]),
    ] {
        check(command, &json(&[command.split(' ').collect::<Vec<_>>(), more].concat()));
        checked.push(command);
    }
    let logged = lines(&cluster.succeed(&["logs", "--output", "json"]));
    assert!(!logged.is_empty());
    logged.iter().for_each(|line| check("logs", line));
    let status = cluster.status().expect("a node answers");
    let licences = find(&status, "services", "licences").expect("the demo service");
    let generation = licences["generation"].as_str().expect("it is registered");
    let failed = ["service", "failed", "licences", "--generation", generation, "--dry-run"];
    check("service failed", &json(&failed));
    check("agent list", &json(&["agent", "list"]));
    let of_events: [(&str, &[&str]); 7] = [
        ("event list", &["event", "list"]),
        ("event show", &["event", "show", "hourly"]),
        ("event disable", &["event", "disable", "clock"]),
        ("event enable", &["event", "enable", "clock"]),
        ("event tail", &["event", "tail"]),
        ("event test", &["event", "test", "hourly", "--out", "count=1", "--dry-run"]),
        ("event remove", &["event", "remove", "clock", "hourly", "--dry-run"]),
    ];
    for (command, arguments) in of_events {
        check(command, &json(arguments));
        checked.push(command);
    }
    // `agent describe` needs an agent: tests/tests/agents.rs.
    checked.extend(["service failed", "agent list", "agent describe"]);
    let all = phalanx_node::cli::schema::all().expect("schemas");
    let left: Vec<_> = all.iter().map(|(command, _)| *command).filter(|known| !checked.contains(known)).collect();
    assert!(left.is_empty(), "not checked against running nodes: {left:?}");
}

/// The line with the path of the disk.
fn cluster_disk_line(config: &str) -> &str {
    config.lines().find(|line| line.starts_with("path = ")).expect("[disk] has a path")
}

fn check_logs(cluster: &DevCluster, runner: &str, other: &str) {
    let own = cluster.succeed(&["logs", other]);
    assert!(own.contains("INFO") && own.contains("started"), "{own}");
    assert_eq!(cluster.succeed(&["logs", other, "--lines", "1"]).lines().count(), 1);
    let output = cluster.run(&["logs", "n7"]);
    assert_eq!(output.status.code(), Some(105), "{output:?}");
    let output = cluster.run(&["logs", "--service", "nothing"]);
    assert_eq!(output.status.code(), Some(105), "{output:?}");
    let said = cluster.succeed(&["logs", runner, "--service", "talker"]);
    assert!(said.contains("talker says hello"), "{said}");
    let elsewhere = cluster.run(&["logs", other, "--service", "talker"]);
    let text = String::from_utf8_lossy(&elsewhere.stderr).into_owned();
    assert!(elsewhere.status.success() && text.contains(&format!("it is on {runner}")), "{elsewhere:?}");
    let ended = cluster.succeed(&["logs", runner, "--service", "talker", "--follow", "--for", "400ms"]);
    assert!(ended.contains("talker says"), "{ended}");
    let follower = Follower::start(cluster, &["logs", runner, "--service", "talker", "--follow", "--lines", "0"]);
    follower.wait("a line said from now on", |line| line == "talker goes on");
    follower.interrupt();
}

/// Prints again and again.
const TALKER: &str = r#"
[[service]]
name = "licences"
start_command = { shell = "sleep 1000000 &" }

[[service]]
name = "talker"
start_command = { shell = "echo talker says hello; (while sleep 0.1; do echo talker goes on; done) &" }

[[event]]
name = "hourly"
watcher = "timer"
in = { interval = "1h" }
action = ["true"]

[[event_group]]
name = "clock"
events = ["hourly"]
"#;

/// One cluster for all of them: forming one is what takes time.
#[test]
fn json_is_what_the_schemas_say_logs_are_shown_and_watch_outlives_the_node_that_answers() {
    let config = tempfile::NamedTempFile::with_suffix(".toml").expect("a file");
    std::fs::write(config.path(), TALKER).expect("written");
    let mut cluster = DevCluster::start(2, &["--config", &config.path().to_string_lossy()]);
    let _ = (cluster.wait_registered("talker"), cluster.wait_registered("licences"));
    check_schemas(&cluster);
    let runner = cluster.wait_registered("talker"); // a node was on standby for a moment
    let other = if runner == "n0" { "n1" } else { "n0" };
    check_logs(&cluster, &runner, other);

    let watch = Follower::start(&cluster, &["status", "--watch", "--output", "json"]);
    let first: Value = serde_json::from_str(&watch.wait("the first status", |_| true)).expect("JSON");
    check("status", &first);
    let answering = first["node"].as_str().expect("a node").to_owned();
    let survivor = if answering == "n0" { "n1" } else { "n0" };
    let _ = cluster.succeed(&["kill", &answering]);
    let moved = watch.wait("a status of the survivor, which runs everything", |line| {
        let status: Value = serde_json::from_str(line).expect("a line of JSON");
        let service = find(&status, "services", "talker").expect("defined");
        status["node"] == survivor && status["master"] == survivor && service["state"] == "registered"
    });
    check("status", &serde_json::from_str(&moved).expect("JSON"));
    watch.interrupt();
    let text = cluster.succeed(&["status", "--watch", "--for", "100ms"]);
    assert_eq!(text.matches("cluster dev").count(), 1, "nothing changed: {text}");

    let output = cluster.run(&["logs", &answering]);
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    let output = cluster.run(&["node", "leave", &answering]);
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    // The last one takes its daemon with it; the disk tells that it has left.
    assert!(cluster.succeed(&["--node", survivor, "node", "leave"]).contains("has left"));
    cluster.signal(Signal::INT);
    assert_eq!(cluster.wait_exit(), Some(0), "{}", cluster.logs());
    let status: Value = serde_json::from_str(&cluster.succeed(&["status", "--output", "json"])).expect("JSON");
    check("status", &status);
    assert_eq!((&status["source"], &status["node"]), (&"disk".into(), &"".into()));
    assert!(status["source_reason"].as_str().is_some_and(|why| why.contains("no node answers")), "{status:#}");
    assert!(cluster.succeed(&["status"]).starts_with("read from the disk alone"));
    let output = cluster.run(&["kill", survivor]);
    assert_eq!(output.status.code(), Some(3), "{output:?}");
}

/// `phalanx init`, with its examples, and a `node run` for each node, by an ordinary user where this test may become one.
#[test]
fn three_shells_of_init_form_a_cluster() {
    let _lock = MachineLock::take();
    let cluster = if Requirement::Root.missing().is_none() { InitCluster::of_nobody(3) } else { InitCluster::new(3) };
    let is_key = |rest: &&str| rest.starts_with(|c: char| c.is_ascii_lowercase() || c == '[');
    cluster.edit(|text| {
        let examples = text.lines().skip_while(|line| !line.starts_with("#[[subsystem]]"));
        let keys: Vec<&str> = examples.filter_map(|line| line.strip_prefix('#').filter(is_key)).collect();
        format!("{text}\n{}\n", keys.join("\n"))
    });
    cluster.create_disk();
    let mut nodes: Vec<_> = ["n0", "n1", "n2"].map(|node| cluster.start(node, &[], None)).into();
    let status = cluster.wait_status("a clock on three nodes", |status| {
        let joined = list(status, "nodes").iter().filter(|node| node["state"] == "joined").count();
        joined == 3 && find(status, "services", "clock").is_some_and(|clock| clock["state"] == "registered")
    });
    assert_eq!(list(&status, "levels").len(), 2, "{status:#}");
    let runner =
        find(&status, "services", "clock").and_then(|clock| clock["node"].as_str()).expect("placed").to_owned();
    let output = cluster.run(&["logs", &runner, "--service", "clock"]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.contains(&format!("started on {runner}")), "{output:?}");
    nodes.iter().for_each(phalanx_tests::init_cluster::NodeProcess::terminate);
    let ended: Vec<_> = nodes.iter_mut().map(|node| node.wait_exit()).collect();
    assert_eq!(ended, [Some(0); 3]);
}

/// Nothing that renews, fences or reaps waits for whoever reads the log.
#[test]
fn a_node_whose_talk_nobody_reads_keeps_its_lease_and_is_reaped() {
    let _lock = MachineLock::take();
    let cluster = InitCluster::new(1);
    cluster.create_disk();
    let (reader, writer) = rustix::pipe::pipe().expect("a pipe");
    fill(&writer);
    let mut node = cluster.start("n0", &[], Some(Stdio::from(writer)));
    let status = cluster.wait_joined(1);
    let disk = phalanx_node::daemon::open_disk(&cluster.disk()).expect("the disk");
    let id = disk.configurations().newest().expect("readable").expect("formatted").id_of("n0").expect("a node");
    let register = || disk.registers().read(id).expect("readable").expect("valid");
    let begun = register();
    wait_for("five renewals", PATIENCE, || (register().heartbeat >= begun.heartbeat + 5).then_some(()));
    assert_eq!(cluster.wait_joined(1)["nodes"][0]["incarnation"], status["nodes"][0]["incarnation"], "the same start");
    let output = cluster.run(&["logs"]);
    assert!(String::from_utf8_lossy(&output.stdout).contains("started"), "lines are kept in memory: {output:?}");

    signal_process(begun.fence.daemon.pid, Signal::KILL);
    assert_eq!(node.wait_exit(), Some(90), "the warden speaks for it");
    assert_eq!(register().own_state, OwnState::DeadDrained);
    drop(reader); // held until here, never read
}

/// Until nothing more goes in.
fn fill(writer: &OwnedFd) {
    let flags = rustix::fs::fcntl_getfl(writer).expect("flags");
    rustix::fs::fcntl_setfl(writer, flags | rustix::fs::OFlags::NONBLOCK).expect("flags");
    for size in [4096, 1] {
        while rustix::io::write(writer, &vec![b'x'; size]).is_ok() {}
    }
    rustix::fs::fcntl_setfl(writer, flags).expect("flags");
}
