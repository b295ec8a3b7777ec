//! Spec, "5. Event Manager Daemon", with real processes: groups that follow their service, conditions that run an action function
//! once, and a watcher outside the node.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};

use phalanx_messages::subsystem::{ClientLine, LineError};
use phalanx_messages::watcher::{PlainKind, PlainParameter, PlainValue, PlainValues, Provision};
use phalanx_node::dev::node_socket;
use phalanx_node::subsystem_client::{Answers, ClientError};
use phalanx_node::watcher_client::{Asked, WatcherClient};
use phalanx_tests::process_cluster::{DevCluster, PATIENCE, copy_program, files_below, find, wait_for};
use serde_json::Value;

/// A cluster with a script that writes down who ran it and why.
struct Rig {
    cluster: DevCluster,
}

/// One run of an action function.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Ran {
    node: String,
    event: String,
    service: String,
    generation: u64,
    arguments: String,
}

impl Rig {
    fn start() -> Self {
        let cluster = DevCluster::start(3, &["--no-demo-service"]);
        let script =
            "echo \"$PHALANX_NODE $PHALANX_EVENT ${PHALANX_SERVICE:--} ${PHALANX_GENERATION:-0} $*\" >> \"$0.log\"\n";
        std::fs::write(cluster.dir().join("record"), script).expect("a file can be written");
        Self { cluster }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.cluster.dir().join(name)
    }

    /// An event whose action writes down `arguments`.
    fn event(&self, name: &str, watcher: &str, input: &str, arguments: &str) -> String {
        let script = self.path("record").display().to_string();
        format!(
            "[[event]]\nname = \"{name}\"\nwatcher = \"{watcher}\"\nin = {{ {input} }}\n\
             action = [\"/bin/sh\", \"{script}\", {arguments}]\n"
        )
    }

    fn apply(&self, text: &str) -> String {
        let file = self.path("definitions");
        std::fs::write(&file, text).expect("a file can be written");
        self.cluster.succeed(&["service", "apply", &file.to_string_lossy()])
    }

    fn ran(&self) -> Vec<Ran> {
        let log = std::fs::read_to_string(self.path("record.log")).unwrap_or_default();
        let whole = log.rfind('\n').map_or("", |end| &log[..end]);
        let read = |line: &str| {
            let mut words = line.splitn(5, ' ').map(str::to_owned);
            let mut word = || words.next().unwrap_or_default();
            let (node, event, service, generation) = (word(), word(), word(), word());
            let generation = generation.parse().expect("a generation is a number");
            Ran { node, event, service, generation, arguments: word() }
        };
        whole.lines().map(read).collect()
    }

    /// Waits for `count` more runs of that event, and gives everything that ran meanwhile.
    fn wait_runs(&self, event: &str, count: usize) -> Vec<Ran> {
        let before = self.ran().len();
        wait_for(&format!("{count} runs of {event}"), PATIENCE, || {
            let news = self.ran().split_off(before);
            (news.iter().filter(|ran| ran.event == event).count() >= count).then_some(news)
        })
    }

    /// `event list` as that node sees it.
    fn list(&self, node: &str) -> Value {
        let text = self.cluster.succeed(&["--node", node, "event", "list", "--output", "json"]);
        serde_json::from_str(&text).expect("event list prints JSON")
    }

    /// Waits until that node says so of the event.
    fn wait_state(&self, node: &str, event: &str, state: &str) -> Value {
        wait_for(&format!("{event} {state} on {node}"), PATIENCE, || {
            let list = self.list(node);
            let found = find(&list, "events", event).filter(|event| event["state"] == state);
            found.cloned()
        })
    }

    fn enabled_on(&self, group: &str) -> Value {
        find(&self.list("n2"), "groups", group).expect("the group is there")["enabled_on"].clone()
    }
}

/// Spec: "request the event manager daemon to enable this event_group upon registration of the service and disable the event_group
/// in response to de-registration of the service".
#[test]
fn an_event_group_is_enabled_where_its_service_is_registered_and_nowhere_else() {
    let rig = Rig::start();
    let ticks = "interval = \"200ms\"";
    let text = rig.event("tick", "timer", ticks, "\"${in.interval}\", \"${out.count}\"")
        + &rig.event("clock", "timer", ticks, "\"-\"")
        + "[[event_group]]\nname = \"web-events\"\nevents = [\"tick\"]\n\
           [[event_group]]\nname = \"always\"\nevents = [\"clock\"]\nnodes = [\"n2\"]\n\
           [[service]]\nname = \"web\"\nallowable_nodes = [\"n0\", \"n1\"]\nevent_group = \"web-events\"\n";
    let said = rig.apply(&text);
    assert!(said.contains("+ event tick\n") && said.contains("+ event group web-events\n"), "{said}");
    let of_node = |runs: &[Ran], node: &str| runs.iter().filter(|ran| ran.event == "tick" && ran.node == node).count();

    let first = rig.wait_runs("tick", 2);
    assert_eq!(of_node(&first, "n0"), of_node(&first, "n0") + of_node(&first, "n1"), "{first:?}");
    let tick = first.iter().find(|ran| ran.event == "tick").expect("just waited for");
    assert!(tick.service == "web" && tick.generation > 0 && tick.arguments.starts_with("200 "), "{tick:?}");
    assert!(first.iter().all(|ran| ran.event != "clock" || (ran.node == "n2" && ran.service == "-")), "{first:?}");
    assert_eq!(rig.enabled_on("web-events"), serde_json::json!(["n0"]));
    rig.wait_state("n1", "tick", "off");

    let _ = rig.cluster.succeed(&["service", "transfer", "web", "--to", "n1"]);
    rig.wait_state("n1", "tick", "watching");
    rig.wait_state("n0", "tick", "off");
    rig.wait_runs("clock", 2); // what ran on n0 has ended
    let moved = rig.wait_runs("tick", 3);
    assert_eq!(of_node(&moved, "n0"), 0, "{moved:?}");
    let now = moved.iter().find(|ran| ran.event == "tick").expect("just waited for");
    assert!(now.generation > tick.generation, "a new registration has a new generation: {tick:?}, {now:?}");

    let _ = rig.cluster.succeed(&["event", "disable", "web-events"]);
    rig.wait_state("n1", "tick", "off");
    rig.wait_runs("clock", 2);
    let silent = rig.wait_runs("clock", 5);
    assert!(silent.iter().all(|ran| ran.event == "clock"), "a disabled group is silent: {silent:?}");
    let shown = rig.cluster.succeed(&["event", "show", "web-events"]);
    assert!(shown.contains("enabled = false"), "{shown}");
    let _ = rig.cluster.succeed(&["event", "enable", "web-events"]);
    rig.wait_runs("tick", 1);

    let _ = rig.cluster.succeed(&["service", "deregister", "web"]);
    rig.wait_state("n1", "tick", "off");
    rig.wait_runs("clock", 2);
    let silent = rig.wait_runs("clock", 5);
    assert!(silent.iter().all(|ran| ran.event == "clock"), "de-registered: {silent:?}");
    assert_eq!(rig.enabled_on("web-events"), serde_json::json!([]));

    // All or none, and nothing that is used is forgotten.
    let file = rig.path("definitions");
    let broken = text.replace("events = [\"tick\"]", "events = [\"tock\"]").replace("\"200ms\"", "\"300ms\"");
    std::fs::write(&file, broken).expect("a file can be written");
    let refused = rig.cluster.run(&["service", "apply", &file.to_string_lossy()]);
    assert_eq!(refused.status.code(), Some(105), "{refused:?}");
    assert!(String::from_utf8_lossy(&refused.stderr).contains("there is no event `tock`"), "{refused:?}");
    let shown = rig.cluster.succeed(&["config", "show"]);
    assert!(shown.contains("interval = \"200ms\"") && !shown.contains("300ms"), "{shown}");
    assert!(shown.contains("event_group = \"web-events\""), "{shown}");
}

struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        self.0.kill().ok(); // it may have ended
        self.0.wait().ok();
    }
}

fn sleeper(program: &Path) -> Killed {
    Killed(Command::new(program).arg("1000").spawn().expect("a process can be started"))
}

fn python(rig: &Rig, node: &str) -> Killed {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/python/directory_watcher.py");
    let mut command = Command::new("python3");
    command.arg(script).arg("--socket").arg(node_socket(rig.cluster.dir(), node));
    Killed(command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().expect("python3 can be started"))
}

/// A process that ends, a file system without room and a file that a program outside the node reports: each runs its action once, on
/// the node that watches.
#[test]
fn a_condition_runs_its_action_once_and_a_program_outside_can_watch() {
    let rig = Rig::start();
    let (program, pid_file, inbox) = (rig.path("watched-program"), rig.path("pid"), rig.path("inbox"));
    copy_program(Path::new("/bin/sleep"), &program);
    std::fs::create_dir(&inbox).expect("a directory can be made");
    let process = sleeper(&program);
    let pid = process.0.id();
    std::fs::write(&pid_file, format!("{pid}\n")).expect("a file can be written");
    let quoted = |path: &Path| format!("\"{}\"", path.display());
    let watched = format!("pid_file = {}, interval = \"100ms\"", quoted(&pid_file));
    let full = format!("path = {}, free_bytes = {}, interval = \"100ms\"", quoted(rig.cluster.dir()), i64::MAX);
    let arrival = format!("path = {}", quoted(&inbox));
    rig.apply(
        &(rig.event("gone", "process", &watched, "\"${out.pid}\"")
            + &rig.event("full", "space", &full, "\"${out.free_bytes}\"")
            + &rig.event("arrived", "external:directory", &arrival, "\"<${out.file}>\"")
            + &rig.event("clock", "timer", "interval = \"200ms\"", "\"-\"")
            + "[[event_group]]\nname = \"host\"\nevents = [\"gone\", \"full\", \"arrived\", \"clock\"]\nnodes = [\"n1\"]\n"),
    );
    rig.wait_state("n1", "gone", "watching");
    drop(process);
    wait_for("the end of the process to be acted on", PATIENCE, || {
        rig.ran().into_iter().find(|ran| ran.event == "gone")
    });
    rig.wait_runs("clock", 5);
    let of = |event: &str| rig.ran().into_iter().filter(|ran| ran.event == event).collect::<Vec<_>>();
    let gone = of("gone");
    assert_eq!((gone.len(), gone[0].node.as_str(), gone[0].arguments.as_str()), (1, "n1", pid.to_string().as_str()));
    assert_eq!(of("full").len(), 1, "told once, and not at every look");

    let tail = rig.cluster.succeed(&["--node", "n1", "event", "tail", "--lines", "1000", "--output", "json"]);
    let tail: Value = serde_json::from_str(&tail).expect("event tail prints JSON");
    let told = tail.as_array().expect("a list").iter().find(|told| told["event"] == "gone").expect("it was told");
    assert_eq!(
        (&told["node"], &told["done"], &told["out"]["pid"]),
        (&"n1".into(), &"succeeded".into(), &pid.to_string().into())
    );
    let elsewhere = rig.cluster.succeed(&["--node", "n0", "event", "tail", "--output", "json"]);
    assert_eq!(elsewhere.trim(), "[]");

    let test = ["--node", "n1", "event", "test", "gone", "--out", "pid=7 x", "--out", "process=p"];
    let refused = rig.cluster.run(&test);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("`pid` is `7 x`"), "{refused:?}");
    let test = ["--node", "n1", "event", "test", "gone", "--out", "pid=7"];
    let would = rig.cluster.succeed(&[&test[..], &["--dry-run"]].concat());
    assert!(would.contains("would-run") && would.contains("record 7") && of("gone").len() == 1, "{would}");
    let _ = rig.cluster.succeed(&test);
    assert_eq!(of("gone").last().map(|ran| ran.arguments.clone()).as_deref(), Some("7"), "it ran before the answer");

    let reason = rig.wait_state("n1", "arrived", "failed")["reason"].to_string();
    assert!(reason.contains("no program that provides watcher `directory` is connected"), "{reason}");
    let watcher = python(&rig, "n1");
    rig.wait_state("n1", "arrived", "watching");
    rig.wait_runs("clock", 3); // the program has looked at what is there
    std::fs::write(inbox.join("a; b $(c)"), "").expect("a file can be written");
    wait_for("the file to be acted on", PATIENCE, || of("arrived").into_iter().next());
    rig.wait_runs("clock", 3);
    assert_eq!(of("arrived").iter().map(|ran| ran.arguments.as_str()).collect::<Vec<_>>(), ["<a; b $(c)>"]);
    drop(watcher);
    rig.wait_state("n1", "arrived", "failed");
}

/// Files with the output of commands of an event, of all nodes.
fn outputs(rig: &Rig, event: &str) -> Vec<String> {
    let names =
        files_below(rig.cluster.dir()).into_iter().filter_map(|path| Some(path.file_name()?.to_str()?.to_owned()));
    names.filter(|name| name.starts_with(&format!("event-{event}"))).collect()
}

/// All that are named go in one transaction, unless something else names one; with them goes what they have written, on every node.
#[test]
fn events_that_nothing_names_are_removed_with_what_they_have_written() {
    let rig = Rig::start();
    let ticks = "interval = \"200ms\"";
    rig.apply(
        &(rig.event("tick", "timer", ticks, "\"-\"")
            + &rig.event("clock", "timer", ticks, "\"-\"")
            + "[[event_group]]\nname = \"web-events\"\nevents = [\"tick\"]\n\
               [[event_group]]\nname = \"always\"\nevents = [\"clock\"]\n\
               [[service]]\nname = \"web\"\nallowable_nodes = [\"n0\"]\nevent_group = \"web-events\"\n"),
    );
    rig.wait_runs("tick", 1);
    rig.wait_runs("clock", 3);
    wait_for("output on every node", PATIENCE, || (outputs(&rig, "clock").len() == 3).then_some(()));
    assert_eq!(outputs(&rig, "tick"), ["event-tick%40web.log"]);
    let disk = rig.path("cluster.disk").display().to_string();
    let shown: Value =
        serde_json::from_str(&rig.cluster.succeed(&["disk", "show", &disk, "--output", "json"])).expect("JSON");
    let tick = find(&shown["registration"], "events", "tick").expect("it is on the disk");
    assert_eq!((&tick["watcher"], &tick["groups"]), (&"timer".into(), &serde_json::json!(["web-events"])));
    let group = find(&shown["registration"], "event_groups", "web-events").expect("it is on the disk");
    assert_eq!((&group["services"], &group["enabled"]), (&serde_json::json!(["web"]), &true.into()));

    let refused = |names: &[&str], code: i32, words: &str| {
        let output = rig.cluster.run(&[&["event", "remove"], names].concat());
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(code) && error.contains(words), "{names:?}: {output:?}");
    };
    refused(&["tick"], 1, "`web-events` still names `tick`");
    refused(&["web-events", "tick"], 1, "`web` still names `web-events`");
    refused(&["always", "clock", "web-events"], 1, "`web` still names `web-events`");
    refused(&["clock", "tock"], 105, "there is no event and no event group `tock`");
    let would = rig.cluster.succeed(&["event", "remove", "clock", "always", "--dry-run"]);
    assert_eq!(would, "clock: would be removed\nalways: would be removed\n");
    let names = |key: &str| -> String {
        let list = rig.list("n1");
        let names: Vec<&str> =
            list[key].as_array().expect("a list").iter().filter_map(|it| it["name"].as_str()).collect();
        names.join(" ")
    };
    assert_eq!((names("events"), names("groups")), ("clock tick".into(), "always web-events".into()));

    assert_eq!(rig.cluster.succeed(&["event", "remove", "clock", "always"]), "clock: removed\nalways: removed\n");
    wait_for("no output of it on any node", PATIENCE, || outputs(&rig, "clock").is_empty().then_some(()));
    assert_eq!((names("events"), names("groups")), ("tick".into(), "web-events".into()));
    rig.wait_runs("tick", 1);
    let _ = rig.cluster.succeed(&["service", "deregister", "web"]);
    let _ = rig.cluster.succeed(&["service", "remove", "web"]);
    let _ = rig.cluster.succeed(&["event", "remove", "tick", "web-events"]);
    wait_for("no output of any event", PATIENCE, || outputs(&rig, "").is_empty().then_some(()));
    let _ = rig.cluster.succeed(&["disk", "check", &disk]);
}

/// A Rust program that provides `external:queue`: what it hears arrives in a channel.
struct Program {
    answers: Answers,
    heard: Receiver<Result<Asked, ClientError>>,
}

impl Program {
    fn provision() -> Provision {
        let number = |default: Option<i64>| PlainParameter {
            kind: PlainKind::Number,
            choices: vec![],
            least: Some(0),
            most: Some(1_000),
            required: false,
            default: default.map(PlainValue::Number),
        };
        Provision {
            watcher: "queue".to_owned(),
            input: [("least".to_owned(), number(None)), ("grace".to_owned(), number(Some(5)))].into(),
            output: [("length".to_owned(), number(None))].into(),
        }
    }

    fn provide(rig: &Rig, node: &str) -> Result<Self, ClientError> {
        let mut client = WatcherClient::provide(&node_socket(rig.cluster.dir(), node), Self::provision())?;
        let (answers, (sender, heard)) = (client.answers(), channel());
        std::thread::spawn(move || {
            loop {
                let asked = client.hear();
                let last = asked.is_err();
                if sender.send(asked).is_err() || last {
                    return;
                }
            }
        });
        Ok(Self { answers, heard })
    }

    fn asked(&self) -> Asked {
        self.heard.recv_timeout(PATIENCE).expect("it hears in time").expect("the connection stands")
    }

    fn watch(&self) -> (u64, String, PlainValues) {
        match self.asked() {
            Asked::Watch { number, event, input } => (number, event, input),
            other @ Asked::Unwatch { .. } => panic!("{other:?}"),
        }
    }

    fn say(&self, line: &ClientLine) {
        self.answers.say(line).expect("the node reads");
    }

    fn occurred(&self, number: u64, length: i64) {
        let out = [("length".to_owned(), PlainValue::Number(length))].into();
        self.say(&ClientLine::Occurred { number, out });
    }
}

/// docs/watcher-protocol.md with the Rust client over a node's real socket: every line of it, a second provider, and an end.
#[test]
fn a_program_in_rust_watches_over_the_socket_of_its_node() {
    let rig = Rig::start();
    let long = |least: &str| {
        rig.event("long", "external:queue", least, "\"${in.least}\", \"${out.length}\"")
            + "[[event_group]]\nname = \"queues\"\nevents = [\"long\"]\nnodes = [\"n1\"]\n"
    };
    let runs = || rig.ran().into_iter().filter(|ran| ran.event == "long").map(|ran| ran.arguments).collect::<Vec<_>>();
    rig.apply(&long("least = 3"));
    rig.wait_state("n1", "long", "failed");
    let program = Program::provide(&rig, "n1").expect("the node takes it");
    let (first, event, input) = program.watch();
    let values =
        |least: i64| [("least".to_owned(), PlainValue::Number(least)), ("grace".to_owned(), PlainValue::Number(5))];
    assert_eq!((event.as_str(), input), ("long", values(3).into()), "with its default filled in");
    rig.wait_state("n1", "long", "watching");
    program.occurred(first, 31);
    wait_for("the action", PATIENCE, || (runs() == ["3 31"]).then_some(()));

    let second = Program::provide(&rig, "n1").err();
    let refused = matches!(&second, Some(ClientError::Node { error: LineError::BadRegistration, text })
        if text.contains("another program provides watcher `queue`"));
    assert!(refused, "{second:?}");

    // It is defined anew: another watching. What is told of the one before is not acted on, and is no reason to end.
    rig.apply(&long("least = 4"));
    assert_eq!(program.asked(), Asked::Unwatch { number: first });
    let (next, _, input) = program.watch();
    assert!(next > first && input == values(4).into(), "{input:?}");
    program.occurred(first, 32);
    program.occurred(next, 2_000);
    let reason = rig.wait_state("n1", "long", "failed")["reason"].to_string();
    assert!(reason.contains("its watcher told of it wrongly"), "{reason}");
    program.occurred(next, 33);
    wait_for("the action of the second watching", PATIENCE, || (runs() == ["3 31", "4 33"]).then_some(()));
    program.say(&ClientLine::WatchFailed { number: next, text: "no such queue".to_owned() });
    let reason = rig.wait_state("n1", "long", "failed")["reason"].to_string();
    assert!(reason.contains("no such queue"), "{reason}");

    program.answers.hang_up();
    let ended = program.heard.recv_timeout(PATIENCE).expect("it hears of its end");
    assert!(matches!(ended, Err(ClientError::Closed | ClientError::Socket(_))), "{ended:?}");
    wait_for("the node to miss it", PATIENCE, || {
        let event = rig.wait_state("n1", "long", "failed");
        event["reason"].as_str().is_some_and(|why| why.contains("no program that provides watcher")).then_some(())
    });
    let again = wait_for("the node to take it again", PATIENCE, || Program::provide(&rig, "n1").ok());
    let (last, ..) = again.watch();
    again.occurred(last, 34);
    wait_for("the action once more", PATIENCE, || (runs().last().map(String::as_str) == Some("4 34")).then_some(()));
    assert_eq!(runs(), ["3 31", "4 33", "4 34"]);
}
