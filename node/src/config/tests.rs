//! Every mistake names its line, the keys and values involved, and what to do.

use std::fs;

use phalanx_messages::configuration::FenceAgent;
use phalanx_messages::launch::Leaves;
use phalanx_messages::membership::Certainty;
use phalanx_messages::service::{AllowableNodes, Invocation, NodePreferences};
use phalanx_protocol::lease::StallPolicy;
use tempfile::TempDir;

use super::*;

const WHOLE: &str = r#"[node]
name = "n1"
state_dir = "state/n1"
socket = "n1.sock"
panic = "exit"
[cluster]
name = "alpha"
key_file = "cluster.key"
node = [
  { name = "n0", id = 0, address = "127.0.0.1:7600" },
  { name = "n1", id = 1, address = "127.0.0.1:7601" },
]
[disk]
backend = "mmap"
path = "disk"
timing = "dev"
"#;

fn load(text: &str) -> (TempDir, Result<NodeConfig, ConfigErrors>) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("node.toml");
    fs::write(&file, text).unwrap();
    let loaded = NodeConfig::load(&file);
    (dir, loaded)
}

/// The mistakes in `WHOLE` followed by `more`, without the directory.
fn mistakes(text: &str) -> Vec<String> {
    let (dir, loaded) = load(text);
    let prefix = format!("{}/", dir.path().display());
    loaded.unwrap_err().0.iter().map(|error| error.to_string().replace(&prefix, "")).collect()
}

fn mistake_after_whole(more: &str) -> String {
    let found = mistakes(&format!("{WHOLE}{more}"));
    assert_eq!(found.len(), 1, "{found:#?}");
    found[0].clone()
}

#[test]
fn a_whole_file_is_read_with_paths_relative_to_it() {
    let more = r#"
[[subsystem]]
name = "network"
level = 200
[[subsystem]]
name = "storage"
level = 100
barriers = { joining = 3, forced_leaving = 2 }
on_joining = "true"
timeout = "5s"
[[service]]
name = "clock"
allowable_nodes = ["n0", "n1"]
node_preferences = { ordered = ["n1"] }
start_command = "run-clock"
stop_command = "stop-clock"
"#;
    let (dir, loaded) = load(&format!("{WHOLE}{more}"));
    let config = loaded.unwrap();
    assert_eq!((config.node.as_str(), config.id, config.bind.as_str()), ("n1", NodeId(1), "127.0.0.1:7601"));
    assert_eq!((&config.disk, &config.socket), (&dir.path().join("disk"), &dir.path().join("n1.sock")));
    assert_eq!(config.profile, TimingProfile::DEV);
    let levels: Vec<_> = config.subsystems.iter().map(|subsystem| (subsystem.level.0, subsystem.barriers)).collect();
    let one = BarrierCounts { joining: 1, leaving: 1, forced_leaving: 1 };
    assert_eq!(levels, [(100, BarrierCounts { joining: 3, forced_leaving: 2, ..one }), (200, one)]);
    let service = &config.services[0];
    assert_eq!(service.allowable_nodes, AllowableNodes::Listed(vec![NodeId(0), NodeId(1)]));
    assert_eq!(service.node_preferences, NodePreferences::Ordered(vec![NodeId(1)]));
    assert_eq!(service.leaves, Leaves::State, "a service with a stop_command leaves state if nothing else is said");
    assert_eq!(config.configuration().id_of("n1"), Some(NodeId(1)));
}

#[test]
fn syntax_types_and_unknown_keys_are_refused_with_their_line() {
    let found = mistake_after_whole("[interconnect]\nbnd = \"x:1\"\n");
    assert_eq!(found, "node.toml:18:1: unknown field `bnd`, expected `bind`");
    let found = mistake_after_whole("[[subsystem]]\nname = \"a\"\nlevel = \"high\"\n");
    assert!(found.starts_with("node.toml:19:9: invalid type: string \"high\""), "{found}");
    let found = mistake_after_whole("[[subsystem]]\nname = \"a\"\n");
    assert!(found.starts_with("node.toml:17:1: missing field `level`"), "{found}");
    let found = mistake_after_whole("[[subsystem]\n");
    assert!(found.starts_with("node.toml:17:"), "{found}");
}

#[test]
fn a_clash_names_both_keys_values_and_lines() {
    let found =
        mistake_after_whole("[[subsystem]]\nname = \"a\"\nlevel = 100\n[[subsystem]]\nname = \"b\"\nlevel = 100\n");
    let text = "node.toml:22:9: subsystems `a` and `b` both have level 100 (the other is at ";
    assert!(found.starts_with(text) && found.ends_with("node.toml:19:9)"), "{found}");

    let twice = WHOLE.replace("n1\", id = 1, address = \"127.0.0.1:7601", "n1\", id = 0, address = \"127.0.0.1:7600");
    let found = mistakes(&twice);
    assert!(
        found[0].starts_with("node.toml:11:23: nodes `n0` and `n1` both have id 0 (the other is at "),
        "{found:#?}"
    );
    assert_eq!(found.len(), 2, "id and address are told at once: {found:#?}");
}

#[test]
fn numbers_outside_their_range_name_the_range() {
    let found = mistake_after_whole("[[subsystem]]\nname = \"a\"\nlevel = 1000\n");
    assert_eq!(found, "node.toml:19:9: level 1000 of subsystem `a` belongs to the event manager");
    let found = mistake_after_whole("[[subsystem]]\nname = \"a\"\nlevel = 1\nbarriers = { joining = 0 }\n");
    assert_eq!(found, "node.toml:20:24: barriers.joining of subsystem `a` is 0; it must lie in 1..16");
    let found = mistake_after_whole("[[service]]\nname = \"s\"\nstart_command = \"x\"\nstart_timeout = \"0s\"\n");
    assert_eq!(found, "node.toml:20:17: a timeout must be above 0");
}

#[test]
fn keys_of_the_contract_that_are_not_built_are_refused_by_name() {
    let found = mistake_after_whole("[[service]]\nname = \"s\"\nevent_group = \"x\"\n");
    assert_eq!(found, "node.toml:19:15: `event_group` is not built yet");
    let found = mistakes(&WHOLE.replace("\"mmap\"", "\"etcd\""));
    assert_eq!(found, ["node.toml:14:11: `disk.backend = \"etcd\"` is not built yet"]);
    assert!(mistake_after_whole("[[event]]\nname = \"e\"\n").contains("`event` is not built yet"));
}

#[test]
fn a_direct_disk_has_a_timing_of_several_hosts_unless_the_file_says_another() {
    let (_dir, config) = load(&WHOLE.replace("\"mmap\"", "\"direct\"").replace("timing = \"dev\"\n", ""));
    let config = config.unwrap();
    assert_eq!((config.backend, config.timing.as_str()), (Backend::Direct, "san-fast"));
    let found = mistakes(&WHOLE.replace("\"mmap\"", "\"tape\""));
    assert_eq!(found, ["node.toml:14:11: disk.backend `tape` is unknown"]);
}

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
fn a_file_for_dev_has_no_node_of_its_own_and_names_the_nodes_that_dev_makes() {
    let nodes: Vec<String> = (0..2).map(|id| format!("n{id}")).collect();
    let text = "[[service]]\nname = \"s\"\nallowable_nodes = [\"n1\"]\nstart_command = \"x\"\n";
    let template = ClusterTemplate::of_text("dev.toml", text, &nodes).unwrap();
    assert_eq!(template.services[0].allowable_nodes, AllowableNodes::Listed(vec![NodeId(1)]));
    let text = text.replace("n1", "n2");
    let found = ClusterTemplate::of_text("dev.toml", &text, &nodes).unwrap_err().to_string();
    assert_eq!(found, "dev.toml:3:19: allowable_nodes of service `s` names `n2`, which is no node");
    let found = ClusterTemplate::of_text("dev.toml", WHOLE, &nodes).unwrap_err().to_string();
    let first = "dev.toml:1:1: [node] has no place in a file for `dev`, which makes it itself";
    assert_eq!(found.lines().count(), 3, "{found}");
    assert_eq!(found.lines().next(), Some(first));
}

#[test]
fn a_timing_table_overrides_inputs_and_the_rest_follows() {
    let table = |table: &str| WHOLE.replace("timing = \"dev\"", table);
    let (_dir, loaded) =
        load(&table("timing = { profile = \"dev\", io_timeout = \"200ms\", kill = \"5s\", drift_ppm = 500 }"));
    let config = loaded.unwrap();
    assert_eq!((config.timing.as_str(), config.profile.io_timeout_ms, config.profile.lease_ms), ("dev", 200, 1_600));
    assert_eq!((config.profile.kill_ms, config.profile.drift_ppm, config.profile.watchdog_ms), (5_000, 500, 1_000));
    let (_dir, loaded) = load(&table("[disk.timing]\nlease = \"6s\""));
    let config = loaded.unwrap();
    assert_eq!((config.timing.as_str(), config.profile.lease_ms), ("local-mmap", 6_000), "the profile has a default");
}

/// Protocol §3.11, "Checks made at start".
#[test]
fn a_timing_that_breaks_a_relation_names_both_keys_values_and_places() {
    let found = |table: &str| mistakes(&WHOLE.replace("timing = \"dev\"", table));
    let both = found("timing = { profile = \"dev\", lease = \"1s\", io_timeout = \"400ms\" }");
    let text = "node.toml:16:37: disk.timing: `lease` (1000 ms) must be at least `renewal` + 6 `io_timeout` (3200 ms; \
                `renewal` is 800 ms; `io_timeout` is 400 ms) (the other is at ";
    assert!(both.len() == 1 && both[0].starts_with(text) && both[0].ends_with("node.toml:16:56)"), "{both:#?}");
    let one = found("timing = { profile = \"dev\", stop = \"2s\" }");
    let text =
        "node.toml:16:36: disk.timing: `stop` (2000 ms) must be at most `watchdog` (1000 ms; `watchdog` is 1000 ms)";
    assert_eq!(one, [text]);
    let (_dir, loaded) = load(&WHOLE.replace("timing = \"dev\"", "timing = { lease = \"1s\" }"));
    let hint = loaded.unwrap_err().0[0].hint_text().map(str::to_owned);
    assert_eq!(
        hint.as_deref(),
        Some("raise `lease` to 4000ms, or lower `renewal`; left out, it follows from the others")
    );
}

#[test]
fn mistakes_inside_a_timing_table_have_their_place() {
    let found = |table: &str| mistakes(&WHOLE.replace("timing = \"dev\"", table));
    assert_eq!(found("timing = { profile = \"slow\" }"), ["node.toml:16:22: disk.timing.profile `slow` is no profile"]);
    assert!(found("timing = { leese = \"1s\" }")[0].starts_with("node.toml:16:12: unknown field `leese`"));
    assert!(
        found("timing = { profile = \"dev\", lease = \"1\" }")[0].starts_with("node.toml:16:37: `1` is not a duration")
    );
    assert!(found("timing = 3")[0].contains("expected the name of a timing profile, or a table such as"));
}

#[test]
fn a_socket_path_that_the_system_refuses_is_found_early() {
    let found = mistakes(&WHOLE.replace("n1.sock", &"x".repeat(120)));
    assert!(found[0].starts_with("node.toml:4:10: the path of the local socket has "), "{found:?}");
}

#[test]
fn conf_d_is_layered_over_the_file_and_named_in_mistakes() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("node.toml");
    fs::write(&file, WHOLE).unwrap();
    fs::create_dir(dir.path().join("conf.d")).unwrap();
    fs::write(dir.path().join("conf.d/10-disk.toml"), "[disk]\npath = \"other\"\n").unwrap();
    assert_eq!(NodeConfig::load(&file).unwrap().disk, dir.path().join("other"));
    fs::write(dir.path().join("conf.d/10-disk.toml"), "\n[disk]\ntiming = \"slow\"\n").unwrap();
    let text = NodeConfig::load(&file).unwrap_err().to_string();
    assert!(text.ends_with("conf.d/10-disk.toml:3:10: disk.timing `slow` is no profile"), "{text}");
}

#[test]
fn the_environment_overrides_keys_and_is_named_in_mistakes() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("node.toml");
    fs::write(&file, WHOLE).unwrap();
    let load = |name: &str, value: &str| {
        let environment = [(name.to_owned(), value.to_owned())].into();
        document::Documents::open_with(&file, environment).and_then(|documents| check::node(&documents))
    };
    assert_eq!(load("PHALANX_CONF__NODE__NAME", "n0").unwrap().id, NodeId(0));
    assert_eq!(load("PHALANX_CONF__NODE__STATE_DIR", "/var/x").unwrap().state_dir, Path::new("/var/x"));
    assert_eq!(load("PHALANX_SOCKET", "/elsewhere").unwrap().socket, dir.path().join("n1.sock"), "no configuration");
    let wrong = load("PHALANX_CONF__DISK__TIMING", "slow").unwrap_err().to_string();
    assert_eq!(wrong, "PHALANX_CONF__DISK__TIMING: disk.timing `slow` is no profile");
    let unknown = load("PHALANX_CONF__DISK__PAHT", "/x").unwrap_err().to_string();
    assert!(unknown.contains("`paht`") && unknown.contains("(set: PHALANX_CONF__DISK__PAHT)"), "{unknown}");
}

#[test]
fn the_picture_shows_the_lines_and_the_hint() {
    let (_dir, loaded) = load(&WHOLE.replace("name = \"n1\"\n", "name = \"n9\"\n"));
    let errors = loaded.unwrap_err();
    let mut picture = String::new();
    let handler = miette::GraphicalReportHandler::new_themed(miette::GraphicalTheme::unicode_nocolor());
    handler.render_report(&mut picture, &errors.0[0]).unwrap();
    assert!(picture.contains("node.toml:2:8") && picture.contains("name = \"n9\""), "{picture}");
    assert!(picture.contains("help: use a listed name"), "{picture}");
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
fn mistakes_in_the_settings_of_a_node_have_their_place() {
    let found = |more: &str| mistakes(&WHOLE.replacen("7600\" }", &format!("7600\", {more} }}"), 1));
    assert_eq!(found("votes = 300"), ["node.toml:10:62: votes of node `n0` is 300; it must lie in 0..255"]);
    assert_eq!(found("panic = \"halt\""), ["node.toml:10:62: panic `halt` of node `n0` is unknown"]);
    let timeout = found("shutdown_timeout = \"0s\"");
    assert!(timeout[0].starts_with("node.toml:10:73: a timeout must be above 0"), "{timeout:?}");
    assert!(found("colour = 1")[0].contains("unknown field `colour`"));
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

#[test]
fn a_file_for_the_whole_cluster_has_nothing_of_one_node() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("cluster.toml");
    let text = "[cluster]\nname = \"alpha\"\n[[cluster.node]]\nname = \"n0\"\nid = 0\naddress = \"h:1\"\n";
    let service = "[[service]]\nname = \"s\"\nallowable_nodes = [\"n0\"]\nstart_command = \"x\"\n";
    fs::write(&file, format!("{text}{service}")).unwrap();
    let Checked::Cluster(config) = check_file(&file).unwrap() else { panic!("it has no [node]") };
    assert_eq!((config.cluster.as_str(), config.nodes.len(), config.services.len()), ("alpha", 1, 1));
    fs::write(&file, format!("{text}[[subsystem]]\nname = \"s\"\nlevel = 1\n")).unwrap();
    let found = check_file(&file).unwrap_err().to_string();
    assert!(found.contains("[[subsystem]] has no place in a file for the whole cluster"), "{found}");
    // What is layered over the file of a node beside it has nothing to do with it.
    fs::create_dir(directory.path().join("conf.d")).unwrap();
    fs::write(directory.path().join("conf.d/disk.toml"), "[disk]\npath = \"other\"\n").unwrap();
    fs::write(&file, text).unwrap();
    assert!(matches!(check_file(&file).unwrap(), Checked::Cluster(_)));
    // A node's own file says the same of the cluster.
    fs::write(&file, WHOLE).unwrap();
    assert_eq!(ClusterConfig::load(&file).unwrap().nodes.len(), 2);
    let text = "[[service]]\nname = \"s\"\n[fencing]\n";
    let found = ClusterTemplate::of_text("dev.toml", text, &["n0".to_owned()]).unwrap_err().to_string();
    assert!(found.contains("[fencing] has no place in a file for `dev`"), "{found}");
}

#[test]
fn samples_are_right_and_dev_has_two_levels_with_different_barriers() {
    let configs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs");
    let Checked::Template(dev) = check_file(&configs.join("dev.toml")).unwrap() else {
        panic!("dev.toml has no [node]")
    };
    let levels: Vec<_> = dev.subsystems.iter().map(|subsystem| (subsystem.level.0, subsystem.barriers)).collect();
    assert_eq!(levels.iter().map(|(level, _)| *level).collect::<Vec<_>>(), [100, 200]);
    assert_ne!(levels[0].1, levels[1].1);
    assert!(matches!(check_file(&configs.join("node.toml")).unwrap(), Checked::Node(_)));
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
