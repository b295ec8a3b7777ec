//! Nodes with production deciders and executors over a shared disk, a network that delays, repeats and loses, wardens, and
//! membership at the event-manager level. One step at a time, chosen by whoever drives it.

pub mod checks;
mod steps;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use phalanx_messages::launch::{LaunchResult, Leaves};
use phalanx_messages::order::RegistrationOrder;
use phalanx_messages::registration::{
    CommandKind, DecisionRegister, Instance, OperationResult, Order, Presence, RegistrationMessage, RegistrationRecord,
    Sight, View,
};
use phalanx_messages::service::{
    AllowableNodes, ChildFailure, NodePreferences, PlacementPolicy, RestartPolicy, ServiceCommand, ServiceDefinition,
    StopFailure, TransferCost,
};
use phalanx_messages::{Incarnation, Instant, NodeId, NodeIncarnation, OperationId, Term};
use phalanx_protocol::registration::{
    Admission, Decider, DeciderInput, DeciderOutput, Executor, LeaseSigns, TimerLimits, Timers,
};

/// Nodes of the world.
pub const NODES: u16 = 3;

/// The same numbers for the same seed.
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 33) as usize % limit.max(1)
    }

    pub fn percent(&mut self, chance: usize) -> bool {
        self.below(100) < chance
    }

    pub fn pick<T: Copy>(&mut self, among: &[T]) -> Option<T> {
        (!among.is_empty()).then(|| among[self.below(among.len())])
    }
}

/// What runs for one service on one node incarnation, and what its warden remembers.
#[derive(Debug, Default, Clone)]
pub struct Warden {
    pub last: OperationId,
    pub running: Option<CommandKind>,
    pub result: Option<OperationResult>,
    /// Processes of the service may run.
    pub service: bool,
    /// Processes of a recovery may run.
    pub recovery: bool,
}

/// One live daemon.
pub struct Node {
    pub me: NodeIncarnation,
    pub decider: Decider,
    pub timers: Timers,
    pub admission: Admission,
    pub executors: BTreeMap<String, Executor>,
    pub wardens: BTreeMap<String, Warden>,
    /// Outputs of the decider that wait for the disk.
    pub work: VecDeque<DeciderOutput>,
    pub views: BTreeMap<u64, View>,
    /// The view it has acknowledged.
    pub acknowledged: View,
    pub token: u64,
    /// Marked; it will certainly be dead some time.
    pub doomed: bool,
}

pub struct World {
    pub dice: Dice,
    pub now: Instant,
    pub truth: View,
    pub nodes: BTreeMap<NodeId, Node>,
    pub decisions: BTreeMap<NodeId, DecisionRegister>,
    pub registrations: BTreeMap<NodeId, RegistrationRecord>,
    pub network: Vec<(NodeId, NodeIncarnation, RegistrationMessage)>,
    pub dead: BTreeSet<NodeIncarnation>,
    /// Newest committed database.
    pub committed: RegistrationRecord,
    /// Operations whose commit has been checked, by lane.
    pub checked: BTreeSet<(String, OperationId)>,
    /// Lanes whose lost instance has not been recovered.
    pub lost: BTreeSet<String>,
    pub requests: u64,
    /// Every request so far, by its counter.
    pub asked: BTreeMap<u64, RegistrationOrder>,
    pub faults: bool,
    /// What has happened, for coverage and for reading a failure.
    pub seen: BTreeMap<&'static str, usize>,
    pub story: Vec<String>,
}

/// Names of the services, parents before their children.
pub const SERVICES: [&str; 3] = ["a", "b", "c"];

fn command(word: &str) -> Option<ServiceCommand> {
    Some(ServiceCommand::shell(word.to_owned(), 1_000))
}

/// Any definition of that name below that parent.
pub fn definition(name: &str, parent: Option<&str>, dice: &mut Dice) -> ServiceDefinition {
    let actions = ServiceDefinition {
        parent: parent.map(str::to_owned),
        start_command: command("start"),
        stop_command: if dice.percent(80) { command("stop") } else { None },
        notify_command: if dice.percent(30) { command("notify") } else { None },
        recovery_command: if dice.percent(80) { command("recover") } else { None },
        leaves: Leaves::Processes,
        start_retries: 1,
        stop_failure: if dice.percent(50) { StopFailure::Fence } else { StopFailure::Ignore },
        recover_lost_start: dice.percent(30),
        child_failure: if dice.percent(50) { ChildFailure::FailGroup } else { ChildFailure::Isolate },
        restart: RestartPolicy { limit: dice.below(3) as u16, window_ms: 4_000, backoff_ms: 1_000 },
        ..ServiceDefinition::new(name)
    };
    if parent.is_some() { actions } else { choosing(actions, dice) }
}

/// Only the root of a group chooses.
fn choosing(definition: ServiceDefinition, dice: &mut Dice) -> ServiceDefinition {
    let listed = AllowableNodes::Listed(vec![NodeId(0), NodeId(1)]);
    let on_all = dice.percent(25);
    ServiceDefinition {
        allowable_nodes: if dice.percent(70) { AllowableNodes::Any } else { listed },
        node_preferences: if dice.percent(40) || on_all {
            NodePreferences::None
        } else {
            NodePreferences::Ordered(vec![NodeId(1), NodeId(0)])
        },
        placement_policy: if on_all { PlacementPolicy::RegisterOnAll } else { PlacementPolicy::RegisterOnOne },
        transfer_cost: if !on_all && dice.percent(40) { TransferCost::Free } else { TransferCost::Normal },
        stable_ms: 3_000,
        maturity_count: dice.percent(30).then_some(2),
        maturity_time_ms: dice.percent(50).then_some(3_000),
        ..definition
    }
}

/// Three services, some of them below others.
fn definitions(dice: &mut Dice) -> [ServiceDefinition; 3] {
    let of_b = dice.percent(70).then_some("a");
    let of_c = dice.pick(&[None, Some("a"), Some("b"), Some("b")]).flatten();
    [definition("a", None, dice), definition("b", of_b, dice), definition("c", of_c, dice)]
}

impl World {
    pub fn new(seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        let definitions = definitions(&mut dice);
        let record = RegistrationRecord::of_definitions(definitions);
        Self {
            dice,
            now: Instant(1_000_000),
            truth: View::default(),
            nodes: BTreeMap::new(),
            decisions: BTreeMap::new(),
            registrations: BTreeMap::from([(NodeId(0), record.clone())]),
            network: Vec::new(),
            dead: BTreeSet::new(),
            committed: record,
            checked: BTreeSet::new(),
            lost: BTreeSet::new(),
            requests: 0,
            asked: BTreeMap::new(),
            faults: true,
            seen: BTreeMap::new(),
            story: Vec::new(),
        }
    }

    pub fn tell(&mut self, what: &'static str, text: String) {
        *self.seen.entry(what).or_default() += 1;
        self.story.push(format!("{what} {text}"));
    }

    pub fn newest(&self) -> RegistrationRecord {
        self.registrations.values().max_by_key(|record| record.revision).cloned().expect("the disk was formatted")
    }

    pub fn alive(&self) -> Vec<NodeId> {
        self.nodes.keys().copied().collect()
    }

    /// Everybody who must, has acknowledged what is true of `node`.
    pub fn agreed_on(&self, node: NodeId) -> bool {
        let truth = self.truth.nodes.get(&node);
        self.nodes.values().all(|other| !other.doomed && other.acknowledged.nodes.get(&node) == truth)
    }

    pub fn boot(&mut self, id: NodeId) {
        let me = NodeIncarnation { node: id, incarnation: self.truth.incarnation(id).next() };
        if self.nodes.is_empty() {
            self.truth.formation = Term(self.truth.formation.0 + 1);
        }
        self.truth.nodes.insert(id, Sight { incarnation: me.incarnation, presence: Presence::Joined });
        let limits = TimerLimits { kill_ms: 2_000, margin_ms: 1_000, backoff_ms: 2_000 };
        let mut node = Node {
            me,
            decider: Decider::new(me, 250),
            timers: Timers::new(limits),
            admission: Admission::new(me),
            executors: BTreeMap::new(),
            wardens: BTreeMap::new(),
            work: VecDeque::new(),
            views: BTreeMap::new(),
            acknowledged: View::default(),
            token: 0,
            doomed: false,
        };
        node.admission.accept(true);
        self.nodes.insert(id, node);
        self.tell("boot", me.to_string());
        self.see(id);
    }

    /// The node is told what is true at its level.
    pub fn see(&mut self, id: NodeId) {
        let truth = self.truth.clone();
        let Some(node) = self.nodes.get_mut(&id) else { return };
        node.token += 1;
        node.views.insert(node.token, truth.clone());
        let input = DeciderInput::View { view: truth, token: node.token };
        self.decider(id, input);
    }

    pub fn decider(&mut self, id: NodeId, input: DeciderInput) {
        let Some(node) = self.nodes.get_mut(&id) else { return };
        let outputs = node.decider.step(input);
        node.work.extend(outputs);
        self.carry_out(id);
    }

    /// Everything up to the next disk request.
    fn carry_out(&mut self, id: NodeId) {
        while let Some(node) = self.nodes.get_mut(&id) {
            match node.work.front() {
                None
                | Some(
                    DeciderOutput::ReadRegisters
                    | DeciderOutput::Publish(_)
                    | DeciderOutput::Load
                    | DeciderOutput::Write(_),
                ) => return,
                Some(
                    DeciderOutput::Committed { .. }
                    | DeciderOutput::Send(_)
                    | DeciderOutput::Leader(_)
                    | DeciderOutput::Adopted(_),
                ) => {}
            }
            match node.work.pop_front() {
                Some(DeciderOutput::Committed { record, .. }) => self.check_commit(id, &record),
                Some(DeciderOutput::Send(orders)) => {
                    let (from, Some(depoch)) = (node.me, node.decider.committed().map(|record| record.revision.term))
                    else {
                        continue;
                    };
                    for order in orders {
                        let message = RegistrationMessage::Orders { depoch, orders: vec![order.clone()] };
                        self.network.push((order.command.target.node, from, message));
                    }
                }
                Some(DeciderOutput::Adopted(token)) => {
                    if let Some(view) = node.views.remove(&token) {
                        node.acknowledged.merge(&view);
                    }
                }
                _ => {}
            }
        }
    }

    /// The disk does what the decider asked for, and answers.
    pub fn disk(&mut self, id: NodeId) {
        let Some(node) = self.nodes.get_mut(&id) else { return };
        let input = match node.work.pop_front() {
            Some(DeciderOutput::ReadRegisters) => {
                let register = |n: u16| (NodeId(n), Some(self.decisions.get(&NodeId(n)).copied().unwrap_or_default()));
                DeciderInput::Registers((0..NODES).map(register).collect())
            }
            Some(DeciderOutput::Publish(register)) => {
                self.decisions.insert(id, register);
                DeciderInput::Published
            }
            Some(DeciderOutput::Load) => DeciderInput::Loaded(Some(Box::new(self.newest()))),
            Some(DeciderOutput::Write(record)) => {
                self.registrations.insert(id, (*record).clone());
                DeciderInput::Written
            }
            _ => return,
        };
        self.decider(id, input);
    }

    pub fn leases(&mut self, id: NodeId, expired: &[NodeId]) {
        let signs =
            LeaseSigns { expired: expired.iter().copied().collect(), dead: self.dead.clone(), gone: Vec::new() };
        self.decider(id, DeciderInput::Leases(signs));
    }

    /// To whoever decides, or to all.
    pub fn report(&mut self, id: NodeId, result: OperationResult) {
        let node = &self.nodes[&id];
        let (me, leader) = (node.me, node.decider.leader());
        for to in (0..NODES).map(NodeId).filter(|to| leader.is_none_or(|leader| leader == *to)) {
            self.network.push((to, me, RegistrationMessage::Results(vec![result.clone()])));
        }
    }
}

/// `service` or `service@1`.
pub fn instance(lane: &str) -> Instance {
    match lane.split_once('@') {
        Some((service, node)) => Instance { service: service.to_owned(), of: node.parse().ok().map(NodeId) },
        None => Instance::only(lane),
    }
}

pub fn succeeded(order: &Order) -> OperationResult {
    OperationResult {
        instance: order.command.instance.clone(),
        operation: order.command.operation,
        kind: order.command.kind,
        outcome: LaunchResult::Succeeded,
    }
}

pub const fn presence(sight: Option<&Sight>) -> Option<Presence> {
    match sight {
        Some(sight) => Some(sight.presence),
        None => None,
    }
}

pub fn incarnation(value: u64) -> Incarnation {
    Incarnation(value)
}
