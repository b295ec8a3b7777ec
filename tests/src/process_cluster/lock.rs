//! One process test at a time on the whole machine, because timing on a loaded machine is noise.

use std::fs::File;
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// The lock of this process, while one of its tests holds it.
static SHARED: Mutex<Weak<MachineLock>> = Mutex::new(Weak::new());

/// Keeps two process tests from running at the same time, on the whole machine.
#[derive(Debug)]
pub struct MachineLock(#[expect(dead_code, reason = "held for its lock")] File);

impl MachineLock {
    /// Waits for the lock.
    ///
    /// # Panics
    /// If the lock file cannot be made.
    #[must_use]
    pub fn take() -> Self {
        let path = std::env::temp_dir().join("phalanx-process-tests.lock");
        let file =
            File::options().create(true).truncate(false).write(true).open(path).expect("the lock file can be made");
        rustix::fs::flock(&file, rustix::fs::FlockOperation::LockExclusive).expect("the lock can be taken");
        Self(file)
    }

    /// The lock for tests that may run beside others of this process: they wait for most of their time.
    ///
    /// # Panics
    /// As [`Self::take`].
    #[must_use]
    pub fn shared() -> Arc<Self> {
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        shared.upgrade().unwrap_or_else(|| {
            let lock = Arc::new(Self::take());
            *shared = Arc::downgrade(&lock);
            lock
        })
    }
}
