//! Starts commands inside the node's containment, and cleans what may outlive their processes.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use phalanx_messages::launch::{LaunchRequest, Owner};

use super::desk::{CellId, CleanUp};
use super::{Kept, WardenSettings};
use crate::containment::cgroup;
use crate::containment::keeper;
use crate::containment::process::{self, Process};
use crate::containment::{now, owner_text, pause};

/// Last bytes of an owner's log that a failure shows.
const TAIL_BYTES: u64 = 600;

/// One running launch.
pub(super) struct Cell {
    pub child: Child,
    pub process: Process,
    /// Without cgroups: where the keeper tells how the command ended.
    pub keeper: Option<UnixStream>,
    /// The command itself has ended; what it left running is still there.
    pub ended: bool,
}

/// `program arguments` as a process that is in `directory` before the program starts.
///
/// A shell enters first, so that neither this process forks by hand nor anything of the program ever runs outside.
pub(super) fn shell_in(directory: &Path, command: &[OsString]) -> Command {
    let mut shell = Command::new("/bin/sh");
    shell.arg("-c").arg("echo 0 > \"$0/cgroup.procs\" && exec \"$@\"").arg(directory).args(command);
    shell
}

/// Starts the command of a launch in a cell of its own.
pub(super) fn start(settings: &WardenSettings, kept: &Kept, cell: CellId, request: &LaunchRequest) -> io::Result<Cell> {
    let title = format!("{}/{}", settings.node_name, owner_text(&request.owner));
    let log = log(settings, &request.owner)?;
    let (mut command, keeper) = match kept {
        Kept::Cgroup(group) => {
            let directory = group.cell(&request.owner, cell.0)?;
            let words = ["/bin/sh", "-c", &request.command, &title].map(OsString::from);
            let mut command = shell_in(&directory, &words);
            // Services get the default score; the warden has lowered its own.
            command.stdin(Stdio::null());
            (command, None)
        }
        Kept::Tree => {
            let (here, there) = UnixStream::pair()?;
            let (program, arguments) = settings.keeper_command.split_first().ok_or(io::ErrorKind::InvalidInput)?;
            let mut command = Command::new(program);
            command.args(arguments).arg(&title).arg(&request.command);
            command.stdin(Stdio::from(std::os::fd::OwnedFd::from(there)));
            here.set_nonblocking(true)?;
            (command, Some(here))
        }
    };
    command.stdout(log.try_clone()?).stderr(log).process_group(0);
    command.envs(request.environment.iter().map(|(key, value)| (key, value)));
    let child = command.spawn()?;
    let identity = process::stat(child.id())?.identity();
    let process = Process::open(identity)?.ok_or_else(|| io::Error::other("the command ended before it was seen"))?;
    Ok(Cell { child, process, keeper, ended: false })
}

fn log(settings: &WardenSettings, owner: &Owner) -> io::Result<File> {
    std::fs::create_dir_all(&settings.log_dir)?;
    File::options().create(true).append(true).open(log_path(settings, owner))
}

fn log_path(settings: &WardenSettings, owner: &Owner) -> std::path::PathBuf {
    let (kind, name) = match owner {
        Owner::Service(name) => ("service", name),
        Owner::Subsystem(name) => ("subsystem", name),
    };
    settings.log_dir.join(format!("{}-{kind}-{}.log", settings.node_name, cgroup::file_name(name)))
}

/// The last lines that the commands of an owner wrote, for the text of a failure.
pub(super) fn last_words(settings: &WardenSettings, owner: &Owner) -> String {
    use std::io::{Read, Seek, SeekFrom};
    let Ok(mut file) = File::open(log_path(settings, owner)) else { return String::new() };
    let length = file.metadata().map_or(0, |metadata| metadata.len());
    let mut bytes = Vec::new();
    let read = file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES))).and_then(|_| file.read_to_end(&mut bytes));
    let text = String::from_utf8_lossy(&bytes);
    let last: Vec<&str> = text.lines().rev().take(3).collect();
    match (read, last.is_empty()) {
        (Ok(_), false) => format!(": {}", last.into_iter().rev().collect::<Vec<_>>().join(" | ")),
        (Ok(_), true) | (Err(_), _) => String::new(),
    }
}

/// Runs the clean-ups of everything that may have outlived its processes, in parallel, within `T_stop`.
///
/// # Errors
/// Whose state may still be there. Then this node may not be called dead.
pub(super) fn clean_up(settings: &WardenSettings, kept: &Kept, clean_ups: &[CleanUp]) -> Result<(), String> {
    let until = now().plus(settings.stop_ms);
    let mut running = Vec::new();
    for (number, clean_up) in clean_ups.iter().enumerate() {
        let owner = owner_text(&clean_up.owner);
        let Some(text) = &clean_up.command else {
            return Err(format!(
                "{owner} may have left state and has no command that cleans it (`stop_command`, `on_panic`)"
            ));
        };
        let started = start_clean_up(settings, kept, number, clean_up, text.as_ref());
        running.push((owner.clone(), started.map_err(|error| format!("clean-up of {owner}: {error}"))?));
    }
    for (owner, mut child) in running {
        loop {
            match child.try_wait() {
                Ok(Some(status)) => match keeper::failure(status) {
                    None => break,
                    Some(how) => return Err(format!("clean-up of {owner} failed: {how}")),
                },
                Ok(None) if now() < until => pause(1),
                Ok(None) => {
                    child.kill().ok();
                    return Err(format!("clean-up of {owner} took longer than {} ms", settings.stop_ms));
                }
                Err(error) => return Err(format!("clean-up of {owner}: {error}")),
            }
        }
    }
    Ok(())
}

fn start_clean_up(
    settings: &WardenSettings,
    kept: &Kept,
    number: usize,
    clean_up: &CleanUp,
    text: &OsStr,
) -> io::Result<Child> {
    let words = [OsStr::new("/bin/sh"), OsStr::new("-c"), text, OsStr::new(&settings.node_name)].map(OsString::from);
    let mut command = match kept {
        Kept::Cgroup(group) => shell_in(&group.cleanup(u64::try_from(number).unwrap_or(u64::MAX))?, &words),
        Kept::Tree => {
            let mut command = Command::new(&words[0]);
            command.args(&words[1..]);
            command
        }
    };
    let log = log(settings, &clean_up.owner)?;
    command.envs(clean_up.environment.iter().map(|(key, value)| (key, value)));
    command.env("PHALANX_ACTION", "clean-up");
    command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).process_group(0).spawn()
}
