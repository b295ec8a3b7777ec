//! A cluster of several hosts: one node in each network namespace, on a disk for direct I/O that all of them open.
//!
//! No node can see or kill the processes of another host, so a fence agent gives the proof of a death: a script of the test, which
//! ends every process of a namespace.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use rustix::process::Signal;
use serde_json::Value;

use crate::init_cluster::{InitCluster, NodeProcess};
use crate::lan::Lan;
use crate::process_cluster::{MachineLock, find, processes_naming, signal_process};

/// A fence agent of the test.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Agent {
    /// Ends every process of the host.
    Good,
    /// Takes a second for it.
    Slow,
    /// Says that it cannot.
    Failing,
    /// Says that it has, and has not.
    Lying,
}

impl Agent {
    const fn name(self) -> &'static str {
        match self {
            Self::Good => "fence_good",
            Self::Slow => "fence_slow",
            Self::Failing => "fence_failing",
            Self::Lying => "fence_lying",
        }
    }

    const fn off(self) -> &'static str {
        match self {
            Self::Good => "off",
            Self::Slow => "sleep 1; off",
            Self::Failing => "echo 'no route to the power switch' >&2; exit 1",
            Self::Lying => "exit 0",
        }
    }

    fn script(self, calls: &str) -> String {
        format!(
            "#!/bin/sh\nwhile IFS='=' read -r name value; do case $name in action) action=$value;; plug) plug=$value;; esac; done\n\
             echo \"{} $action $plug\" >> {calls}\n\
             off() {{\n\
               for attempt in 1 2 3 4 5 6 7 8 9; do\n\
                 pids=$(ip netns pids \"$plug\"); [ -z \"$pids\" ] && exit 0; kill -9 $pids 2>/dev/null\n\
               done\n\
               exit 1\n\
             }}\n\
             case $action in\n\
             off) {};;\n\
             status) [ -z \"$(ip netns pids \"$plug\")\" ] && exit 2; exit 0;;\n\
             esac\n",
            self.name(),
            self.off()
        )
    }
}

/// The cluster. Its service `ticker` writes its generation and its node into a journal every few milliseconds, as long as it lives.
#[derive(Debug)]
pub struct HostCluster {
    /// The links.
    pub lan: Lan,
    cluster: InitCluster,
    nodes: Vec<NodeProcess>,
    _lock: MachineLock,
}

impl HostCluster {
    /// Forms a cluster of so many hosts, each with these fence agents in this order.
    ///
    /// # Panics
    /// If it does not form in time.
    #[must_use]
    pub fn form(count: usize, agents: &[Agent]) -> Self {
        let lock = MachineLock::take();
        let lan = Lan::with_hosts(count);
        let addresses = (0..count).map(|index| format!("{}:7600", Lan::ip(index))).collect();
        let cluster = InitCluster::at(addresses, None);
        let mut formed = Self { lan, cluster, nodes: Vec::new(), _lock: lock };
        formed.install(agents);
        formed.cluster.edit(|text| {
            let direct = text.replace("backend = \"mmap\"", "backend = \"direct\"");
            format!("{direct}\n{}", formed.fencing(count, agents))
        });
        formed.cluster.create_disk();
        for index in 0..count {
            let node = formed.start(index);
            formed.nodes.push(node);
        }
        let _ = formed.cluster.wait_joined(count);
        formed.define_ticker();
        formed
    }

    fn agents(&self) -> PathBuf {
        self.cluster.out().join("agents")
    }

    fn install(&self, agents: &[Agent]) {
        fs::create_dir(self.agents()).expect("a directory can be made");
        let calls = self.agents().join("calls").display().to_string();
        for agent in agents {
            let file = self.agents().join(agent.name());
            fs::write(&file, agent.script(&calls)).expect("written");
            fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).expect("made executable");
        }
    }

    fn fencing(&self, count: usize, agents: &[Agent]) -> String {
        if agents.is_empty() {
            return String::new();
        }
        let names: Vec<String> = agents.iter().map(|agent| format!("\"{}\"", agent.name())).collect();
        let node = |index: usize| {
            let told = |agent: &Agent| {
                format!("agents.{} = {{ plug = \"{}\", power_timeout = 1 }}\n", agent.name(), self.lan.host(index))
            };
            format!("[[fencing.node]]\nname = \"n{index}\"\n{}", agents.iter().map(told).collect::<String>())
        };
        format!("[fencing]\nmethods = [{}]\n{}", names.join(", "), (0..count).map(node).collect::<String>())
    }

    fn start(&self, index: usize) -> NodeProcess {
        let path = std::env::var("PATH").unwrap_or_default();
        let path = format!("{}:{path}", self.agents().display());
        self.cluster.start_in(self.lan.host(index), &format!("n{index}"), &[("PATH", &path)])
    }

    /// Starts the node of a host again, whose last start has ended.
    pub fn start_again(&mut self, index: usize) {
        self.nodes[index] = self.start(index);
    }

    fn journal(&self) -> PathBuf {
        self.cluster.out().join("ticks")
    }

    fn define_ticker(&self) {
        let (file, journal) = (self.cluster.out().join("ticker.txt"), self.journal());
        let service = format!(
            "[[service]]\nname = \"ticker\"\nleaves = \"processes\"\n\
             start_command = \"while :; do echo $PHALANX_GENERATION $PHALANX_NODE >> {}; sleep 0.01; done &\"\n",
            journal.display()
        );
        fs::write(&file, service).expect("written");
        let applied = self.cluster.run(&["service", "apply", &file.display().to_string()]);
        assert!(applied.status.success(), "{applied:?}");
        let _ = self.wait("the ticker", |status| ticker(status).is_some());
    }

    /// Waits until what a daemon answers satisfies `condition`, and gives it.
    ///
    /// # Panics
    /// If that does not happen in time.
    #[must_use]
    pub fn wait(&self, what: &str, condition: impl Fn(&Value) -> bool) -> Value {
        self.cluster.wait_status(what, condition)
    }

    /// Runs a command as an administrator.
    #[must_use]
    pub fn run(&self, arguments: &[&str]) -> std::process::Output {
        self.cluster.run(arguments)
    }

    /// Waits for the end of the node of a host, and gives its exit code.
    ///
    /// # Panics
    /// If it does not end in time.
    pub fn wait_exit(&mut self, index: usize) -> Option<i32> {
        self.nodes[index].wait_exit()
    }

    /// What the node of a host has said.
    #[must_use]
    pub fn said(&self, index: usize) -> String {
        self.nodes[index].said()
    }

    /// Every process of a host ends at once, as when its power is cut.
    pub fn power_off(&self, index: usize) {
        while let processes @ [_, ..] = &self.lan.processes(index)[..] {
            processes.iter().for_each(|pid| signal_process(*pid, Signal::KILL));
        }
    }

    /// Every process of a host is stopped, as when a virtual machine is paused.
    pub fn freeze(&self, index: usize) {
        self.lan.processes(index).iter().for_each(|pid| signal_process(*pid, Signal::STOP));
    }

    /// What the fence agents were told, a line a call.
    #[must_use]
    pub fn agent_calls(&self) -> Vec<String> {
        let text = fs::read_to_string(self.agents().join("calls")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// What was stopped goes on.
    pub fn thaw(&self, index: usize) {
        self.lan.processes(index).iter().for_each(|pid| signal_process(*pid, Signal::CONT));
    }

    /// Ends one process of a host, and what dies with it: the daemon (`node daemon`) or its warden (`node run`).
    pub fn kill(&self, index: usize, role: &str) {
        let here = self.lan.processes(index);
        let is_meant = |(pid, line): &(u32, String)| here.contains(pid) && line.contains(role);
        processes_naming(&self.cluster.config(&format!("n{index}")).display().to_string())
            .iter()
            .filter(|process| is_meant(process))
            .for_each(|(pid, _)| signal_process(*pid, Signal::KILL));
    }

    /// The node of a host has ended, so it may be started again.
    pub fn has_ended(&mut self, index: usize) -> bool {
        self.nodes[index].has_ended()
    }

    /// Defines a service that does nothing; true if the cluster has confirmed it.
    ///
    /// # Panics
    /// If its file cannot be written.
    #[must_use]
    pub fn define(&self, name: &str) -> bool {
        let file = self.cluster.out().join(format!("{name}.txt"));
        let service = format!("[[service]]\nname = \"{name}\"\nleaves = \"processes\"\nstart_command = \"true\"\n");
        fs::write(&file, service).expect("written");
        self.cluster.run(&["service", "apply", &file.display().to_string(), "--no-wait"]).status.success()
    }

    /// The nodes on which the ticker ticked, each stretch of one generation once.
    ///
    /// # Panics
    /// If a generation ticked after a newer one: two instances at the same time.
    #[must_use]
    pub fn ticked(&self) -> Vec<String> {
        let text = fs::read_to_string(self.journal()).unwrap_or_default();
        let mut stretches: Vec<(u64, &str)> = Vec::new();
        for (number, line) in text.lines().enumerate() {
            let (generation, node) = line.split_once(' ').expect("a line has a generation and a node");
            let tick = (generation.parse().expect("a number"), node);
            let newest = stretches.last();
            let follows = newest.is_none_or(|newest| *newest == tick || newest.0 < tick.0);
            assert!(follows, "line {}: {tick:?} ticks after {newest:?} in {}", number + 1, self.journal().display());
            if newest != Some(&tick) {
                stretches.push(tick);
            }
        }
        stretches.into_iter().map(|(_, node)| node.to_owned()).collect()
    }
}

impl Drop for HostCluster {
    fn drop(&mut self) {
        // Whatever a test has left behind on its hosts ends with it, before their namespaces go.
        (0..self.nodes.len()).for_each(|index| self.power_off(index));
    }
}

/// Where the ticker runs, if it does.
#[must_use]
pub fn ticker(status: &Value) -> Option<usize> {
    let service = find(status, "services", "ticker").filter(|service| service["state"] == "registered")?;
    service["node"].as_str()?.strip_prefix('n')?.parse().ok()
}
