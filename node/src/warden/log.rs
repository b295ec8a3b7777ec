//! The output of an owner's commands: a file each, from which a failure tells the last lines.
//!
//! Commands write it themselves; the warden never waits for a disk to take their output.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use phalanx_messages::launch::Owner;

use crate::containment::cgroup;

/// A log is put aside when a launch finds it larger than this.
const LOG_BYTES_MAX: u64 = 1024 * 1024;
/// Bytes of a failed command's last output that are looked at, and lines that are told.
const TAIL_BYTES: u64 = 2_048;
const TAIL_LINES: usize = 5;

/// Name of the file with an owner's output.
#[must_use]
pub fn command_log(owner: &Owner) -> String {
    match owner {
        Owner::Service(name) => format!("service-{}.log", cgroup::file_name(name)),
        Owner::Subsystem(name) => format!("subsystem-{}.log", cgroup::file_name(name)),
        Owner::Event(name) => format!("event-{}.log", cgroup::file_name(name)),
    }
}

/// Files with the output of an event's action functions for services: `EVENT@LANE`. No name has an `@`.
fn logs_of_lanes(directory: &Path, event: &str) -> Vec<PathBuf> {
    let begin = format!("event-{}", cgroup::file_name(&format!("{event}@")));
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let of_event = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(&begin));
    of_event.map(|entry| entry.path()).collect()
}

/// An owner's output, and where this launch's part of it begins.
#[derive(Debug)]
pub struct Log {
    file: Option<File>,
    begin: u64,
}

impl Log {
    /// Without a file, output goes nowhere: a full disk never keeps a service from being stopped.
    pub fn open(directory: &Path, owner: &Owner) -> Self {
        let path = directory.join(command_log(owner));
        if std::fs::metadata(&path).is_ok_and(|data| data.len() > LOG_BYTES_MAX) {
            std::fs::rename(&path, path.with_extension("log.1")).ok();
        }
        let file = File::options().create(true).append(true).read(true).open(&path).ok();
        let begin = file.as_ref().and_then(|file| file.metadata().ok()).map_or(0, |data| data.len());
        Self { file, begin }
    }

    /// Removes what was kept of an owner; of an event also what was kept for each service that it was watched for.
    pub fn remove(directory: &Path, owner: &Owner) {
        let path = directory.join(command_log(owner));
        let lanes = match owner {
            Owner::Event(name) => logs_of_lanes(directory, name),
            Owner::Service(_) | Owner::Subsystem(_) => Vec::new(),
        };
        for path in [path.with_extension("log.1"), path].into_iter().chain(lanes) {
            std::fs::remove_file(path).ok(); // it may never have said anything
        }
    }

    /// Where a process writes.
    pub fn output(&self) -> Stdio {
        self.file.as_ref().and_then(|file| file.try_clone().ok()).map_or_else(Stdio::null, Stdio::from)
    }

    /// The last lines since it was opened, for a failure's text.
    pub fn tail(&self) -> String {
        let Some(mut file) = self.file.as_ref() else { return String::new() };
        let end = file.metadata().map_or(0, |data| data.len());
        let begin = self.begin.max(end.saturating_sub(TAIL_BYTES));
        let mut bytes = Vec::new();
        if file.seek(SeekFrom::Start(begin)).is_err() || file.take(TAIL_BYTES).read_to_end(&mut bytes).is_err() {
            return String::new();
        }
        let text = String::from_utf8_lossy(&bytes);
        let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
        let last = lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n");
        if last.is_empty() { last } else { format!(": {last}") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_of_an_event_goes_with_what_is_kept_for_each_of_its_services() {
        let directory = tempfile::tempdir().unwrap();
        let event = |name: &str| Owner::Event(name.to_owned());
        let names = ["full", "full@web", "full@cache@2", "fuller", "fuller@web", "monitor:full", "health:full"];
        for name in names {
            std::fs::write(directory.path().join(command_log(&event(name))), "said").unwrap();
        }
        let aside = directory.path().join(command_log(&event("full@web"))).with_extension("log.1");
        std::fs::write(aside, "said before").unwrap();
        std::fs::write(directory.path().join(command_log(&Owner::Service("full".to_owned()))), "said").unwrap();
        Log::remove(directory.path(), &event("full"));
        let mut left: Vec<String> = std::fs::read_dir(directory.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        left.sort();
        let mut kept = ["fuller", "fuller@web", "health:full", "monitor:full"].map(|name| command_log(&event(name)));
        kept.sort();
        assert_eq!(left[..4], kept);
        assert_eq!(left[4..], ["service-full.log"]);
    }
}
