//! A service definition as it is written in a file: for `config show`, and for differences that name keys.

mod actions;

use phalanx_messages::NodeId;
use phalanx_messages::launch::Leaves;
use phalanx_messages::service::{
    AgentClass, AllowableNodes, AutoRegister, ChildFailure, NodePreferences, PlacementPolicy, STABLE_MS_DEFAULT,
    ServiceDefinition, StopFailure, TransferCost, WEIGHT_DEFAULT,
};
use serde::Serialize;
use toml::Value;

use super::duration;
use super::service::START_RETRIES;

/// One key of a difference. A value is written as in a file; none = the key is left out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub struct KeyDifference {
    /// The key.
    pub key: String,
    /// What it was.
    pub before: Option<String>,
    /// What it becomes.
    pub after: Option<String>,
}

/// Gives node ids their names.
pub type NameOf<'a> = &'a dyn Fn(NodeId) -> String;

/// The definition as a `[[service]]` table. Keys that have their default are left out.
#[must_use]
pub fn service_text(definition: &ServiceDefinition, name_of: NameOf<'_>) -> String {
    let lines = keys(definition, name_of).into_iter().map(|(key, value)| format!("{key} = {value}\n"));
    format!("[[service]]\n{}", lines.collect::<String>())
}

/// Keys in which two definitions differ, in the order of [`service_text`]; all of `after` if there was none before.
#[must_use]
pub fn difference(
    before: Option<&ServiceDefinition>,
    after: &ServiceDefinition,
    name_of: NameOf<'_>,
) -> Vec<KeyDifference> {
    difference_of(before.map(|before| keys(before, name_of)).unwrap_or_default(), keys(after, name_of))
}

/// Keys whose values differ, in the order of `after`, then those that are gone.
pub(super) fn difference_of(
    before: Vec<(&'static str, Value)>,
    after: Vec<(&'static str, Value)>,
) -> Vec<KeyDifference> {
    let value = |keys: &[(&str, Value)], key: &str| {
        keys.iter().find(|(known, _)| *known == key).map(|(_, value)| value.to_string())
    };
    let gone = before.iter().filter(|(key, _)| value(&after, key).is_none());
    let keys = after.iter().chain(gone).map(|(key, _)| *key);
    let of_key =
        |key: &str| KeyDifference { key: key.to_owned(), before: value(&before, key), after: value(&after, key) };
    keys.map(of_key).filter(|difference| difference.before != difference.after).collect()
}

/// The keys and values of the `[[service]]` table, in order. Keys that have their default are left out.
#[must_use]
pub fn keys(definition: &ServiceDefinition, name_of: NameOf<'_>) -> Vec<(&'static str, Value)> {
    let names = |nodes: &[NodeId]| Value::Array(nodes.iter().map(|node| Value::String(name_of(*node))).collect());
    let mut keys = vec![("name", Value::String(definition.name.clone()))];
    if let AllowableNodes::Listed(nodes) = &definition.allowable_nodes {
        keys.push(("allowable_nodes", names(nodes)));
    }
    if !definition.disallowable_nodes.is_empty() {
        keys.push(("disallowable_nodes", names(&definition.disallowable_nodes)));
    }
    let preferences = match &definition.node_preferences {
        NodePreferences::None => None,
        NodePreferences::Ordered(nodes) => Some(("ordered", names(nodes))),
        NodePreferences::Unordered(nodes) => Some(("unordered", names(nodes))),
    };
    if let Some((kind, nodes)) = preferences {
        keys.push(("node_preferences", Value::Table([(kind.to_owned(), nodes)].into_iter().collect())));
    }
    match definition.auto_register {
        AutoRegister::Always => {}
        AutoRegister::Manual => keys.push(("auto_register", Value::String("manual".to_owned()))),
        AutoRegister::PowerUp => keys.push(("auto_register", Value::String("power-up".to_owned()))),
    }
    keys.extend(definition.maturity_count.map(|count| ("maturity_count", Value::Integer(count.into()))));
    keys.extend(definition.maturity_time_ms.map(|ms| ("maturity_time", Value::String(duration::text(ms)))));
    actions::push(&mut keys, definition);
    let is_actor = definition.agent.as_ref().is_some_and(|agent| matches!(agent.class, AgentClass::Actor { .. }));
    let default = if definition.stop_command.is_some() && !is_actor { Leaves::State } else { Leaves::Processes };
    if definition.leaves != default {
        let leaves = match definition.leaves {
            Leaves::Processes => "processes",
            Leaves::State => "state",
        };
        keys.push(("leaves", Value::String(leaves.to_owned())));
    }
    if definition.start_retries != START_RETRIES {
        keys.push(("start_retries", Value::Integer(definition.start_retries.into())));
    }
    if definition.stop_failure == StopFailure::Ignore {
        keys.push(("stop_failure", Value::String("ignore".to_owned())));
    }
    if definition.recover_lost_start {
        keys.push(("recover_lost_start", Value::Boolean(true)));
    }
    keys.extend(definition.event_group.iter().map(|group| ("event_group", Value::String(group.clone()))));
    push_group(&mut keys, definition);
    keys
}

/// What it says of its group and of how it is placed.
fn push_group(keys: &mut Vec<(&'static str, Value)>, definition: &ServiceDefinition) {
    let text = |text: &str| Value::String(text.to_owned());
    let said = [
        ("parent", definition.parent.as_deref().map(text)),
        ("child_failure", (definition.child_failure == ChildFailure::FailGroup).then(|| text("fail_group"))),
        ("inherit_actions", definition.inherit_actions.then_some(Value::Boolean(true))),
        (
            "placement_policy",
            (definition.placement_policy == PlacementPolicy::RegisterOnAll).then(|| text("register_on_all")),
        ),
        ("transfer_cost", (definition.transfer_cost == TransferCost::Free).then(|| text("free"))),
        (
            "stable_time",
            (definition.stable_ms != STABLE_MS_DEFAULT).then(|| text(&duration::text(definition.stable_ms))),
        ),
        ("weight", (definition.weight != WEIGHT_DEFAULT).then(|| Value::Integer(definition.weight.into()))),
    ];
    keys.extend(said.into_iter().filter_map(|(key, value)| Some((key, value?))));
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use phalanx_messages::service::{Invocation, Monitor, RestartPolicy, ServiceCommand};

    use super::super::services_of_text;
    use super::super::tests::nodes;
    use super::*;

    fn name_of(node: NodeId) -> String {
        format!("n{node}")
    }

    fn some_nodes() -> impl Strategy<Value = Vec<NodeId>> {
        proptest::sample::subsequence(vec![0_u16, 1, 2], 1..=3).prop_map(|ids| ids.into_iter().map(NodeId).collect())
    }

    fn command() -> impl Strategy<Value = Option<ServiceCommand>> {
        let run = prop_oneof![
            "[a-z][ -~]{0,20}[a-z]".prop_map(Invocation::Shell),
            proptest::collection::vec("[ -~]{0,8}[a-z]", 1..4).prop_map(Invocation::Arguments),
        ];
        let command = (run, 1_u64..200_000, 0_u16..5);
        proptest::option::of(command.prop_map(|(run, timeout_ms, retries)| ServiceCommand { run, timeout_ms, retries }))
    }

    fn monitor() -> impl Strategy<Value = Option<Monitor>> {
        let monitor = ("[a-z]{1,9}", 1_u64..50_000, 1_u64..50_000, 1_u16..9);
        proptest::option::of(monitor.prop_map(|(program, interval_ms, timeout_ms, tolerance)| Monitor {
            run: Invocation::Arguments(vec![program]),
            interval_ms,
            timeout_ms,
            tolerance,
        }))
    }

    fn restart() -> impl Strategy<Value = RestartPolicy> {
        let given = (0_u16..9, 1_u64..50_000, 1_u64..50_000).prop_map(|(limit, window_ms, backoff_ms)| RestartPolicy {
            limit,
            window_ms,
            backoff_ms,
        });
        prop_oneof![Just(RestartPolicy::default()), given]
    }

    fn definition() -> impl Strategy<Value = ServiceDefinition> {
        let allowable = prop_oneof![Just(AllowableNodes::Any), some_nodes().prop_map(AllowableNodes::Listed)];
        let preferences = prop_oneof![
            Just(NodePreferences::None),
            some_nodes().prop_map(NodePreferences::Ordered),
            some_nodes().prop_map(NodePreferences::Unordered)
        ];
        let auto = prop_oneof![Just(AutoRegister::Manual), Just(AutoRegister::PowerUp), Just(AutoRegister::Always)];
        let maturity = (proptest::option::of(1_u16..2), proptest::option::of(1_u64..100_000));
        let commands = (command(), command(), command(), command());
        let group = proptest::option::of("[a-z]{1,5}");
        let rest = (any::<bool>(), 0_u32..10, any::<bool>(), any::<bool>(), monitor(), restart(), group);
        (allowable, preferences, auto, maturity, commands, rest).prop_map(
            |(allowable_nodes, node_preferences, auto_register, maturity, commands, rest)| ServiceDefinition {
                name: "clock".to_owned(),
                allowable_nodes,
                disallowable_nodes: vec![NodeId(3)],
                node_preferences,
                auto_register,
                maturity_count: maturity.0,
                maturity_time_ms: maturity.1,
                // A start is tried again on other nodes, not on the same.
                start_command: commands.0.map(|start| ServiceCommand { retries: 0, ..start }),
                stop_command: commands.1,
                notify_command: commands.2,
                recovery_command: commands.3,
                leaves: if rest.0 { Leaves::State } else { Leaves::Processes },
                start_retries: rest.1,
                stop_failure: if rest.2 { StopFailure::Fence } else { StopFailure::Ignore },
                recover_lost_start: rest.3,
                monitor: rest.4,
                restart: rest.5,
                event_group: rest.6,
                ..ServiceDefinition::new("")
            },
        )
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_as_the_same_definition(definition in definition()) {
            let text = service_text(&definition, &name_of);
            let read = services_of_text("text", &text, &nodes(4), true).map_err(|errors| errors.to_string());
            prop_assert_eq!(read, Ok(vec![definition]), "{}", text);
        }

        #[test]
        fn a_difference_is_empty_just_for_equal_definitions(one in definition(), other in definition()) {
            prop_assert_eq!(difference(Some(&one), &other, &name_of).is_empty(), one == other);
            prop_assert!(difference(Some(&one), &one, &name_of).is_empty());
        }
    }
}
