//! The warden: parent of a node's daemon and of everything that runs for its services (architecture §4).
//!
//! One small process, single-threaded, without an executor. It holds the node-id lock, keeps all processes of the node in a
//! [containment](crate::containment), serves the daemon's requests, and, when the daemon ends, stops feeding it or says so,
//! kills and reaps everything, cleans what outlives processes, and writes `DeadDrained` into the node's register (protocol
//! §4.5, F0). What always holds: it writes the register only after the daemon has been reaped; it drops the lock only when
//! nothing of the node is alive. It never decides anything about the cluster.
//!
//! Entry points for the binary: [`run`] is `phalanx node run`; [`keeper_main`] is the hidden command of
//! [`WardenSettings::keeper_command`]; [`client::WardenLink::inherited`] is the first call of the daemon.

mod cells;
pub mod client;
pub mod desk;
mod drain;
pub mod frames;
pub mod id_lock;
mod inbox;
mod leftovers;
mod log;
mod notice;
mod serve;
mod settings;
mod talk;

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;

use phalanx_messages::register::{Containment, FenceHandle, ProcessIdentity};

pub use self::log::command_log;
pub use self::notice::RegisterNotice;
pub use self::serve::Signals;
pub use self::settings::{DeathNotice, SYSRQ, WardenSettings};
pub use crate::containment::keeper::keeper_main;

use self::cells::{Cells, Keep, Surroundings};
use self::desk::Desk;
use self::frames::Line;
use self::serve::{Ending, Server, Words};
use crate::containment::cgroup::NodeCgroup;
use crate::containment::{ContainmentChoice, inherited, keeper, process};
use crate::waiting::{Patience, Unmet};

/// Exit code of a node that was forced out or panicked (architecture §5).
pub const EXIT_FORCED_OUT: u8 = 90;
/// Exit code of a node that failed.
const FAILED: u8 = 1;

/// The body of `phalanx node run`: from the node-id lock to the end of the node. Gives the exit code: the daemon's own if it
/// ended by itself, 90 if it died or was forced out, 1 if the administrator asked twice.
///
/// Must run in a process without other threads or children, which it makes a subreaper. `signals` were installed before
/// anything was waited for, so that no wish of the administrator is lost.
///
/// # Errors
/// What kept the node from starting, for the administrator.
pub fn run(settings: WardenSettings, signals: Signals) -> Result<u8, Unmet> {
    inherited::keep_to_oneself()
        .map_err(|error| Unmet::Never(format!("failed to list the own descriptors: {error}")))?;
    let patience = Patience { no_wait: settings.no_wait, ended: &|| signals.leave_is_asked() };
    let lock = id_lock::take(&settings.id_lock, patience)?;
    run_locked(&settings, signals, &lock).map_err(Unmet::Never)
    // The lock is dropped here, after everything.
}

fn run_locked(settings: &WardenSettings, signals: Signals, lock: &File) -> Result<u8, String> {
    std::fs::write("/proc/self/oom_score_adj", "-900").ok(); // where it may
    leftovers::kill(settings)?;
    let text = |error: io::Error| error.to_string();
    let warden = process::own_identity().map_err(text)?;
    keeper::become_subreaper().map_err(text)?;
    let keep = make_containment(settings, warden)?;
    let mut node =
        Node { settings, warden, signals, cells: Cells::new(keep, surroundings(settings)), desk: Desk::default() };
    let code = node.live(lock).map_err(text);
    if let Keep::Cgroup(cgroup) = node.cells.keep()
        && let Err(error) = cgroup.dissolve()
    {
        talk::line(&format!("failed to remove {}: {error}", cgroup.directory().display()));
    }
    code
}

fn make_containment(settings: &WardenSettings, warden: ProcessIdentity) -> Result<Keep, String> {
    match settings.containment {
        ContainmentChoice::Subreaper => Ok(Keep::Subreaper),
        ContainmentChoice::Best => {
            Ok(NodeCgroup::create(&settings.containment_key, warden).map_or(Keep::Subreaper, Keep::Cgroup))
        }
        ContainmentChoice::Cgroup => NodeCgroup::create(&settings.containment_key, warden)
            .map(Keep::Cgroup)
            .map_err(|error| format!("cgroup v2 cannot be used: {error}")),
    }
}

fn surroundings(settings: &WardenSettings) -> Surroundings {
    Surroundings {
        node_name: settings.node_name.clone(),
        key: settings.containment_key.clone(),
        log_dir: settings.log_dir.clone(),
        keeper_command: settings.keeper_command.clone(),
    }
}

/// A node that runs.
struct Node<'a> {
    settings: &'a WardenSettings,
    warden: ProcessIdentity,
    signals: Signals,
    cells: Cells,
    desk: Desk,
}

impl Node<'_> {
    fn live(&mut self, lock: &File) -> io::Result<u8> {
        let (here, there) = UnixStream::pair()?;
        let (words, speaking_end) = Words::pipe()?;
        let daemon = self.cells.start_daemon(&self.settings.daemon_command, OwnedFd::from(there))?;
        // Reaped by nobody else, so it is there, if only as a zombie.
        let handle = self.handle(process::stat(daemon)?.identity());
        frames::send_welcome(&here, &handle, &[speaking_end.as_fd(), lock.as_fd()]).ok(); // if it is gone, that is seen
        drop(speaking_end);
        let line = Line::new(here)?;
        let server = Server::new(&self.signals, &mut self.cells, &mut self.desk, line, words, daemon, self.settings);
        let ending = server.run();
        Ok(self.end(&ending, &handle))
    }

    fn handle(&self, daemon: ProcessIdentity) -> FenceHandle {
        let containment = match self.cells.keep() {
            Keep::Cgroup(node) => Containment::Cgroup { path: node.directory().to_string_lossy().into_owned() },
            Keep::Subreaper => Containment::Subreaper,
        };
        let id_lock = std::path::absolute(&self.settings.id_lock).unwrap_or_else(|_| self.settings.id_lock.clone());
        FenceHandle { containment, warden: self.warden, daemon, id_lock: id_lock.to_string_lossy().into_owned() }
    }

    fn end(&self, ending: &Ending, handle: &FenceHandle) -> u8 {
        let WardenSettings { node_name, stop_ms, .. } = self.settings;
        let code = match ending {
            Ending::LeftCleanly(code) => {
                self.cells.kill_children();
                drain::empty_out(&self.cells, &self.signals, *stop_ms, || {});
                self.let_watchdog_go();
                return u8::try_from(*code).unwrap_or(FAILED);
            }
            Ending::Exited(0) => FAILED, // without a word that it left
            Ending::Exited(code) => u8::try_from(*code).unwrap_or(FAILED),
            Ending::Dead(reason) => {
                talk::line(&format!("node {node_name}: {reason}; killing everything of it"));
                EXIT_FORCED_OUT
            }
            Ending::Impatient => {
                talk::line(&format!("node {node_name}: killed at the administrator's word"));
                FAILED
            }
            Ending::LeaveTookTooLong(ms) => {
                eprintln!(
                    "node {node_name}: killed because its leave took longer than its `shutdown_timeout` of {ms} ms"
                );
                FAILED
            }
        };
        let list = self.desk.clean_ups();
        if drain::drain_and_speak(&self.cells, &self.signals, &list, self.settings, handle) {
            self.let_watchdog_go();
        }
        code
    }

    /// Nothing of this node is left, and the register says so. Without that the device stays armed and resets the host.
    fn let_watchdog_go(&self) {
        if let Some(Err(text)) = self.settings.watchdog.as_ref().map(|watchdog| watchdog.disarm()) {
            talk::line(&format!("the watchdog {text}"));
        }
    }
}
