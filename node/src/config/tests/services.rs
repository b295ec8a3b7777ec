//! Services: where they may run, their commands, monitors and agents.

use phalanx_messages::launch::Leaves;
use phalanx_messages::service::Invocation;

use super::{WHOLE, load, mistake_after_whole};

#[test]
fn a_service_must_have_somewhere_to_run() {
    let found = mistake_after_whole("[[service]]\nname = \"s\"\nallowable_nodes = [\"n7\"]\ndisallowable_nodes = []\n");
    assert_eq!(found, "node.toml:19:19: allowable_nodes of service `s` names `n7`, which is no node");
    let found = mistake_after_whole("[[service]]\nname = \"s\"\nallowable_nodes = []\n");
    assert_eq!(found, "node.toml:19:19: allowable_nodes of service `s` is empty");
    let found =
        mistake_after_whole("[[service]]\nname = \"s\"\nallowable_nodes = [\"n0\"]\ndisallowable_nodes = [\"n0\"]\n");
    assert!(found.starts_with("node.toml:20:22: disallowable_nodes of service `s` leave none"), "{found}");
    let found = mistake_after_whole("[[service]]\nname = \"s\"\nmaturity_count = 3\n");
    assert!(found.contains("maturity_count (3) of service `s` is more than its usable allowable_nodes (2)"), "{found}");
}

#[test]
fn what_only_a_shell_understands_needs_a_shell() {
    let found = mistake_after_whole("[[service]]\nname = \"s\"\nstart_command = \"sleep 1 &\"\n");
    assert_eq!(found, "node.toml:19:17: start_command has `&`, which only a shell understands");
    let found = mistake_after_whole("[[subsystem]]\nname = \"s\"\nlevel = 5\non_joining = \"echo $HOME\"\n");
    assert_eq!(found, "node.toml:20:14: on_joining has `$`, which only a shell understands");
    let found = mistake_after_whole("[[service]]\nname = \"s\"\nstart_command = { shel = \"x\" }\n");
    assert!(found.starts_with("node.toml:19:17: a command is \"PROGRAM ARGUMENT\", "), "{found}");
    let more = "[[service]]\nname = \"s\"\nstart_command = [\"echo\", \"$HOME &\"]\n\
                stop_command = \"echo '$HOME' x\"\nstop_retries = 2\nrecovery_command = { shell = \"echo $HOME &\" }\n";
    let service = load(&format!("{WHOLE}{more}")).1.unwrap().services.remove(0);
    let words = |words: &[&str]| Invocation::Arguments(words.iter().map(|word| (*word).to_owned()).collect());
    assert_eq!(service.start_command.unwrap().run, words(&["echo", "$HOME &"]));
    let stop = service.stop_command.unwrap();
    assert_eq!((stop.run, stop.retries), (words(&["echo", "$HOME", "x"]), 2));
    assert_eq!(service.recovery_command.unwrap().run, Invocation::Shell("echo $HOME &".to_owned()));
}

#[test]
fn monitors_restarts_and_agents_are_checked_key_by_key() {
    let wrong = |keys: &str| mistake_after_whole(&format!("[[service]]\nname = \"s\"\n{keys}\n"));
    for (keys, said) in [
        ("monitor = true", "19:11: monitor of service `s` is true, and there is no agent"),
        ("monitor = { interval = \"1s\" }", "19:11: monitor of service `s` has no command, and there is no agent"),
        ("monitor = { command = \"a | b\" }", "19:23: monitor.command has `|`, which only a shell understands"),
        ("monitor = { command = \"a\", interval = \"0s\" }", "19:39: a timeout must be above 0"),
        (
            "monitor = { command = \"a\", tolerance = 0 }",
            "19:11: monitor.tolerance of service `s` is 0; it must lie in 1..100",
        ),
        ("restart = { limit = 101 }", "19:11: restart.limit of service `s` is 101; it must lie in 0..100"),
        ("restart = { window = \"long\" }", "19:22: `long` is not a duration"),
        ("stop_retries = 1", "19:16: stop_retries of service `s` is 1, and there is no stop_command"),
        ("agent = \"heartbeat:Dummy\"", "19:9: agent of service `s` is `heartbeat:Dummy`, which names no agent"),
        ("agent_parameters = { a = 1 }", "19:20: agent_parameters of service `s` are for no agent"),
        ("agent = \"ocf:nobody:Nothing\"", "19:9: agent ocf:nobody:Nothing is not installed here"),
        ("agent = \"systemd:web\"\nagent_parameters = { a = 1 }", "20:20: agent_parameters of service `s` has `a`"),
        ("agent = \"systemd:web\"\nstop_command = \"true\"", "20:16: service `s` has both agent and stop_command"),
    ] {
        let found = wrong(keys);
        assert!(found.starts_with(&format!("node.toml:{said}")), "{keys}: {found}");
    }
}

#[test]
fn an_agent_performs_start_stop_and_monitor_if_nothing_else_is_said() {
    let read = |keys: &str| load(&format!("{WHOLE}[[service]]\nname = \"s\"\n{keys}\n")).1.unwrap().services.remove(0);
    let unit = read("agent = \"systemd:web\"\nstop_timeout = \"5s\"");
    let (start, stop) = (unit.start_command.unwrap(), unit.stop_command.unwrap());
    assert_eq!((start.run, stop.run, stop.timeout_ms), (Invocation::Agent, Invocation::Agent, 5_000));
    assert_eq!(unit.agent.unwrap().class.to_string(), "systemd:web.service");
    let monitor = unit.monitor.unwrap();
    assert_eq!((monitor.run, monitor.interval_ms, monitor.tolerance), (Invocation::Agent, 10_000, 1));
    assert_eq!(unit.leaves, Leaves::State, "a unit is not in the node's containment");
    assert_eq!(read("agent = \"systemd:web\"\nmonitor = false").monitor, None);
    let own =
        read("agent = \"actor:web\"\nagent_parameters = { a = 1, b = true, C = \"x y\" }\nmonitor = { tolerance = 3 }");
    let parameters: Vec<_> = own.agent.unwrap().parameters.into_iter().collect();
    let expected = [("C", "x y"), ("a", "1"), ("b", "true")].map(|(name, value)| (name.to_owned(), value.to_owned()));
    assert_eq!(parameters, expected, "capitals are kept");
    assert_eq!((own.monitor.unwrap().tolerance, own.leaves), (3, Leaves::Processes));
}
