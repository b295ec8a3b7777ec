//! A service that keeps a journal: its starts and stops and, as long as it lives, its ticks, each with the generation and the node.
//!
//! Every process of an instance inherits a lock that its start command has taken. A start that does not get the lock finds a
//! process of another instance alive, whatever the order of the lines is, and says so. That is how two instances at the same time are
//! seen: by the kernel, at the moment of the start, on any of the hosts that share this kernel.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::program::write_program;

/// The journals of the services of a cluster, and the program that all of them run.
#[derive(Debug, Clone)]
pub struct ServiceJournals {
    directory: PathBuf,
}

/// One line.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Line {
    event: String,
    generation: u128,
    node: String,
}

/// An instance that ran: its generation, and its node.
pub type Instance = (u128, String);

/// What a service is, as a shell script. Its argument: the seconds between two ticks.
///
/// A stop returns when nothing of the instance is left. A lock that is held at a start is a fault only while a process has it in its table of descriptors: one that the kernel is just taking
/// down runs no more, and is waited for.
const SERVICE: &str = r#"#!/bin/sh
journal=$JOURNALS/$PHALANX_SERVICE.journal
lock=$JOURNALS/$PHALANX_SERVICE.lock
say() { echo "$1 $PHALANX_GENERATION $PHALANX_NODE" >> "$journal"; }
holders() {
  for descriptor in /proc/[0-9]*/fd/9; do
    process=${descriptor%/fd/9}
    [ "$descriptor" -ef "$lock" ] && [ "$process" != "/proc/$$" ] && echo "$process" && tr '\0' ' ' < "$process/cmdline"
  done
}
case $PHALANX_ACTION in
start)
  exec 9>> "$lock"
  if ! flock -n 9; then
    who=$(holders 9>&-)
    if [ -n "$who" ]; then say overlap; echo "$PHALANX_GENERATION:" $who >> "$lock.holders"; else flock 9; fi
  fi
  say start
  while :; do say tick; sleep "$1"; done &
  echo $! > "$lock.process"
  ;;
stop)
  say stop
  kill "$(cat "$lock.process")"
  exec 9>> "$lock"
  flock 9
  ;;
esac
"#;

impl ServiceJournals {
    /// Journals in a new directory.
    ///
    /// # Panics
    /// If it cannot be made.
    #[must_use]
    pub fn new(directory: PathBuf) -> Self {
        fs::create_dir(&directory).expect("a directory can be made");
        let program = directory.join("service.sh");
        write_program(&program, SERVICE);
        Self { directory }
    }

    /// The command that starts and stops such a service, which ticks that often.
    #[must_use]
    pub fn command(&self, tick_seconds: f32) -> String {
        format!("JOURNALS={0} {0}/service.sh {tick_seconds}", self.directory.display())
    }

    /// The journal of a service.
    #[must_use]
    pub fn path(&self, service: &str) -> PathBuf {
        self.directory.join(format!("{service}.journal"))
    }

    /// The instances of a service in their order, and whether one ran at the same time as another.
    ///
    /// # Errors
    /// The line at which two instances lived, or a generation went back, with whoever held the lock.
    pub fn instances(&self, service: &str) -> Result<Vec<Instance>, String> {
        let path = self.path(service);
        let text = fs::read_to_string(&path).unwrap_or_default();
        instances(&text).map_err(|why| {
            let holders = self.directory.join(format!("{service}.lock.holders"));
            format!("{}: {why}\n{}", path.display(), fs::read_to_string(holders).unwrap_or_default())
        })
    }

    /// How often it has ticked.
    #[must_use]
    pub fn ticks(&self, service: &str) -> usize {
        let text = fs::read_to_string(self.path(service)).unwrap_or_default();
        text.lines().filter(|line| line.starts_with("tick ")).count()
    }

    /// The node of the newest tick of a service.
    #[must_use]
    pub fn newest_tick(&self, service: &str) -> Option<String> {
        let text = fs::read_to_string(self.path(service)).ok()?;
        text.lines().rev().filter_map(line).find(|line| line.event == "tick").map(|line| line.node)
    }

    /// The instances of a service that live now on this kernel, as the environment of their processes says.
    #[must_use]
    pub fn living(&self, service: &str) -> Vec<Instance> {
        let found: BTreeSet<Instance> = self.processes(service).into_iter().map(|(_, instance)| instance).collect();
        found.into_iter().collect()
    }

    /// The processes that the starts of a service have left running.
    fn processes(&self, service: &str) -> Vec<(u32, Instance)> {
        let directory = self.directory.display().to_string();
        let of = |process: &Path| {
            let pid = process.file_name()?.to_str()?.parse().ok()?;
            let environment = String::from_utf8_lossy(&fs::read(process.join("environ")).ok()?).into_owned();
            let value = |name: &str| {
                let mut variables = environment.split('\0').filter_map(|variable| variable.split_once('='));
                variables.find(|(known, _)| *known == name).map(|(_, value)| value)
            };
            let is_meant = value("JOURNALS")? == directory && value("PHALANX_SERVICE")? == service;
            (is_meant && value("PHALANX_ACTION")? == "start").then_some(())?;
            Some((pid, (value("PHALANX_GENERATION")?.parse().ok()?, value("PHALANX_NODE")?.to_owned())))
        };
        fs::read_dir("/proc").into_iter().flatten().flatten().filter_map(|entry| of(&entry.path())).collect()
    }
}

fn line(text: &str) -> Option<Line> {
    let mut words = text.split(' ').map(str::to_owned);
    let (event, generation, node) = (words.next()?, words.next()?.parse().ok()?, words.next()?);
    words.next().is_none().then_some(Line { event, generation, node })
}

fn instances(journal: &str) -> Result<Vec<Instance>, String> {
    let mut instances: Vec<Instance> = Vec::new();
    for (number, text) in journal.lines().enumerate() {
        let at = |what: &str| format!("line {}, `{text}`: {what}", number + 1);
        let Line { event, generation, node } = line(text).ok_or_else(|| at("no line of a service"))?;
        if event == "overlap" {
            return Err(at("a process of another instance lives"));
        }
        match instances.last() {
            Some((newest, _)) if generation < *newest => return Err(at(&format!("after generation {newest}"))),
            Some((newest, there)) if generation == *newest && node != *there => {
                return Err(at(&format!("the same generation ran on {there}")));
            }
            Some((newest, _)) if generation == *newest => {}
            Some(_) | None => {
                if event != "start" {
                    return Err(at("it was not started"));
                }
                instances.push((generation, node));
            }
        }
    }
    Ok(instances)
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use rustix::process::Signal;

    use super::*;
    use crate::process_cluster::signal_process;

    fn of(nodes: &[(u128, &str)]) -> Vec<Instance> {
        nodes.iter().map(|(generation, node)| (*generation, (*node).to_owned())).collect()
    }

    #[test]
    fn a_journal_tells_which_instances_ran_and_refuses_two_at_the_same_time() {
        let moved = "start 7 n0\ntick 7 n0\nstop 7 n0\nstart 9 n1\ntick 9 n1\n";
        assert_eq!(instances(moved), Ok(of(&[(7, "n0"), (9, "n1")])));
        let refused = |more: &str| instances(&format!("{moved}{more}\n")).unwrap_err();
        assert!(refused("tick 7 n0").contains("line 6, `tick 7 n0`: after generation 9"));
        assert!(refused("start 8 n2").contains("after generation 9"));
        assert!(refused("tick 9 n0").contains("the same generation ran on n1"));
        assert!(refused("overlap 10 n0").contains("another instance lives"));
        assert!(refused("tick 10 n0").contains("it was not started"));
        assert!(refused("tick").contains("no line of a service"));
    }

    /// Runs the script as a warden would.
    fn run(journals: &ServiceJournals, action: &str, generation: u32, node: &str) -> Command {
        let mut command = Command::new("/bin/sh");
        command.arg("-c").arg(journals.command(0.01)).env("PHALANX_SERVICE", "web").env("PHALANX_ACTION", action);
        command
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .env("PHALANX_GENERATION", generation.to_string())
            .env("PHALANX_NODE", node)
            .stdin(Stdio::null());
        command
    }

    /// Kills what a test has started, however it ends.
    struct Killed<'a>(&'a ServiceJournals);

    impl Killed<'_> {
        fn signal(&self, generation: u128, signal: Signal) {
            let processes = self.0.processes("web").into_iter().filter(|(_, instance)| instance.0 == generation);
            processes.for_each(|(pid, _)| signal_process(pid, signal));
        }

        fn kill(&self, generation: u128) {
            while self.0.living("web").iter().any(|instance| instance.0 == generation) {
                self.signal(generation, Signal::KILL);
            }
        }
    }

    impl Drop for Killed<'_> {
        fn drop(&mut self) {
            (0..9).for_each(|generation| self.kill(generation));
        }
    }

    #[test]
    fn a_start_beside_a_living_process_is_an_overlap_whatever_the_journal_says() {
        let dir = tempfile::tempdir().unwrap();
        let journals = ServiceJournals::new(dir.path().join("journals"));
        let processes = Killed(&journals);
        assert!(run(&journals, "start", 1, "n0").status().unwrap().success());
        assert_eq!(journals.living("web"), of(&[(1, "n0")]));
        // One that ends is no overlap for the next one, which may come at once.
        processes.kill(1);
        assert!(run(&journals, "start", 2, "n1").status().unwrap().success());
        assert_eq!(journals.instances("web"), Ok(of(&[(1, "n0"), (2, "n1")])));
        // One that was stopped is gone when the stop command returns.
        assert!(run(&journals, "stop", 2, "n1").status().unwrap().success());
        assert_eq!(journals.living("web"), []);
        assert!(run(&journals, "start", 3, "n0").status().unwrap().success());
        assert_eq!(journals.instances("web"), Ok(of(&[(1, "n0"), (2, "n1"), (3, "n0")])));
        // One that is frozen writes nothing, and lives.
        processes.signal(3, Signal::STOP);
        assert!(run(&journals, "start", 4, "n2").status().unwrap().success());
        let found = journals.instances("web").unwrap_err();
        assert!(found.contains("overlap 4 n2") && found.contains("service.sh"), "{found}");
    }
}
