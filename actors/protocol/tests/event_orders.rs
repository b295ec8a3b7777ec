//! Events and event groups change in the transaction of the services that use them, all or none (spec, "5. Event Manager Daemon").

use phalanx_messages::event::{EventDefinition, EventGroupDefinition};
use phalanx_messages::order::{
    DefinitionChange, DefinitionChanges, EventChange, EventGroupChange, OrderRefusal, RegistrationOrder,
    RegistrationRequest,
};
use phalanx_messages::registration::{RegistrationRecord, View};
use phalanx_messages::service::ServiceDefinition;
use phalanx_messages::{Incarnation, NodeId, NodeIncarnation};
use phalanx_protocol::registration::{DatabaseRoom, Decision, Event};

/// A database and an administrator.
#[derive(Default)]
struct Database {
    record: RegistrationRecord,
    counter: u64,
}

impl Database {
    fn order_within(&mut self, order: RegistrationOrder, room: DatabaseRoom) -> Result<(), OrderRefusal> {
        self.counter += 1;
        let source = NodeIncarnation { node: NodeId(0), incarnation: Incarnation(1) };
        let (base, view) = (self.record.clone(), View::default());
        let mut decision = Decision::new(&base, &view).within(room);
        decision.absorb(&Event::Requested(RegistrationRequest { source, counter: self.counter, order }));
        self.record = decision.settle().record;
        self.record.requests[&NodeId(0)].answer.clone()
    }

    fn order(&mut self, order: RegistrationOrder) -> Result<(), OrderRefusal> {
        self.order_within(order, DatabaseRoom::default())
    }

    fn apply(&mut self, changes: &DefinitionChanges) -> Result<(), OrderRefusal> {
        self.order(RegistrationOrder::Apply(changes.clone()))
    }

    fn names(&self) -> (Vec<&str>, Vec<&str>, Vec<&str>) {
        let RegistrationRecord { services, events, event_groups, .. } = &self.record;
        (
            services.keys().map(String::as_str).collect(),
            events.keys().map(String::as_str).collect(),
            event_groups.keys().map(String::as_str).collect(),
        )
    }
}

fn event(name: &str) -> EventDefinition {
    let (name, watcher) = (name.to_owned(), "timer".to_owned());
    EventDefinition { name, watcher, parameters: Default::default(), action: None, quiet_ms: 0 }
}

fn group(events: &[&str]) -> EventGroupDefinition {
    let events = events.iter().map(|event| (*event).to_owned()).collect();
    EventGroupDefinition { name: "g".to_owned(), events, nodes: vec![], enabled: true }
}

fn new_event(name: &str) -> EventChange {
    EventChange { before: None, after: Some(event(name)) }
}

fn service(group: &str) -> DefinitionChange {
    let after = ServiceDefinition { event_group: Some(group.to_owned()), ..ServiceDefinition::new("web") };
    DefinitionChange { before: None, after }
}

/// A service, its group and the group's event, in one.
fn everything() -> DefinitionChanges {
    DefinitionChanges {
        services: vec![service("g")],
        events: vec![new_event("e")],
        event_groups: vec![EventGroupChange { before: None, after: Some(group(&["e"])) }],
    }
}

#[test]
fn a_service_its_group_and_its_event_are_defined_together_or_not_at_all() {
    let mut database = Database::default();
    assert_eq!(database.apply(&everything()), Ok(()));
    assert_eq!(database.names(), (vec!["web"], vec!["e"], vec!["g"]));

    for (changes, refusal) in [
        (DefinitionChanges { events: vec![], ..everything() }, OrderRefusal::UnknownEvent { event: "e".to_owned() }),
        (
            DefinitionChanges { event_groups: vec![], ..everything() },
            OrderRefusal::UnknownEventGroup { group: "g".to_owned() },
        ),
        (
            DefinitionChanges { events: vec![new_event("e"), new_event("e")], ..everything() },
            OrderRefusal::EventChangedMeanwhile { name: "e".to_owned() },
        ),
        (
            DefinitionChanges {
                services: vec![DefinitionChange { before: Some(ServiceDefinition::new("web")), ..service("g") }],
                ..everything()
            },
            OrderRefusal::ChangedMeanwhile { service: "web".to_owned() },
        ),
    ] {
        let mut database = Database::default();
        assert_eq!(database.apply(&changes), Err(refusal));
        assert_eq!(database.names(), (vec![], vec![], vec![]), "nothing half-applied");
    }
}

#[test]
fn what_is_named_is_not_removed_and_what_somebody_has_changed_is_left() {
    let mut database = Database::default();
    database.apply(&everything()).unwrap();
    let remove_event = EventChange { before: Some(event("e")), after: None };
    let remove_group = EventGroupChange { before: Some(group(&["e"])), after: None };
    let in_use = |name: &str, by: &str| Err(OrderRefusal::EventInUse { name: name.to_owned(), by: by.to_owned() });
    let changes = DefinitionChanges { events: vec![remove_event.clone()], ..DefinitionChanges::default() };
    assert_eq!(database.apply(&changes), in_use("e", "g"));
    let changes = DefinitionChanges { event_groups: vec![remove_group.clone()], ..DefinitionChanges::default() };
    assert_eq!(database.apply(&changes), in_use("g", "web"));
    let other = EventDefinition { quiet_ms: 7, ..event("e") };
    let changes = DefinitionChanges {
        events: vec![EventChange { before: Some(other.clone()), after: Some(other) }],
        ..DefinitionChanges::default()
    };
    assert_eq!(database.apply(&changes), Err(OrderRefusal::EventChangedMeanwhile { name: "e".to_owned() }));
    assert_eq!(database.names(), (vec!["web"], vec!["e"], vec!["g"]));

    let before = Some(service("g").after);
    let without = DefinitionChange { before, after: ServiceDefinition::new("web") };
    let changes =
        DefinitionChanges { services: vec![without], events: vec![remove_event], event_groups: vec![remove_group] };
    assert_eq!(database.apply(&changes), Ok(()), "together they go");
    assert_eq!(database.names(), (vec!["web"], vec![], vec![]));
}

#[test]
fn a_group_is_enabled_and_disabled_by_its_name() {
    let mut database = Database::default();
    database.apply(&everything()).unwrap();
    let enable = |group: &str, enabled| RegistrationOrder::EnableGroup { group: group.to_owned(), enabled };
    let revision = database.record.revision;
    assert_eq!(database.order(enable("g", false)), Ok(()));
    assert!(!database.record.event_groups["g"].enabled && database.record.revision > revision);
    assert_eq!(database.order(enable("g", true)), Ok(()));
    assert!(database.record.event_groups["g"].enabled);
    assert_eq!(database.order(enable("h", true)), Err(OrderRefusal::UnknownEventGroup { group: "h".to_owned() }));
}

/// The bytes of events count: the database must hold everything.
#[test]
fn events_that_do_not_fit_the_disk_are_refused() {
    let room = DatabaseRoom { bytes: 2_000, services: 5 };
    let mut database = Database::default();
    assert_eq!(database.order_within(RegistrationOrder::Apply(everything()), room), Ok(()));
    let large = EventDefinition { watcher: "x".repeat(2_000), ..event("large") };
    let changes = DefinitionChanges {
        events: vec![EventChange { before: None, after: Some(large) }],
        ..DefinitionChanges::default()
    };
    let answer = database.order_within(RegistrationOrder::Apply(changes), room);
    assert!(matches!(answer, Err(OrderRefusal::DatabaseFull { .. })), "{answer:?}");
    assert_eq!(database.names().1, ["e"]);
}
