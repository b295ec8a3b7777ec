//! What makes the next registration database of one: the content of a redo record (protocol §2, "Registration database").
//!
//! A decision changes a few services of thousands. Its change is found without looking at those that both databases share.

use std::collections::BTreeMap;

use imbl::OrdMap;
use imbl::ordmap::DiffItem;
use serde::{Deserialize, Serialize};

use crate::codec::CodecError;
use crate::event::{EventDefinition, EventGroupDefinition};
use crate::ids::{NodeId, Revision, Term};
use crate::order::ConsumedRequest;
use crate::registration::{RegistrationRecord, ServiceRecord, ServiceRun, Sight};
use crate::service::ServiceDefinition;
use crate::set::NodeSet;

/// The difference between a database and the next one. What is absent has not changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegistrationChange {
    /// Revision of the next database; the one before has the same depoch and one sequence less.
    pub revision: Revision,
    /// Formation of the next database.
    pub formation: Term,
    /// Services that are new, other or (none) gone.
    services: BTreeMap<String, Option<ServiceChange>>,
    /// Likewise events.
    events: BTreeMap<String, Option<EventDefinition>>,
    /// Likewise event groups.
    event_groups: BTreeMap<String, Option<EventGroupDefinition>>,
    view: Option<BTreeMap<NodeId, Sight>>,
    standby: Option<NodeSet>,
    requests: Option<BTreeMap<NodeId, ConsumedRequest>>,
}

/// A service that is new or other. Most changes leave the definition, which is the larger part of it, as it was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct ServiceChange {
    definition: Option<ServiceDefinition>,
    run: ServiceRun,
    instances: BTreeMap<NodeId, ServiceRun>,
}

impl RegistrationChange {
    /// What makes `after` of `before`; none if `after` is not the next database of the same depoch.
    #[must_use]
    pub fn between(before: &RegistrationRecord, after: &RegistrationRecord) -> Option<Self> {
        let differs = |differs: bool| differs.then_some(());
        follows(before.revision, after.revision).then(|| Self {
            revision: after.revision,
            formation: after.formation,
            services: difference(&before.services, &after.services, ServiceChange::between),
            events: difference(&before.events, &after.events, |_, event| event.clone()),
            event_groups: difference(&before.event_groups, &after.event_groups, |_, group| group.clone()),
            view: differs(before.view != after.view).map(|()| after.view.clone()),
            standby: differs(before.standby != after.standby).map(|()| after.standby),
            requests: differs(before.requests != after.requests).map(|()| after.requests.clone()),
        })
    }

    /// Makes the next database of `record`.
    ///
    /// # Errors
    /// [`CodecError::Misplaced`] if this is not a change of that database, which then is what it was.
    pub fn apply(self, record: &mut RegistrationRecord) -> Result<(), CodecError> {
        let Self { revision, formation, services, events, event_groups, view, standby, requests } = self;
        let lacks_definition = |(name, change): (&String, &Option<ServiceChange>)| {
            let known = record.services.contains_key(name);
            change.as_ref().is_some_and(|change| change.definition.is_none() && !known)
        };
        if !follows(record.revision, revision) || services.iter().any(lacks_definition) {
            return Err(CodecError::Misplaced);
        }
        for (name, change) in services {
            match (change, record.services.get_mut(&name)) {
                (None, _) => drop(record.services.remove(&name)),
                (Some(change), Some(known)) => change.apply(known),
                (Some(ServiceChange { definition, run, instances }), None) => {
                    if let Some(definition) = definition {
                        record.services.insert(name, ServiceRecord { definition, run, instances });
                    }
                }
            }
        }
        replace(&mut record.events, events);
        replace(&mut record.event_groups, event_groups);
        (record.revision, record.formation) = (revision, formation);
        record.view = view.unwrap_or_else(|| std::mem::take(&mut record.view));
        record.standby = standby.unwrap_or(record.standby);
        record.requests = requests.unwrap_or_else(|| std::mem::take(&mut record.requests));
        Ok(())
    }
}

impl ServiceChange {
    fn between(before: Option<&ServiceRecord>, after: &ServiceRecord) -> Self {
        let ServiceRecord { definition, run, instances } = after;
        let same = before.is_some_and(|before| before.definition == *definition);
        let definition = (!same).then(|| definition.clone());
        Self { definition, run: run.clone(), instances: instances.clone() }
    }

    fn apply(self, known: &mut ServiceRecord) {
        if let Some(definition) = self.definition {
            known.definition = definition;
        }
        (known.run, known.instances) = (self.run, self.instances);
    }
}

/// The next database of the same depoch.
fn follows(before: Revision, after: Revision) -> bool {
    after.term == before.term && before.seq.checked_add(1) == Some(after.seq)
}

fn difference<V: Clone + PartialEq, C>(
    before: &OrdMap<String, V>,
    after: &OrdMap<String, V>,
    change: impl Fn(Option<&V>, &V) -> C,
) -> BTreeMap<String, Option<C>> {
    let changed = |item| match item {
        DiffItem::Add(name, value) => (String::clone(name), Some(change(None, value))),
        DiffItem::Update { old: (_, old), new: (name, value) } => (String::clone(name), Some(change(Some(old), value))),
        DiffItem::Remove(name, _) => (String::clone(name), None),
    };
    before.diff(after).map(changed).collect()
}

fn replace<V: Clone>(map: &mut OrdMap<String, V>, changes: BTreeMap<String, Option<V>>) {
    for (name, value) in changes {
        match value {
            Some(value) => drop(map.insert(name, value)),
            None => drop(map.remove(&name)),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ids::{Incarnation, NodeIncarnation};
    use crate::registration::{Presence, RunState};

    fn record(seed: &[(u8, u8, u8)], (view, standby): (u8, u8), seq: u64) -> RegistrationRecord {
        let service = |(name, definition, node): &(u8, u8, u8)| {
            let name = format!("s{}", name % 12);
            let mut it = ServiceDefinition::new(&name);
            it.maturity_count = Some(u16::from(definition % 3));
            let node = NodeIncarnation { node: NodeId(u16::from(node % 4)), incarnation: Incarnation(1) };
            let run = ServiceRun { state: RunState::Registered, node, ..ServiceRun::default() };
            let instances = (node.node.0 > 1).then(|| (node.node, run.clone())).into_iter().collect();
            (name, ServiceRecord { definition: it, run, instances })
        };
        let event = |(name, watcher, _): &(u8, u8, u8)| {
            let (name, watcher) = (format!("e{}", name % 3), format!("w{}", watcher % 2));
            let (parameters, action, quiet_ms) = (BTreeMap::new(), None, 0);
            (name.clone(), EventDefinition { name, watcher, parameters, action, quiet_ms })
        };
        let group = |(name, enabled, node): &(u8, u8, u8)| {
            let name = format!("g{}", name % 3);
            let nodes = vec![NodeId(u16::from(node % 2))];
            (name.clone(), EventGroupDefinition { name, events: vec![], nodes, enabled: enabled % 2 == 0 })
        };
        let sight = Sight { incarnation: Incarnation(u64::from(view)), presence: Presence::Joined };
        RegistrationRecord {
            revision: Revision { term: Term(3), seq },
            formation: Term(u64::from(view)),
            services: seed.iter().map(service).collect(),
            events: seed.iter().take(4).map(event).collect(),
            event_groups: seed.iter().take(4).map(group).collect(),
            view: [(NodeId(0), sight)].into(),
            standby: (standby == 1).then_some(NodeId(1)).into_iter().collect(),
            requests: BTreeMap::new(),
        }
    }

    proptest! {
        #[test]
        fn what_lies_between_two_databases_makes_one_of_the_other(
            before in proptest::collection::vec(any::<(u8, u8, u8)>(), 0..30),
            after in proptest::collection::vec(any::<(u8, u8, u8)>(), 0..30),
            views in ((0..3_u8, 0..2_u8), (0..3_u8, 0..2_u8)),
        ) {
            let (before, after) = (record(&before, views.0, 6), record(&after, views.1, 7));
            let change = RegistrationChange::between(&before, &after).expect("it follows");
            let mut made = before;
            prop_assert!(change.clone().apply(&mut made).is_ok());
            prop_assert_eq!(&made, &after);
            prop_assert!(change.apply(&mut made).is_err(), "it follows the other one only");
            prop_assert_eq!(made, after);
        }
    }

    /// Found by 500 services that all stopped at once: the map's own difference missed the first entry behind a run of shared nodes,
    /// so that a service that had stopped was stopping for ever for whoever read the disk.
    #[test]
    fn no_change_of_one_among_many_is_missed() {
        let before = RegistrationRecord::of_definitions((0..700).map(|it| ServiceDefinition::new(format!("s{it:03}"))));
        for (changed, also) in (0..700).zip((0..700).map(|it| it * 37 % 700)) {
            let mut after = before.clone();
            after.revision.seq += 1;
            for it in [changed, also] {
                after.services.get_mut(&format!("s{it:03}")).expect("it is there").run.want = true;
            }
            let change = RegistrationChange::between(&before, &after).expect("it follows");
            let mut names: Vec<String> = [changed, also].map(|it| format!("s{it:03}")).into();
            names.sort();
            names.dedup();
            assert_eq!(change.services.into_keys().collect::<Vec<_>>(), names);
            assert!(before.services != after.services);
        }
    }

    #[test]
    fn only_the_next_database_of_a_depoch_is_a_change() {
        let at = |term, seq| RegistrationRecord { revision: Revision { term: Term(term), seq }, ..Default::default() };
        assert!(RegistrationChange::between(&at(3, 6), &at(3, 7)).is_some());
        for (term, seq) in [(3, 6), (3, 8), (4, 7), (4, 0)] {
            assert_eq!(RegistrationChange::between(&at(3, 6), &at(term, seq)), None, "{term}.{seq}");
        }
    }

    #[test]
    fn a_run_state_costs_no_definition() {
        let bytes = |group: &str| {
            let mut before = record(&[(1, 1, 0)], (0, 0), 1);
            let definition = &mut before.services.get_mut("s1").expect("it is there").definition;
            definition.event_group = Some(group.to_owned());
            let mut after = RegistrationRecord { revision: Revision { term: Term(3), seq: 2 }, ..before.clone() };
            after.services.get_mut("s1").expect("it is there").run.want = true;
            let change = RegistrationChange::between(&before, &after).expect("it follows");
            crate::codec::encode(&change, 4_000).expect("it fits").len()
        };
        assert_eq!(bytes("short"), bytes(&"long".repeat(500)));
    }

    /// A change of a service that the database does not have is refused as a whole.
    #[test]
    fn a_change_of_what_is_not_there_is_refused() {
        let before = record(&[(1, 1, 0)], (0, 0), 1);
        let mut after = RegistrationRecord { revision: Revision { term: Term(3), seq: 2 }, ..before.clone() };
        after.services.get_mut("s1").expect("it is there").run.want = true;
        let change = RegistrationChange::between(&before, &after).expect("it follows");
        let mut other = RegistrationRecord { services: OrdMap::new(), ..before };
        let untouched = other.clone();
        assert!(matches!(change.apply(&mut other), Err(CodecError::Misplaced)));
        assert_eq!(other, untouched);
    }
}
