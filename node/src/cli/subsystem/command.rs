//! One notification as commands: one after the other for each transition of its batch.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use phalanx_messages::membership::TransitionKind;
use phalanx_messages::subsystem::{ClientLine, Notice, Notified};
use rustix::process::{Pid, PidfdFlags, Signal};

use crate::containment::now;
use crate::subsystem_client::Answers;

/// What every command finds in its environment.
#[derive(Debug)]
pub(super) struct Surroundings {
    pub socket: PathBuf,
    pub cluster: String,
    pub node: String,
    pub subsystem: String,
    pub command: Vec<OsString>,
}

/// How often an abort is looked for, in milliseconds.
const LOOK_MS: i64 = 20;
/// A command that was told to stop is killed after this long, in milliseconds.
const STOP_MS: u64 = 5_000;

/// A notification that is being processed, or waits for it.
#[derive(Debug, Clone)]
pub(super) struct Job {
    told: Arc<Notified>,
    aborted: Arc<AtomicBool>,
    ended: Arc<AtomicBool>,
}

impl Job {
    pub fn new(told: Notified) -> Self {
        Self { told: Arc::new(told), aborted: Arc::default(), ended: Arc::default() }
    }

    pub fn number(&self) -> u64 {
        self.told.number
    }

    pub fn abort(&self) {
        self.aborted.store(true, Ordering::Relaxed);
    }

    pub fn is_ended(&self) -> bool {
        self.ended.load(Ordering::Relaxed)
    }

    fn is_aborted(&self) -> bool {
        self.aborted.load(Ordering::Relaxed)
    }
}

/// Runs the command for each transition, and answers.
pub(super) fn process(job: &Job, surroundings: &Surroundings, answers: &Answers) {
    let number = job.number();
    let failure = job.told.batch.iter().find_map(|notice| run(job, notice, surroundings).err());
    job.ended.store(true, Ordering::Relaxed);
    if job.is_aborted() {
        return; // the answer would count for nobody
    }
    let answer = match failure {
        None => ClientLine::Acknowledged { number },
        Some(text) => {
            anstream::eprintln!("failed: {text}");
            ClientLine::Failed { number, text }
        }
    };
    answers.say(&answer).ok(); // a node that is gone is noticed by the reader
}

fn run(job: &Job, notice: &Notice, surroundings: &Surroundings) -> Result<(), String> {
    if job.is_aborted() {
        return Err("overtaken".to_owned());
    }
    let [program, arguments @ ..] = &surroundings.command[..] else { return Err("no command".to_owned()) };
    let mut command = Command::new(program);
    command.args(arguments).envs(environment(job, notice, surroundings)).stdin(Stdio::null()).process_group(0);
    let child = command.spawn().map_err(|error| format!("failed to run {}: {error}", program.display()))?;
    let status = wait(job, child).map_err(|error| format!("failed to wait for {}: {error}", program.display()))?;
    if status.success() { Ok(()) } else { Err(format!("{}: {status}", program.display())) }
}

fn environment(job: &Job, notice: &Notice, surroundings: &Surroundings) -> Vec<(&'static str, OsString)> {
    let action = match notice.kind {
        TransitionKind::Joining | TransitionKind::JoinExtending => "joining",
        TransitionKind::Leaving => "leaving",
        TransitionKind::ForcedLeaving => "forced-leaving",
    };
    vec![
        ("PHALANX_SOCKET", surroundings.socket.clone().into()),
        ("PHALANX_CLUSTER", surroundings.cluster.clone().into()),
        ("PHALANX_NODE", surroundings.node.clone().into()),
        ("PHALANX_SUBSYSTEM", surroundings.subsystem.clone().into()),
        ("PHALANX_LEVEL", job.told.level.to_string().into()),
        ("PHALANX_ACTION", action.into()),
        ("PHALANX_SUBJECT", notice.node.clone().into()),
        ("PHALANX_SUBJECT_INCARNATION", notice.incarnation.to_string().into()),
        ("PHALANX_TRANSITION", notice.transition.clone().into()),
        ("PHALANX_BARRIER", notice.barrier.to_string().into()),
        ("PHALANX_RESTART", notice.restart.to_string().into()),
    ]
}

/// Waits for the command. If it is overtaken meanwhile it is told to stop, and killed if it does not.
fn wait(job: &Job, mut child: Child) -> std::io::Result<ExitStatus> {
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let ended = pid.and_then(|pid| rustix::process::pidfd_open(pid, PidfdFlags::empty()).ok());
    let mut stopped_at = None;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        if job.is_aborted()
            && let Some(pid) = pid
        {
            let since = *stopped_at.get_or_insert_with(|| {
                rustix::process::kill_process_group(pid, Signal::TERM).ok(); // it may just have ended
                now()
            });
            if now().since(since) >= STOP_MS {
                rustix::process::kill_process_group(pid, Signal::KILL).ok();
            }
        }
        let look = rustix::event::Timespec { tv_sec: 0, tv_nsec: LOOK_MS * 1_000_000 };
        let mut ends: Vec<_> =
            ended.iter().map(|fd| rustix::event::PollFd::new(fd, rustix::event::PollFlags::IN)).collect();
        rustix::event::poll(&mut ends, Some(&look)).ok(); // a signal only ends it early
    }
}
