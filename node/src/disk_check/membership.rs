//! The newest membership record and the configuration it names (protocol §2, "MA and CF together"; §4.8; §5.7).

use std::collections::BTreeSet;

use phalanx_messages::configuration::ConfigurationRecord;
use phalanx_messages::membership::{
    FenceState, MemberEntry, MembershipRecord, NodeState, Step, StepPhase, TransitionKind,
};
use phalanx_messages::{Level, NodeId, TransitionId};

use super::image::Image;
use super::{CONTRADICTION, Finding, LOST, Place, Severity};

/// Collects errors at one place.
struct Errors {
    place: Place,
    found: Vec<Finding>,
}

impl Errors {
    const fn at(place: Place) -> Self {
        Self { place, found: Vec::new() }
    }

    fn add(&mut self, what: String) {
        self.found.push(Finding { severity: Severity::Error, place: self.place, what, advice: CONTRADICTION });
    }

    fn require(&mut self, holds: bool, what: impl FnOnce() -> String) {
        if !holds {
            self.add(what());
        }
    }
}

pub(super) fn check(image: &Image) -> Vec<Finding> {
    let Some((owner, record)) = image.memberships.newest() else {
        return Vec::new(); // every pair is unreadable, which is told already
    };
    let mut errors = Errors::at(image.memberships.place(owner));
    let Some(configuration) = image.configurations.find(record.configuration) else {
        let what = format!(
            "membership {} names configuration {}, which is nowhere on the disk",
            record.revision, record.configuration
        );
        errors.found.push(Finding { severity: Severity::Error, place: errors.place, what, advice: LOST });
        return errors.found;
    };
    let mut findings = check_configuration(image, configuration);
    errors.require(record.formation <= record.revision.term, || {
        format!("the cluster was formed in term {}, after term {}", record.formation, record.revision.term)
    });
    for (node, entry) in &record.nodes {
        check_entry(image, configuration, *node, entry, &mut errors);
    }
    check_ghosts(image, configuration, record, &mut errors);
    check_steps(image, record, &mut errors);
    findings.extend(errors.found);
    findings
}

fn check_configuration(image: &Image, configuration: &ConfigurationRecord) -> Vec<Finding> {
    let owner = image.configurations.every().find(|(_, record)| record.revision == configuration.revision);
    let mut errors = Errors::at(image.configurations.place(owner.map_or(NodeId(0), |(node, _)| node)));
    let superblock = &image.superblock;
    errors.require(configuration.cluster == superblock.name, || {
        format!("the configuration is of cluster `{}`, the superblock of `{}`", configuration.cluster, superblock.name)
    });
    let (mut names, mut addresses) = (BTreeSet::new(), BTreeSet::new());
    for (id, node) in &configuration.nodes {
        errors.require(id.0 < superblock.nodes_max, || {
            format!("node id {id} lies beyond the {} nodes of this disk", superblock.nodes_max)
        });
        errors.require(names.insert(&node.name), || format!("two nodes are named `{}`", node.name));
        errors.require(addresses.insert(&node.address), || format!("two nodes have the address {}", node.address));
    }
    errors.found
}

fn check_entry(
    image: &Image,
    configuration: &ConfigurationRecord,
    node: NodeId,
    entry: &MemberEntry,
    errors: &mut Errors,
) {
    let name = configuration.name_of(node);
    let MemberEntry { incarnation, state, step, .. } = entry;
    errors.require(*state == NodeState::Inactive || configuration.nodes.contains_key(&node), || {
        format!("node {name} is {state:?} and not configured")
    });
    if let Some(register) = image.registers.of(node) {
        let active = register.incarnation;
        errors.require(*incarnation <= active, || {
            format!("node {name} is {state:?} with incarnation {incarnation}, and its register has {active} (I-M6)")
        });
    }
    let kind = step.as_ref().map(|step| step.kind);
    let fits = match state {
        NodeState::Inactive => kind.is_none(),
        NodeState::Joining => kind == Some(TransitionKind::Joining),
        NodeState::Joined => matches!(kind, None | Some(TransitionKind::JoinExtending | TransitionKind::Leaving)),
        NodeState::Leaving => kind == Some(TransitionKind::Leaving),
        NodeState::ForcedLeaving => kind == Some(TransitionKind::ForcedLeaving),
    };
    errors.require(fits, || format!("node {name} is {state:?} with a step of kind {kind:?}"));
    errors.require(entry.levels.is_sorted_by(|one, next| one < next), || {
        format!("the levels of {name} are not in order")
    });
    if *state == NodeState::ForcedLeaving {
        check_fence(&name, &entry.fence, errors);
        check_frontier(&name, step.as_ref(), entry.top, errors);
    }
}

fn check_fence(name: &str, fence: &FenceState, errors: &mut Errors) {
    errors.require(fence.marked, || format!("{name} is being forced out without a mark"));
    let certain = fence.io_certain || fence.death_certain;
    errors
        .require(!certain || fence.method.is_some(), || format!("the death of {name} is certain by no method (I-F1)"));
}

/// I-T5.
fn check_frontier(name: &str, step: Option<&Step>, top: Option<Level>, errors: &mut Errors) {
    if let Some((step, top)) = step.zip(top) {
        errors.require(step.phase != StepPhase::Notifying || step.level <= top, || {
            format!("{name} is recovered at level {}, above its top {top} (I-T5)", step.level)
        });
    }
}

fn check_ghosts(image: &Image, configuration: &ConfigurationRecord, record: &MembershipRecord, errors: &mut Errors) {
    for (node, ghost) in &record.ghosts {
        let name = configuration.name_of(*node);
        errors.require(configuration.nodes.contains_key(node), || format!("{name} has a ghost and is not configured"));
        errors.require(ghost.step.kind == TransitionKind::ForcedLeaving, || {
            format!("the ghost of {name} has a step of kind {:?}", ghost.step.kind)
        });
        check_fence(&name, &ghost.fence, errors);
        check_frontier(&name, Some(&ghost.step), ghost.top, errors);
        let entry = record.nodes.get(node).filter(|entry| entry.state != NodeState::Inactive);
        // L-3: a node that finds a ghost of its own incarnation panics.
        errors.require(entry.is_none_or(|entry| ghost.incarnation < entry.incarnation), || {
            format!("{name} is a member beside a ghost of incarnation {}", ghost.incarnation)
        });
        if let Some(register) = image.registers.of(*node) {
            errors.require(ghost.incarnation <= register.incarnation, || {
                format!(
                    "the ghost of {name} has incarnation {}, its register {}",
                    ghost.incarnation, register.incarnation
                )
            });
        }
    }
}

/// I-T11, I-T12, I-T18, and the counter of transitions.
fn check_steps(image: &Image, record: &MembershipRecord, errors: &mut Errors) {
    let entries = record.nodes.iter().filter_map(|(node, entry)| Some((*node, entry.step.as_ref()?)));
    let ghosts = record.ghosts.iter().map(|(node, ghost)| (*node, &ghost.step));
    let mut seen: BTreeSet<TransitionId> = BTreeSet::new();
    for (node, step) in entries.chain(ghosts) {
        let (id, name) = (step.transition, image.name_of(node));
        errors.require(seen.insert(id), || format!("transition {id} belongs to two nodes (I-T11)"));
        errors.require(id.term <= record.revision.term && id.counter <= record.transition_counter, || {
            format!(
                "transition {id} of {name} lies ahead of the record ({}, counter {})",
                record.revision, record.transition_counter
            )
        });
        if step.phase != StepPhase::Notifying {
            errors.require(step.participants.is_empty(), || {
                format!("transition {id} of {name} awaits nodes although it rests")
            });
            continue;
        }
        match record.levels.get(&step.level) {
            None => errors
                .add(format!("transition {id} of {name} runs at level {}, which nobody has registered", step.level)),
            Some(level) => {
                let barriers = level.barriers.of(step.kind);
                errors.require(step.barrier < barriers.max(1), || {
                    format!("transition {id} of {name} is at barrier {} of {barriers} (I-T12)", step.barrier)
                });
            }
        }
        for participant in step.participants.iter() {
            let state = record.nodes.get(&participant).map(|entry| entry.state).unwrap_or_default();
            let awaited = matches!(state, NodeState::Joining | NodeState::Joined | NodeState::Leaving);
            errors.require(awaited, || {
                format!("transition {id} of {name} awaits {}, which is {state:?} (I-T18)", image.name_of(participant))
            });
        }
    }
}
