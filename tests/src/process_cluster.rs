//! A cluster of real processes, started and driven as a user would: `phalanx dev` and the command line.
//!
//! Process tests take one machine-wide lock, because timing on a loaded machine is noise.

mod lock;
mod records;

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

pub use lock::MachineLock;
pub use records::LicenceJournal;

/// The user and group `nobody`.
pub const NOBODY: u32 = 65_534;

/// How long anything may take that has no formula of its own: generous, and a failure when passed.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The `phalanx` binary that stands beside the running test, or `PHALANX_PROGRAM`.
///
/// # Panics
/// If it has not been built: `cargo test --workspace` builds it, `cargo test -p phalanx-tests` alone does not.
#[must_use]
pub fn phalanx() -> PathBuf {
    if let Some(program) = std::env::var_os("PHALANX_PROGRAM") {
        return program.into();
    }
    let test = std::env::current_exe().expect("the test has a path");
    // Tests and benches run in target/<profile>/deps, binaries beside `phalanx`.
    let directory = test.parent().expect("a program has a directory");
    let directory = if directory.ends_with("deps") { directory.parent().expect("above deps") } else { directory };
    let path = directory.join("phalanx");
    assert!(path.exists(), "{} is missing: run `cargo build -p phalanx-node` first", path.display());
    path
}

/// Waits until `condition` gives something.
///
/// # Panics
/// With `what` after `limit`.
pub fn wait_for<T>(what: &str, limit: Duration, mut condition: impl FnMut() -> Option<T>) -> T {
    let clock = phalanx_actors::clock::Clock::Boot;
    let begun = clock.now();
    loop {
        if let Some(value) = condition() {
            return value;
        }
        let waited_ms = clock.now().since(begun);
        assert!(u128::from(waited_ms) < limit.as_millis(), "gave up waiting for {what} after {waited_ms} ms");
        pause();
    }
}

/// A breath between two looks at a condition.
fn pause() {
    let breath = rustix::event::Timespec { tv_sec: 0, tv_nsec: 2_000_000 };
    rustix::event::poll(&mut [], Some(&breath)).ok();
}

/// A running `phalanx dev` with its directory.
#[derive(Debug)]
pub struct DevCluster {
    child: Child,
    dir: TempDir,
    arguments: Vec<String>,
    _lock: MachineLock,
}

impl DevCluster {
    /// Starts `phalanx dev --dir <fresh> <arguments>` and waits until every node is joined.
    ///
    /// # Panics
    /// If it does not form in time.
    #[must_use]
    pub fn start(nodes: usize, arguments: &[&str]) -> Self {
        let cluster = Self::spawn(nodes, arguments, &[], None);
        cluster.wait_joined(nodes);
        cluster
    }

    /// The same as the user `nobody`, from a copy of the binary that this user can reach.
    ///
    /// # Panics
    /// If it does not form in time, or this process is not root.
    #[must_use]
    pub fn start_as_nobody(nodes: usize, arguments: &[&str]) -> Self {
        let cluster = Self::spawn(nodes, arguments, &[], Some(NOBODY));
        cluster.wait_joined(nodes);
        cluster
    }

    /// The same with variables in the environment, where the nodes cannot reach each other: waits until one is joined.
    ///
    /// # Panics
    /// If none does in time.
    #[must_use]
    pub fn start_alone(nodes: usize, arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        let cluster = Self::spawn(nodes, arguments, environment, None);
        cluster.wait_joined(1);
        cluster
    }

    fn spawn(nodes: usize, arguments: &[&str], environment: &[(&str, &str)], user: Option<u32>) -> Self {
        let lock = MachineLock::take();
        let dir = tempfile::Builder::new().prefix("phalanx-test-").tempdir().expect("a directory can be made");
        let mut all: Vec<String> = vec!["--nodes".to_owned(), nodes.to_string()];
        all.extend(arguments.iter().map(|word| (*word).to_owned()));
        let child = spawn_dev(dir.path(), &all, environment, user);
        Self { child, dir, arguments: all, _lock: lock }
    }

    /// The directory with disk, configs, logs and journals.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Process id of `phalanx dev`.
    #[must_use]
    pub fn dev_pid(&self) -> u32 {
        self.child.id()
    }

    /// Runs one command of the command line against this cluster.
    ///
    /// # Panics
    /// If it cannot be started.
    #[must_use]
    pub fn run(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(phalanx());
        command.arg("--dir").arg(self.dir()).args(arguments).stdin(Stdio::null()).env("NO_COLOR", "1");
        command.output().expect("phalanx can be started")
    }

    /// Runs a command that must succeed, and gives what it printed.
    ///
    /// # Panics
    /// If it fails.
    #[must_use]
    pub fn succeed(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "phalanx {arguments:?}: {}\n{error}\n{}", output.status, self.logs());
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Asks `phalanx dev` to start a node, and does not wait for its join.
    ///
    /// # Errors
    /// Why it does not: the node still runs.
    ///
    /// # Panics
    /// If `phalanx dev` does not answer.
    pub fn start_node(&self, node: &str) -> Result<(), String> {
        let control = UnixStream::connect(self.dir().join(phalanx_node::dev::CONTROL)).expect("dev listens");
        writeln!(&control, "start {node}").expect("dev reads");
        let mut answer = String::new();
        BufReader::new(&control).read_line(&mut answer).expect("dev answers");
        if answer.trim() == "ok" { Ok(()) } else { Err(answer) }
    }

    /// `status --output json`, if some node answers.
    #[must_use]
    pub fn status(&self) -> Option<Value> {
        let output = self.run(&["status", "--output", "json"]);
        let status = || -> Value { serde_json::from_slice(&output.stdout).expect("status prints JSON") };
        output.status.success().then(status).filter(|status| status["source"] == "daemon")
    }

    /// What `node` itself answers, if it does.
    #[must_use]
    pub fn status_at(&self, node: &str) -> Option<Value> {
        let socket = phalanx_node::dev::node_socket(self.dir(), node).display().to_string();
        let output = self.run(&["--socket", &socket, "status", "--output", "json"]);
        let status = || -> Value { serde_json::from_slice(&output.stdout).expect("status prints JSON") };
        output.status.success().then(status)
    }

    /// Waits until the status satisfies `condition` as the master sees it, which alone knows who has acknowledged.
    ///
    /// # Panics
    /// If that does not happen in time.
    pub fn wait_master_status(&self, what: &str, condition: impl Fn(&Value) -> bool) {
        self.wait_status(what, |status| {
            let master = status["master"].as_str().and_then(|master| self.status_at(master));
            master.is_some_and(|status| status["node"] == status["master"] && condition(&status))
        });
    }

    /// Waits until `nodes` nodes are joined and nothing is in transition, and gives that status.
    ///
    /// # Panics
    /// If that does not happen in time.
    pub fn wait_joined(&self, nodes: usize) -> Value {
        self.wait_status(&format!("{nodes} joined nodes"), |status| {
            let joined = list(status, "nodes").iter().filter(|node| node["state"] == "joined").count();
            joined == nodes && list(status, "transitions").is_empty()
        })
    }

    /// Waits until the status satisfies `condition`, and gives it.
    ///
    /// # Panics
    /// If that does not happen in time; the logs of all nodes are printed.
    pub fn wait_status(&self, what: &str, condition: impl Fn(&Value) -> bool) -> Value {
        let mut last = None;
        let clock = phalanx_actors::clock::Clock::Boot;
        let begun = clock.now();
        loop {
            if let Some(status) = self.status() {
                if condition(&status) {
                    return status;
                }
                last = Some(status);
            }
            let waited_ms = clock.now().since(begun);
            let patient = u128::from(waited_ms) < PATIENCE.as_millis();
            assert!(patient, "no {what} after {waited_ms} ms; last status: {last:#?}\n{}", self.logs());
            pause();
        }
    }

    /// Waits until the named service is registered, and gives the node that runs it.
    ///
    /// # Panics
    /// If that does not happen in time.
    #[must_use]
    pub fn wait_registered(&self, service: &str) -> String {
        let status = self.wait_status(&format!("registered service {service}"), |status| {
            find(status, "services", service).is_some_and(|service| service["state"] == "registered")
        });
        let service = find(&status, "services", service).expect("just seen");
        service["node"].as_str().expect("a registered service has a node").to_owned()
    }

    /// Every process that belongs to this cluster, by command line: (pid, command line).
    #[must_use]
    pub fn processes(&self) -> Vec<(u32, String)> {
        processes_naming(&self.dir().to_string_lossy())
    }

    /// The last lines of every log in the directory, for a failure message.
    #[must_use]
    pub fn logs(&self) -> String {
        let mut text = String::new();
        for path in files_below(self.dir()).iter().filter(|path| path.extension().is_some_and(|end| end == "log")) {
            let log = std::fs::read_to_string(path).unwrap_or_default();
            let lines: Vec<&str> = log.lines().collect();
            text += &format!("--- {}\n{}\n", path.display(), lines[lines.len().saturating_sub(40)..].join("\n"));
        }
        text
    }

    /// Sends `signal` to `phalanx dev`.
    pub fn signal(&self, signal: Signal) {
        signal_process(self.child.id(), signal);
    }

    /// Waits for `phalanx dev` to end, and gives its exit code.
    ///
    /// # Panics
    /// If it does not end in time.
    pub fn wait_exit(&mut self) -> Option<i32> {
        let child = &mut self.child;
        wait_for("the end of phalanx dev", PATIENCE, || child.try_wait().expect("a child can be waited for")).code()
    }

    /// Starts `phalanx dev` again on the same directory, with the same arguments.
    pub fn restart(&mut self) {
        self.child = spawn_dev(self.dir.path(), &self.arguments, &[], None);
    }
}

impl Drop for DevCluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.logs());
        }
        for (pid, _) in self.processes() {
            signal_process(pid, Signal::KILL);
        }
        signal_process(self.child.id(), Signal::KILL);
        self.child.wait().ok();
        phalanx_node::dev::remove_containments(self.dir());
    }
}

/// Copies a program that will be run. Another process writes the copy: a descriptor of this one that is open for writing would
/// be inherited by whatever another thread is just starting, and the system runs no file that somebody may write.
///
/// # Panics
/// If it cannot be copied.
pub fn copy_program(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg(from).arg(to).status().expect("cp can be started");
    assert!(copied.success(), "{} cannot be copied to {}", from.display(), to.display());
}

fn spawn_dev(dir: &Path, arguments: &[String], environment: &[(&str, &str)], user: Option<u32>) -> Child {
    let log = File::options().create(true).append(true).open(dir.join("dev-output.log")).expect("a log can be made");
    let mut command = Command::new(phalanx());
    if let Some(user) = user {
        use std::os::unix::process::CommandExt;
        let copy = dir.join("phalanx");
        copy_program(&phalanx(), &copy);
        std::os::unix::fs::chown(dir, Some(user), Some(user)).expect("the directory can be given away");
        command = Command::new(copy);
        command.uid(user).gid(user).env("HOME", dir);
    }
    command.arg("dev").arg("--dir").arg(dir).args(arguments).envs(environment.iter().copied());
    command.stdin(Stdio::null()).stdout(log.try_clone().expect("a descriptor")).stderr(log);
    command.spawn().expect("phalanx dev can be started")
}

/// Sends `signal` to a process that this test started; one that is gone already is fine.
pub fn signal_process(pid: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw) {
        rustix::process::kill_process(pid, signal).ok();
    }
}

/// Every process whose command line contains `word`, except zombies and this one.
#[must_use]
pub fn processes_naming(word: &str) -> Vec<(u32, String)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        let mut line = Vec::new();
        if File::open(entry.path().join("cmdline")).and_then(|mut file| file.read_to_end(&mut line)).is_err() {
            continue;
        }
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        if pid != std::process::id() && line.contains(word) {
            found.push((pid, line));
        }
    }
    found
}

/// All files below `dir`.
#[must_use]
pub fn files_below(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() { files.extend(files_below(&path)) } else { files.push(path) }
    }
    files.sort();
    files
}

/// The array at `key`, empty if there is none.
#[must_use]
pub fn list<'a>(status: &'a Value, key: &str) -> &'a [Value] {
    status[key].as_array().map_or(&[], Vec::as_slice)
}

/// The element of the array at `key` whose `name` is `name`.
#[must_use]
pub fn find<'a>(status: &'a Value, key: &str, name: &str) -> Option<&'a Value> {
    list(status, key).iter().find(|element| element["name"] == name)
}
