//! Fence method F3: a node of this host is killed and seen dead (protocol §4.5).
//!
//! With a cgroup the directory of the victim's start is killed as a whole, warden included, and must be empty afterwards. With
//! a subreaper the stopped warden keeps its descendants together while they are killed; if the warden is dead already, they
//! are scattered and there is no local proof. In both cases the node-id lock must be free at the end: it is held by warden
//! and daemon for as long as either lives.
//!
//! Signals go only to processes whose start time is the recorded one.

use std::path::Path;
use std::sync::Arc;

use actix::prelude::*;
use phalanx_actors::ports::ProveDead;
use phalanx_messages::register::{Containment, FenceHandle, ProcessIdentity};
use phalanx_messages::{Instant, NodeIncarnation};
use phalanx_storage::ClusterDisk;
use rustix::process::Signal;
use tokio::sync::oneshot;
use uuid::Uuid;

use crate::containment::cgroup;
use crate::containment::process::Process;
use crate::containment::tree::{Scope, TreeKill};
use crate::containment::{now, pause};
use crate::warden::id_lock;

/// One attempt takes at most this long, in milliseconds.
const ATTEMPT_MS: u64 = 5_000;
/// Why there is no proof without a warden, in the administrator's words.
const SCATTERED: &str = "its warden is dead, so its processes are scattered and cannot be counted; look for them with `ps`, \
                         then confirm by hand: `phalanx fence confirm NODE`";

/// Kills and verifies, on a thread of its own for each attempt. What the register says of processes means those of the boot that
/// wrote it: a node of another host, or of another boot of this one, is never proved dead by what is found here.
#[derive(Debug, Clone)]
pub struct LocalFence {
    disk: ClusterDisk,
    boot: Uuid,
}

impl LocalFence {
    /// For a node of `boot`, with the registers of that disk.
    #[must_use]
    pub const fn new(disk: ClusterDisk, boot: Uuid) -> Self {
        Self { disk, boot }
    }

    fn prove(&self, victim: NodeIncarnation, handle: &FenceHandle) -> Result<(), String> {
        let register = self.disk.registers().read(victim.node).map_err(|error| format!("its register: {error}"))?;
        match register {
            None => Err("its register is unreadable".to_owned()),
            Some(register) if register.incarnation != victim.incarnation => {
                Err(format!("its register is that of start {}", register.incarnation))
            }
            Some(register) if register.boot == self.boot => kill_and_prove(handle),
            // An earlier boot of the only host there is has ended with all its processes.
            Some(_) if !self.disk.geometry().capabilities.several_hosts => Ok(()),
            Some(_) => Err("it ran on another host, or before this host booted: there is no local proof".to_owned()),
        }
    }
}

impl Actor for LocalFence {
    type Context = Context<Self>;
}

impl Handler<ProveDead> for LocalFence {
    type Result = ResponseFuture<Result<(), String>>;

    fn handle(&mut self, ProveDead { victim, handle }: ProveDead, _: &mut Self::Context) -> Self::Result {
        let (proof, proved) = oneshot::channel();
        let (handle, fence) = (Arc::new(handle), self.clone());
        let spawned = std::thread::Builder::new().name(format!("fence-{victim}")).spawn(move || {
            proof.send(fence.prove(victim, &handle)).ok();
        });
        Box::pin(async move {
            spawned.map_err(|error| format!("failed to start a thread: {error}"))?;
            proved.await.unwrap_or_else(|_| Err("the fence thread has ended".to_owned()))
        })
    }
}

/// Kills whatever is left of a start of a node on this host, and verifies it.
///
/// # Errors
/// What could not be proved, and what the administrator can do.
pub fn kill_and_prove(handle: &FenceHandle) -> Result<(), String> {
    let until = now().plus(ATTEMPT_MS);
    match &handle.containment {
        Containment::Cgroup { path } => {
            let path = start_directory(path)?;
            cgroup::kill_and_verify(path, until)?;
            // A warden that is about to end has left the directory already.
            kill_processes(&[handle.warden, handle.daemon])?;
            cgroup::remove(path).ok(); // else the node's next start does it
        }
        Containment::Subreaper => kill_tree(handle)?,
        Containment::None => kill_processes(&[handle.warden, handle.daemon])?,
    }
    prove_unlocked(handle, until)
}

/// Verifies that an earlier start of a node on this host and in this boot is dead, without touching anything: for a cold start.
///
/// # Errors
/// What still lives or cannot be known, and what the administrator can do.
pub fn prove_old_incarnation_dead(handle: &FenceHandle) -> Result<(), String> {
    match &handle.containment {
        Containment::Cgroup { path } => {
            let path = start_directory(path)?;
            if cgroup::populated(path).map_err(|error| format!("failed to read {}: {error}", path.display()))? {
                return Err(format!("processes {:?} of its earlier start live", cgroup::members(path)));
            }
        }
        Containment::Subreaper => return Err(SCATTERED.to_owned()),
        Containment::None => {}
    }
    for identity in [handle.warden, handle.daemon] {
        let process = Process::open(identity).map_err(|error| format!("failed to look for it: {error}"))?;
        if process.is_some_and(|process| !process.has_ended()) {
            return Err(format!("process {} of its earlier start lives", identity.pid));
        }
    }
    prove_unlocked(handle, now())
}

fn start_directory(path: &str) -> Result<&Path, String> {
    let path = Path::new(path);
    if cgroup::is_start_directory(path) {
        Ok(path)
    } else {
        Err(format!("{} is not the directory of a node", path.display()))
    }
}

fn prove_unlocked(handle: &FenceHandle, until: Instant) -> Result<(), String> {
    loop {
        match id_lock::is_free(Path::new(&handle.id_lock)) {
            Ok(true) => return Ok(()),
            Ok(false) if now() < until => pause(1),
            Ok(false) => return Err(format!("the node-id lock {} is still held", handle.id_lock)),
            Err(error) => return Err(format!("the node-id lock {} proves nothing: {error}", handle.id_lock)),
        }
    }
}

/// Stops the warden, so that it neither starts nor loses anybody, kills everything below it, then the warden.
fn kill_tree(handle: &FenceHandle) -> Result<(), String> {
    let text = |error: std::io::Error| format!("failed to signal its warden: {error}");
    let Some(warden) = Process::open(handle.warden).map_err(text)?.filter(|warden| !warden.has_ended()) else {
        kill_processes(&[handle.daemon])?;
        return Err(SCATTERED.to_owned());
    };
    warden.signal(Signal::STOP).map_err(text)?;
    let scope = Scope::below(handle.warden.pid);
    TreeKill::new(now()).run(&scope, now().plus(ATTEMPT_MS), || {})?;
    if warden.has_ended() {
        return Err("its warden died meanwhile; its processes may be scattered".to_owned());
    }
    warden.signal(Signal::KILL).map_err(text)?;
    if warden.ends_within(ATTEMPT_MS) { Ok(()) } else { Err("its warden does not end".to_owned()) }
}

fn kill_processes(identities: &[ProcessIdentity]) -> Result<(), String> {
    for identity in identities {
        let text = |error: std::io::Error| format!("failed to kill process {}: {error}", identity.pid);
        let Some(process) = Process::open(*identity).map_err(text)? else { continue };
        process.signal(Signal::KILL).map_err(text)?;
        if !process.ends_within(ATTEMPT_MS) {
            return Err(format!("process {} does not end", identity.pid));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::builder::hosts::tests::{HERE, N1, REBOOTED, disk, write};
    use phalanx_messages::Incarnation;
    use phalanx_messages::register::OwnState;

    #[test]
    fn another_boot_is_proved_dead_only_if_there_is_but_one_host() {
        let victim = NodeIncarnation { node: N1, incarnation: Incarnation(1) };
        for several_hosts in [false, true] {
            let disk = disk(several_hosts);
            write(&disk, N1, HERE, OwnState::Member, 1);
            let proved = LocalFence::new(disk, REBOOTED.boot).prove(victim, &FenceHandle::default());
            assert_eq!(proved.is_err(), several_hosts, "{proved:?}");
        }
    }

    #[test]
    fn a_newer_start_is_not_killed_for_an_older_one() {
        let disk = disk(false);
        write(&disk, N1, HERE, OwnState::Member, 1);
        let older = NodeIncarnation { node: N1, incarnation: Incarnation(0) };
        let failure = LocalFence::new(disk, HERE.boot).prove(older, &FenceHandle::default()).unwrap_err();
        assert_eq!(failure, "its register is that of start 1");
    }
}
