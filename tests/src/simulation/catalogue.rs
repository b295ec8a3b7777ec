//! What the database of a simulated cluster defines when its disk is formatted, and how an administrator may define it otherwise:
//! services alone and in groups, on one node and on all, with every choosing parameter, and the events of those that have some.

use phalanx_messages::NodeId;
use phalanx_messages::event::{EventDefinition, EventGroupDefinition, ParameterValue};
use phalanx_messages::registration::RegistrationRecord;
use phalanx_messages::service::{
    AllowableNodes, AutoRegister, ChildFailure, Invocation, NodePreferences, PlacementPolicy, RestartPolicy,
    ServiceCommand, ServiceDefinition, StopFailure, TransferCost,
};

use super::random::Random;

/// Longest time that a command may take.
pub const COMMAND_MS: u64 = 2_000;
/// Events that are watched where a service is registered that names this group.
pub const WATCHED_GROUP: &str = "watched";
/// Events that are watched on every node: no service names the group.
const STANDING_GROUP: &str = "standing";

fn command(command: &str) -> Option<ServiceCommand> {
    Some(ServiceCommand::shell(command, COMMAND_MS))
}

fn service(name: &str) -> ServiceDefinition {
    ServiceDefinition { start_command: command("start"), stop_command: command("stop"), ..ServiceDefinition::new(name) }
}

fn recovered(name: &str) -> ServiceDefinition {
    ServiceDefinition { recovery_command: command("recover"), ..service(name) }
}

fn below(parent: &str, definition: ServiceDefinition) -> ServiceDefinition {
    ServiceDefinition { parent: Some(parent.to_owned()), ..definition }
}

fn on_all(definition: ServiceDefinition) -> ServiceDefinition {
    ServiceDefinition { placement_policy: PlacementPolicy::RegisterOnAll, ..definition }
}

/// For stories: one that needs recovery and has a child, one that does not, one that not every node may run, and one that runs on
/// all.
#[must_use]
pub fn plain(nodes: u16) -> RegistrationRecord {
    let some = (0..nodes.min(2)).map(NodeId).collect();
    RegistrationRecord::of_definitions([
        recovered("licence"),
        service("queue"),
        ServiceDefinition { allowable_nodes: AllowableNodes::Listed(some), ..recovered("store") },
        ServiceDefinition { child_failure: ChildFailure::FailGroup, ..below("licence", recovered("audit")) },
        on_all(recovered("cache")),
    ])
}

/// A group of three generations, two services that stand alone, and a group that runs on all nodes; everything else is drawn.
#[must_use]
pub fn drawn(random: &mut Random, nodes: u16) -> RegistrationRecord {
    let skeletons = [
        recovered("licence"),
        below("licence", recovered("audit")),
        below("audit", service("report")),
        service("queue"),
        recovered("store"),
        on_all(recovered("cache")),
        below("cache", recovered("shard")),
    ];
    let definitions = skeletons.map(|skeleton| redefined(random, nodes, &skeleton));
    let mut record = RegistrationRecord::of_definitions(definitions);
    record.events = [failing(), told()].map(|event| (event.name.clone(), event)).into_iter().collect();
    let groups = [group(WATCHED_GROUP, &["failing", "told"]), group(STANDING_GROUP, &["told"])];
    record.event_groups = groups.map(|group| (group.name.clone(), group)).into_iter().collect();
    record
}

/// Its action function says that the service has failed (spec, "5. Event Manager Daemon").
fn failing() -> EventDefinition {
    let words = ["phalanx", "service", "failed"].map(str::to_owned).to_vec();
    let action = ServiceCommand { run: Invocation::Arguments(words), timeout_ms: COMMAND_MS, retries: 0 };
    EventDefinition { action: Some(action), quiet_ms: 500, ..told_as("failing") }
}

fn told() -> EventDefinition {
    told_as("told")
}

fn told_as(name: &str) -> EventDefinition {
    let interval = ParameterValue::DurationMs(1_000);
    EventDefinition {
        name: name.to_owned(),
        watcher: "timer".to_owned(),
        parameters: [("interval".to_owned(), interval)].into(),
        action: None,
        quiet_ms: 0,
    }
}

fn group(name: &str, events: &[&str]) -> EventGroupDefinition {
    let events = events.iter().map(|event| (*event).to_owned()).collect();
    EventGroupDefinition { name: name.to_owned(), events, nodes: Vec::new(), enabled: true }
}

/// The service with other parameters. Its place in a group, its placement policy, and whether it is recovered stay.
#[must_use]
pub fn redefined(random: &mut Random, nodes: u16, skeleton: &ServiceDefinition) -> ServiceDefinition {
    let ServiceDefinition { name, parent, placement_policy, start_command, recovery_command, .. } = skeleton.clone();
    let count = |drawn: u64| u16::try_from(drawn).unwrap_or(0);
    let actions = ServiceDefinition {
        parent,
        placement_policy,
        start_command,
        recover_lost_start: recovery_command.is_some() && random.chance(300),
        recovery_command,
        stop_command: command("stop").filter(|_| !random.chance(100)),
        notify_command: command("notify").filter(|_| random.chance(400)),
        start_retries: u32::from(count(random.below(3))),
        stop_failure: if random.chance(400) { StopFailure::Ignore } else { StopFailure::Fence },
        child_failure: if random.coin() { ChildFailure::FailGroup } else { ChildFailure::Isolate },
        restart: RestartPolicy { limit: count(random.below(3)), window_ms: 4_000, backoff_ms: 500 },
        event_group: random.chance(400).then(|| WATCHED_GROUP.to_owned()),
        ..ServiceDefinition::new(name)
    };
    // Only the root of a group chooses.
    if actions.parent.is_some() { actions } else { choosing(random, nodes, actions) }
}

fn choosing(random: &mut Random, nodes: u16, definition: ServiceDefinition) -> ServiceDefinition {
    let some = |random: &mut Random| (0..nodes).map(NodeId).filter(|_| random.chance(600)).collect::<Vec<_>>();
    let listed = some(random);
    let preferred = some(random);
    let on_one = definition.placement_policy == PlacementPolicy::RegisterOnOne;
    ServiceDefinition {
        allowable_nodes: if random.chance(300) && !listed.is_empty() {
            AllowableNodes::Listed(listed)
        } else {
            AllowableNodes::Any
        },
        disallowable_nodes: (0..nodes).map(NodeId).filter(|_| random.chance(60)).collect(),
        node_preferences: match random.below(3) {
            0 if on_one => NodePreferences::Ordered(preferred),
            1 if on_one => NodePreferences::Unordered(preferred),
            _ => NodePreferences::None,
        },
        auto_register: match random.below(10) {
            0 => AutoRegister::Manual,
            1 => AutoRegister::PowerUp,
            _ => AutoRegister::Always,
        },
        transfer_cost: if on_one && random.chance(500) { TransferCost::Free } else { TransferCost::Normal },
        stable_ms: 2_000,
        maturity_count: random.chance(300).then_some(2),
        maturity_time_ms: random.coin().then_some(3_000),
        ..definition
    }
}

#[cfg(test)]
mod tests {
    use phalanx_messages::order::{DefinitionChange, DefinitionChanges, RegistrationOrder};
    use phalanx_messages::registration::View;
    use phalanx_protocol::events;
    use phalanx_protocol::registration::{DatabaseRoom, NodeLoads, Planning, plan};

    use super::*;

    /// What nobody could apply would test little.
    #[test]
    fn every_catalogue_could_be_applied() {
        for seed in 0..200 {
            let record = drawn(&mut Random::new(seed), 3);
            let apply: DefinitionChanges = record
                .services
                .values()
                .map(|service| DefinitionChange { before: None, after: service.definition.clone() })
                .collect();
            let base = RegistrationRecord { services: Default::default(), ..record.clone() };
            let (view, loads) = (View::default(), NodeLoads::default());
            let planning = Planning { view: &view, loads: &loads, room: DatabaseRoom::default() };
            let planned = plan(&base, planning, &RegistrationOrder::Apply(apply));
            assert!(planned.is_ok(), "seed {seed}: {planned:?}");
            for event in record.events.values() {
                assert_eq!(events::check(event, events::builtin(&event.watcher).as_ref()), Ok(()));
            }
        }
    }

    #[test]
    fn a_redefinition_keeps_the_place_in_a_group() {
        let mut random = Random::new(1);
        let child = below("licence", recovered("audit"));
        let again = redefined(&mut random, 3, &child);
        assert_eq!((again.parent, again.recovery_command), (child.parent, child.recovery_command));
    }
}
