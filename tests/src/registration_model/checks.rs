//! The invariants of protocol §6.6: in every state, at every commit, and where nothing is left to be done.

use phalanx_messages::registration::{CommandKind, Presence, RegistrationRecord, RunState, ServiceRun, Sight, View};
use phalanx_messages::{NodeId, NodeIncarnation};
use phalanx_protocol::registration::{Change, Decided, Decision, Index, NodeLoads, StopReason, candidates};

use super::RegistrationModel;
use super::decisions::{Books, Facts, Outcome, run_of};
use super::initial::{Lane, is_allowable};
use super::state::{Op, State};

/// Something of it is being recovered, or is to be.
const fn in_recovery(state: RunState) -> bool {
    matches!(state, RunState::PendRecovery | RunState::Recovering | RunState::RecoveryCleanup | RunState::FenceRecovery)
}

/// What a decision alone can break.
pub struct CommitCheck<'a> {
    pub model: &'a RegistrationModel,
    pub lanes: &'a [Lane],
    pub base: &'a Facts,
    pub decided: &'a Decided,
    pub view: &'a View,
}

impl CommitCheck<'_> {
    pub fn violation(&self) -> Option<String> {
        let of_lane = |lane| self.mature(lane).or_else(|| self.transfer(lane)).or_else(|| self.leaf_to_root(lane));
        self.settled_twice()
            .or_else(|| (0..self.lanes.len()).find_map(of_lane))
            .or_else(|| self.decided.commands.iter().find_map(|command| self.placed(command)))
            .or_else(|| self.decided.changes.iter().find_map(|change| self.stopped_with_reason(change)))
    }

    fn run(&self, lane: usize) -> ServiceRun {
        run_of(&self.decided.record, &self.lanes[lane].instance)
    }

    fn name(&self, lane: usize) -> String {
        self.lanes[lane].instance.lane()
    }

    fn tree(&self, root: usize) -> impl Iterator<Item = usize> + '_ {
        (0..self.lanes.len()).filter(move |lane| self.lanes[*lane].root == root)
    }

    fn root_candidates(&self, lane: usize) -> Vec<NodeId> {
        let root = &self.lanes[self.lanes[lane].root];
        let all = candidates(&root.definition, self.view, &self.decided.record.standby);
        all.iter().filter(|node| root.instance.of.is_none_or(|of| of == *node)).collect()
    }

    fn settled_twice(&self) -> Option<String> {
        let again = Decision::new(&self.decided.record, self.view).loaded(&self.model.loads).settle();
        let same = again.record == self.decided.record && again.commands.is_empty();
        (!same).then(|| format!("I-R15: settled again it is {:?}, with {:?}", again.record, again.commands))
    }

    /// I-R9.
    fn mature(&self, lane: usize) -> Option<String> {
        if self.lanes[lane].parent.is_some() {
            return None;
        }
        let (run, shared) = (self.run(lane), &self.decided.record.services[&self.lanes[lane].instance.service].run);
        let idle = matches!(run.state, RunState::DeRegistered | RunState::AwaitMaturity | RunState::AwaitParent);
        let latch = if self.lanes[lane].instance.of.is_some() { shared.matured } else { run.matured };
        let recovers = self.tree(lane).any(|member| in_recovery(self.run(member).state));
        let candidate = !self.root_candidates(lane).is_empty();
        let expected = idle && shared.want && !shared.held && !run.held && candidate && !latch && !recovers;
        let same_cluster = self.base.record.formation == self.decided.record.formation;
        if self.base.latched(self.lanes, lane) && !latch && candidate && same_cluster {
            return Some(format!("I-R9: the maturity of {} is not latched", self.name(lane)));
        }
        let waits = run.state == RunState::AwaitMaturity;
        (waits != expected).then(|| format!("I-R9: M of {} is {waits}: {run:?}", self.name(lane)))
    }

    /// I-R10.
    fn transfer(&self, lane: usize) -> Option<String> {
        let run = self.run(lane);
        let of_root = self.lanes[lane].parent.is_none();
        if run.transfer_intent && (!of_root || run.state.is_idle()) {
            return Some(format!("I-R10: T in {:?} of {}", run.state, self.name(lane)));
        }
        let moves = run.moving && run.state != RunState::Registered;
        moves.then(|| format!("I-R10: {} moves in {:?}", self.name(lane), run.state))
    }

    /// RL-14.
    fn leaf_to_root(&self, lane: usize) -> Option<String> {
        let parent = self.lanes[lane].parent?;
        let first = in_recovery(self.run(lane).state) && self.run(parent).state == RunState::Recovering;
        first.then(|| format!("leaf to root: {} recovers before {}", self.name(parent), self.name(lane)))
    }

    /// I-R4, and the place of a child (I-R3).
    fn placed(&self, command: &phalanx_messages::registration::Command) -> Option<String> {
        let lane = self.lanes.iter().position(|lane| lane.instance == command.instance)?;
        let node = command.target.node;
        let root = &self.lanes[self.lanes[lane].root];
        match command.kind {
            CommandKind::Start if self.lanes[lane].parent.is_none() && !self.root_candidates(lane).contains(&node) => {
                Some(format!("I-R4: {} starts on {node}", self.name(lane)))
            }
            CommandKind::Start if self.is_overloaded(lane, node) => {
                Some(format!("{} starts on {node}, which has no room for it", self.name(lane)))
            }
            CommandKind::Start => {
                let parent = self.run(self.lanes[lane].parent?);
                let there = parent.state == RunState::Registered && parent.node == command.target;
                (!there).then(|| format!("I-R3: {} starts, its parent is {:?}", self.name(lane), parent.state))
            }
            CommandKind::Recovery if !self.view.is_up(node) || !is_allowable(&root.definition, node) => {
                Some(format!("I-R4: {} is recovered on {node}", self.name(lane)))
            }
            CommandKind::Recovery | CommandKind::Stop | CommandKind::Kill | CommandKind::Notify => None,
        }
    }

    /// A root was put where its group does not fit.
    fn is_overloaded(&self, lane: usize, node: NodeId) -> bool {
        let weight = Index::of(&self.decided.record).weight_on(node);
        let capacity = self.model.loads.capacity.get(&node);
        self.lanes[lane].parent.is_none() && capacity.is_some_and(|capacity| weight > u64::from(*capacity))
    }

    /// I-R19.
    fn stopped_with_reason(&self, change: &Change) -> Option<String> {
        if change.run.state != RunState::Stopping {
            return None;
        }
        let lane = self.lanes.iter().position(|lane| lane.instance == change.instance)?;
        let root = self.lanes[lane].root;
        let record = &self.decided.record;
        let justified = match change.reason {
            None => false,
            Some(StopReason::Deregister) => !wanted(record, self.lanes, lane),
            Some(StopReason::Leave) => self.view.is_leaving(change.run.node),
            Some(StopReason::Failure) => self.fails(lane),
            Some(StopReason::Standby) => record.standby.contains(change.run.node.node),
            Some(StopReason::Move) => self.base.runs[root].transfer_intent || self.run(root).transfer_intent,
        };
        (!justified).then(|| format!("I-R19: {} is stopped for {:?}", self.name(lane), change.reason))
    }
}

impl CommitCheck<'_> {
    /// It or something above it has failed where it is.
    fn fails(&self, lane: usize) -> bool {
        let own = self.run(lane).failing || self.base.runs[lane].failing;
        own || self.lanes[lane].parent.is_some_and(|parent| self.fails(parent))
    }
}

impl Facts {
    /// Maturity was reached.
    fn latched(&self, lanes: &[Lane], lane: usize) -> bool {
        let shared = &self.record.services[&lanes[lane].instance.service].run;
        if lanes[lane].instance.of.is_some() { shared.matured } else { self.runs[lane].matured }
    }
}

/// It and everything above it is asked to run.
fn wanted(record: &RegistrationRecord, lanes: &[Lane], lane: usize) -> bool {
    let own = record.services[&lanes[lane].instance.service].run.want;
    own && lanes[lane].parent.is_none_or(|parent| wanted(record, lanes, parent))
}

impl Books<'_> {
    fn name(&self, lane: usize) -> String {
        self.lanes[lane].instance.lane()
    }

    /// I-R1 and I-R3, in every state.
    pub fn violation(&self, state: &State) -> Option<String> {
        let facts = self.facts(state.database);
        let truth = self.view(state.truth);
        let nodes = || (0..self.model.nodes).map(NodeId);
        for lane in 0..self.lanes.len() {
            let slot = |node: NodeId| &state.slots[usize::from(node.0)][lane];
            let on: Vec<NodeId> = nodes().filter(|node| slot(*node).may_run()).collect();
            if on.len() > 1 {
                return Some(format!("I-R1: {} may run on {on:?}", self.name(lane)));
            }
            let Some(parent) = self.lanes[lane].parent else { continue };
            let above = &facts.runs[parent];
            let below = |node: &NodeId| {
                let there = NodeIncarnation { node: *node, incarnation: truth.incarnation(*node) };
                above.state == RunState::Registered && above.node == there
            };
            if let Some(node) = on.iter().find(|node| slot(**node).service && !below(node)) {
                return Some(format!("I-R3: {} runs on {node}, its parent is {:?}", self.name(lane), above.state));
            }
        }
        None
    }

    /// What a commit breaks in this state of the world (I-R2, I-R5, I-R14, I-R17).
    pub fn committed(&self, before: &State, outcome: &Outcome) -> Option<String> {
        let truth = self.view(before.truth);
        for (lane, command) in &outcome.begun {
            let (lane, name) = (*lane, self.name(*lane));
            let on = (0..self.model.nodes).filter(|node| before.slots[usize::from(*node)][lane].may_run());
            let on: Vec<u16> = on.collect();
            if !on.is_empty() {
                return Some(format!("I-R2: {:?} of {name} is committed, it may run on {on:?}", command.kind));
            }
            let bit = 1 << lane;
            let owed = before.lost & !outcome.forgiven & bit != 0;
            let owed_strictly = self.model.strict_starts && before.worked & !outcome.forgiven & bit != 0;
            if command.kind == CommandKind::Start && (owed || owed_strictly) {
                return Some(format!("I-R17: {name} starts, its lost instance is not recovered"));
            }
            let dead = |victim: NodeIncarnation| {
                let dead = Sight { incarnation: victim.incarnation, presence: Presence::Forced };
                truth.nodes.get(&victim.node).is_some_and(|sight| *sight >= dead)
            };
            if command.kind == CommandKind::Recovery && !command.victim.is_some_and(dead) {
                return Some(format!("I-R5: {name} is recovered, {:?} may live", command.victim));
            }
        }
        let facts = self.facts(outcome.after);
        facts.runs.iter().enumerate().find_map(|(lane, run)| {
            let left = Sight { incarnation: run.node.incarnation, presence: Presence::Left };
            let gone = !run.state.is_idle() && truth.nodes.get(&run.node.node) == Some(&left);
            gone.then(|| format!("I-R14: {} is {:?} on {}, which has left", self.name(lane), run.state, run.node))
        })
    }

    /// I-R10, I-R12, I-R18, I-R20, where no step must happen any more.
    pub fn at_rest(&self, state: &State) -> Option<String> {
        let truth = self.view(state.truth);
        let sound = |node: &NodeId| !state.is_marked(*node);
        let leaving = |sight: &Sight| sight.presence == Presence::Leaving;
        if let Some((node, _)) = truth.nodes.iter().find(|(node, sight)| leaving(sight) && sound(node)) {
            return Some(format!("I-R18: node {node} can never finish its leave"));
        }
        if !truth.up().any(|node| sound(&node)) {
            return None;
        }
        let facts = self.facts(state.database);
        (0..self.lanes.len()).find_map(|lane| self.lane_at_rest(state, &facts, &truth, lane))
    }

    fn lane_at_rest(&self, state: &State, facts: &Facts, truth: &View, lane: usize) -> Option<String> {
        let (run, name, this) = (&facts.runs[lane], self.name(lane), &self.lanes[lane]);
        if run.transfer_intent || run.moving {
            return Some(format!("I-R10: T of {name} stays in {:?}", run.state));
        }
        if !run.notifying.is_empty() {
            return Some(format!("I-R12: a notification of {name} is pending for ever"));
        }
        let rests = |what: &str| Some(format!("I-R20: {name} rests in {:?}, {what}", run.state));
        if !wanted(&facts.record, self.lanes, lane) {
            return if run.state.is_idle() { None } else { rests("and is deregistered") };
        }
        let held = |lane: usize| {
            let service = &facts.record.services[&self.lanes[lane].instance.service];
            facts.runs[lane].held || service.run.held
        };
        if (0..self.lanes.len()).any(|other| self.lanes[other].root == this.root && held(other)) {
            let busy = !run.state.is_idle() && run.state != RunState::Registered;
            return if busy { rests("and is held") } else { None };
        }
        let root = &self.lanes[this.root];
        let up = candidates(&root.definition, truth, &facts.record.standby);
        let takes = |of: Option<NodeId>| {
            up.iter().filter(|node| !state.is_marked(*node) && of.is_none_or(|of| of == *node)).collect::<Vec<_>>()
        };
        let can_start = takes(root.instance.of);
        match run.state {
            RunState::Registered => self.registered_at_rest(state, run, truth, lane),
            RunState::Failed => {
                let failed = run.tried.union(&run.exhausted);
                let untried = can_start.iter().any(|node| !failed.contains(*node));
                if this.parent.is_none() && untried { rests("a candidate is not tried") } else { None }
            }
            RunState::FailedRecovery => None,
            RunState::PendRecovery => {
                if takes(None).is_empty() {
                    None
                } else {
                    rests("and nobody recovers it")
                }
            }
            RunState::AwaitMaturity => {
                let definition = &root.definition;
                let enough = definition.maturity_count.is_some_and(|count| can_start.len() >= usize::from(count));
                if enough || definition.maturity_time_ms.is_some() { rests("and is mature") } else { None }
            }
            RunState::DeRegistered
            | RunState::AwaitParent
            | RunState::Starting
            | RunState::StartCleanup
            | RunState::Stopping
            | RunState::StopKill
            | RunState::Recovering
            | RunState::RecoveryCleanup
            | RunState::FenceStart
            | RunState::FenceStop
            | RunState::FenceRecovery => {
                let parent_rests = this.parent.is_some_and(|parent| facts.runs[parent].state != RunState::Registered);
                let no_room = run.state == RunState::DeRegistered && self.model.loads != NodeLoads::default();
                if can_start.is_empty() || parent_rests || no_room { None } else { rests("with a candidate") }
            }
        }
    }

    fn registered_at_rest(&self, state: &State, run: &ServiceRun, truth: &View, lane: usize) -> Option<String> {
        let (name, this) = (self.name(lane), &self.lanes[lane]);
        if !truth.is_joined(run.node) {
            return Some(format!("I-R20: {name} is registered on {}, which is not up", run.node));
        }
        if !state.slots[usize::from(run.node.node.0)][lane].service && this.definition.start_command.is_some() {
            return Some(format!("I-R20: {name} is registered on {} and does not run", run.node));
        }
        let root = &self.lanes[this.root].definition;
        let told = |node: &NodeId| run.notified.get(node) == Some(&truth.incarnation(*node));
        let others = truth.up().filter(|node| *node != run.node.node && is_allowable(root, *node));
        let untold = others.filter(|node| !state.is_marked(*node)).find(|node| !told(node));
        let untold = untold.filter(|_| this.definition.notify_command.is_some())?;
        Some(format!("I-R12: node {untold} is never notified of {name}"))
    }

    /// I-R14: a node that has left runs nothing.
    pub fn left(&self, state: &State, node: NodeId) -> Option<String> {
        let slots = &state.slots[usize::from(node.0)];
        let lane = slots.iter().position(|slot| slot.may_run() || slot.running.is_some())?;
        let newest = if slots[lane].warden.last == Op::CURRENT { "the current" } else { "an older" };
        Some(format!("I-R14: {} runs on node {node}, which has left ({newest} operation)", self.name(lane)))
    }
}
