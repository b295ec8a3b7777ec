//! Fence method F3: a survivor on the same host kills a node and sees that it is dead (protocol §4.5).

use crate::rig::{Kind, Rig, fugitive, is_dead, signal, start};
use phalanx_messages::register::{Containment, FenceHandle, OwnState, ProcessIdentity};
use phalanx_node::local_fence::{kill_and_prove, prove_old_incarnation_dead};
use rustix::process::Signal;

fn with_fugitive(kind: Kind) -> (Rig, FenceHandle, u32) {
    let rig = Rig::start(kind);
    rig.launch(start(1, fugitive(&rig.path("pids"))));
    let (service, fence) = (rig.pids("pids", 1)[0], rig.register().fence);
    (rig, fence, service)
}

fn freeze(fence: &FenceHandle) {
    signal(fence.warden.pid, Signal::STOP);
    signal(fence.daemon.pid, Signal::STOP);
}

/// "If both die or freeze together, a survivor on the same host uses the `local` method" (architecture §4).
#[test]
fn frozen_warden_and_daemon_are_killed_with_their_services() {
    for kind in Kind::available() {
        let (mut rig, fence, service) = with_fugitive(kind);
        freeze(&fence);
        assert!(prove_old_incarnation_dead(&fence).is_err(), "it lives");
        kill_and_prove(&fence).unwrap();
        assert!(is_dead(fence.warden.pid) && is_dead(fence.daemon.pid) && is_dead(service));
        rig.wait_exit();
        assert_eq!(rig.register().own_state, OwnState::Member, "a dead node says nothing");
        if kind == Kind::Cgroup {
            kill_and_prove(&fence).unwrap();
            prove_old_incarnation_dead(&fence).unwrap();
        }
    }
}

#[test]
fn a_live_node_is_killed_as_well() {
    for kind in Kind::available() {
        let (_rig, fence, service) = with_fugitive(kind);
        kill_and_prove(&fence).unwrap();
        assert!(is_dead(fence.warden.pid) && is_dead(fence.daemon.pid) && is_dead(service));
    }
}

#[test]
fn a_dead_warden_leaves_a_proof_only_with_cgroups() {
    for kind in Kind::available() {
        let (mut rig, fence, service) = with_fugitive(kind);
        freeze(&fence);
        signal(fence.warden.pid, Signal::KILL);
        rig.wait_exit();
        match kind {
            Kind::Cgroup => {
                kill_and_prove(&fence).unwrap();
                assert!(is_dead(service));
            }
            Kind::Subreaper => {
                let text = kill_and_prove(&fence).unwrap_err();
                assert!(text.contains("its warden is dead") && text.contains("confirm"), "{text}");
                rig.wait("the end of the service, which its keeper kills", || is_dead(service).then_some(()));
            }
        }
        rig.wait("the end of the daemon", || is_dead(fence.daemon.pid).then_some(()));
    }
}

/// Signals go only to processes that were meant, and nothing but a node's own directory is ever killed.
#[test]
fn strangers_are_left_alone() {
    let mut stranger = crate::rig::spawn_sleep();
    let identity = ProcessIdentity { pid: stranger.id(), start_ticks: 1 };
    for containment in [Containment::Subreaper, Containment::None, Containment::Cgroup { path: "/sys/fs".to_owned() }] {
        let fence =
            FenceHandle { containment, warden: identity, daemon: identity, id_lock: "/nowhere/lock".to_owned() };
        kill_and_prove(&fence).unwrap_err();
        prove_old_incarnation_dead(&fence).unwrap_err();
    }
    assert!(stranger.try_wait().unwrap().is_none(), "it lives");
    stranger.kill().unwrap();
    stranger.wait().unwrap();
}
