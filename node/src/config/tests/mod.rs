//! Every mistake names its line, the keys and values involved, and what to do.

mod events;
mod nodes;
mod services;
mod timing;

use std::fs;

use phalanx_messages::launch::Leaves;
use phalanx_messages::service::{AllowableNodes, NodePreferences};
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

/// So many nodes `n0`, `n1`, ... of which nothing else is said: what a text is read against.
pub(super) fn nodes(count: u16) -> Vec<ClusterNode> {
    let node = |id: u16| ClusterNode {
        name: format!("n{id}"),
        id: NodeId(id),
        address: String::new(),
        settings: NodeSettings::default(),
    };
    (0..count).map(node).collect()
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
    let found = mistakes(&WHOLE.replace("\"mmap\"", "\"etcd\""));
    assert_eq!(found, ["node.toml:14:11: `disk.backend = \"etcd\"` is not built yet"]);
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
