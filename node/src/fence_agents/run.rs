//! One run of an agent, bounded in time and in what is kept of its words.

use std::io::{Read as _, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use phalanx_messages::Instant;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};

use crate::containment::{now, timespec};

/// What is kept of an agent's words, in bytes.
const SAID_BYTES_MAX: usize = 4_096;
/// Whoever inherited the agent's output may hold it open; so long is waited for its end.
const LAST_WORDS: Duration = Duration::from_millis(100);

/// How a run has ended.
#[derive(Debug)]
pub(super) struct Ended {
    /// The exit status, 128 and more for a signal; none if it took too long.
    pub status: Option<i32>,
    /// The last line that it wrote.
    pub said: String,
}

/// Runs an agent; it and what it started are killed at `until`.
pub(super) fn run(program: &Path, input: &str, until: Instant) -> Result<Ended, String> {
    let failed =
        |what: &'static str| move |error: std::io::Error| format!("failed to {what} {}: {error}", program.display());
    let (mut output, writer) = std::io::pipe().map_err(failed("make a pipe for"))?;
    let second = writer.try_clone().map_err(failed("make a pipe for"))?;
    let mut command = Command::new(program);
    command.stdin(Stdio::piped()).stdout(writer).stderr(second).process_group(0);
    let mut child = command.spawn().map_err(failed("run"))?;
    drop(command); // it holds the pipe's other end
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(input.as_bytes()).ok(); // an agent that does not listen says why
    }
    let (words, said) = mpsc::channel();
    std::thread::spawn(move || {
        let mut last = Vec::new();
        let mut chunk = [0; 1_024];
        while let Ok(read @ 1..) = output.read(&mut chunk) {
            last.extend_from_slice(&chunk[..read]);
            let excess = last.len().saturating_sub(SAID_BYTES_MAX);
            last.drain(..excess);
            if words.send(last.clone()).is_err() {
                return;
            }
        }
    });
    let status = wait(&mut child, until).map_err(failed("wait for"))?;
    let mut last = Vec::new();
    while let Ok(words) = said.recv_timeout(LAST_WORDS) {
        last = words;
    }
    let text = String::from_utf8_lossy(&last);
    let line = text.lines().rev().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default();
    Ok(Ended { status, said: line.to_owned() })
}

/// Exit status; none if it had to be killed.
fn wait(child: &mut Child, until: Instant) -> std::io::Result<Option<i32>> {
    use std::os::unix::process::ExitStatusExt as _;
    let Some(pid) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) else { return Ok(None) };
    let pidfd = pidfd_open(pid, PidfdFlags::empty())?;
    loop {
        if let Some(status) = child.try_wait()? {
            kill_process_group(pid, Signal::KILL).ok(); // what it left behind
            return Ok(Some(status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0))));
        }
        let left_ms = until.since(now());
        if left_ms == 0 {
            kill_process_group(pid, Signal::KILL).ok();
            child.wait()?;
            return Ok(None);
        }
        poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&timespec(left_ms))).ok(); // a signal only ends it early
    }
}
