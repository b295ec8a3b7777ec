//! Containment by cgroup v2: one directory per start of a node (architecture §4, containment 1).
//!
//! ```text
//! <mount>/<key>/<pid>-<start ticks>/    this start of the node; named in its register's fence handle
//!     warden/  daemon/  cleanup/<n>/  services/<name>/<n>/  subsystems/<name>/<n>/  events/<name>/<n>/
//! ```
//!
//! `<key>` is the same at every start, so the next one finds leftovers; the directory below it is new at every start, so
//! that whoever fences the old one never hits the new one. `<n>` is one launch. No controller is used.

use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use phalanx_messages::Instant;
use phalanx_messages::launch::Owner;
use phalanx_messages::register::ProcessIdentity;
use rustix::event::{PollFd, PollFlags};
use rustix::process::Signal;

use super::process::{self, Process};
use super::timespec;

/// The kernel tells of changes of one file at most every 10 ms, so a waiting reader also looks by itself.
const LOOK_MS: u64 = 1;
/// Directories of one start that hold what the warden kills.
const KILLED: [&str; 5] = ["daemon", "services", "subsystems", "events", "cleanup"];
/// Of those, what is frozen while the lease is lost.
const FROZEN: [&str; 3] = ["services", "subsystems", "events"];

/// The containment of one start of a node.
#[derive(Debug, Clone)]
pub struct NodeCgroup {
    directory: PathBuf,
    former: PathBuf,
}

impl NodeCgroup {
    /// Makes the directory of this start below that of `key` and moves this process into it.
    ///
    /// # Errors
    /// If there is no cgroup v2 in the mount table or this process may not use it.
    pub fn create(key: &str, warden: ProcessIdentity) -> io::Result<Self> {
        let former = own_directory()?;
        let name = format!("{}-{}", warden.pid, warden.start_ticks);
        let mut last = io::Error::from(io::ErrorKind::NotFound);
        for base in bases()? {
            let this = Self { directory: base.join(key).join(&name), former: former.clone() };
            match this.populate() {
                Ok(()) => return Ok(this),
                Err(error) => {
                    remove(&this.directory).ok();
                    fs::remove_dir(base.join(key)).ok();
                    last = error;
                }
            }
        }
        Err(last)
    }

    fn populate(&self) -> io::Result<()> {
        for part in KILLED.iter().chain(&["warden"]) {
            fs::create_dir_all(self.directory.join(part))?;
        }
        fs::metadata(self.directory.join("cgroup.kill"))?; // kernels before 5.14 have none
        enter(&self.directory.join("warden"))
    }

    /// The directory of this start.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Where the daemon belongs.
    #[must_use]
    pub fn daemon(&self) -> PathBuf {
        self.directory.join("daemon")
    }

    /// Everything of one owner.
    #[must_use]
    pub fn owner(&self, owner: &Owner) -> PathBuf {
        owner_directory(&self.directory, owner)
    }

    /// Makes the directory of one launch.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn cell(&self, owner: &Owner, number: u64) -> io::Result<PathBuf> {
        let directory = self.owner(owner).join(number.to_string());
        fs::create_dir_all(&directory)?;
        Ok(directory)
    }

    /// Makes the directory of one clean-up.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn cleanup(&self, number: u64) -> io::Result<PathBuf> {
        let directory = self.directory.join("cleanup").join(number.to_string());
        fs::create_dir_all(&directory)?;
        Ok(directory)
    }

    /// Stops or continues every process of every owner.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn freeze(&self, on: bool) -> io::Result<()> {
        for part in FROZEN {
            fs::write(self.directory.join(part).join("cgroup.freeze"), if on { "1" } else { "0" })?;
        }
        Ok(())
    }

    /// True once nothing of any owner runs.
    ///
    /// # Errors
    /// If the state cannot be read.
    pub fn is_frozen(&self) -> io::Result<bool> {
        for part in FROZEN {
            if !event(&self.directory.join(part), "frozen 1")? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Kills everything but the warden once. `true` = nothing is left.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn kill_all_but_warden(&self) -> io::Result<bool> {
        let mut empty = true;
        for part in KILLED {
            empty &= kill(&self.directory.join(part))?;
        }
        Ok(empty)
    }

    /// Waits at most `timeout_ms` for something to change in what [`Self::kill_all_but_warden`] kills.
    pub fn wait_for_change(&self, timeout_ms: u64) {
        let files: Vec<_> =
            KILLED.iter().flat_map(|part| fs::File::open(self.directory.join(part).join("cgroup.events"))).collect();
        let mut fds: Vec<PollFd<'_>> = files.iter().map(|file| PollFd::new(file, PollFlags::PRI)).collect();
        rustix::event::poll(&mut fds, Some(&timespec(timeout_ms))).ok();
    }

    /// Moves this process back to where it came from and removes the directories.
    ///
    /// # Errors
    /// If something is still in them.
    pub fn dissolve(&self) -> io::Result<()> {
        enter(&self.former)?;
        remove(&self.directory)?;
        if let Some(parent) = self.directory.parent() {
            fs::remove_dir(parent).ok(); // fails while another start of this node uses it
        }
        Ok(())
    }
}

/// Everything of one owner below the directory of a start.
#[must_use]
pub fn owner_directory(start: &Path, owner: &Owner) -> PathBuf {
    match owner {
        Owner::Service(name) => start.join("services").join(file_name(name)),
        Owner::Subsystem(name) => start.join("subsystems").join(file_name(name)),
        Owner::Event(name) => start.join("events").join(file_name(name)),
    }
}

/// A name that no control file has and that stays in its directory.
#[must_use]
pub fn file_name(name: &str) -> String {
    let mut safe = String::new();
    for byte in name.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' => safe.push(char::from(byte)),
            _ => safe += &format!("%{byte:02X}"),
        }
    }
    safe
}

/// Sends a signal to every process in `directory` and below. One that comes in meanwhile may not get it.
///
/// # Errors
/// If a process may not be signalled; the others get the signal all the same.
pub fn signal(directory: &Path, signal: Signal) -> io::Result<()> {
    let mut result = Ok(());
    let opened: Vec<Process> = members(directory)
        .into_iter()
        .filter_map(|pid| Process::open(process::stat(pid).ok()?.identity()).ok()?)
        .collect();
    // Read again after the descriptors were had: a process id that is still here is the one that was opened.
    let still = members(directory);
    for process in opened.iter().filter(|process| still.contains(&process.identity().pid)) {
        result = process.signal(signal).and(result);
    }
    result
}

/// Kills whatever is in `directory` and below. `true` = nothing was left; a directory that is not there is empty.
///
/// # Errors
/// If the kernel refuses.
pub fn kill(directory: &Path) -> io::Result<bool> {
    if !populated(directory)? {
        return Ok(true);
    }
    match fs::write(directory.join("cgroup.kill"), "1") {
        Ok(()) => Ok(!populated(directory)?),
        Err(error) if is_gone(&error) => Ok(true),
        Err(error) => Err(error),
    }
}

/// True while a process lives in `directory` or below.
///
/// # Errors
/// If the state cannot be read.
pub fn populated(directory: &Path) -> io::Result<bool> {
    event(directory, "populated 1")
}

fn event(directory: &Path, line: &str) -> io::Result<bool> {
    match fs::read_to_string(directory.join("cgroup.events")) {
        Ok(text) => Ok(text.lines().any(|found| found == line)),
        Err(error) if is_gone(&error) => Ok(false),
        Err(error) => Err(error),
    }
}

fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(rustix::io::Errno::NODEV.raw_os_error()) // removed while it was open
}

/// Kills whatever is in `directory` and below until nothing is left or `until` has come.
///
/// # Errors
/// Who is still there, or why nothing could be proved.
pub fn kill_and_verify(directory: &Path, until: Instant) -> Result<(), String> {
    loop {
        match kill(directory) {
            Ok(true) => return Ok(()),
            Ok(false) if super::now() < until => wait_for_change(directory),
            Ok(false) => {
                return Err(format!("processes {:?} in {} do not end", members(directory), directory.display()));
            }
            Err(error) => return Err(format!("failed to kill {}: {error}", directory.display())),
        }
    }
}

fn wait_for_change(directory: &Path) {
    let Ok(file) = fs::File::open(directory.join("cgroup.events")) else { return };
    let mut fds = [PollFd::from_borrowed_fd(file.as_fd(), PollFlags::PRI)];
    rustix::event::poll(&mut fds, Some(&timespec(LOOK_MS))).ok();
}

/// Processes in `directory` and below, for messages.
#[must_use]
pub fn members(directory: &Path) -> Vec<u32> {
    let mut pids: Vec<u32> = fs::read_to_string(directory.join("cgroup.procs"))
        .unwrap_or_default()
        .lines()
        .filter_map(|line| line.parse().ok())
        .collect();
    for below in directories(directory) {
        pids.extend(members(&below));
    }
    pids
}

/// Removes `directory` and everything below it. One that is not there is removed.
///
/// # Errors
/// If a process is still in it.
pub fn remove(directory: &Path) -> io::Result<()> {
    for below in directories(directory) {
        remove(&below)?;
    }
    match fs::remove_dir(directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

fn directories(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).map(|entry| entry.path()).collect()
}

/// Kills and removes what earlier starts of `key` left. The caller holds the node-id lock, so none of them lives.
///
/// # Errors
/// What could not be killed.
pub fn kill_leftovers(key: &str, until: Instant) -> Result<(), String> {
    for base in bases().unwrap_or_default() {
        let directory = base.join(key);
        kill_and_verify(&directory, until)?;
        remove(&directory).map_err(|error| format!("failed to remove {}: {error}", directory.display()))?;
    }
    Ok(())
}

/// True if `path` can only be the directory of a start of a node: nothing else may ever be killed at a register's word.
#[must_use]
pub fn is_start_directory(path: &Path) -> bool {
    let key = path.parent().and_then(Path::file_name).is_some_and(|key| key.to_string_lossy().starts_with("phalanx-"));
    let plain = path.components().all(|part| !matches!(part, std::path::Component::ParentDir));
    key && plain && mount_point().is_some_and(|mount| path.starts_with(mount))
}

/// Where a node's directory may be made, best first: at the mount, where the next start finds it from anywhere; else below
/// this process's own directory, if that was delegated.
fn bases() -> io::Result<Vec<PathBuf>> {
    let mount = mount_point().ok_or_else(|| io::Error::other("no cgroup v2 in the mount table"))?;
    let own = own_directory()?;
    Ok(if own == mount { vec![mount] } else { vec![mount, own] })
}

/// Where cgroup v2 is mounted; on hybrid hosts it stands beside v1, not at the usual place.
#[must_use]
pub fn mount_point() -> Option<PathBuf> {
    let table = fs::read_to_string("/proc/self/mounts").ok()?;
    let mut mounts = table.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    let mount = mounts.find(|words| words.get(2) == Some(&"cgroup2"))?;
    mount.get(1).map(|path| PathBuf::from(path.replace("\\040", " ")))
}

/// The directory this process is in.
fn own_directory() -> io::Result<PathBuf> {
    let mount = mount_point().ok_or_else(|| io::Error::other("no cgroup v2 in the mount table"))?;
    let table = fs::read_to_string("/proc/self/cgroup")?;
    let own = table.lines().find_map(|line| line.strip_prefix("0::/"));
    own.map(|path| mount.join(path)).ok_or_else(|| io::Error::other("this process is in no cgroup v2"))
}

fn enter(directory: &Path) -> io::Result<()> {
    fs::write(directory.join("cgroup.procs"), "0")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_services_become_safe_directory_names() {
        assert_eq!(file_name("web-1_a"), "web-1_a");
        assert_eq!(file_name("../cgroup.kill"), "%2E%2E%2Fcgroup%2Ekill");
    }

    #[test]
    fn only_the_directory_of_a_start_may_be_killed() {
        let Some(mount) = mount_point() else {
            eprintln!("skipped: no cgroup v2 in the mount table");
            return;
        };
        assert!(is_start_directory(&mount.join("phalanx-00-11-n2/4711-123")));
        for wrong in ["", "phalanx-00-11-n2", "system.slice/sshd.service", "phalanx-00-11-n2/../../init.scope"] {
            assert!(!is_start_directory(&mount.join(wrong)), "{wrong}");
        }
        assert!(!is_start_directory(Path::new("/tmp/phalanx-00-11-n2/4711-123")));
    }
}
