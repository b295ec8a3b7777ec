//! Programs outside the node as subsystems, line by line over the local socket (docs/subsystem-protocol.md): what is said, and that
//! a program which dies, stalls, floods or talks nonsense harms nobody else.

use std::path::{Path, PathBuf};
use std::time::Duration;

use phalanx_actors::local_api::Ask;
use phalanx_actors::ports::DeathProved;
use phalanx_messages::admin::{AdminAnswer, AdminRequest};
use phalanx_messages::limits::{SUBSYSTEM_CLIENTS_MAX, SUBSYSTEM_LINE_BYTES_MAX};
use phalanx_messages::membership::{FenceMethod, NodeState};
use phalanx_messages::profile::TimingProfile;
use phalanx_tests::node_cluster::{TestCluster, TestNode, state};
use phalanx_tests::process_cluster::PATIENCE;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;

/// A subsystem that is dead for this long does not come back, in milliseconds.
const RESTART_MS: u64 = 400;

/// Nodes with sockets, joined one after the other, so that the first is the master.
struct Nodes {
    dir: TempDir,
    nodes: Vec<TestNode>,
    _cluster: TestCluster,
}

impl Nodes {
    async fn joined(count: u16) -> Self {
        let dir = tempfile::tempdir().expect("a directory can be made");
        let profile = TimingProfile { restart_ms: RESTART_MS, ..TimingProfile::DEV };
        let mut cluster = TestCluster::timed(count, Vec::new(), profile).await;
        let mut nodes = Vec::new();
        for id in 0..count {
            let socket = socket_of(dir.path(), id);
            let node = cluster.start_with(id, |builder| builder.socket(socket));
            assert!(node.handle.joined().await);
            nodes.push(node);
        }
        Self { dir, nodes, _cluster: cluster }
    }

    async fn connect(&self, id: u16) -> Client {
        let stream = UnixStream::connect(socket_of(self.dir.path(), id)).await.expect("the node listens");
        Client(BufReader::new(stream))
    }

    /// A client that has registered at level 500 with two joining barriers, and joined alone.
    async fn registered(&self, id: u16, more: Value) -> Client {
        let mut client = self.connect(id).await;
        client.register(more).await;
        client.process(2).await;
        client
    }

    async fn is_well(&self, id: u16) {
        let node = &self.nodes[usize::from(id)];
        let answer = node.handle.actors().local_api.send(Ask(AdminRequest::Status)).await;
        assert!(matches!(answer, Ok(AdminAnswer::Status(_))), "{answer:?}");
        assert_eq!(state(node, id).await, NodeState::Joined);
        assert!(node.handle.gate().is_open());
    }

    /// Forces the last node out, and proves its death to the master.
    async fn force_out_last(&self) {
        let (victim, name) = (self.nodes.last().expect("a node"), format!("n{}", self.nodes.len() - 1));
        let fence = AdminRequest::Fence { node: name, reason: "test".to_owned() };
        let actors = self.nodes[0].handle.actors();
        assert_eq!(actors.local_api.send(Ask(fence)).await.expect("it lives"), AdminAnswer::Done);
        victim.panicked().await;
        let proof = DeathProved { victim: victim.handle.me(), method: FenceMethod::Local };
        actors.membership.send(proof).await.expect("it lives");
    }
}

fn socket_of(dir: &Path, id: u16) -> PathBuf {
    dir.join(format!("n{id}.sock"))
}

struct Client(BufReader<UnixStream>);

impl Client {
    async fn say_text(&mut self, text: &str) {
        self.0.write_all(text.as_bytes()).await.ok(); // the node may have hung up
    }

    async fn say(&mut self, line: Value) {
        self.say_text(&format!("{line}\n")).await;
    }

    /// The next line; none at the end of the connection.
    async fn hear(&mut self) -> Option<Value> {
        let mut line = String::new();
        let read = tokio::time::timeout(PATIENCE, self.0.read_line(&mut line)).await.expect("a line in time");
        match read {
            Ok(1..) => Some(serde_json::from_str(&line).expect("a line is JSON")),
            Ok(0) | Err(_) => None,
        }
    }

    async fn expect(&mut self, kind: &str) -> Value {
        let line = self.hear().await;
        let line = line.unwrap_or_else(|| panic!("the end of the connection instead of {kind}"));
        assert_eq!(line["type"], kind, "{line}");
        line
    }

    /// The connection ends with this error.
    async fn expect_fatal(&mut self, error: &str) -> String {
        let line = self.expect("error").await;
        assert_eq!((&line["error"], &line["fatal"]), (&json!(error), &json!(true)), "{line}");
        assert_eq!(self.hear().await, None, "it is the last line");
        line["text"].as_str().expect("a text").to_owned()
    }

    async fn hello(&mut self) {
        self.say(json!({"type": "hello", "version": 1})).await;
        let hello = self.expect("hello").await;
        assert_eq!((&hello["version"], &hello["cluster"]), (&json!(1), &json!("test")));
    }

    async fn register(&mut self, more: Value) {
        self.hello().await;
        self.say(registration(more)).await;
        self.expect("registered").await;
    }

    async fn process(&mut self, times: usize) -> Vec<(String, String, u64)> {
        let mut told = Vec::new();
        for _ in 0..times {
            let notification = self.expect("notification").await;
            told.extend(batch(&notification));
            self.say(json!({"type": "acknowledged", "number": notification["number"]})).await;
        }
        told
    }

    async fn ping(&mut self) {
        self.say(json!({"type": "ping", "token": 17})).await;
        assert_eq!(self.expect("pong").await["token"], 17);
    }
}

fn registration(more: Value) -> Value {
    let barriers = json!({"joining": 2, "leaving": 1, "forced_leaving": 1});
    let mut line = json!({"type": "register", "name": "audit", "level": 500, "barriers": barriers});
    for (key, value) in more.as_object().cloned().unwrap_or_default() {
        line[key] = value;
    }
    line
}

fn batch(notification: &Value) -> Vec<(String, String, u64)> {
    let notices = notification["batch"].as_array().expect("a batch");
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    notices.iter().map(|it| (text(&it["node"]), text(&it["kind"]), it["barrier"].as_u64().expect("a number"))).collect()
}

fn one(node: &str, kind: &str, barrier: u64) -> Vec<(String, String, u64)> {
    vec![(node.to_owned(), kind.to_owned(), barrier)]
}

fn watcher() -> Value {
    json!({"on_death": "drop-level"})
}

#[actix_rt::test]
async fn a_program_registers_joins_and_leaves() {
    let nodes = Nodes::joined(1).await;
    let mut client = nodes.connect(0).await;
    client.register(json!({})).await;
    let first = client.expect("notification").await;
    assert_eq!(batch(&first), one("n0", "join-extending", 0));
    assert_eq!((&first["level"], &first["participants"]), (&json!(500), &json!(["n0"])));
    assert_eq!(first["states"]["n0"]["state"], "joining");
    client.say(json!({"type": "acknowledged", "number": first["number"]})).await;
    assert_eq!(client.process(1).await, one("n0", "join-extending", 1));
    client.ping().await;
    client.say(json!({"type": "withdraw"})).await;
    assert_eq!(client.process(1).await, one("n0", "leaving", 0));
    client.expect("withdrawn").await;
    assert_eq!(client.hear().await, None);
    nodes.is_well(0).await;
}

#[actix_rt::test]
async fn a_failure_is_told_and_the_notification_comes_again() {
    let nodes = Nodes::joined(2).await;
    let mut first = nodes.registered(0, json!({})).await;
    let mut second = nodes.connect(1).await;
    second.register(json!({})).await;
    let told = first.expect("notification").await;
    first.say(json!({"type": "failed", "number": told["number"], "text": "busy"})).await;
    second.process(1).await;
    let again = first.expect("notification").await;
    assert_eq!(again["batch"][0]["transition"], told["batch"][0]["transition"]);
    assert_eq!(again["number"].as_u64(), told["number"].as_u64().map(|number| number + 1));
    first.say(json!({"type": "acknowledged", "number": again["number"]})).await;
    assert_eq!(second.process(1).await, one("n1", "join-extending", 1));
}

#[actix_rt::test]
async fn a_mismatch_of_barriers_is_refused_with_both_counts() {
    let nodes = Nodes::joined(2).await;
    let mut first = nodes.registered(0, json!({})).await;
    let mut second = nodes.connect(1).await;
    second.register(json!({"barriers": {"joining": 1, "leaving": 1, "forced_leaving": 1}})).await;
    let text = second.expect_fatal("refused").await;
    let both = ["joining=2,leaving=1,forced_leaving=1", "joining=1,leaving=1,forced_leaving=1"];
    assert!(both.iter().all(|counts| text.contains(counts)), "{text}");
    first.ping().await;
    nodes.is_well(1).await;
}

#[actix_rt::test]
async fn what_is_overtaken_is_aborted_and_its_late_answer_is_void() {
    let nodes = Nodes::joined(2).await;
    let mut first = nodes.registered(0, json!({})).await;
    let mut second = nodes.connect(1).await;
    second.register(json!({})).await;
    let overtaken = first.expect("notification").await;
    nodes.force_out_last().await;
    let mut lines = [first.hear().await.expect("a line"), first.hear().await.expect("a line")];
    lines.sort_by_key(|line| line["type"].to_string());
    assert_eq!(lines[0], json!({"type": "abort", "number": overtaken["number"]}));
    assert_eq!(batch(&lines[1]), one("n1", "forced-leaving", 0));
    first.say(json!({"type": "acknowledged", "number": overtaken["number"]})).await;
    let void = first.expect("error").await;
    assert_eq!((&void["error"], &void["fatal"]), (&json!("not-open"), &json!(false)));
    assert_eq!(state(&nodes.nodes[0], 1).await, NodeState::ForcedLeaving);
    first.say(json!({"type": "acknowledged", "number": lines[1]["number"]})).await;
    while state(&nodes.nodes[0], 1).await != NodeState::Inactive {
        tokio::task::yield_now().await;
    }
}

/// Protocol T-17: it comes back in time, and goes on with what was not answered.
#[actix_rt::test]
async fn a_program_that_dies_and_comes_back_resumes() {
    let nodes = Nodes::joined(2).await;
    let mut first = nodes.registered(0, json!({})).await;
    let mut second = nodes.connect(1).await;
    second.register(json!({})).await;
    let lost = first.expect("notification").await;
    drop(first);
    let mut successor = nodes.connect(0).await;
    successor.hello().await;
    successor.say(registration(json!({}))).await;
    let answer = successor.hear().await.expect("an answer");
    if answer["error"] == "level-in-use" {
        // The node has not noticed the end of the first connection: a client tries again.
        successor = nodes.connect(0).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
        successor.register(json!({})).await;
    }
    let resumed = successor.expect("resumed").await;
    assert_eq!(resumed["states"]["n0"]["state"], "joined");
    let again = successor.expect("notification").await;
    assert_eq!(again["batch"], lost["batch"], "with the number it had");
    successor.say(json!({"type": "acknowledged", "number": again["number"]})).await;
    second.process(1).await;
    assert_eq!(successor.process(1).await, one("n1", "join-extending", 1));
}

#[actix_rt::test]
async fn a_watcher_that_dies_costs_its_level_and_nobody_else_waits() {
    let nodes = Nodes::joined(2).await;
    let mut first = nodes.registered(0, json!({})).await;
    let mut second = nodes.connect(1).await;
    second.register(watcher()).await;
    second.expect("notification").await;
    drop(second);
    let told = first.process(3).await;
    let kinds: Vec<&str> = told.iter().map(|(_, kind, _)| kind.as_str()).collect();
    assert_eq!(kinds, ["join-extending", "join-extending", "leaving"]);
    nodes.is_well(1).await;
}

/// Protocol T-17, `force-node`.
#[actix_rt::test]
async fn a_program_that_dies_and_may_have_held_something_costs_its_node() {
    let nodes = Nodes::joined(2).await;
    let mut first = nodes.registered(0, json!({})).await;
    let mut second = nodes.connect(1).await;
    second.register(json!({})).await;
    for _ in 0..2 {
        first.process(1).await;
        second.process(1).await;
    }
    drop(second);
    let reason = nodes.nodes[1].panicked().await;
    assert!(reason.contains("level 500 died"), "{reason}");
    nodes.is_well(0).await;
}

#[actix_rt::test]
async fn a_program_that_does_not_answer_is_dead() {
    let nodes = Nodes::joined(2).await;
    let mut first = nodes.registered(0, json!({})).await;
    let mut second = nodes.connect(1).await;
    second.register(json!({"on_death": "drop-level", "answer_within_ms": 100})).await;
    second.expect("notification").await;
    let text = second.expect_fatal("too-slow").await;
    assert!(text.contains("no answer after 100 ms"), "{text}");
    assert_eq!(first.process(3).await.last(), one("n1", "leaving", 0).last(), "nobody else waits");
    nodes.is_well(1).await;
}

#[actix_rt::test]
async fn a_program_that_floods_loses_its_connection_and_others_are_served() {
    let nodes = Nodes::joined(1).await;
    let mut good = nodes.registered(0, json!({})).await;
    let mut bad = nodes.connect(0).await;
    bad.hello().await;
    let mut flood = UnixStream::connect(socket_of(nodes.dir.path(), 0)).await.expect("the node listens").into_split();
    let reader = actix_rt::spawn(async move {
        let mut said = Vec::new();
        // The node hangs up on what it has not read: the end is an error, after everything that it said.
        while flood.0.read_buf(&mut said).await.is_ok_and(|read| read > 0) {}
        String::from_utf8(said).expect("text")
    });
    flood.1.write_all(b"{\"type\":\"ping\",\"token\":1}\n".repeat(5_000).as_slice()).await.ok();
    let said = tokio::time::timeout(PATIENCE, reader).await.expect("it ends").expect("it reads");
    let last: Value = serde_json::from_str(said.lines().last().expect("a line")).expect("JSON");
    assert_eq!(last["error"], "too-many-lines", "{last}");
    assert_eq!(said.lines().count(), 1_001, "what was allowed is answered");
    good.ping().await;
    bad.ping().await;
    nodes.is_well(0).await;
}

#[actix_rt::test]
async fn a_program_that_does_not_read_loses_its_connection() {
    let nodes = Nodes::joined(1).await;
    let mut good = nodes.registered(0, json!({})).await;
    let mut deaf = nodes.connect(0).await;
    deaf.hello().await;
    for _ in 0..900 {
        deaf.say(json!({"type": "ping", "token": 1})).await;
    }
    good.ping().await;
    let mut heard = 0;
    while deaf.hear().await.is_some() {
        heard += 1;
    }
    assert!(heard < 900, "it was cut off: {heard}");
    good.ping().await;
    nodes.is_well(0).await;
}

#[actix_rt::test]
async fn nonsense_is_named_and_costs_only_its_connection() {
    let nodes = Nodes::joined(1).await;
    let mut good = nodes.registered(0, json!({})).await;
    let long = format!("{{\"type\":\"{}", "x".repeat(SUBSYSTEM_LINE_BYTES_MAX));
    let other_version = "{\"type\":\"hello\",\"version\":2}\n";
    let cases = [
        (other_version, "version"),
        ("{\"type\":\"sing\"}\n", "not-understood"),
        ("{nonsense\n", "not-understood"),
        ("{\"type\":\"withdraw\"}\n", "not-understood"),
        (long.as_str(), "line-too-long"),
    ];
    for (text, error) in cases {
        let mut bad = nodes.connect(0).await;
        bad.say_text(text).await;
        bad.expect_fatal(error).await;
    }
    let mut bad = nodes.connect(0).await;
    bad.0.write_all(b"{\xff\xfe\n").await.expect("it is connected");
    bad.expect_fatal("not-understood").await;
    let mut no_line = nodes.connect(0).await;
    no_line.say_text("nonsense that is no frame either\n").await;
    assert_eq!(no_line.hear().await, None);
    good.ping().await;
    nodes.is_well(0).await;
}

#[actix_rt::test]
async fn what_cannot_be_registered_is_named() {
    let nodes = Nodes::joined(1).await;
    let _good = nodes.registered(0, json!({})).await;
    let cases = [
        (json!({}), "level-in-use"),
        (json!({"level": 1000}), "bad-registration"),
        (json!({"name": ""}), "bad-registration"),
        (json!({"level": 600, "answer_within_ms": 0}), "bad-registration"),
        (json!({"level": 70000}), "not-understood"),
    ];
    for (more, error) in cases {
        let mut bad = nodes.connect(0).await;
        bad.hello().await;
        bad.say(registration(more)).await;
        bad.expect_fatal(error).await;
    }
    let mut bad = nodes.connect(0).await;
    bad.register(json!({"level": 600, "name": "more", "barriers": {"joining": 0, "leaving": 1, "forced_leaving": 1}}))
        .await;
    let text = bad.expect_fatal("refused").await;
    assert!(text.contains("1 to 16 barriers"), "{text}");
}

#[actix_rt::test]
async fn a_second_answer_changes_nothing() {
    let nodes = Nodes::joined(2).await;
    let mut first = nodes.registered(0, json!({})).await;
    let mut second = nodes.connect(1).await;
    second.register(json!({})).await;
    let told = second.expect("notification").await;
    for _ in 0..2 {
        second.say(json!({"type": "acknowledged", "number": told["number"]})).await;
    }
    second.say(json!({"type": "failed", "number": 99, "text": "never sent"})).await;
    for number in [told["number"].clone(), json!(99)] {
        let error = second.expect("error").await;
        assert_eq!((&error["error"], &error["fatal"]), (&json!("not-open"), &json!(false)));
        assert!(error["text"].as_str().is_some_and(|text| text.contains(&number.to_string())), "{error}");
    }
    assert_eq!(first.process(1).await, one("n1", "join-extending", 0), "the barrier waits for this one");
    assert_eq!(second.process(1).await, one("n1", "join-extending", 1));
    nodes.is_well(1).await;
}

#[actix_rt::test]
async fn connections_are_bounded_and_free_again_when_they_end() {
    let nodes = Nodes::joined(1).await;
    let mut clients = Vec::new();
    for _ in 0..SUBSYSTEM_CLIENTS_MAX {
        let mut client = nodes.connect(0).await;
        client.hello().await;
        clients.push(client);
    }
    let mut one_more = nodes.connect(0).await;
    one_more.say(json!({"type": "hello", "version": 1})).await;
    one_more.expect_fatal("too-many-clients").await;
    nodes.is_well(0).await;
    drop(clients);
    loop {
        let mut next = nodes.connect(0).await;
        next.say(json!({"type": "hello", "version": 1})).await;
        if next.hear().await.is_some_and(|line| line["type"] == "hello") {
            break;
        }
        tokio::task::yield_now().await;
    }
}
