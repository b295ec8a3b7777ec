//! Each watcher by what it tells. Where nothing but time and files of the kernel matter, time is paused.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Child, Command};

use phalanx_messages::NodeId;
use phalanx_messages::configuration::NodeConfiguration;
use phalanx_messages::launch::{LaunchRequest, LaunchResult};
use phalanx_messages::membership::TransitionKind;
use phalanx_messages::notification::TransitionNotice;
use phalanx_messages::set::NodeSet;
use phalanx_messages::{Incarnation, Level, NotificationId, Term, TransitionId};
use phalanx_protocol::events::{builtin, check, complete};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::*;

/// Hears what a watcher tells, and is the warden of those that run something.
struct Ears {
    detected: UnboundedSender<Parameters>,
    failed: UnboundedSender<String>,
    run: UnboundedSender<LaunchRequest>,
    results: Vec<LaunchResult>,
}

impl Actor for Ears {
    type Context = Context<Self>;
}

impl Handler<Detected> for Ears {
    type Result = ();

    fn handle(&mut self, detected: Detected, _: &mut Self::Context) {
        self.detected.send(detected.out).ok();
    }
}

impl Handler<WatchFailed> for Ears {
    type Result = ();

    fn handle(&mut self, failed: WatchFailed, _: &mut Self::Context) {
        self.failed.send(failed.failure.0).ok();
    }
}

impl Handler<WardenRequest> for Ears {
    type Result = MessageResult<WardenRequest>;

    fn handle(&mut self, request: WardenRequest, _: &mut Self::Context) -> Self::Result {
        let WardenRequest::Launch(request) = request else { panic!("{request:?}") };
        self.run.send(request).ok();
        let next = if self.results.is_empty() { LaunchResult::Succeeded } else { self.results.remove(0) };
        MessageResult(next)
    }
}

struct Rig {
    watcher: Addr<Watcher>,
    detected: UnboundedReceiver<Parameters>,
    failed: UnboundedReceiver<String>,
    run: UnboundedReceiver<LaunchRequest>,
    levels: broadcast::Sender<Arc<SubsystemNotification>>,
    gate: Gate,
}

fn ms(ms: u64) -> ParameterValue {
    ParameterValue::DurationMs(ms)
}

/// The IN parameters of an event, defaults included; refused as a definition would be.
fn input(watcher: &str, pairs: &[(&str, ParameterValue)]) -> EventDefinition {
    let parameters = pairs.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
    let (name, watcher) = ("e".to_owned(), watcher.to_owned());
    let mut definition = EventDefinition { name, watcher, parameters, action: None, quiet_ms: 0 };
    let schema = builtin(&definition.watcher).unwrap();
    check(&definition, Some(&schema)).unwrap();
    definition.parameters = complete(&definition, &schema);
    definition
}

fn watch(watcher: &str, pairs: &[(&str, ParameterValue)], results: Vec<LaunchResult>) -> Rig {
    let (detected, heard) = unbounded_channel();
    let (failed, failures) = unbounded_channel();
    let (run, runs) = unbounded_channel();
    let ears = Ears { detected, failed, run, results }.start();
    let clock = Clock::tokio();
    let gate = Gate::new(clock);
    gate.extend(clock.now().plus(1_000_000_000));
    let levels = broadcast::Sender::new(16);
    let nodes = (0..3).map(|id: u16| (NodeId(id), NodeConfiguration::new(format!("n{id}"), ""))).collect();
    let surroundings = Surroundings {
        levels: levels.clone(),
        names: tokio::sync::watch::channel(Arc::new(ConfigurationRecord { nodes, ..Default::default() })).1,
        warden: ears.clone().recipient(),
        gate: gate.clone(),
        clock,
        variables: vec![("PHALANX_NODE".to_owned(), "n0".to_owned())],
    };
    let definition = input(watcher, pairs);
    let watcher =
        Watcher::new(WatchId(1), definition, surroundings, ears.clone().recipient(), ears.recipient()).start();
    Rig { watcher, detected: heard, failed: failures, run: runs, levels, gate }
}

async fn told(rig: &mut Rig) -> Parameters {
    let told = tokio::time::timeout(Duration::from_secs(60), rig.detected.recv()).await;
    told.expect("nothing is told").expect("the watcher is gone")
}

/// Nothing is told for so long.
async fn silent(rig: &mut Rig, ms: u64) {
    let told = tokio::time::timeout(Duration::from_millis(ms), rig.detected.recv()).await;
    // Nor by a watcher that has ended.
    assert!(matches!(told, Err(_) | Ok(None)), "{told:?}");
}

fn bad(text: &str) -> LaunchResult {
    LaunchResult::Failed { text: text.to_owned() }
}

#[actix_rt::test]
async fn a_timer_occurs_at_the_end_of_each_interval() {
    tokio::time::pause();
    let clock = Clock::tokio();
    let begun = clock.now();
    let mut rig = watch("timer", &[("interval", ms(10_000))], vec![]);
    silent(&mut rig, 9_900).await;
    for count in 1..=3_i64 {
        assert_eq!(told(&mut rig).await, out([("count", number(count))]));
        let late_ms = clock.now().since(begun.plus(10_000 * u64::try_from(count).unwrap()));
        assert!(late_ms < 200, "{late_ms}");
    }
    rig.watcher.send(EndWatch).await.unwrap();
    silent(&mut rig, 50_000).await;
}

#[actix_rt::test]
async fn health_is_bad_after_so_many_bad_looks_in_a_row() {
    tokio::time::pause();
    let script = vec![bad("1"), bad("2"), LaunchResult::Succeeded, bad("3"), bad("4"), bad("5"), bad("6")];
    let pairs = [("command", text("/bin/check  --fast now")), ("timeout", ms(700))];
    let mut rig = watch("health", &pairs, script);
    assert_eq!(told(&mut rig).await, out([("bad", number(3_i64)), ("error", text("5"))]));
    let request = rig.run.recv().await.unwrap();
    assert!(request.command.to_string() == "/bin/check --fast now", "{}", request.command);
    assert_eq!(request.timeout_ms, 700);
    assert!(request.environment.contains(&("PHALANX_NODE".to_owned(), "n0".to_owned())));
    silent(&mut rig, 60_000).await; // one more bad one, then good ones
}

/// Protocol §3.3: without a lease nothing is run, and what is not known is not bad.
#[actix_rt::test]
async fn health_is_not_looked_at_without_a_lease() {
    tokio::time::pause();
    let pairs = [("command", text("/bin/check")), ("tolerance", ParameterValue::Number(1))];
    let mut rig = watch("health", &pairs, vec![]);
    rig.run.recv().await.unwrap();
    rig.gate.close();
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(rig.run.try_recv().is_err() && rig.detected.try_recv().is_err());
    rig.gate.extend(Clock::tokio().now().plus(1_000_000_000));
    assert!(tokio::time::timeout(Duration::from_secs(20), rig.run.recv()).await.is_ok(), "and it goes on with one");
}

#[actix_rt::test]
async fn an_address_that_nobody_answers_at_any_more_is_told() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let pairs = [("address", text(&address)), ("interval", ms(100)), ("tolerance", ParameterValue::Number(2))];
    let mut rig = watch("tcp", &pairs, vec![]);
    listener.accept().await.unwrap();
    assert!(rig.detected.try_recv().is_err());
    drop(listener);
    let out = told(&mut rig).await;
    assert_eq!((&out["address"], &out["bad"]), (&text(&address), &number(2_i64)));
    assert!(out["error"].to_string().to_lowercase().contains("refused"), "{out:?}");
}

#[actix_rt::test]
async fn a_server_that_answers_with_an_error_is_told_with_its_status() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/health?deep=1", listener.local_addr().unwrap());
    let pairs = [("url", text(&url)), ("interval", ms(100)), ("tolerance", ParameterValue::Number(1))];
    let mut rig = watch("http", &pairs, vec![]);
    for answer in ["HTTP/1.1 204 No Content\r\n\r\n", "HTTP/1.1 503 Unavailable\r\n\r\n", "SSH-2.0-x\r\n"] {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = vec![0; 512];
        let bytes = stream.read(&mut request).await.unwrap();
        assert!(request[..bytes].starts_with(b"GET /health?deep=1 HTTP/1.1\r\nHost: 127.0.0.1:"));
        stream.write_all(answer.as_bytes()).await.unwrap();
    }
    let out = told(&mut rig).await;
    assert_eq!((&out["url"], &out["status"]), (&text(&url), &number(503_i64)), "204 was good");
    assert_eq!(told(&mut rig).await["status"], number(0_i64), "what does not speak HTTP has no status");
}

/// A process under a name of its own.
struct Named(Child);

impl Named {
    fn start(program: &Path) -> Self {
        Self(Command::new(program).arg("1000").spawn().unwrap())
    }
}

impl Drop for Named {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

fn program(directory: &Path, name: &str) -> std::path::PathBuf {
    let path = directory.join(name);
    assert!(Command::new("cp").arg("/bin/sleep").arg(&path).status().unwrap().success());
    path
}

#[actix_rt::test]
async fn the_end_of_the_process_of_a_pid_file_is_told_and_that_of_the_next_one_too() {
    let directory = tempfile::tempdir().unwrap();
    let (program, pid_file) = (program(directory.path(), "phalanx-pidf"), directory.path().join("pid"));
    let path = pid_file.display().to_string();
    let mut rig = None;
    for _ in 0..2 {
        let process = Named::start(&program);
        let pid = process.0.id();
        fs::write(&pid_file, format!("{pid}\n")).unwrap();
        let rig =
            rig.get_or_insert_with(|| watch("process", &[("pid_file", text(&path)), ("interval", ms(100))], vec![]));
        silent(rig, 400).await;
        drop(process);
        assert_eq!(told(rig).await, out([("pid", number(pid)), ("process", text(&path))]));
        silent(rig, 400).await; // one that is gone is told once
    }
}

#[actix_rt::test]
async fn a_name_that_no_process_has_is_told_once_and_again_after_one_had_it() {
    let directory = tempfile::tempdir().unwrap();
    let name = "phalanx-watched-by-name"; // longer than what the kernel keeps
    let program = program(directory.path(), name);
    let mut rig = watch("process", &[("name", text(name)), ("interval", ms(100))], vec![]);
    assert_eq!(told(&mut rig).await, out([("pid", number(0_i64)), ("process", text(name))]));
    silent(&mut rig, 400).await;
    let process = Named::start(&program);
    let pid = process.0.id();
    silent(&mut rig, 400).await;
    drop(process);
    assert_eq!(told(&mut rig).await["pid"], number(pid));
}

#[actix_rt::test]
async fn a_full_file_system_is_told_once() {
    tokio::time::pause();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().display().to_string();
    let mut rig = watch("space", &[("path", text(&path)), ("free_bytes", number(i64::MAX))], vec![]);
    let told_once = told(&mut rig).await;
    assert_eq!(told_once["path"], text(&path));
    assert!(matches!(told_once["free_bytes"], ParameterValue::Number(free) if free > 0), "{told_once:?}");
    silent(&mut rig, 600_000).await;
    let mut rig = watch("space", &[("path", text(&path)), ("free_bytes", number(1_i64))], vec![]);
    silent(&mut rig, 600_000).await;
}

/// What a watch tells within ten seconds of paused time.
async fn next(watch: &mut dyn Watch) -> Option<Parameters> {
    tokio::time::timeout(Duration::from_secs(10), watch.next()).await.ok().map(|told| told.unwrap())
}

#[actix_rt::test]
async fn a_link_that_goes_down_is_told_each_time_it_was_up_before() {
    tokio::time::pause();
    let root = tempfile::tempdir().unwrap();
    let set = |name: &str, value: &str| fs::write(root.path().join("eth7").join(name), format!("{value}\n")).unwrap();
    let definition = input("link", &[("interface", text("eth7"))]);
    let mut link = link::Link::new(Input(&definition.parameters), root.path()).unwrap();
    let down = |state: &str| Some(out([("interface", text("eth7")), ("state", text(state))]));
    assert_eq!(next(&mut link).await, down("missing"));
    fs::create_dir(root.path().join("eth7")).unwrap();
    for (state, carrier, expected) in [
        ("up", "1", None),
        ("down", "0", down("down")),
        ("dormant", "1", None), // not up meanwhile
        ("unknown", "1", None), // as `lo` is
        ("unknown", "0", down("unknown")),
    ] {
        set("carrier", carrier);
        set("operstate", state);
        assert_eq!(next(&mut link).await, expected, "{state} {carrier}");
    }
}

#[actix_rt::test]
async fn a_pressure_that_stays_is_told_and_a_host_that_tells_none_has_its_load_average() {
    tokio::time::pause();
    let proc = tempfile::tempdir().unwrap();
    let pairs =
        [("percent", ParameterValue::Number(60)), ("interval", ms(1_000)), ("tolerance", ParameterValue::Number(3))];
    let definition = input("load", &pairs);
    fs::write(proc.path().join("loadavg"), "999.00 1.00 1.00 1/1 1\n").unwrap();
    let mut load = load::Load::new(Input(&definition.parameters), proc.path()).unwrap();
    assert_eq!(next(&mut load).await, Some(out([("resource", text("cpu")), ("percent", number(100_i64))])));
    fs::create_dir(proc.path().join("pressure")).unwrap();
    let set = |share: &str| {
        fs::write(proc.path().join("pressure/cpu"), format!("some avg10={share} avg60=0.00 total=1\n")).unwrap()
    };
    set("59.20");
    assert_eq!(next(&mut load).await, None);
    set("60.10");
    assert_eq!(next(&mut load).await.unwrap()["percent"], number(60_i64));
    let io = input("load", &[("resource", text("io"))]);
    assert!(load::Load::new(Input(&io.parameters), proc.path()).is_err(), "what is not told can't be watched");
}

#[actix_rt::test]
async fn lines_of_a_log_are_told_across_rotation_and_truncation_and_old_ones_are_not() {
    tokio::time::pause();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("app.log");
    let append = |text: &str| {
        fs::File::options().create(true).append(true).open(&path).unwrap().write_all(text.as_bytes()).unwrap()
    };
    append("ERROR old\n");
    let definition = input("log", &[("path", text(path.display().to_string())), ("pattern", text("^ERROR"))]);
    let mut log = log::Log::new(Input(&definition.parameters)).unwrap();
    let line = |told: Option<Parameters>| told.map(|told| told["line"].to_string());
    assert_eq!(line(next(&mut log).await), None);
    append("fine\nERROR one\nERROR tw");
    assert_eq!(line(next(&mut log).await).as_deref(), Some("ERROR one"));
    assert_eq!(line(next(&mut log).await), None, "the line has not ended");
    append("o\nERROR last");
    fs::rename(&path, directory.path().join("app.log.1")).unwrap();
    assert_eq!(line(next(&mut log).await).as_deref(), Some("ERROR two"));
    append("ERROR new file\n");
    assert_eq!(line(next(&mut log).await).as_deref(), Some("ERROR last"), "the old file is read to its end");
    assert_eq!(line(next(&mut log).await).as_deref(), Some("ERROR new file"));
    fs::write(&path, "ERROR cut\n").unwrap();
    assert_eq!(line(next(&mut log).await).as_deref(), Some("ERROR cut"));
    append(&format!("ERROR {}\nERROR after\n", "x".repeat(1_000_000)));
    assert_eq!(line(next(&mut log).await).unwrap().len(), 4_096, "a long line is cut");
    assert_eq!(line(next(&mut log).await).as_deref(), Some("ERROR after"));
}

fn notification(node: u16, kind: TransitionKind, counter: u64, barrier: u8) -> Arc<SubsystemNotification> {
    let transition = TransitionId { term: Term(3), counter };
    let id = NotificationId { transition, level: Level::EVENT_MANAGER, barrier, restart: 0 };
    let notice = TransitionNotice { id, node: NodeId(node), incarnation: Incarnation(1), kind, renotification: false };
    Arc::new(SubsystemNotification {
        level: Level::EVENT_MANAGER,
        batch: vec![notice],
        states: Default::default(),
        participants: NodeSet::EMPTY,
        formation: Term(1),
    })
}

/// Spec, Fig. 21, 60e; a transition with two barriers is one occurrence.
#[actix_rt::test]
async fn a_transition_of_the_node_and_kind_asked_for_is_told_once() {
    let mut rig = watch("membership", &[("node", text("n1")), ("kind", text("leaving"))], vec![]);
    rig.watcher.send(InjectPanic).await.unwrap(); // and it listens again
    for heard in [
        notification(2, TransitionKind::Leaving, 1, 0),
        notification(1, TransitionKind::Joining, 2, 0),
        notification(1, TransitionKind::Leaving, 3, 0),
        notification(1, TransitionKind::Leaving, 3, 1),
        notification(1, TransitionKind::Leaving, 4, 0),
    ] {
        rig.levels.send(heard).unwrap();
    }
    for transition in ["3.3", "3.4"] {
        let expected = out([("node", text("n1")), ("kind", text("leaving")), ("transition", text(transition))]);
        assert_eq!(told(&mut rig).await, expected);
    }
}

#[actix_rt::test]
async fn panics_of_a_watcher_are_borne_until_they_are_too_many_and_end_only_the_watcher() {
    tokio::time::pause();
    let mut rig = watch("timer", &[("interval", ms(1_000))], vec![]);
    for _ in 0..5 {
        rig.watcher.send(InjectPanic).await.unwrap();
    }
    assert_eq!(told(&mut rig).await, out([("count", number(1_i64))]), "it has begun anew");
    assert!(rig.failed.try_recv().is_err());
    rig.watcher.send(InjectPanic).await.unwrap();
    assert_eq!(rig.failed.recv().await.unwrap(), "its watcher panicked too often");
    silent(&mut rig, 10_000).await;
}
