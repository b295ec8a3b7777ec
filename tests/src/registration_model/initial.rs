//! Where a model begins, and which instance machines it has.

use std::collections::BTreeMap;

use phalanx_messages::registration::{Instance, Presence, RegistrationRecord, Sight, View};
use phalanx_messages::service::{AllowableNodes, PlacementPolicy, ServiceDefinition};
use phalanx_messages::{Incarnation, NodeId, Term};

use super::decisions::Books;
use super::state::{Slot, State};
use super::{LANES_MAX, NODES_MAX, RegistrationModel};

/// One instance machine.
#[derive(Debug, Clone)]
pub struct Lane {
    pub instance: Instance,
    pub definition: ServiceDefinition,
    /// Place of its parent's machine.
    pub parent: Option<usize>,
    /// Place of the machine of the root of its group.
    pub root: usize,
}

impl Lane {
    /// For people.
    pub const fn kin(&self) -> &'static str {
        match (self.parent, self.instance.of) {
            (None, None) => "root",
            (None, Some(_)) => "instance",
            (Some(_), None) => "child",
            (Some(_), Some(_)) => "child of an instance",
        }
    }
}

/// `node` is allowable and not disallowed.
pub fn is_allowable(definition: &ServiceDefinition, node: NodeId) -> bool {
    let allowable = match &definition.allowable_nodes {
        AllowableNodes::Any => true,
        AllowableNodes::Listed(nodes) => nodes.contains(&node),
    };
    allowable && !definition.disallowable_nodes.contains(&node)
}

impl RegistrationModel {
    fn definition(&self, name: &str) -> Option<&ServiceDefinition> {
        self.definitions.iter().find(|definition| definition.name == name)
    }

    fn root_of<'a>(&'a self, definition: &'a ServiceDefinition) -> &'a ServiceDefinition {
        let parent = definition.parent.as_ref().and_then(|parent| self.definition(parent));
        parent.map_or(definition, |parent| self.root_of(parent))
    }

    /// Parents stand before their children in `definitions`.
    ///
    /// # Panics
    /// If the model has more machines than there is room for.
    pub(super) fn lanes(&self) -> Vec<Lane> {
        let mut lanes: Vec<Lane> = Vec::new();
        for definition in &self.definitions {
            let root = self.root_of(definition);
            let on: Vec<Option<NodeId>> = match root.placement_policy {
                PlacementPolicy::RegisterOnOne => vec![None],
                PlacementPolicy::RegisterOnAll => {
                    (0..self.nodes).map(NodeId).filter(|node| is_allowable(root, *node)).map(Some).collect()
                }
            };
            for of in on {
                let place = |name: &str| {
                    let instance = Instance { service: name.to_owned(), of };
                    lanes.iter().position(|lane| lane.instance == instance)
                };
                let parent = definition.parent.as_ref().and_then(|parent| place(parent));
                let root = place(&root.name).unwrap_or(lanes.len());
                let instance = Instance { service: definition.name.clone(), of };
                lanes.push(Lane { instance, definition: definition.clone(), parent, root });
            }
        }
        assert!(lanes.len() <= LANES_MAX, "too many machines");
        lanes
    }
}

impl Books<'_> {
    /// Those who are up know each other, and nothing was decided yet.
    pub(super) fn initial(&mut self) -> State {
        let up: Vec<u16> = self.model.up.to_vec();
        let sight = |id: &u16| (NodeId(*id), Sight { incarnation: Incarnation(1), presence: Presence::Joined });
        let nodes: BTreeMap<NodeId, Sight> = up.iter().map(sight).collect();
        let truth = View { formation: Term(u64::from(!up.is_empty())), nodes };
        let truth = self.view_id(truth);
        let nothing = self.view_id(View::default());
        let database = self.record_id(RegistrationRecord::of_definitions(self.model.definitions.iter().cloned()));
        let mut views = [nothing; NODES_MAX];
        up.iter().for_each(|id| views[usize::from(*id)] = truth);
        State {
            truth,
            database,
            views,
            deciding: [None; NODES_MAX],
            behind: [0; NODES_MAX],
            marked: 0,
            lost: 0,
            worked: 0,
            slots: [[Slot::default(); LANES_MAX]; NODES_MAX],
            budget: self.model.budget,
        }
    }
}
