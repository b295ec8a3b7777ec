//! What the warden is told when it starts.

use std::ffi::OsString;
use std::path::PathBuf;

use phalanx_messages::configuration::PanicPolicy;
use phalanx_messages::register::FenceHandle;

use crate::containment::ContainmentChoice;
use crate::watchdog::Disarm;

/// Resets the host at once, or crashes it for a dump.
pub const SYSRQ: &str = "/proc/sysrq-trigger";

/// Everything [`crate::warden::run`] needs.
pub struct WardenSettings {
    /// Name of this node, shown in the command line of its processes.
    pub node_name: String,
    /// [`crate::containment::containment_key`].
    pub containment_key: String,
    /// Which containment is wanted.
    pub containment: ContainmentChoice,
    /// The lock of this node id, one file on this host for one node of one disk.
    pub id_lock: PathBuf,
    /// Fail instead of waiting for the lock.
    pub no_wait: bool,
    /// Where the output of services and subsystems goes, a file each.
    pub log_dir: PathBuf,
    /// The daemon's command line. Its stdin is the socket to the warden; stdout and stderr are the warden's.
    pub daemon_command: Vec<OsString>,
    /// Command line that ends in [`crate::warden::keeper_main`] with the arguments that follow it.
    pub keeper_command: Vec<OsString>,
    /// The daemon is killed when it does not feed for this long (W), in milliseconds.
    pub watchdog_ms: u64,
    /// A graceful leave that takes longer ends as at a second signal (`shutdown_timeout`), in milliseconds.
    pub shutdown_ms: u64,
    /// Clean-ups after the daemon's death may take this long (`T_stop`), in milliseconds.
    pub stop_ms: u64,
    /// What to do without a proof.
    pub panic: PanicPolicy,
    /// Where the kernel takes the order to reset the host: [`SYSRQ`].
    pub sysrq: PathBuf,
    /// The hardware watchdog that the daemon arms. It is let go when nothing of the node is left and the others know it.
    pub watchdog: Option<Box<dyn Disarm>>,
    /// The warden's access to this node's register.
    pub notice: Box<dyn DeathNotice>,
}

/// The warden's access to this node's register. It is used only while no daemon of this node lives: before it is started
/// and after it has been reaped (protocol §9.1, "Who writes what").
pub trait DeathNotice {
    /// How the last start of this node could be fenced, if it ran in this boot of this host.
    ///
    /// # Errors
    /// If the register cannot be read.
    fn last_start(&self) -> Result<Option<FenceHandle>, String>;

    /// Writes `DeadDrained` for the incarnation that `handle` belongs to. Does nothing if the register holds another
    /// start's words, or if that incarnation has left cleanly. Gives whether it was written.
    ///
    /// # Errors
    /// If the register cannot be read or written: then nothing may be claimed.
    fn dead_drained(&self, handle: &FenceHandle) -> Result<bool, String>;
}
