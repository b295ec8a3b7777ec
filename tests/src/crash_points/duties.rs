//! What a disk must still say after a crash, given what had been told by then ("persist, then tell").

use std::collections::BTreeMap;
use std::sync::Arc;

use phalanx_actors::client_service::fencing_token;
use phalanx_messages::membership::{MembershipRecord, NodeState, Step};
use phalanx_messages::registration::RegistrationRecord;
use phalanx_messages::{NodeId, TransitionId};
use phalanx_storage::{ClusterDisk, MemoryDisk, StorageError};

use super::images::{Image, Stop};
use super::scenario::{Effect, Ordered, Recording};
use crate::order_checker::{Kind, Line};
use crate::simulated_cluster::Happened;

/// What must hold of every image of one point.
#[derive(Debug, Clone, Default)]
pub struct Duties {
    /// The newest step of each transition that a subsystem was told of.
    steps: BTreeMap<(u64, u64), Line>,
    /// Orders that were told to be done, and those asked for later, of which either may be so.
    orders: Vec<(Ordered, bool)>,
    /// The highest generation that a command was given (I-R6).
    pub generation: u128,
    /// The highest incarnation of each node that anybody was told of.
    pub incarnations: BTreeMap<u16, u64>,
    /// The highest term that anybody was told of.
    pub term: u64,
}

impl Duties {
    /// After so many operations.
    #[must_use]
    pub fn after(recording: &Recording, ended: usize) -> Self {
        let mut duties = Self::default();
        for event in recording.events.iter().take_while(|event| event.operations <= ended) {
            match &event.what {
                Happened::Step(line) => duties.told_step(line),
                Happened::Service(served) => duties.generation = duties.generation.max(served.generation),
                Happened::Started | Happened::Joined | Happened::Ended(_) | Happened::Panicked(_) | Happened::Dead => {}
            }
        }
        let asked = recording.orders.iter().filter(|order| order.asked <= ended);
        duties.orders = asked.map(|order| (order.clone(), order.told <= ended)).collect();
        duties
    }

    fn told_step(&mut self, line: &Line) {
        let newest = self.steps.entry(line.transition).or_insert_with(|| line.clone());
        if newest.place() < line.place() {
            *newest = line.clone();
        }
        let subject = line.subject.trim_start_matches('n').parse().expect("named by its id");
        let incarnation = self.incarnations.entry(subject).or_default();
        *incarnation = line.incarnation.max(*incarnation);
        self.term = self.term.max(line.transition.0);
    }

    /// Whatever this image does not have and should. A disk whose formatting was interrupted may be refused.
    #[must_use]
    pub fn missing(&self, image: &Image, is_formatted: bool) -> Vec<String> {
        let memory = super::disk_of(image.blocks.clone());
        match self.missing_on(&memory, image.stop) {
            Ok(missing) => missing,
            Err(_) if !is_formatted => Vec::new(),
            Err(error) => vec![format!("the disk cannot be used: {error}")],
        }
    }

    fn missing_on(&self, memory: &MemoryDisk, stop: Stop) -> Result<Vec<String>, StorageError> {
        let disk = ClusterDisk::open(Arc::new(memory.clone()))?;
        let registration = disk.registrations().newest()?.unwrap_or_default();
        let membership = disk.memberships().newest()?.unwrap_or_default();
        let mut missing = self.missing_orders(&registration, |_| true);
        missing.extend(self.forgotten_incarnations(&membership));
        // Steps and run states are volatile: all who were told of them are lost with power.
        if stop == Stop::Crash {
            missing.extend(self.steps.values().filter_map(|line| undone(line, &membership)));
            missing.extend(self.unknown_generation(&registration));
        }
        Ok(missing)
    }

    /// Orders of that kind of which a database says otherwise.
    #[must_use]
    pub fn missing_orders(&self, registration: &RegistrationRecord, of: impl Fn(Effect) -> bool) -> Vec<String> {
        let told = |(at, (order, told)): (usize, &(Ordered, bool))| {
            let undoes = |(later, _): &(Ordered, bool)| same_subject(later.effect, order.effect);
            let mut may_be = self.orders[at..].iter().filter(|later| undoes(later));
            let is_so = may_be.any(|(order, _)| holds(order.effect, registration));
            (*told && order.effect != Effect::Nothing && of(order.effect) && !is_so)
                .then(|| format!("lost: the order {:?}, which was told to be done", order.effect))
        };
        self.orders.iter().enumerate().filter_map(told).collect()
    }

    /// I-R7: a command was given of which the database does not know.
    fn unknown_generation(&self, registration: &RegistrationRecord) -> Option<String> {
        let known = registration.services.values().map(|service| fencing_token(service.run.generation)).max();
        let known = known.unwrap_or_default();
        (known < self.generation)
            .then(|| format!("I-R7: a command of generation {}, the database has {known}", self.generation))
    }

    /// Protocol §1.3: an entry is durable before anybody hears of its start.
    fn forgotten_incarnations(&self, membership: &MembershipRecord) -> Vec<String> {
        let forgotten = |(node, told): (&u16, &u64)| {
            let known = membership.nodes.get(&NodeId(*node)).map_or(0, |entry| entry.incarnation.0);
            (known < *told).then(|| format!("I-M2: the record has n{node}/{known}, and n{node}/{told} was told of"))
        };
        self.incarnations.iter().filter_map(forgotten).collect()
    }
}

fn same_subject(one: Effect, other: Effect) -> bool {
    match (one, other) {
        (Effect::Timeout(_), Effect::Timeout(_)) | (Effect::Wanted(_), Effect::Wanted(_)) => true,
        (Effect::Standby(one, _), Effect::Standby(other, _)) => one == other,
        (Effect::Timeout(_) | Effect::Wanted(_) | Effect::Standby(..) | Effect::Nothing, _) => false,
    }
}

fn holds(effect: Effect, registration: &RegistrationRecord) -> bool {
    let Some(service) = registration.services.values().next() else { return false };
    match effect {
        Effect::Timeout(ms) => service.definition.start_command.as_ref().is_some_and(|it| it.timeout_ms == ms),
        Effect::Wanted(wanted) => service.run.want == wanted,
        Effect::Standby(node, standby) => registration.standby.contains(NodeId(node)) == standby,
        Effect::Nothing => true,
    }
}

/// I-M2, I-M3: why the record does not have a step that a subsystem was told of.
fn undone(line: &Line, record: &MembershipRecord) -> Option<String> {
    let node = NodeId(line.subject.trim_start_matches('n').parse().ok()?);
    let told = TransitionId { term: phalanx_messages::Term(line.transition.0), counter: line.transition.1 };
    let ghost = record.ghosts.get(&node).filter(|ghost| ghost.incarnation.0 == line.incarnation);
    let entry = record.nodes.get(&node).filter(|entry| entry.incarnation.0 >= line.incarnation);
    let is_known = match (ghost, entry) {
        (Some(victim), _) => reached(&victim.step, told, line),
        (None, None) => false,
        (None, Some(entry)) if entry.incarnation.0 > line.incarnation => true,
        (None, Some(entry)) => {
            let went_on = match line.kind {
                Kind::Joining => true,
                Kind::Leaving => {
                    matches!(entry.state, NodeState::Leaving | NodeState::ForcedLeaving | NodeState::Inactive)
                }
                Kind::ForcedLeaving => matches!(entry.state, NodeState::ForcedLeaving | NodeState::Inactive),
            };
            went_on && entry.step.as_ref().is_none_or(|step| reached(step, told, line))
        }
    };
    (!is_known)
        .then(|| format!("I-M3: told of {}, and the newest record {} does not know", line.text(), record.revision))
}

/// The step is that one or a later one.
fn reached(step: &Step, told: TransitionId, line: &Line) -> bool {
    let place = Line { level: step.level.0, barrier: step.barrier, restart: step.restart, ..line.clone() };
    step.transition > told || (step.transition == told && place.place() >= line.place())
}
