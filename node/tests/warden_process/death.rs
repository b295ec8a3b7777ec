//! What follows when a node's daemon or warden ends: everything of it is dead before its register says so (protocol §4.5 F0).

use crate::rig::{Kind, Rig, Tell, Told, fugitive, is_dead, signal, start};
use phalanx_messages::configuration::PanicPolicy;
use phalanx_messages::launch::{Action, LaunchRequest, LaunchResult, Leaves, Program, WardenRequest};
use phalanx_messages::register::OwnState;
use phalanx_node::containment::now;
use phalanx_node::containment::process::{Stillness, stillness};
use rustix::process::Signal;

fn with_fugitive(rig: &Rig) -> u32 {
    let file = rig.path("pids");
    rig.launch(start(1, fugitive(&file)));
    let pid = rig.pids("pids", 1)[0];
    assert!(!is_dead(pid), "the service runs");
    pid
}

#[test]
fn a_killed_daemon_is_spoken_for_after_its_services_are_dead() {
    for kind in Kind::available() {
        let mut rig = Rig::start(kind);
        let service = with_fugitive(&rig);
        let begun = now();
        signal(rig.register().fence.daemon.pid, Signal::KILL);
        rig.wait_dead_drained();
        println!("{kind:?}: {} ms from SIGKILL to DeadDrained", now().since(begun));
        assert!(is_dead(service), "dead before DeadDrained");
        assert_eq!(rig.wait_exit(), Some(90));
    }
}

#[test]
fn a_daemon_that_stops_feeding_is_killed_with_everything() {
    for kind in Kind::available() {
        let mut rig = Rig::start_with(kind, |settings| settings.watchdog_ms = 500);
        let service = with_fugitive(&rig);
        let daemon = rig.register().fence.daemon.pid;
        assert_eq!(rig.tell(&Tell::StopFeeding), Some(Told::Done));
        rig.wait_dead_drained();
        assert!(is_dead(service) && is_dead(daemon));
        assert_eq!(rig.wait_exit(), Some(90));
        assert!(rig.output().contains("did not feed its warden"), "{}", rig.output());
    }
}

#[test]
fn a_frozen_daemon_is_killed() {
    for kind in Kind::available() {
        let rig = Rig::start_with(kind, |settings| settings.watchdog_ms = 500);
        signal(rig.register().fence.daemon.pid, Signal::STOP);
        rig.wait_dead_drained();
    }
}

/// However the leave was asked for: by a signal at the warden, or by the cluster.
#[test]
fn a_leave_that_takes_longer_than_its_timeout_is_ended() {
    for by_signal in [true, false] {
        let mut rig = Rig::start_with(Kind::Subreaper, |settings| settings.shutdown_ms = 300);
        let service = with_fugitive(&rig);
        if by_signal {
            signal(rig.warden.id(), Signal::TERM);
        } else {
            assert_eq!(rig.tell(&Tell::BeginLeaving), Some(Told::Done));
        }
        rig.wait_dead_drained();
        assert!(is_dead(service));
        assert_eq!(rig.wait_exit(), Some(1));
        assert!(rig.output().contains("`shutdown_timeout` of 300 ms"), "{}", rig.output());
    }
}

#[test]
fn a_daemon_that_panics_is_killed_at_its_word() {
    for kind in Kind::available() {
        let mut rig = Rig::start(kind);
        let service = with_fugitive(&rig);
        assert!(matches!(rig.tell(&Tell::Panic), Some(Told::Done) | None));
        rig.wait_dead_drained();
        assert!(is_dead(service));
        assert_eq!(rig.wait_exit(), Some(90));
    }
}

/// A node that left has said `CleanDown` itself, and that stays.
#[test]
fn a_node_that_left_is_not_spoken_for() {
    for kind in Kind::available() {
        let mut rig = Rig::start(kind);
        let service = with_fugitive(&rig);
        assert_eq!(rig.tell(&Tell::LeaveCleanly), None);
        assert_eq!(rig.wait_exit(), Some(0));
        assert_eq!(rig.register().own_state, OwnState::CleanDown);
        assert!(is_dead(service), "nothing is left running all the same");
        assert!(rig.path("disarmed").exists());
    }
}

#[test]
fn the_first_signal_asks_the_daemon_to_leave_and_the_second_kills() {
    for kind in Kind::available() {
        let mut rig = Rig::start(kind);
        let service = with_fugitive(&rig);
        signal(rig.register().fence.warden.pid, Signal::TERM);
        rig.wait("the request to leave", || {
            (rig.tell(&Tell::CountLeaveRequests) == Some(Told::Count(1))).then_some(())
        });
        assert!(!is_dead(service));
        signal(rig.register().fence.warden.pid, Signal::INT);
        rig.wait_dead_drained();
        assert!(is_dead(service));
        assert_eq!(rig.wait_exit(), Some(1));
    }
}

fn with_state(seq: u64, clean_up: Option<String>) -> LaunchRequest {
    let clean_up = clean_up.map(Program::shell);
    LaunchRequest { leaves: Leaves::State, clean_up, ..start(seq, "true") }
}

/// Architecture §4, "What outlives a process".
#[test]
fn state_is_cleaned_before_the_node_is_called_dead() {
    for kind in Kind::available() {
        let mut rig = Rig::start(kind);
        let cleaned = rig.path("cleaned");
        let command = format!("echo $PHALANX_SERVICE $PHALANX_ACTION > {}", cleaned.display());
        rig.launch(with_state(1, Some(command)));
        signal(rig.register().fence.daemon.pid, Signal::KILL);
        rig.wait_dead_drained();
        assert_eq!(std::fs::read_to_string(&cleaned).unwrap(), "clock stop\n");
        assert_eq!(rig.wait_exit(), Some(90));
        assert!(rig.path("disarmed").exists(), "nothing is left, and the others know: the host may stay up");
    }
}

/// Protocol §4.6, step 6: without a proof of its own the host is reset as the policy says, by the kernel or by a watchdog that stays armed.
#[test]
fn a_node_that_cannot_be_proved_dead_resets_its_host_as_its_policy_says() {
    let policies =
        [(PanicPolicy::Exit, ""), (PanicPolicy::Reboot, "b"), (PanicPolicy::Crash, "c"), (PanicPolicy::Watchdog, "")];
    for (policy, order) in policies {
        let mut rig = Rig::start_with(Kind::Subreaper, |settings| settings.panic = policy);
        rig.launch(with_state(1, Some("exit 1".to_owned())));
        signal(rig.register().fence.daemon.pid, Signal::KILL);
        assert_eq!(rig.wait_exit(), Some(90));
        assert_eq!(std::fs::read_to_string(rig.path("sysrq")).unwrap_or_default(), order, "{policy:?}");
        assert!(!rig.path("disarmed").exists(), "{policy:?}: the watchdog fires");
    }
}

#[test]
fn without_a_successful_clean_up_nothing_is_claimed() {
    for kind in Kind::available() {
        for (clean_up, said) in [
            (Some("echo the address is stuck >&2; exit 3".to_owned()), "exit status 3: "),
            (Some("sleep 1000".to_owned()), "took longer than 300 ms"),
            (None, "has no command to clean up with"),
        ] {
            let mut rig = Rig::start_with(kind, |settings| settings.stop_ms = 300);
            rig.launch(with_state(1, clean_up));
            signal(rig.register().fence.daemon.pid, Signal::KILL);
            assert_eq!(rig.wait_exit(), Some(90));
            assert_eq!(rig.register().own_state, OwnState::Member, "nothing is written");
            assert!(rig.output().contains(said), "{}", rig.output());
        }
    }
}

#[test]
fn after_a_successful_stop_there_is_nothing_to_clean() {
    for kind in Kind::available() {
        let rig = Rig::start(kind);
        rig.launch(with_state(1, Some("exit 1".to_owned())));
        let stop = LaunchRequest { action: Action::Stop, ..with_state(2, Some("exit 1".to_owned())) };
        assert_eq!(rig.ask(WardenRequest::Launch(stop)), LaunchResult::Succeeded);
        signal(rig.register().fence.daemon.pid, Signal::KILL);
        rig.wait_dead_drained();
    }
}

/// Architecture §4: "A daemon that loses its warden panics at once."
#[test]
fn a_daemon_that_loses_its_warden_panics_and_its_services_end() {
    for kind in Kind::available() {
        let rig = Rig::start(kind);
        let service = with_fugitive(&rig);
        let fence = rig.register().fence;
        signal(fence.warden.pid, Signal::KILL);
        rig.wait("the end of the daemon", || is_dead(fence.daemon.pid).then_some(()));
        rig.wait("the end of the service", || is_dead(service).then_some(()));
        assert!(rig.output().contains("the warden is gone"), "{}", rig.output());
        assert_eq!(rig.register().own_state, OwnState::Member, "nobody spoke for it");
    }
}

/// Protocol §3.7: one warden for a node id at a time; a second one waits and says so, or refuses.
#[test]
fn a_second_warden_refuses_or_waits_until_the_first_has_spoken() {
    for kind in Kind::available() {
        let mut rig = Rig::start(kind);
        let first = rig.register().fence;
        assert_eq!(rig.second(true).wait().unwrap().code(), Some(1));
        assert!(rig.output().contains("another process of this node holds it"), "{}", rig.output());
        let mut second = rig.second(false);
        rig.wait("the line", || rig.output().contains("waiting for the node-id lock").then_some(()));
        let begun = now();
        signal(first.daemon.pid, Signal::KILL);
        assert_eq!(rig.wait_exit(), Some(90));
        rig.wait("the second start", || (rig.register().fence.warden.pid == second.id()).then_some(()));
        println!("{kind:?}: the next start wrote its register after {} ms", now().since(begun));
        assert!(rig.output().contains("here after"), "{}", rig.output());
        signal(second.id(), Signal::KILL);
        second.wait().unwrap();
    }
}

/// Protocol §3.7 step 0: with warden and daemon both killed, the next start kills what they left.
#[test]
fn the_next_start_kills_leftovers() {
    let kind = Kind::Cgroup;
    if !kind.is_available() {
        return;
    }
    let mut rig = Rig::start(kind);
    let service = with_fugitive(&rig);
    let fence = rig.register().fence;
    signal(fence.daemon.pid, Signal::STOP); // it cannot react to the warden's end, once it has stopped
    let stopped = || (stillness(fence.daemon.pid) == Stillness::Stopped).then_some(());
    rig.wait("the daemon to stop", stopped);
    signal(fence.warden.pid, Signal::KILL);
    signal(fence.daemon.pid, Signal::KILL);
    rig.wait_exit();
    assert!(!is_dead(service), "nobody killed it");
    let mut second = rig.second(false);
    rig.wait("the second start", || (rig.register().fence.warden.pid == second.id()).then_some(()));
    assert!(is_dead(service));
    let phalanx_messages::register::Containment::Cgroup { path } = fence.containment else { panic!("a cgroup") };
    assert!(!std::path::Path::new(&path).exists(), "its directory is gone");
    signal(second.id(), Signal::KILL);
    second.wait().unwrap();
}
