//! Events and event groups.

use phalanx_messages::NodeId;
use phalanx_messages::event::ParameterValue;

use super::{WHOLE, load, mistake_after_whole};

/// Spec, Table 4: an event and the group that a service names, as they are read.
#[test]
fn events_groups_and_the_service_that_names_one_are_read() {
    let more = r#"
[[service]]
name = "web"
event_group = "web-events"
[[event]]
name = "web-gone"
watcher = "process"
in = { pid_file = "/run/web.pid", interval = "2s" }
action = ["phalanx", "service", "failed", "${in.pid_file}"]
timeout = "5s"
quiet = "1m"
[[event]]
name = "queue"
watcher = "external:queue"
in = { least = 3, urgent = true }
action = { shell = "echo $PHALANX_OUT_LENGTH" }
[[event_group]]
name = "web-events"
events = ["web-gone", "queue"]
[[event_group]]
name = "others"
events = ["queue"]
nodes = ["n1"]
enabled = false
"#;
    let config = load(&format!("{WHOLE}{more}")).1.unwrap();
    assert_eq!(config.services[0].event_group.as_deref(), Some("web-events"));
    let gone = &config.events.events[0];
    assert_eq!(gone.parameters["interval"], ParameterValue::DurationMs(2_000));
    assert_eq!((gone.quiet_ms, gone.action.as_ref().unwrap().timeout_ms), (60_000, 5_000));
    assert_eq!(config.events.events[1].parameters["urgent"], ParameterValue::Flag(true));
    let (web, others) = (&config.events.groups[0], &config.events.groups[1]);
    assert!(web.enabled && web.nodes.is_empty() && !others.enabled);
    assert_eq!(others.nodes, [NodeId(1)]);
}

#[test]
fn mistakes_of_events_name_the_line_and_what_to_do() {
    let event = |keys: &str| mistake_after_whole(&format!("[[event]]\nname = \"e\"\n{keys}\n"));
    assert_eq!(event("watcher = \"tmier\""), "node.toml:19:11: event `e`: watcher `tmier` is unknown");
    assert_eq!(
        event("watcher = \"timer\"\nin = { intervall = \"3s\" }"),
        "node.toml:20:20: event `e`: watcher `timer` has no IN parameter `intervall`"
    );
    assert_eq!(
        event("watcher = \"timer\"\nin = { interval = 3 }"),
        "node.toml:20:19: event `e`: IN parameter `interval` is `3`; it takes a duration such as \"10s\", from 100 ms to \
         31622400000 ms"
    );
    assert!(
        event("watcher = \"timer\"")
            .starts_with("node.toml:17:1: event `e`: watcher `timer` needs IN parameter `interval`")
    );
    let timer = "watcher = \"timer\"\nin = { interval = \"3s\" }\n";
    assert_eq!(
        event(&format!("{timer}action = \"reboot ${{in.interval}}\"")),
        "node.toml:21:10: action has `$`, which only a shell understands"
    );
    assert!(
        event(&format!("{timer}action = [\"x\", \"${{out.size}}\"]"))
            .starts_with("node.toml:21:10: event `e`: the action refers to `${out.size}`")
    );
    assert!(
        event(&format!("{timer}action = {{ shell = \"x ${{out.count}}\" }}"))
            .contains("whose value a shell would interpret")
    );
    assert_eq!(
        event(&format!("{timer}timeout = \"3s\"")),
        "node.toml:21:11: timeout of event `e` is given, and there is no action"
    );
    let after = |more: &str| mistake_after_whole(&format!("[[event]]\nname = \"e\"\n{timer}{more}"));
    let twice = after(&format!("[[event]]\nname = \"e\"\n{timer}"));
    let expected = "node.toml:22:8: two [[event]] have the name `e`, which is unique in the cluster (the other is at ";
    assert!(twice.starts_with(expected) && twice.ends_with("node.toml:18:8)"), "{twice}");
    assert_eq!(
        after("[[event_group]]\nname = \"g\"\nevents = [\"e\", \"f\"]\n"),
        "node.toml:23:10: event group `g` names `f`, which is no [[event]]"
    );
    assert_eq!(
        after("[[event_group]]\nname = \"g\"\nevents = [\"e\"]\nnodes = [\"n7\"]\n"),
        "node.toml:24:9: nodes of event group `g` names `n7`, which is no node"
    );
    assert_eq!(
        after("[[service]]\nname = \"s\"\nevent_group = \"g\"\n"),
        "node.toml:23:15: event_group of service `s` is `g`, which is no [[event_group]]"
    );
    let both = "[[service]]\nname = \"s\"\nevent_group = \"g\"\n[[event_group]]\nname = \"g\"\nevents = [\"e\"]\nnodes = [\"n1\"]\n";
    assert!(after(both).contains("is enabled where service `s` is registered, and has nodes of its own"));
}
