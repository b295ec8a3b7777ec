//! The lock of a node id: held by the warden and its daemon, dies with the last of them (protocol §3.7 step 1).

use std::fs::File;
use std::io;
use std::path::Path;

use rustix::fs::FlockOperation;

use crate::waiting::{Patience, Unmet, wait_for};

/// Takes the lock at `path`, waiting for it if it is held.
///
/// # Errors
/// If the file cannot be opened, or it is held and may not be waited for.
pub fn take(path: &Path, patience: Patience<'_>) -> Result<File, Unmet> {
    let text = |error: io::Error| format!("failed to lock {}: {error}", path.display());
    let file = open(path).map_err(|error| Unmet::Never(text(error)))?;
    let what = format!("the node-id lock {}", path.display());
    wait_for(&what, patience, || match try_lock(&file) {
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
        let held = take(&path, Patience::endless(true)).unwrap();
        assert!(!is_free(&path).unwrap());
        let refused = take(&path, Patience::endless(true)).unwrap_err().text();
        assert!(refused.contains("n0.lock") && refused.contains("holds it"), "{refused}");
        drop(held);
        assert!(is_free(&path).unwrap());
        assert!(is_free(&dir.path().join("n1.lock")).is_err(), "no file is no proof");
    }
}
