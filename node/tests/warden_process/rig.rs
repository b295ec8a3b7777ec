//! A warden with a fake daemon, as real processes: the test executable starts itself again in another role.
//!
//! The daemon is the real client side with a register on a real disk; the test tells it over a socket what to do.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use actix::prelude::*;
use phalanx_actors::ports::NodePanic;
use phalanx_messages::configuration::{ConfigurationRecord, PanicPolicy};
use phalanx_messages::launch::{Action, LaunchRequest, LaunchResult, Leaves, Owner, Program, WardenRequest};
use phalanx_messages::profile::TimingProfile;
use phalanx_messages::register::{NodeRegister, OwnState};
use phalanx_messages::registration::RegistrationRecord;
use phalanx_messages::{Incarnation, NodeId, OperationId, Revision, Term};
use phalanx_node::builder::HostIdentity;
use phalanx_node::containment::{ContainmentChoice, containment_key, now, pause, process};
use phalanx_node::warden::client::{LeaveRequested, WardenLink};
use phalanx_node::warden::frames::Word;
use phalanx_node::warden::{RegisterNotice, WardenSettings};
use phalanx_node::watchdog::Disarm;
use phalanx_storage::{ClusterDisk, Durability, MmapDisk, Superblock};
use rustix::process::{Pid, Signal};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt};
use uuid::Uuid;

const ROLE: &str = "WARDEN_RIG_ROLE";
const SETTINGS: &str = "WARDEN_RIG_SETTINGS";
const NODE: NodeId = NodeId(2);
const INCARNATION: Incarnation = Incarnation(7);
/// An ordinary user.
const NOBODY: u32 = 65_534;
/// How long anything may take that has no formula of its own.
pub const PATIENCE_MS: u64 = 30_000;

/// A process between fork and exec holds a copy of every descriptor, and with it the lock of a disk that another test formats.
static FORK: Mutex<()> = Mutex::new(());

/// What the warden of a rig is told.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Settings {
    pub dir: PathBuf,
    pub cgroup: bool,
    pub watchdog_ms: u64,
    pub stop_ms: u64,
    pub shutdown_ms: u64,
    pub no_wait: bool,
    pub panic: PanicPolicy,
}

/// What a test tells the fake daemon.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Tell {
    Ask(WardenRequest),
    StopFeeding,
    LeaveCleanly,
    Panic,
    BeginLeaving,
    CountLeaveRequests,
    Lease(bool),
}

/// What it answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Told {
    Result(LaunchResult),
    Count(usize),
    Done,
}

/// Not a test: the place where this executable goes on in another role.
#[test]
fn other_roles() {
    let Ok(role) = std::env::var(ROLE) else { return };
    let code = match role.as_str() {
        "warden" => warden(),
        "daemon" => daemon(),
        "keeper" => {
            let arguments: Vec<_> = std::env::args_os().skip_while(|word| word != "--").skip(1).collect();
            phalanx_node::warden::keeper_main(&arguments)
        }
        other => panic!("no role {other}"),
    };
    std::process::exit(i32::from(code));
}

fn settings() -> Settings {
    serde_json::from_str(&std::env::var(SETTINGS).unwrap()).unwrap()
}

fn disk(dir: &Path) -> ClusterDisk {
    ClusterDisk::open(Arc::new(MmapDisk::open(&dir.join("disk")).unwrap())).unwrap()
}

fn as_role(role: &str) -> Vec<std::ffi::OsString> {
    let exe = std::env::current_exe().unwrap();
    // What follows is none of the test runner's business.
    let words = ["--exact", "rig::other_roles", "--nocapture", "--test-threads=1", "--"];
    let start = ["/usr/bin/env".into(), format!("{ROLE}={role}").into(), exe.into_os_string()];
    start.into_iter().chain(words.map(Into::into)).collect()
}

/// Notes that it was let go.
struct FakeWatchdog(PathBuf);

impl Disarm for FakeWatchdog {
    fn disarm(&self) -> Result<(), String> {
        std::fs::write(&self.0, "").map_err(|error| error.to_string())
    }
}

fn warden() -> u8 {
    let Settings { dir, cgroup, watchdog_ms, stop_ms, shutdown_ms, no_wait, panic } = settings();
    let disk = disk(&dir);
    let settings = WardenSettings {
        node_name: "n2".to_owned(),
        containment_key: containment_key(disk.superblock().cluster, &dir.join("disk"), NODE),
        containment: if cgroup { ContainmentChoice::Cgroup } else { ContainmentChoice::Subreaper },
        id_lock: dir.join("n2.lock"),
        no_wait,
        log_dir: dir.clone(),
        daemon_command: as_role("daemon"),
        keeper_command: as_role("keeper"),
        watchdog_ms,
        stop_ms,
        shutdown_ms,
        panic,
        sysrq: dir.join("sysrq"),
        watchdog: Some(Box::new(FakeWatchdog(dir.join("disarmed")))),
        notice: Box::new(RegisterNotice::new(disk, NODE)),
    };
    let signals = phalanx_node::warden::Signals::install().unwrap();
    phalanx_node::warden::run(settings, signals).unwrap_or_else(|unmet| {
        eprintln!("error: {}", unmet.text());
        1
    })
}

struct Edge(Arc<AtomicUsize>);

impl Actor for Edge {
    type Context = Context<Self>;
}

impl Handler<LeaveRequested> for Edge {
    type Result = ();

    fn handle(&mut self, _: LeaveRequested, _: &mut Self::Context) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

impl Handler<NodePanic> for Edge {
    type Result = ();

    fn handle(&mut self, message: NodePanic, _: &mut Self::Context) {
        eprintln!("node panic: {}", message.reason);
        std::process::exit(90);
    }
}

fn write_register(dir: &Path, link_fence: &phalanx_messages::register::FenceHandle, own_state: OwnState) {
    let disk = disk(dir);
    let last = disk.registers().read(NODE).unwrap().unwrap();
    let register = NodeRegister {
        incarnation: INCARNATION,
        boot: HostIdentity::read().unwrap().boot,
        heartbeat: last.heartbeat + 1,
        own_state,
        fence: link_fence.clone(),
        ..last
    };
    let mut writer = disk.registers().writer(NODE, INCARNATION).unwrap();
    writer.write(&register, Durability::Volatile).unwrap();
}

fn daemon() -> u8 {
    let Settings { dir, watchdog_ms, .. } = settings();
    let link = WardenLink::inherited().unwrap();
    let (fence, words) = (link.fence_handle(), link.words());
    write_register(&dir, &fence, OwnState::Member);
    let feeding = Arc::new(AtomicBool::new(true));
    let (feeds, feeder) = (feeding.clone(), words.clone());
    words.say(Word::Alive); // before the test is let in: the watch begins with the first word
    std::thread::spawn(move || {
        while feeds.load(Ordering::SeqCst) {
            feeder.say(Word::Alive);
            pause(watchdog_ms / 4);
        }
    });
    actix_rt::System::new().block_on(async move {
        let leaves = Arc::new(AtomicUsize::new(0));
        let edge = Edge(leaves.clone()).start();
        let client = link.start(edge.clone().recipient(), edge.recipient()).unwrap();
        std::fs::remove_file(dir.join("control")).ok();
        let listener = tokio::net::UnixListener::bind(dir.join("binding")).unwrap();
        std::fs::rename(dir.join("binding"), dir.join("control")).unwrap();
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let (client, leaves, feeding) = (client.clone(), leaves.clone(), feeding.clone());
            let (dir, fence, words) = (dir.clone(), fence.clone(), words.clone());
            actix_rt::spawn(async move {
                let (read, mut write) = stream.into_split();
                let Some(line) = tokio::io::BufReader::new(read).lines().next_line().await.unwrap() else {
                    return; // only looked whether somebody listens
                };
                let told = match serde_json::from_str(&line).unwrap() {
                    Tell::Ask(request) => Told::Result(client.send(request).await.unwrap()),
                    Tell::StopFeeding => {
                        feeding.store(false, Ordering::SeqCst);
                        Told::Done
                    }
                    Tell::LeaveCleanly => {
                        write_register(&dir, &fence, OwnState::CleanDown);
                        words.say(Word::LeftCleanly);
                        std::process::exit(0);
                    }
                    Tell::Panic => {
                        words.say(Word::Panicking);
                        Told::Done
                    }
                    Tell::BeginLeaving => {
                        words.say(Word::Leaving);
                        Told::Done
                    }
                    Tell::Lease(valid) => {
                        words.say(if valid { Word::LeaseValid } else { Word::LeaseLost });
                        Told::Done
                    }
                    Tell::CountLeaveRequests => Told::Count(leaves.load(Ordering::SeqCst)),
                };
                let line = serde_json::to_string(&told).unwrap() + "\n";
                write.write_all(line.as_bytes()).await.ok();
            });
        }
    })
}

/// How a rig's node keeps its processes together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// cgroup v2, as root.
    Cgroup,
    /// Subreaper, as an ordinary user.
    Subreaper,
}

impl Kind {
    /// Both, without those that this machine does not offer; each of them says `skipped: <reason>`.
    pub fn available() -> Vec<Self> {
        [Self::Cgroup, Self::Subreaper].into_iter().filter(|kind| kind.is_available()).collect()
    }

    pub fn is_available(self) -> bool {
        let missing = match self {
            Self::Subreaper => None,
            Self::Cgroup if !rustix::process::geteuid().is_root() => Some(("root", "not root".to_owned())),
            Self::Cgroup => match phalanx_node::containment::cgroup::mount_point() {
                None => Some(("cgroup", "no cgroup v2 in the mount table".to_owned())),
                Some(path) => rustix::fs::access(&path, rustix::fs::Access::WRITE_OK)
                    .err()
                    .map(|error| ("cgroup", format!("{}: {error}", path.display()))),
            },
        };
        let Some((word, reason)) = missing else { return true };
        let required = std::env::var("PHALANX_REQUIRE").unwrap_or_default();
        assert!(!required.split(',').any(|w| w.trim() == word), "PHALANX_REQUIRE names {word}, but: {reason}");
        eprintln!("skipped: {reason}");
        if let Some(path) = std::env::var_os("PHALANX_SKIPPED") {
            let file = std::fs::File::options().create(true).append(true).open(path);
            file.and_then(|mut file| std::io::Write::write_all(&mut file, format!("{reason}\n").as_bytes())).ok();
        }
        false
    }
}

/// Process tests of different test programs never run at the same time on one machine; those of this one may, so it takes
/// the lock once and keeps it to its end.
fn take_machine_lock() {
    static LOCK: std::sync::OnceLock<std::fs::File> = std::sync::OnceLock::new();
    LOCK.get_or_init(|| {
        let path = std::env::temp_dir().join("phalanx-process-tests.lock");
        let file = std::fs::File::options().create(true).truncate(false).write(true).open(path).unwrap();
        rustix::fs::flock(&file, rustix::fs::FlockOperation::LockExclusive).unwrap();
        file
    });
}

/// A node that runs: a directory with disk, lock and logs, and a warden.
#[derive(Debug)]
pub struct Rig {
    pub dir: tempfile::TempDir,
    pub settings: Settings,
    pub warden: Child,
}

impl Rig {
    pub fn start(kind: Kind) -> Self {
        Self::start_with(kind, |_| {})
    }

    pub fn start_with(kind: Kind, change: impl FnOnce(&mut Settings)) -> Self {
        take_machine_lock();
        let dir = tempfile::Builder::new().prefix("phalanx-warden-").tempdir().unwrap();
        let mut settings = Settings {
            dir: dir.path().to_owned(),
            cgroup: kind == Kind::Cgroup,
            watchdog_ms: 2_000,
            stop_ms: 5_000,
            shutdown_ms: 300_000,
            no_wait: true,
            panic: PanicPolicy::Exit,
        };
        change(&mut settings);
        let superblock = Superblock {
            cluster: Uuid::now_v7(),
            name: "rig".to_owned(),
            nodes_max: 4,
            services_max: 10,
            profile: TimingProfile::DEV,
            created_at_ms: 0,
        };
        let path = dir.path().join("disk");
        let no_fork = FORK.lock().unwrap_or_else(PoisonError::into_inner);
        let disk = MmapDisk::create(&path, 4_096).unwrap();
        phalanx_storage::format(&disk, &superblock, &ConfigurationRecord::default(), &RegistrationRecord::default())
            .unwrap();
        drop(disk); // whoever formats holds the disk alone
        drop(no_fork);
        if kind == Kind::Subreaper && rustix::process::geteuid().is_root() {
            for path in [dir.path(), &path] {
                std::os::unix::fs::chown(path, Some(NOBODY), Some(NOBODY)).unwrap();
            }
        }
        let warden = spawn(&settings);
        let rig = Self { dir, settings, warden };
        rig.wait("the daemon", || UnixStream::connect(rig.path("control")).ok());
        rig
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Everything the warden and the daemon said.
    pub fn output(&self) -> String {
        std::fs::read_to_string(self.path("warden-output")).unwrap_or_default()
    }

    /// Starts a second warden on the same node id.
    pub fn second(&self, no_wait: bool) -> Child {
        spawn(&Settings { no_wait, ..self.settings.clone() })
    }

    pub fn wait<T>(&self, what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
        let until = now().plus(PATIENCE_MS);
        loop {
            if let Some(value) = condition() {
                return value;
            }
            assert!(now() < until, "gave up waiting for {what}; the node said:\n{}", self.output());
            pause(1);
        }
    }

    pub fn tell(&self, tell: &Tell) -> Option<Told> {
        let mut stream = UnixStream::connect(self.path("control")).unwrap();
        stream.set_read_timeout(Some(Duration::from_millis(PATIENCE_MS))).unwrap();
        stream.write_all((serde_json::to_string(tell).unwrap() + "\n").as_bytes()).unwrap();
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).unwrap();
        serde_json::from_str(&line).ok()
    }

    pub fn ask(&self, request: WardenRequest) -> LaunchResult {
        match self.tell(&Tell::Ask(request)) {
            Some(Told::Result(result)) => result,
            other => panic!("no result, but {other:?}; the node said:\n{}", self.output()),
        }
    }

    /// Launches a command that must succeed.
    pub fn launch(&self, request: LaunchRequest) {
        assert_eq!(self.ask(WardenRequest::Launch(request)), LaunchResult::Succeeded, "{}", self.output());
    }

    pub fn register(&self) -> NodeRegister {
        disk(self.dir.path()).registers().read(NODE).unwrap().unwrap()
    }

    /// Waits until the register says `DeadDrained`.
    pub fn wait_dead_drained(&self) {
        let disk = disk(self.dir.path());
        self.wait("DeadDrained", || {
            let register = disk.registers().read(NODE).unwrap()?;
            (register.own_state == OwnState::DeadDrained).then_some(())
        });
        assert_eq!(self.register().incarnation, INCARNATION);
    }

    /// The exit code of the warden.
    pub fn wait_exit(&mut self) -> Option<i32> {
        let warden = &mut self.warden;
        let until = now().plus(PATIENCE_MS);
        loop {
            if let Some(status) = warden.try_wait().unwrap() {
                return status.code();
            }
            assert!(now() < until, "the warden does not end");
            pause(2);
        }
    }

    /// The process ids that commands wrote into the file of that name.
    pub fn pids(&self, name: &str, count: usize) -> Vec<u32> {
        self.wait(name, || {
            let text = std::fs::read_to_string(self.path(name)).ok()?;
            let pids: Vec<u32> = text.split_whitespace().filter_map(|word| word.parse().ok()).collect();
            (pids.len() == count && text.ends_with('\n')).then_some(pids)
        })
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the node said:\n{}", self.output());
        }
        let fence = self.register().fence;
        for identity in [fence.warden, fence.daemon] {
            if let Ok(Some(process)) = process::Process::open(identity) {
                process.signal(Signal::KILL).ok();
            }
        }
        self.warden.kill().ok();
        self.warden.wait().ok();
        if let phalanx_messages::register::Containment::Cgroup { path } = &fence.containment {
            let path = Path::new(path);
            phalanx_node::containment::cgroup::kill_and_verify(path, now().plus(PATIENCE_MS)).ok();
            phalanx_node::containment::cgroup::remove(path).ok();
            path.parent().map(std::fs::remove_dir);
        }
    }
}

fn spawn(settings: &Settings) -> Child {
    let output = std::fs::File::options().create(true).append(true).open(settings.dir.join("warden-output")).unwrap();
    let words = as_role("warden");
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]).env(SETTINGS, serde_json::to_string(settings).unwrap());
    command.stdin(Stdio::null()).stdout(output.try_clone().unwrap()).stderr(output);
    if !settings.cgroup && rustix::process::geteuid().is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    let _no_disk = FORK.lock().unwrap_or_else(PoisonError::into_inner);
    command.spawn().unwrap()
}

/// A process that has nothing to do with any node.
pub fn spawn_sleep() -> Child {
    let _no_disk = FORK.lock().unwrap_or_else(PoisonError::into_inner);
    Command::new("sleep").arg("1000").spawn().unwrap()
}

pub fn clock() -> Owner {
    Owner::Service("clock".to_owned())
}

pub fn operation(seq: u64) -> Option<OperationId> {
    Some(OperationId { revision: Revision { term: Term(1), seq }, index: 0 })
}

/// A start command of the service `clock`.
pub fn start(seq: u64, command: impl Into<String>) -> LaunchRequest {
    LaunchRequest {
        owner: clock(),
        operation: operation(seq),
        action: Action::Start,
        command: Program::shell(command),
        environment: vec![("PHALANX_SERVICE".to_owned(), "clock".to_owned())],
        timeout_ms: 20_000,
        leaves: Leaves::Processes,
        clean_up: None,
        retries: 0,
    }
}

/// A service that does all it can to get away: a session of its own, a double fork, no environment, deaf to SIGTERM.
/// It writes its process id to `file`, a line each time it is called.
pub fn fugitive(file: &Path) -> String {
    let inner = format!("trap \"\" TERM HUP INT; echo $$ >> {}; while :; do sleep 1000; done", file.display());
    format!("(setsid env -i PATH=$PATH sh -c '{inner}' >/dev/null 2>&1 </dev/null &) &")
}

/// True if no thread of that process runs any more.
pub fn is_dead(pid: u32) -> bool {
    process::stat(pid).map_or(true, |stat| stat.state == b'Z')
}

pub fn signal(pid: u32, signal: Signal) {
    rustix::process::kill_process(Pid::from_raw(i32::try_from(pid).unwrap()).unwrap(), signal).unwrap();
}
