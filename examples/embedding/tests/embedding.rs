//! The application as a process: a cluster of two of it.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use clap::Parser;
use phalanx_node::cli::{Cli, run};
use serde_json::Value;
use tempfile::TempDir;

/// How long anything may take: generous, and a failure when passed.
const PATIENCE: Duration = Duration::from_secs(60);

fn phalanx(words: &[&str]) {
    let line = Cli::try_parse_from([&["phalanx"], words].concat()).expect("a command line");
    assert_eq!(run(line), 0, "phalanx {words:?}");
}

fn free_address() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("bound").to_string()
}

/// A directory with the disk and the files of a cluster of two, as an administrator makes it.
fn cluster_of_two() -> TempDir {
    let dir = tempfile::tempdir().expect("a directory can be made");
    let path = |name: &str| dir.path().join(name).display().to_string();
    let nodes = format!("n0={},n1={}", free_address(), free_address());
    let (out, disk) = (path("alpha"), path("alpha.disk"));
    phalanx(&["init", "--name", "alpha", "--timing", "dev", "--nodes", &nodes, "--disk", &disk, "--out", &out]);
    phalanx(&["disk", "create", "--config", &path("alpha/n0.toml")]);
    dir
}

struct Application {
    child: Child,
    address: String,
}

impl Application {
    fn start(file: &Path) -> Self {
        let address = free_address();
        let mut command = Command::new(env!("CARGO_BIN_EXE_phalanx-embedding"));
        let child = command.arg(file).arg(&address).stdout(Stdio::piped()).spawn().expect("it can be started");
        Self { child, address }
    }

    /// The body of `GET /members`, if it answers.
    fn members(&self) -> Option<Value> {
        let mut stream = TcpStream::connect(&self.address).ok()?;
        stream.write_all(b"GET /members HTTP/1.0\r\n\r\n").ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        serde_json::from_str(answer.split_once("\r\n\r\n")?.1).ok()
    }

    fn wait(&self, what: &str, condition: impl Fn(&Value) -> bool) {
        let begun = Instant::now();
        let mut last = None;
        while !self.members().inspect(|members| last = Some(members.clone())).is_some_and(|members| condition(&members))
        {
            assert!(begun.elapsed() < PATIENCE, "no {what}; last {last:#?}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// SIGTERM; gives its exit code and what it printed.
    fn stop(mut self) -> (Option<i32>, String) {
        let killed = Command::new("kill").arg(self.child.id().to_string()).status().expect("kill can be started");
        assert!(killed.success());
        let mut printed = String::new();
        self.child.stdout.take().expect("piped").read_to_string(&mut printed).expect("text");
        (self.child.wait().expect("a child can be waited for").code(), printed)
    }
}

impl Drop for Application {
    fn drop(&mut self) {
        self.child.kill().ok(); // it may have ended
        self.child.wait().ok();
    }
}

fn joined(members: &Value, count: usize) -> bool {
    let nodes = members["nodes"].as_array().map_or(&[][..], Vec::as_slice);
    nodes.iter().filter(|node| node["state"] == "joined" && node["levels"]["500"] == "joined").count() == count
}

#[test]
fn an_application_with_a_node_inside_joins_shows_members_and_leaves() {
    let dir = cluster_of_two();

    let first = Application::start(&dir.path().join("alpha/n0.toml"));
    first.wait("first node", |members| joined(members, 1));
    let second = Application::start(&dir.path().join("alpha/n1.toml"));
    second.wait("second node", |members| joined(members, 2) && members["node"] == "n1");
    let level = |level: &&Value| level["order"] == 500;
    let members = first.members().expect("it answers");
    let audit = members["levels"].as_array().and_then(|levels| levels.iter().find(level)).expect("its level");
    assert_eq!((&audit["name"], &audit["barriers"]["joining"]), (&"audit".into(), &2.into()));

    // The subsystem of the first one was told of both joins, barrier by barrier, and of the leave of the second.
    let (code, printed) = second.stop();
    assert_eq!(code, Some(0), "{printed}");
    first.wait("leave of the second node", |members| joined(members, 1));
    let (code, printed) = first.stop();
    assert_eq!(code, Some(0), "{printed}");
    let told: Vec<&str> = printed.lines().map(|line| line.split(',').next().unwrap_or_default()).collect();
    let joins = |node| [format!("Joining of node {node}"), format!("Joining of node {node}")];
    let expected =
        [&joins(0)[..], &joins(1)[..], &["Leaving of node 1".to_owned(), "Leaving of node 0".to_owned()]].concat();
    assert_eq!(told, expected, "{printed}");
}

/// A survivor proves the death of an application by its process, and recovers it.
#[test]
fn an_application_that_is_killed_is_recovered_by_the_others() {
    let dir = cluster_of_two();
    let first = Application::start(&dir.path().join("alpha/n0.toml"));
    first.wait("first node", |members| joined(members, 1));
    let mut second = Application::start(&dir.path().join("alpha/n1.toml"));
    second.wait("second node", |members| joined(members, 2));
    second.child.kill().expect("a child can be killed");
    second.child.wait().expect("a child can be waited for");
    first.wait("recovery of the second node", |members| {
        joined(members, 1) && members["nodes"][1]["state"] == "inactive"
    });
    let (_, printed) = first.stop();
    assert!(printed.contains("ForcedLeaving of node 1"), "{printed}");
}
