//! What the daemon may ask of its warden: launches, kills, freezes (protocol RL-4, RL-5; architecture §4).

use crate::rig::{Kind, Rig, Tell, clock, fugitive, is_dead, operation, signal, start};
use phalanx_messages::launch::{Action, LaunchRequest, LaunchResult, Owner, Program, WardenRequest};
use phalanx_node::containment::now;
use phalanx_node::containment::process;
use rustix::process::Signal;

fn text(result: LaunchResult) -> String {
    match result {
        LaunchResult::Failed { text } => text,
        LaunchResult::Succeeded => panic!("it succeeded"),
    }
}

fn kill(seq: u64) -> WardenRequest {
    WardenRequest::Kill { owner: clock(), operation: operation(seq), timeout_ms: 20_000 }
}

#[test]
fn a_command_gets_a_clean_environment_no_descriptors_and_the_default_oom_score() {
    for kind in Kind::available() {
        let rig = Rig::start(kind);
        let path = rig.path("seen");
        let seen = path.display();
        let command = format!(
            "{{ env; echo fds: $(ls /proc/$$/fd); echo oom: $(cat /proc/$$/oom_score_adj); readlink /proc/$$/fd/0; \
             echo; tr '\\0' ' ' < /proc/$$/cmdline; echo; }} > {seen}"
        );
        rig.launch(start(1, command));
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains("\nPHALANX_SERVICE=clock\n") || text.starts_with("PHALANX_SERVICE=clock\n"), "{text}");
        assert!(text.contains("PATH="), "{text}");
        for strange in ["WARDEN_RIG_SETTINGS", "CARGO"] {
            assert!(!text.contains(strange), "{text}");
        }
        let fds = text.lines().find_map(|line| line.strip_prefix("fds: ")).unwrap();
        // The shell's own: 3 is the pipe of the substitution, 10 and 11 are what the redirection put aside.
        assert!(fds.split(' ').all(|fd| ["0", "1", "2", "3", "10", "11"].contains(&fd)), "{text}");
        let mine = std::fs::read_to_string("/proc/self/oom_score_adj").unwrap();
        assert!(text.contains("oom: 0\n") || text.contains(&format!("oom: {mine}")), "{text}");
        assert!(text.contains("\n/dev/null\n"), "{text}");
        assert!(text.contains("n2: service clock"), "its command line names the node: {text}");
    }
}

#[test]
fn a_failed_command_tells_its_status_and_last_lines() {
    for kind in Kind::available() {
        let rig = Rig::start(kind);
        let result = rig.ask(WardenRequest::Launch(start(1, "echo out; echo the disk is full >&2; exit 3")));
        let text = text(result);
        assert!(text.starts_with("exit status 3: ") && text.ends_with("\nthe disk is full"), "{text}");
        let result = rig.ask(WardenRequest::Launch(start(2, "kill -9 $$")));
        assert!(self::text(result).starts_with("killed by signal 9"));
    }
}

/// Protocol RL-5: "The same op_id again repeats the result"; RL-4: an older one is refused.
#[test]
fn an_operation_runs_once() {
    for kind in Kind::available() {
        let rig = Rig::start(kind);
        let path = rig.path("runs");
        let request = start(5, format!("echo run >> {}", path.display()));
        for _ in 0..3 {
            rig.launch(request.clone());
        }
        let older = LaunchRequest { operation: operation(4), ..request };
        assert!(text(rig.ask(WardenRequest::Launch(older))).contains("is older than"));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "run\n");
    }
}

/// What a launch leaves running stays when later commands of the owner end or are killed.
#[test]
fn a_command_that_takes_too_long_is_killed_and_the_service_stays() {
    for kind in Kind::available() {
        let rig = Rig::start(kind);
        let (services, notices) = (rig.path("services"), rig.path("notices"));
        rig.launch(start(1, fugitive(&services)));
        let service = rig.pids("services", 1)[0];
        let command = format!("{}\nsleep 1000", fugitive(&notices));
        let slow = LaunchRequest { action: Action::Notify, timeout_ms: 1_000, ..start(2, command) };
        assert_eq!(text(rig.ask(WardenRequest::Launch(slow))), "timed out after 1000 ms and was killed");
        assert!(is_dead(rig.pids("notices", 1)[0]), "with all it had started");
        assert!(!is_dead(service));
    }
}

#[test]
fn a_kill_ends_all_of_its_owner_and_nothing_else() {
    for kind in Kind::available() {
        let rig = Rig::start(kind);
        let (mine, others) = (rig.path("mine"), rig.path("others"));
        let other = Owner::Subsystem("../cgroup.kill".to_owned());
        rig.launch(LaunchRequest { owner: other, ..start(1, fugitive(&others)) });
        for seq in 1..4 {
            rig.launch(start(seq, fugitive(&mine)));
        }
        let (mine, others) = (rig.pids("mine", 3), rig.pids("others", 1));
        assert_eq!(rig.ask(kill(4)), LaunchResult::Succeeded);
        assert!(mine.iter().all(|pid| is_dead(*pid)), "verified before it is answered");
        assert!(!is_dead(others[0]));
        assert_eq!(rig.ask(kill(5)), LaunchResult::Succeeded, "nothing is left to kill");
        rig.launch(start(6, "true"));
    }
}

/// The kill comes while the launch is anywhere between request and exec.
#[test]
fn a_kill_right_after_a_launch_leaves_nothing() {
    for kind in Kind::available() {
        let rig = Rig::start(kind);
        let path = rig.path("survivors");
        for round in 0..20 {
            let command = format!("{}\nsleep 1000", fugitive(&path));
            std::thread::scope(|scope| {
                let launch = scope.spawn(|| rig.ask(WardenRequest::Launch(start(2 * round + 1, command))));
                phalanx_node::containment::pause(round / 4);
                while rig.ask(kill(2 * round + 2)) != LaunchResult::Succeeded {}
                text(launch.join().unwrap());
            });
            let written = std::fs::read_to_string(&path).unwrap_or_default();
            let alive: Vec<u32> =
                written.split_whitespace().filter_map(|pid| pid.parse().ok()).filter(|pid| !is_dead(*pid)).collect();
            assert_eq!(alive, [] as [u32; 0], "round {round}");
        }
    }
}

fn state(pid: u32) -> char {
    char::from(process::stat(pid).unwrap().state)
}

/// Whether the process gets processor time.
fn runs(rig: &Rig, file: &str) -> bool {
    let length = || std::fs::metadata(rig.path(file)).map_or(0, |data| data.len());
    let before = length();
    let until = now().plus(300);
    while now() < until {
        if length() != before {
            return true;
        }
        phalanx_node::containment::pause(5);
    }
    false
}

/// Protocol §4.7: at lease loss every service is frozen, and thawed when the lease is back.
#[test]
fn services_are_frozen_and_thawed_and_the_daemon_is_not() {
    for kind in Kind::available() {
        let rig = Rig::start(kind);
        let path = rig.path("ticks");
        rig.launch(start(1, format!("(while :; do echo . >> {}; sleep 0.01; done) >/dev/null 2>&1 &", path.display())));
        rig.wait("the service", || runs(&rig, "ticks").then_some(()));
        rig.tell(&Tell::Lease(false));
        rig.wait("the freeze", || (!runs(&rig, "ticks")).then_some(()));
        assert!(!runs(&rig, "ticks"));
        assert!(text(rig.ask(WardenRequest::Launch(start(2, "true")))).contains("lost its lease"));
        rig.tell(&Tell::Lease(true));
        rig.wait("the service", || runs(&rig, "ticks").then_some(()));
        rig.tell(&Tell::Lease(false));
        rig.wait("the freeze", || (!runs(&rig, "ticks")).then_some(()));
        assert_eq!(rig.ask(kill(3)), LaunchResult::Succeeded, "frozen processes can be killed");
        assert!(!runs(&rig, "ticks"));
        assert_ne!(state(rig.register().fence.daemon.pid), 'T');
    }
}

/// A service that kills its own keeper is no longer anybody's: it dies with the next kill, at the latest with the node.
#[test]
fn what_lost_its_keeper_does_not_survive_the_node() {
    let rig = Rig::start(Kind::Subreaper);
    let path = rig.path("pids");
    rig.launch(start(1, fugitive(&path)));
    let service = rig.pids("pids", 1)[0];
    signal(process::stat(service).unwrap().parent, Signal::KILL);
    rig.wait("its new parent", || {
        (process::stat(service).unwrap().parent == rig.register().fence.warden.pid).then_some(())
    });
    assert!(!is_dead(service));
    assert_eq!(rig.ask(kill(2)), LaunchResult::Succeeded);
    assert!(is_dead(service));
}

/// Not a promise but a number: how long the daemon waits for a command that does nothing.
#[test]
fn launches_are_quick() {
    for kind in Kind::available() {
        let rig = Rig::start(kind);
        let begun = now();
        for seq in 1..=50 {
            rig.launch(start(seq, ":"));
        }
        println!("{kind:?}: {} ms for 50 launches, the test's own connections included", now().since(begun));
    }
}

/// A start whose program is run as it is.
fn vector(seq: u64, words: &[&str]) -> LaunchRequest {
    let command = Program::Arguments(words.iter().map(|word| (*word).to_owned()).collect());
    LaunchRequest { command, ..start(seq, "") }
}

#[test]
fn no_shell_reads_the_arguments_of_a_program() {
    for kind in Kind::available() {
        let rig = Rig::start(kind);
        let name = "$(touch evil); `id` \"x\" 'y' * | & \\ -n";
        let path = rig.path(name);
        rig.launch(vector(1, &["touch", "--", &path.to_string_lossy()]));
        assert!(path.exists(), "{}", path.display());
        let result = text(rig.ask(WardenRequest::Launch(vector(2, &["/nowhere/to/be/found", "x"]))));
        assert!(result.starts_with("exit status 127") && result.contains("/nowhere/to/be/found"), "{result}");
    }
}

/// Issue 7: "A stop command that succeeds is verified".
#[test]
fn what_a_successful_stop_command_leaves_alive_is_ended_before_the_stop_succeeds() {
    for kind in Kind::available() {
        let rig = Rig::start(kind);
        let (gentle, deaf) = (rig.path("gentle"), rig.path("deaf"));
        let said = rig.path("said");
        let polite = format!(
            "(trap 'echo ended > {}; exit' TERM; echo $$ >> /dev/null; sh -c 'echo $PPID' > {}; while :; do sleep 0.02; done) &",
            said.display(),
            gentle.display()
        );
        rig.launch(start(1, polite));
        let polite = rig.pids("gentle", 1)[0];
        let stop = |seq| WardenRequest::Launch(LaunchRequest { action: Action::Stop, ..start(seq, "true") });
        assert_eq!(rig.ask(stop(2)), LaunchResult::Succeeded);
        assert!(is_dead(polite));
        assert_eq!(std::fs::read_to_string(&said).unwrap(), "ended\n", "it was asked first");

        rig.launch(start(3, fugitive(&deaf)));
        let deaf = rig.pids("deaf", 1)[0];
        assert_eq!(rig.ask(stop(4)), LaunchResult::Succeeded);
        assert!(is_dead(deaf), "who is deaf is killed");
    }
}

#[test]
fn whoever_watches_hears_of_the_end_of_what_a_start_left() {
    for kind in Kind::available() {
        let rig = Rig::start(kind);
        let path = rig.path("service");
        rig.launch(start(1, format!("sleep 1000 & echo $! > {}", path.display())));
        let service = rig.pids("service", 1)[0];
        let watch = |seq| WardenRequest::Watch { owner: clock(), operation: operation(seq).expect("one") };
        std::thread::scope(|scope| {
            let watching = scope.spawn(|| rig.ask(watch(1)));
            // Of another owner and another operation: nothing to see.
            assert_eq!(rig.ask(watch(7)), LaunchResult::Succeeded);
            assert!(!watching.is_finished());
            signal(service, Signal::KILL);
            assert_eq!(text(watching.join().unwrap()), "its processes have ended");
        });
        assert_eq!(text(rig.ask(watch(1))), "its processes have ended", "who asks late hears it too");
        rig.launch(start(2, "true"));
        assert_eq!(rig.ask(watch(2)), LaunchResult::Succeeded, "it left nothing that could end");
    }
}

#[test]
fn a_command_is_tried_again_after_what_it_left_is_gone() {
    for kind in Kind::available() {
        let rig = Rig::start(kind);
        let (tries, left) = (rig.path("tries"), rig.path("left"));
        let command = format!(
            "{}\nwhile [ ! -s {left} ]; do sleep 0.01; done\nfor pid in $(head -n -1 {left}); do kill -0 $pid && exit 9; done\n\
             echo try >> {tries}; [ $(wc -l < {tries}) = 3 ]",
            fugitive(&left),
            left = left.display(),
            tries = tries.display()
        );
        let request = LaunchRequest { retries: 5, action: Action::Recovery, ..start(1, command) };
        rig.launch(request);
        assert_eq!(std::fs::read_to_string(&tries).unwrap(), "try\ntry\ntry\n");
    }
}
