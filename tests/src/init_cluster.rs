//! A cluster as an administrator makes it: `phalanx init`, `phalanx disk create`, and one `phalanx node run` for each node.

use std::fs::File;
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

use crate::process_cluster::{NOBODY, PATIENCE, copy_program, files_below, list, phalanx, signal_process, wait_for};

/// The directory that `phalanx init` wrote, with the cluster's disk in it.
#[derive(Debug)]
pub struct InitCluster {
    dir: TempDir,
    program: PathBuf,
    user: Option<u32>,
    nodes: Vec<String>,
    addresses: Vec<String>,
}

impl InitCluster {
    /// Writes the files of `nodes` nodes on addresses that are free now, with the timing profile for tests.
    ///
    /// # Panics
    /// If `phalanx init` fails.
    #[must_use]
    pub fn new(nodes: usize) -> Self {
        Self::of_user(nodes, None)
    }

    /// The same, everything done by the user `nobody`, from a copy of the binary that this user can reach.
    ///
    /// # Panics
    /// If `phalanx init` fails, or this process is not root.
    #[must_use]
    pub fn of_nobody(nodes: usize) -> Self {
        Self::of_user(nodes, Some(NOBODY))
    }

    fn of_user(count: usize, user: Option<u32>) -> Self {
        let host = format!("127.79.{}.{}", std::process::id() >> 8 & 0x7f, (std::process::id() & 0xff).clamp(1, 254));
        let listeners: Vec<TcpListener> =
            (0..count).map(|_| TcpListener::bind((host.as_str(), 0)).expect("a free port")).collect();
        let addresses = listeners.iter().map(|listener| listener.local_addr().expect("bound").to_string()).collect();
        Self::at(addresses, user)
    }

    /// Writes the files of one node for each address.
    ///
    /// # Panics
    /// If `phalanx init` fails.
    #[must_use]
    pub fn at(addresses: Vec<String>, user: Option<u32>) -> Self {
        let dir = tempfile::Builder::new().prefix("phalanx-init-").tempdir().expect("a directory can be made");
        let mut program = phalanx();
        if user.is_some() {
            let copy = dir.path().join("phalanx");
            copy_program(&program, &copy);
            std::os::unix::fs::chown(dir.path(), user, user).expect("the directory can be given away");
            program = copy;
        }
        let nodes: Vec<String> = (0..addresses.len()).map(|index| format!("n{index}")).collect();
        let named: Vec<String> =
            nodes.iter().zip(&addresses).map(|(name, address)| format!("{name}={address}")).collect();
        let cluster = Self { dir, program, user, nodes, addresses };
        let out = cluster.dir().join("alpha");
        let disk = cluster.disk();
        let output = cluster
            .command(&["init", "--name", "alpha", "--timing", "dev", "--nodes", &named.join(",")])
            .arg("--out")
            .arg(&out)
            .arg("--disk")
            .arg(&disk)
            .output()
            .expect("phalanx can be started");
        assert!(output.status.success(), "{output:?}");
        cluster
    }

    fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Where the files are.
    #[must_use]
    pub fn out(&self) -> PathBuf {
        self.dir().join("alpha")
    }

    /// The files stay when the cluster ends. Gives their place.
    pub fn keep_files(&mut self) -> PathBuf {
        self.dir.disable_cleanup(true);
        self.out()
    }

    /// The shared disk.
    #[must_use]
    pub fn disk(&self) -> PathBuf {
        self.dir().join("alpha.disk")
    }

    /// The file of a node.
    #[must_use]
    pub fn config(&self, node: &str) -> PathBuf {
        self.out().join(format!("{node}.toml"))
    }

    /// The address of the node with that index.
    #[must_use]
    pub fn address(&self, index: usize) -> &str {
        &self.addresses[index]
    }

    /// Changes the text of every node's file.
    ///
    /// # Panics
    /// If a file cannot be read or written.
    pub fn edit(&self, change: impl Fn(&str) -> String) {
        for node in &self.nodes {
            let text = std::fs::read_to_string(self.config(node)).expect("init wrote it");
            std::fs::write(self.config(node), change(&text)).expect("it can be written");
        }
    }

    /// Makes the disk: small, so that it can be compared.
    ///
    /// # Panics
    /// If that fails.
    pub fn create_disk(&self) {
        self.create_disk_for(4);
    }

    /// Makes a disk for so many nodes and few services.
    ///
    /// # Panics
    /// If that fails.
    pub fn create_disk_for(&self, nodes_max: usize) {
        let (config, nodes_max) = (self.config("n0").display().to_string(), nodes_max.max(2).to_string());
        let sizes = ["--nodes-max", &nodes_max, "--services-max", "10"];
        let output = self.run(&[&["disk", "create", "--config", &config], &sizes[..]].concat());
        assert!(output.status.success(), "{output:?}");
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        if let Some(user) = self.user {
            command.uid(user).gid(user).env("HOME", self.dir());
        }
        command.args(arguments).stdin(Stdio::null()).env("NO_COLOR", "1").env_remove("PHALANX_SOCKET");
        command
    }

    /// Runs one command against this cluster to its end.
    ///
    /// # Panics
    /// If it cannot be started.
    #[must_use]
    pub fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).arg("--dir").arg(self.out()).output().expect("phalanx can be started")
    }

    /// Starts `phalanx node run` for a node, with `arguments` after it. Its talk goes to a file, or to `talk`.
    ///
    /// # Panics
    /// If it cannot be started.
    #[must_use]
    pub fn start(&self, node: &str, arguments: &[&str], talk: Option<Stdio>) -> NodeProcess {
        let mut command = self.command(&["node", "run", "--config"]);
        command.arg(self.config(node)).args(arguments);
        self.spawn(node, command, talk)
    }

    /// Starts `phalanx node run` for a node with variables in its environment.
    ///
    /// # Panics
    /// If it cannot be started.
    #[must_use]
    pub fn start_with(&self, node: &str, environment: &[(&str, &str)]) -> NodeProcess {
        let mut command = self.command(&["node", "run", "--config"]);
        command.arg(self.config(node)).envs(environment.iter().copied());
        self.spawn(node, command, None)
    }

    /// Starts `phalanx node run` for a node in a network namespace; the environment says which host that is.
    ///
    /// # Panics
    /// If it cannot be started.
    #[must_use]
    pub fn start_in(&self, namespace: &str, node: &str, environment: &[(&str, &str)]) -> NodeProcess {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/run/netns/{namespace}")).arg(&self.program).args(["node", "run", "--config"]);
        command.arg(self.config(node)).stdin(Stdio::null()).env("NO_COLOR", "1").env_remove("PHALANX_SOCKET");
        command.envs(environment.iter().copied());
        self.spawn(node, command, None)
    }

    fn spawn(&self, node: &str, mut command: Command, talk: Option<Stdio>) -> NodeProcess {
        let path = self.out().join(format!("{node}-{}.log", files_below(&self.out()).len()));
        let file = File::create(&path).expect("a log can be made");
        command.stdout(Stdio::null()).stderr(talk.unwrap_or_else(|| file.into()));
        NodeProcess { child: command.spawn().expect("phalanx can be started"), log: path }
    }

    /// Waits until `count` nodes are joined, and gives the status.
    ///
    /// # Panics
    /// If that does not happen in time.
    #[must_use]
    pub fn wait_joined(&self, count: usize) -> Value {
        self.wait_status(&format!("{count} joined nodes"), |status| {
            let joined = list(status, "nodes").iter().filter(|node| node["state"] == "joined").count();
            joined == count && list(status, "transitions").is_empty()
        })
    }

    /// Waits until what a daemon answers satisfies `condition`, and gives it.
    ///
    /// # Panics
    /// If that does not happen in time; the logs are printed.
    pub fn wait_status(&self, what: &str, condition: impl Fn(&Value) -> bool) -> Value {
        let logs = || {
            let all =
                files_below(&self.out()).into_iter().filter(|path| path.extension().is_some_and(|end| end == "log"));
            all.map(|path| format!("--- {}\n{}\n", path.display(), std::fs::read_to_string(&path).unwrap_or_default()))
                .collect::<String>()
        };
        let clock = phalanx_actors::clock::Clock::Boot;
        let begun = clock.now();
        loop {
            let output = self.run(&["status", "--output", "json"]);
            let status: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
            if status["source"] == "daemon" && condition(&status) {
                return status;
            }
            let patient = u128::from(clock.now().since(begun)) < PATIENCE.as_millis();
            assert!(
                patient,
                "no {what}; last status: {status:#}\n{}\n{}",
                String::from_utf8_lossy(&output.stderr),
                logs()
            );
        }
    }
}

/// A `phalanx node run`.
#[derive(Debug)]
pub struct NodeProcess {
    child: Child,
    log: PathBuf,
}

impl NodeProcess {
    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// It has ended.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().is_ok_and(|ended| ended.is_some())
    }

    /// What it has said.
    #[must_use]
    pub fn said(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Waits until it has said `words`.
    ///
    /// # Panics
    /// If it ends before, or does not say them in time.
    pub fn wait_said(&mut self, words: &str) {
        wait_for(&format!("`{words}`"), PATIENCE, || {
            let ended = self.child.try_wait().expect("a child can be waited for");
            let said = self.said();
            assert!(ended.is_none() || said.contains(words), "it ended: {ended:?}\n{said}");
            said.contains(words).then_some(())
        });
    }

    /// SIGTERM: it leaves, or stops waiting.
    pub fn terminate(&self) {
        signal_process(self.child.id(), Signal::TERM);
    }

    /// Waits for its end, and gives its exit code.
    ///
    /// # Panics
    /// If it does not end in time.
    pub fn wait_exit(&mut self) -> Option<i32> {
        let child = &mut self.child;
        wait_for("the end of phalanx node run", PATIENCE, || child.try_wait().expect("a child can be waited for"))
            .code()
    }
}

impl Drop for NodeProcess {
    fn drop(&mut self) {
        // The second SIGTERM kills the containment, so that nothing is left of it; a warden that hangs is killed in the end.
        for attempt in 0..200 {
            if self.child.try_wait().is_ok_and(|ended| ended.is_some()) {
                return;
            }
            signal_process(self.child.id(), if attempt < 100 { Signal::TERM } else { Signal::KILL });
            rustix::event::poll(&mut [], Some(&rustix::event::Timespec { tv_sec: 0, tv_nsec: 50_000_000 })).ok();
        }
    }
}
