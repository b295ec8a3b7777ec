//! Fence methods F1 and F2: a `fence_*` agent shuts a node out of its storage, or switches its host off, and sees that it is (protocol
//! §4.5).
//!
//! Agents of the fence-agents project run unmodified: they read `name=value` lines from standard input, and `action=status` ends with
//! 0 for on and 2 for off. `off` is never believed without such a `status`. An agent that takes too long has failed, and is
//! killed with all its processes.

mod run;
mod secrets;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use actix::prelude::*;
use phalanx_actors::ports::RunFenceAgent;
use phalanx_messages::configuration::FenceAgent;
use phalanx_messages::membership::Certainty;
use tokio::sync::oneshot;

use crate::containment::{now, pause};
use run::{Ended, run};

/// Directory with the secrets of the agents, beside the node's configuration file.
pub const SECRETS_DIRECTORY: &str = "fence.d";

/// `off` and `status` together may take this long, in milliseconds.
const TIMEOUT_MS: u64 = 60_000;
/// The agents' own parameter for how long after `off` a host may still be on, in seconds, and their default.
const POWER_TIMEOUT: &str = "power_timeout";
const POWER_TIMEOUT_S: u64 = 20;
/// Pause between two looks at a host that is still on, in milliseconds.
const LOOK_AGAIN_MS: u64 = 250;
/// Where agents are looked for besides `PATH`.
const DIRECTORIES: [&str; 3] = ["/usr/local/sbin", "/usr/sbin", "/sbin"];

const STATUS_ON: i32 = 0;
const STATUS_OFF: i32 = 2;

/// Runs agents, each on a thread of its own.
#[derive(Debug, Clone)]
pub struct FenceAgents {
    secrets: PathBuf,
    timeout_ms: u64,
}

impl FenceAgents {
    /// `file` is the node's configuration file.
    #[must_use]
    pub fn beside(file: &Path) -> Self {
        Self { secrets: file.with_file_name(SECRETS_DIRECTORY), timeout_ms: TIMEOUT_MS }
    }
}

impl Actor for FenceAgents {
    type Context = Context<Self>;
}

impl Handler<RunFenceAgent> for FenceAgents {
    type Result = ResponseFuture<Result<(), String>>;

    fn handle(&mut self, RunFenceAgent { node, agent }: RunFenceAgent, _: &mut Self::Context) -> Self::Result {
        let (answer, answered) = oneshot::channel();
        let agents = self.clone();
        let spawned = std::thread::Builder::new().name(format!("fence-{node}")).spawn(move || {
            answer.send(agents.switch_off(&node, &agent)).ok(); // nobody waits any more
        });
        Box::pin(async move {
            spawned.map_err(|error| format!("failed to start a thread: {error}"))?;
            answered.await.unwrap_or_else(|_| Err("the fence thread has ended".to_owned()))
        })
    }
}

impl FenceAgents {
    /// What those of a node's agents that shut it out of the storage have taken away is given back to it by their `on`, which is run
    /// by the node itself when it starts and nothing of an earlier start can write any more (protocol §3.7).
    ///
    /// # Errors
    /// What an agent said that did not.
    pub fn let_back_in(&self, node: &str, agents: &[FenceAgent]) -> Result<(), String> {
        for agent in agents.iter().filter(|agent| agent.proves == Certainty::Io) {
            let (program, parameters) = self.prepare(node, agent)?;
            let on = run(&program, &input(&parameters, "on"), now().plus(self.timeout_ms))?;
            if on.status != Some(0) {
                return Err(on.failure(&agent.agent, "on"));
            }
        }
        Ok(())
    }

    /// The agent's program, and everything that it is told but the action.
    fn prepare(&self, node: &str, agent: &FenceAgent) -> Result<(PathBuf, BTreeMap<String, String>), String> {
        let name = &agent.agent;
        let program = find(name, std::env::var_os("PATH").as_deref())
            .ok_or_else(|| format!("{name} is not installed on this host: it is neither in PATH nor in /usr/sbin"))?;
        let mut parameters = agent.parameters.clone();
        parameters.extend(secrets::load(&self.secrets.join(format!("{node}.toml")), name)?);
        parameters.insert("nodename".to_owned(), node.to_owned());
        Ok((program, parameters))
    }

    /// Switches the host off, and looks until it is off.
    fn switch_off(&self, node: &str, agent: &FenceAgent) -> Result<(), String> {
        let until = now().plus(self.timeout_ms);
        let name = &agent.agent;
        let (program, parameters) = self.prepare(node, agent)?;
        let act = |action: &str, until| run(&program, &input(&parameters, action), until);
        let off = act("off", until)?;
        if off.status != Some(0) {
            return Err(off.failure(name, "off"));
        }
        let patience_s = parameters.get(POWER_TIMEOUT).and_then(|text| text.parse().ok()).unwrap_or(POWER_TIMEOUT_S);
        let is_off_until = until.min(now().plus(patience_s * 1_000));
        loop {
            let status = act("status", until)?;
            match status.status {
                Some(STATUS_OFF) => return Ok(()),
                Some(STATUS_ON) if now() < is_off_until => pause(LOOK_AGAIN_MS),
                Some(STATUS_ON) => return Err(format!("{name} says that the host is still on after `off`")),
                _ => return Err(status.failure(name, "status")),
            }
        }
    }
}

/// Whether this host has an agent of that name.
#[must_use]
pub fn is_installed(agent: &str) -> bool {
    find(agent, std::env::var_os("PATH").as_deref()).is_some()
}

/// Where an agent is installed.
fn find(name: &str, path: Option<&std::ffi::OsStr>) -> Option<PathBuf> {
    let in_path = path.map(std::env::split_paths).into_iter().flatten();
    let directories = in_path.chain(DIRECTORIES.iter().map(PathBuf::from));
    directories.map(|directory| directory.join(name)).find(|file| file.is_file())
}

/// What an agent reads.
fn input(parameters: &BTreeMap<String, String>, action: &str) -> String {
    let given = parameters.iter().filter(|(name, _)| *name != "action");
    let lines: String = given.map(|(name, value)| format!("{name}={value}\n")).collect();
    format!("action={action}\n{lines}")
}

impl Ended {
    fn failure(&self, agent: &str, action: &str) -> String {
        let how = match self.status {
            None => "took too long and was killed".to_owned(),
            Some(status) => format!("ended with status {status}"),
        };
        let said = if self.said.is_empty() { String::new() } else { format!(": {}", self.said) };
        format!("{agent} `{action}` {how}{said}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;
    use std::process::Command;

    /// A host that is a file: `on` or `off`.
    struct Rig {
        directory: tempfile::TempDir,
        agents: FenceAgents,
    }

    impl Rig {
        /// `body` is what the agent does once `action` and the other parameters are variables.
        fn new(body: &str) -> Self {
            let directory = tempfile::tempdir().unwrap();
            let script = format!(
                "#!/bin/sh\ncd {}\nwhile IFS='=' read -r name value; do eval \"$name=\\$value\"; done\n\
                 echo \"$action $nodename ${{passwd-none}} ${{plug-none}}\" >> calls\n{body}\n",
                directory.path().display()
            );
            let (text, agent) = (directory.path().join("text"), directory.path().join("fence_test"));
            fs::write(&text, script).unwrap();
            // Another process writes what will be run: a command that another test starts meanwhile would inherit our
            // open file for a moment, and no program may be run that somebody has open for writing.
            let installed = Command::new("install").args(["-m", "755"]).args([&text, &agent]).status().unwrap();
            assert!(installed.success());
            fs::write(directory.path().join("host"), "on").unwrap();
            let secrets = directory.path().join(SECRETS_DIRECTORY);
            fs::create_dir(&secrets).unwrap();
            Self { agents: FenceAgents { secrets, timeout_ms: 5_000 }, directory }
        }

        fn switch_off(&self) -> Result<(), String> {
            let agent = self.directory.path().join("fence_test").display().to_string();
            let parameters = [("plug", "7"), (POWER_TIMEOUT, "1")];
            let parameters = parameters.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
            self.agents.switch_off("n1", &FenceAgent { parameters, ..FenceAgent::new(agent) })
        }

        fn calls(&self) -> Vec<String> {
            let text = fs::read_to_string(self.directory.path().join("calls")).unwrap();
            text.lines().map(str::to_owned).collect()
        }

        fn secret(&self, text: &str, mode: u32) {
            let file = self.agents.secrets.join("n1.toml");
            fs::write(&file, text).unwrap();
            fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
        }
    }

    const HONEST: &str = "case $action in off) echo off > host;; status) grep -q on host && exit 0; exit 2;; esac";

    #[test]
    fn off_is_believed_when_status_has_seen_it() {
        let rig = Rig::new(HONEST);
        assert_eq!(rig.switch_off(), Ok(()));
        assert_eq!(rig.calls(), ["off n1 none 7", "status n1 none 7"]);
    }

    #[test]
    fn an_agent_that_lies_about_off_is_found_out() {
        let rig = Rig::new("case $action in off) exit 0;; status) exit 0;; esac");
        let failure = rig.switch_off().unwrap_err();
        assert!(failure.contains("still on"), "{failure}");
    }

    #[test]
    fn a_host_that_takes_a_while_to_go_off_is_looked_at_again() {
        let rig = Rig::new("case $action in status) [ -e seen ] && exit 2; touch seen; exit 0;; esac");
        assert_eq!(rig.switch_off(), Ok(()));
        assert_eq!(rig.calls().len(), 3);
    }

    #[test]
    fn what_a_failing_agent_said_last_is_kept() {
        let rig = Rig::new("echo connecting; echo 'no route to host' >&2; exit 1");
        let failure = rig.switch_off().unwrap_err();
        assert!(failure.ends_with("`off` ended with status 1: no route to host"), "{failure}");
    }

    #[test]
    fn an_agent_that_takes_too_long_has_failed_and_is_killed_with_what_it_started() {
        let rig = Rig::new("sleep 1000 & echo $! > child; wait");
        let failure = rig.switch_off().unwrap_err();
        assert!(failure.contains("`off` took too long and was killed"), "{failure}");
        let child: u32 = fs::read_to_string(rig.directory.path().join("child")).unwrap().trim().parse().unwrap();
        let until = now().plus(5_000);
        let lives = || crate::containment::process::stat(child).is_ok_and(|stat| stat.state != b'Z');
        while lives() && now() < until {
            pause(5);
        }
        assert!(!lives());
    }

    #[test]
    fn secrets_come_from_a_file_that_only_its_owner_can_read() {
        let rig = Rig::new(HONEST);
        let agent = rig.directory.path().join("fence_test").display().to_string();
        rig.secret(&format!("[\"{agent}\"]\npasswd = \"hush\"\n"), 0o600);
        assert_eq!(rig.switch_off(), Ok(()));
        assert_eq!(rig.calls()[0], "off n1 hush 7");
        rig.secret("", 0o640);
        let failure = rig.switch_off().unwrap_err();
        assert!(failure.contains("chmod 600"), "{failure}");
    }

    /// Unfencing: only what shuts out of the storage is asked, and a refusal keeps the node from starting.
    #[test]
    fn a_node_that_starts_is_let_back_into_its_storage() {
        let rig = Rig::new("[ -e refuse ] && exit 1; exit 0");
        let name = rig.directory.path().join("fence_test").display().to_string();
        let power = FenceAgent::new("fence_nowhere");
        let storage = FenceAgent { proves: Certainty::Io, ..FenceAgent::new(name) };
        assert_eq!(rig.agents.let_back_in("n1", &[power, storage.clone()]), Ok(()));
        assert_eq!(rig.calls(), ["on n1 none none"]);
        fs::write(rig.directory.path().join("refuse"), "").unwrap();
        assert!(rig.agents.let_back_in("n1", &[storage]).unwrap_err().contains("`on` ended with status 1"));
    }

    #[test]
    fn an_agent_that_is_not_installed_is_named() {
        let rig = Rig::new("");
        let agent = FenceAgent::new("fence_nowhere");
        let failure = rig.agents.switch_off("n1", &agent).unwrap_err();
        assert!(failure.contains("fence_nowhere is not installed"), "{failure}");
    }
}
