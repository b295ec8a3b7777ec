//! What a file says of one node or of all: panic, socket, votes, fencing, watchdog.

use phalanx_messages::NodeId;
use phalanx_messages::configuration::{FenceAgent, PanicPolicy};
use phalanx_messages::membership::Certainty;
use phalanx_protocol::lease::StallPolicy;

use super::super::{DiskVotes, HostGuard};
use super::{WHOLE, load, mistake_after_whole, mistakes};

#[test]
fn a_node_outside_dev_must_choose_what_it_does_after_a_panic() {
    let production = WHOLE.replace("\"dev\"", "\"local-mmap\"");
    let found = mistakes(&production.replace("panic = \"exit\"\n", ""));
    assert_eq!(found, ["node.toml:1:1: `panic` is missing in [node], and disk.timing is `local-mmap`"]);
    let found = mistakes(&format!("{production}[[service]]\nname = \"s\"\nleaves = \"state\"\n"));
    assert!(found[0].starts_with("node.toml:19:10: leaves of service `s` is \"state\" without a stop_command"));
    let found = mistakes(&format!("{production}[[subsystem]]\nname = \"s\"\nlevel = 1\n"));
    assert!(found[0].contains("subsystem `s` has no on_panic, and node.panic is \"exit\" (the other is at "));
}

#[test]
fn a_socket_path_that_the_system_refuses_is_found_early() {
    let found = mistakes(&WHOLE.replace("n1.sock", &"x".repeat(120)));
    assert!(found[0].starts_with("node.toml:4:10: the path of the local socket has "), "{found:?}");
}

#[test]
fn the_group_of_the_socket_is_one_of_this_host_by_name_or_number() {
    let with = |group: &str| WHOLE.replacen("[node]\n", &format!("[node]\nsocket_group = \"{group}\"\n"), 1);
    assert_eq!(load(&with("root")).1.unwrap().socket_group, Some(0));
    assert_eq!(load(&with("4711")).1.unwrap().socket_group, Some(4_711));
    assert_eq!(load(WHOLE).1.unwrap().socket_group, None);
    let found = mistakes(&with("nobodys-group"));
    assert_eq!(found, ["node.toml:2:16: node.socket_group is `nobodys-group`, and this host has no such group"]);
}

#[test]
fn the_settings_of_a_node_are_read_and_a_new_disk_gets_them() {
    let more = r#"votes = 2, panic = "crash", shutdown_timeout = "90s", watchdog_attested = true }"#;
    let text = WHOLE.replacen("7600\" }", &format!("7600\", {more}"), 1);
    let fencing = r#"
[fencing]
methods = ["fence_ipmilan", "fence_pdu"]
[[fencing.node]]
name = "n0"
agents.fence_ipmilan = { Ip = "10.0.0.1", lanplus = true, port = 3 }
[[fencing.node]]
name = "n1"
methods = []
"#;
    let (_dir, loaded) = load(&format!("{text}{fencing}"));
    let record = loaded.unwrap().configuration();
    let n0 = &record.nodes[&NodeId(0)];
    assert_eq!((n0.votes, n0.panic, n0.shutdown_ms, n0.watchdog_attested), (2, PanicPolicy::Crash, 90_000, true));
    let agents: Vec<_> = n0.fence.iter().map(|method| (method.agent.as_str(), method.parameters.len())).collect();
    assert_eq!(agents, [("fence_ipmilan", 3), ("fence_pdu", 0)]);
    let given: Vec<_> = n0.fence[0].parameters.iter().map(|(name, value)| format!("{name}={value}")).collect();
    assert_eq!(given, ["Ip=10.0.0.1", "lanplus=true", "port=3"]);
    let n1 = &record.nodes[&NodeId(1)];
    assert_eq!((n1.votes, n1.panic, n1.shutdown_ms, n1.fence.len()), (1, PanicPolicy::Exit, 300_000, 0));
}

#[test]
fn mistakes_in_the_settings_of_a_node_have_their_place() {
    let found = |more: &str| mistakes(&WHOLE.replacen("7600\" }", &format!("7600\", {more} }}"), 1));
    assert_eq!(found("votes = 300"), ["node.toml:10:62: votes of node `n0` is 300; it must lie in 0..255"]);
    assert_eq!(found("panic = \"halt\""), ["node.toml:10:62: panic `halt` of node `n0` is unknown"]);
    let timeout = found("shutdown_timeout = \"0s\"");
    assert!(timeout[0].starts_with("node.toml:10:73: a timeout must be above 0"), "{timeout:?}");
    assert!(found("colour = 1")[0].contains("unknown field `colour`"));
}

#[test]
fn a_watchdog_and_what_a_lost_lease_means_are_read_and_must_fit_each_other() {
    let whole = WHOLE.replacen("\"dev\"", "\"local-mmap\"", 1); // W is two seconds
    let with = |keys: &str| whole.replacen("panic = \"exit\"\n", &format!("panic = \"exit\"\n{keys}\n"), 1);
    let guard = |keys: &str| load(&with(keys)).1.unwrap().guard;
    assert_eq!(guard(""), HostGuard::default());
    assert_eq!(guard("stall = \"panic\"").stall, StallPolicy::Panic);
    let device = "watchdog = \"/dev/watchdog\"\nwatchdog_pretimeout = \"1s\"";
    let expected = HostGuard { watchdog: Some("/dev/watchdog".into()), pretimeout_s: 1, stall: StallPolicy::Panic };
    assert_eq!(guard(device), expected, "a host that is reset when its lease ends cannot ride a stall through");
    let found = |keys: &str| mistakes(&with(keys)).join("; ");
    let both = found("watchdog = \"/dev/watchdog\"\nstall = \"ride_through\"");
    assert!(both.contains("node.stall is \"ride_through\""), "{both}");
    assert!(found("stall = \"wait\"").contains("node.stall `wait` is unknown"));
    assert!(found("watchdog_pretimeout = \"1s\"").contains("and no `watchdog`"));
    for wrong in ["0s", "1500ms", "1h"] {
        let text = found(&format!("watchdog = \"/dev/watchdog\"\nwatchdog_pretimeout = \"{wrong}\""));
        assert!(text.contains(&format!("node.watchdog_pretimeout is {wrong}; W of this timing is 2000 ms")), "{text}");
    }
    let nothing = mistakes(&WHOLE.replacen("panic = \"exit\"", "panic = \"watchdog\"", 1)).join("; ");
    assert!(nothing.contains("[node] names no `watchdog`"), "{nothing}");
}

#[test]
fn levels_of_the_fencing_topology_and_what_each_agent_proves_are_read() {
    let fencing = r#"
[fencing]
methods = [["psu_a", "psu_b"], "fence_scsi", "our_switch"]
storage = ["our_switch"]
"#;
    let (_dir, loaded) = load(&format!("{WHOLE}{fencing}"));
    let record = loaded.unwrap().configuration();
    let read = |method: &FenceAgent| (method.agent.clone(), method.level, method.proves);
    let read: Vec<_> = record.nodes[&NodeId(0)].fence.iter().map(read).collect();
    let expected = [
        ("psu_a", 0, Certainty::Death),
        ("psu_b", 0, Certainty::Death),
        ("fence_scsi", 1, Certainty::Io),
        ("our_switch", 2, Certainty::Io),
    ];
    assert_eq!(read, expected.map(|(agent, level, proves)| (agent.to_owned(), level, proves)));
}

#[test]
fn mistakes_in_fencing_have_their_place_and_a_secret_is_refused() {
    let begin = "[fencing]\nmethods = [\"a\"]\n[[fencing.node]]\nname = \"n0\"\n";
    let found = mistake_after_whole(&format!("{begin}agents.a = {{ ip = \"x\", passwd = \"y\" }}\n"));
    assert!(found.starts_with("node.toml:21:33: [fencing] gives `a` the parameter `passwd`"), "{found}");
    assert!(found.contains("fence.d/<node>.toml"), "{found}");
    let found = mistake_after_whole(&format!("{begin}agents.b = {{ ip = \"x\" }}\n"));
    assert!(found.contains("`b` of node `n0` has parameters and is not among its methods"), "{found}");
    let found = mistake_after_whole("[fencing]\nmethods = []\n[[fencing.node]]\nname = \"n7\"\n");
    assert_eq!(found, "node.toml:20:8: [[fencing.node]] names `n7`, which is no node");
    let found = mistakes(&format!("{WHOLE}[fencing]\nmethods = [\"a\", \"a\"]\n"));
    assert!(found[0].contains("names the agent `a` twice for node `n0`"), "{found:?}");
}

/// Protocol §4.4. What is not said is not changed by `config apply`; a new disk decides alone then.
#[test]
fn votes_of_the_disk_are_a_number_or_the_word_for_none() {
    let with = |votes: &str| WHOLE.replace("name = \"alpha\"", &format!("name = \"alpha\"\ndisk_votes = {votes}"));
    for (said, expected) in [("0", Some(0)), ("1", Some(1)), ("\"alone\"", None)] {
        let (_dir, loaded) = load(&with(said));
        let config = loaded.unwrap();
        assert_eq!(config.disk_votes, Some(DiskVotes(expected)));
        assert_eq!(config.configuration().disk_votes, expected);
        assert_eq!(DiskVotes(expected).to_string(), said);
    }
    let (_dir, loaded) = load(WHOLE);
    let config = loaded.unwrap();
    assert_eq!((config.disk_votes, config.configuration().disk_votes), (None, None));
    for wrong in ["-1", "65536", "true", "\"majority\""] {
        let found = mistakes(&with(wrong));
        let says = format!("disk_votes is `{}`", wrong.trim_matches('"'));
        assert!(found.len() == 1 && found[0].contains(&says), "{found:#?}");
    }
}
