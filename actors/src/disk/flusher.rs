//! Flushes volatile writes once a second (protocol §1.3, "What is durable, and when").
//!
//! On a thread of its own: a flush of a slow device must delay neither a commit nor a heartbeat that is waited for. What counts
//! only when it is durable is written so and does not wait for this.

use std::io;
use std::sync::mpsc;
use std::time::Duration;

use phalanx_storage::ClusterDisk;

const PERIOD: Duration = Duration::from_secs(1);

/// Flushes until it is dropped.
pub(super) struct Flusher {
    /// Dropped with it, which ends the thread.
    _alive: mpsc::Sender<()>,
}

impl Flusher {
    /// Starts the thread.
    ///
    /// # Errors
    /// What the system says.
    pub fn start(disk: ClusterDisk) -> io::Result<Self> {
        let (alive, ended) = mpsc::channel::<()>();
        std::thread::Builder::new().name("phalanx-flush".to_owned()).spawn(move || {
            while let Err(mpsc::RecvTimeoutError::Timeout) = ended.recv_timeout(PERIOD) {
                if let Err(error) = disk.flush() {
                    tracing::warn!(%error, "failed to flush the shared disk; what is volatile may not survive this host");
                }
            }
        })?;
        Ok(Self { _alive: alive })
    }
}
