//! The lock of a node id: held by the warden and its daemon, dies with the last of them (protocol §3.7 step 1).

use std::fs::File;
use std::io;
use std::path::Path;

use rustix::fs::FlockOperation;

use crate::containment::{now, pause};

/// Between two attempts.
const RETRY_MS: u64 = 50;
/// Between two lines while waiting.
const LINE_MS: u64 = 30_000;

/// Asks `probe` until it gives something, with one line when waiting starts, every 30 s, and when it ends
/// (architecture §4, "Start and stop"). `no_wait` gives up at once.
///
/// # Errors
/// What `probe` fails with, or, with `no_wait`, what would have been waited for. `Ok(Err(why))` of `probe` means: not yet.
pub fn wait_for<T>(
    what: &str,
    no_wait: bool,
    mut probe: impl FnMut() -> Result<Result<T, String>, String>,
) -> Result<T, String> {
    let begun = now();
    let mut lines = 0;
    loop {
        let why = match probe()? {
            Ok(value) => {
                if lines > 0 {
                    eprintln!("{what}: here after {} ms", now().since(begun));
                }
                return Ok(value);
            }
            Err(why) if no_wait => return Err(format!("{what}: {why}")),
            Err(why) => why,
        };
        if now().since(begun) >= lines * LINE_MS {
            lines += 1;
            eprintln!("waiting for {what}: {why}");
        }
        pause(RETRY_MS);
    }
}

/// Takes the lock at `path`, waiting for it if it is held.
///
/// # Errors
/// If the file cannot be opened, or it is held and `no_wait` is set.
pub fn take(path: &Path, no_wait: bool) -> Result<File, String> {
    let text = |error: io::Error| format!("failed to lock {}: {error}", path.display());
    let file = open(path).map_err(text)?;
    let what = format!("the node-id lock {}", path.display());
    wait_for(&what, no_wait, || match try_lock(&file) {
        Ok(true) => Ok(Ok(())),
        Ok(false) => Ok(Err("another process of this node holds it".to_owned())),
        Err(error) => Err(text(error)),
    })?;
    Ok(file)
}

/// True if nobody holds the lock at `path`, so that warden and daemon of that node are dead.
///
/// # Errors
/// If that cannot be found out. A file that is not there is an error: it proves nothing.
pub fn is_free(path: &Path) -> io::Result<bool> {
    let file = File::options().read(true).open(path)?;
    try_lock(&file) // released when the file is closed, right now
}

fn open(path: &Path) -> io::Result<File> {
    File::options().create(true).truncate(false).read(true).write(true).open(path)
}

fn try_lock(file: &File) -> io::Result<bool> {
    match rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(true),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_held_lock_is_refused_without_wait_and_free_when_it_is_dropped() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("n0.lock");
        let held = take(&path, true).unwrap();
        assert!(!is_free(&path).unwrap());
        let refused = take(&path, true).unwrap_err();
        assert!(refused.contains("n0.lock") && refused.contains("holds it"), "{refused}");
        drop(held);
        assert!(is_free(&path).unwrap());
        assert!(is_free(&dir.path().join("n1.lock")).is_err(), "no file is no proof");
    }
}
