//! `process`: the process of a pid file, or every process of a name, has ended or is not there.
//!
//! A process that is there is waited for by its descriptor, so its end is known at once. One that was told of is told of again only
//! after it has been there meanwhile.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;
use phalanx_messages::event::Parameters;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use tokio::io::unix::AsyncFd;

use super::{Input, Looks, NoWatch, Watch, number, out, text};

/// Bytes of a pid file or command line that are read.
const READ_BYTES_MAX: usize = 4_096;
/// Bytes of the name of a process that the kernel keeps.
const COMM_BYTES_MAX: usize = 15;

pub(super) struct Process {
    what: What,
    proc: PathBuf,
    looks: Option<Looks>,
    last: i32,
    told: bool,
}

#[derive(Clone)]
enum What {
    PidFile(PathBuf),
    Name(String),
}

impl Process {
    pub fn new(input: Input<'_>, proc: impl Into<PathBuf>) -> Self {
        let what = match input.text("pid_file") {
            Some(path) => What::PidFile(path.into()),
            None => What::Name(input.text("name").unwrap_or_default()),
        };
        Self { what, proc: proc.into(), looks: input.interval().ok().map(Looks::every), last: 0, told: false }
    }

    /// A live process, if there is one. A pid file may lie on a disk that hangs.
    async fn find(&self) -> Option<i32> {
        let (what, proc) = (self.what.clone(), self.proc.clone());
        tokio::task::spawn_blocking(move || match what {
            What::PidFile(path) => pid_in(&path).filter(|pid| is_alive(*pid)),
            What::Name(name) => pid_of(&proc, &name),
        })
        .await
        .ok()
        .flatten()
    }

    fn gone(&mut self) -> Parameters {
        self.told = true;
        let process = match &self.what {
            What::PidFile(path) => path.display().to_string(),
            What::Name(name) => name.clone(),
        };
        out([("pid", number(self.last)), ("process", text(process))])
    }
}

impl Watch for Process {
    fn next(&mut self) -> LocalBoxFuture<'_, Result<Parameters, NoWatch>> {
        async move {
            loop {
                match self.find().await {
                    Some(pid) => {
                        (self.last, self.told) = (pid, false);
                        if let Some(process) = open(pid) {
                            // Readable = ended. A descriptor that can't be waited for is looked at again instead.
                            if let Ok(process) = watched(process) {
                                process.readable().await.ok();
                                continue;
                            }
                        }
                    }
                    None if !self.told => return Ok(self.gone()),
                    None => {}
                }
                match &mut self.looks {
                    Some(looks) => looks.due().await,
                    None => return Err(super::missing("interval")),
                }
            }
        }
        .boxed_local()
    }
}

fn open(pid: i32) -> Option<OwnedFd> {
    pidfd_open(Pid::from_raw(pid)?, PidfdFlags::NONBLOCK).ok()
}

#[expect(
    deprecated,
    reason = "an `OwnedFd` keeps its descriptor for as long as it is registered, which is all that is asked"
)]
fn watched(process: OwnedFd) -> std::io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::new(process)
}

fn read(path: &Path) -> Option<Vec<u8>> {
    use std::io::Read;
    let mut bytes = Vec::new();
    std::fs::File::open(path).ok()?.take(READ_BYTES_MAX as u64).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

fn pid_in(path: &Path) -> Option<i32> {
    String::from_utf8(read(path)?).ok()?.split_whitespace().next()?.parse().ok().filter(|pid| *pid > 0)
}

/// A zombie has ended, only nobody has asked how: its descriptor says so.
fn is_alive(pid: i32) -> bool {
    let Some(process) = open(pid) else { return false };
    let mut ended = [PollFd::new(&process, PollFlags::IN)];
    rustix::event::poll(&mut ended, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })) == Ok(0)
}

/// The lowest pid of a process of that name.
fn pid_of(proc: &Path, name: &str) -> Option<i32> {
    let entries = std::fs::read_dir(proc).ok()?.flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.filter(|pid| is_named(proc, *pid, name) && is_alive(*pid)).min()
}

/// By the file that it was started from, as its command line names it, or by what the kernel calls it.
fn is_named(proc: &Path, pid: i32, name: &str) -> bool {
    let entry = proc.join(pid.to_string());
    let line = read(&entry.join("cmdline")).unwrap_or_default();
    let program = line.split(|byte| *byte == 0).next().unwrap_or_default();
    if program.rsplit(|byte| *byte == b'/').next() == Some(name.as_bytes()) {
        return true;
    }
    let comm = read(&entry.join("comm")).unwrap_or_default();
    name.len() <= COMM_BYTES_MAX && comm.strip_suffix(b"\n").unwrap_or(&comm) == name.as_bytes()
}
