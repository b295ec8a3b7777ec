//! Minimum disturbance, and what `phalanx simulate` foretells: over random definitions, groups, placements, loads and capacities
//! (protocol §6.2, I-R19).
//!
//! If a node leaves or fails, only groups that are there are touched, each once. If one joins, only what did not run is started, and
//! only what may transfer freely to a node that it prefers is stopped. Where rooms are limited what transfers freely may be touched
//! besides (docs/design/registration.md). What is foretold is what the rules then decide.

use std::collections::{BTreeMap, BTreeSet};

use phalanx_messages::configuration::{ConfigurationRecord, NodeConfiguration};
use phalanx_messages::launch::LaunchResult;
use phalanx_messages::order::Supposition;
use phalanx_messages::registration::{
    Command, OperationResult, Presence, RegistrationRecord, RunState, ServiceRecord, Sight, View,
};
use phalanx_messages::service::{
    AllowableNodes, AutoRegister, NodePreferences, PlacementPolicy, ServiceCommand, ServiceDefinition, TransferCost,
};
use phalanx_messages::{Incarnation, Instant, NodeId, Term};
use phalanx_protocol::registration::{
    DatabaseRoom, Decision, Event, NodeLoads, Planning, TimerLimits, Timers, outstanding, simulate,
};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

const NODES: u16 = 4;
/// Rounds of results after which everything must be at rest.
const ROUNDS_MAX: usize = 200;

/// What is drawn for one service.
#[derive(Debug, Clone)]
struct Draft {
    parent: Option<prop::sample::Index>,
    allowable: u8,
    disallowed: u8,
    preferences: NodePreferences,
    is_on_all: bool,
    is_free: bool,
    is_manual: bool,
    recovers: bool,
    stops: bool,
    notifies: bool,
    maturity_count: Option<u16>,
    weight: u32,
}

/// One cluster, what happened to it, and what happens now.
#[derive(Debug, Clone)]
struct Case {
    drafts: Vec<Draft>,
    up: u8,
    capacity: Option<Vec<u32>>,
    pressure: Vec<u8>,
    /// Nodes that came or went before.
    before: Vec<(u16, Presence)>,
    node: prop::sample::Index,
    comes: bool,
    fails: bool,
}

fn nodes_of(bits: u8) -> Vec<NodeId> {
    (0..NODES).filter(|node| bits >> node & 1 == 1).map(NodeId).collect()
}

fn order_of_nodes() -> impl Strategy<Value = Vec<NodeId>> {
    Just((0..NODES).map(NodeId).collect::<Vec<_>>()).prop_shuffle()
}

fn preferences() -> impl Strategy<Value = NodePreferences> {
    prop_oneof![
        Just(NodePreferences::None),
        (order_of_nodes(), 1..=usize::from(NODES))
            .prop_map(|(nodes, count)| NodePreferences::Ordered(nodes[..count].to_vec())),
        (1..16u8).prop_map(|bits| NodePreferences::Unordered(nodes_of(bits))),
    ]
}

fn draft() -> impl Strategy<Value = Draft> {
    let place = (prop::option::weighted(0.4, any::<prop::sample::Index>()), 1..32u8, 0..32u8, preferences());
    let flags = (prop::bool::weighted(0.2), any::<bool>(), prop::bool::weighted(0.1), prop::bool::weighted(0.7));
    let others = (prop::bool::weighted(0.9), prop::bool::weighted(0.3), prop::option::weighted(0.2, 1..4u16), 1..4u32);
    (place, flags, others).prop_map(
        |((parent, allowable, disallowed, preferences), (is_on_all, is_free, is_manual, recovers), others)| {
            let (stops, notifies, maturity_count, weight) = others;
            // Mostly every node may run it.
            let allowable = if allowable > 15 { 15 } else { allowable };
            let disallowed = if disallowed > 15 { disallowed & 1 << (disallowed % 4) } else { 0 };
            let preferences = if is_on_all { NodePreferences::None } else { preferences };
            Draft {
                parent,
                allowable,
                disallowed,
                preferences,
                is_on_all,
                is_free,
                is_manual,
                recovers,
                stops,
                notifies,
                maturity_count,
                weight,
            }
        },
    )
}

fn case() -> impl Strategy<Value = Case> {
    let presence = prop_oneof![Just(Presence::Joined), Just(Presence::Left), Just(Presence::Forced)];
    let cluster = (
        prop::collection::vec(draft(), 1..7),
        1..16u8,
        prop::option::weighted(0.4, prop::collection::vec(1..8u32, usize::from(NODES))),
        prop::collection::vec(0..3u8, usize::from(NODES)),
    );
    let happens =
        (prop::collection::vec((0..NODES, presence), 0..5), any::<prop::sample::Index>(), any::<bool>(), any::<bool>());
    (cluster, happens).prop_map(|((drafts, up, capacity, pressure), (before, node, comes, fails))| Case {
        drafts,
        up,
        capacity,
        pressure,
        before,
        node,
        comes,
        fails,
    })
}

fn command(name: &str) -> ServiceCommand {
    ServiceCommand::shell(name, 1_000)
}

fn name_of(at: usize) -> String {
    format!("s{at}")
}

/// Only the root of a group chooses; a service may be below any of those before it.
fn definition(at: usize, draft: &Draft) -> ServiceDefinition {
    let parent = draft.parent.as_ref().filter(|_| at > 0).map(|index| name_of(index.index(at)));
    let actions = ServiceDefinition {
        parent,
        start_command: Some(command("start")),
        stop_command: draft.stops.then(|| command("stop")),
        recovery_command: draft.recovers.then(|| command("recover")),
        notify_command: draft.notifies.then(|| command("notify")),
        weight: draft.weight,
        ..ServiceDefinition::new(name_of(at))
    };
    if actions.parent.is_some() {
        return actions;
    }
    let free = draft.is_free && !draft.is_on_all;
    ServiceDefinition {
        allowable_nodes: match draft.allowable {
            15 => AllowableNodes::Any,
            bits => AllowableNodes::Listed(nodes_of(bits)),
        },
        disallowable_nodes: nodes_of(draft.disallowed),
        node_preferences: draft.preferences.clone(),
        auto_register: if draft.is_manual { AutoRegister::Manual } else { AutoRegister::Always },
        placement_policy: if draft.is_on_all { PlacementPolicy::RegisterOnAll } else { PlacementPolicy::RegisterOnOne },
        transfer_cost: if free { TransferCost::Free } else { TransferCost::Normal },
        maturity_count: draft.maturity_count,
        ..actions
    }
}

/// What is begun for a machine: `start`, `stop` or `recover`, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Begun {
    lane: String,
    service: String,
    action: &'static str,
    node: NodeId,
}

/// The rules, and commands that succeed.
#[derive(Debug, Clone)]
struct Cluster {
    record: RegistrationRecord,
    view: View,
    loads: NodeLoads,
    begun: Vec<Begun>,
}

impl Cluster {
    /// At rest, after whatever came and went before.
    fn of(case: &Case) -> Self {
        let definitions = case.drafts.iter().enumerate().map(|(at, draft)| definition(at, draft));
        let sight = Sight { incarnation: Incarnation(1), presence: Presence::Joined };
        let nodes = nodes_of(case.up).into_iter().map(|node| (node, sight)).collect();
        let numbered = |values: &[u32]| (0..NODES).map(NodeId).zip(values.iter().copied()).collect::<BTreeMap<_, _>>();
        let loads = NodeLoads {
            pressure: (0..NODES).map(NodeId).zip(case.pressure.iter().copied()).collect(),
            capacity: case.capacity.as_deref().map(numbered).unwrap_or_default(),
        };
        let view = View { formation: Term(1), nodes };
        let mut cluster =
            Self { record: RegistrationRecord::of_definitions(definitions), view, loads, begun: Vec::new() };
        cluster.decide(&[]);
        cluster.come_to_rest(|_| 0);
        for (node, presence) in &case.before {
            if cluster.happens(NodeId(*node), *presence) {
                cluster.come_to_rest(|_| 0);
            }
        }
        cluster.begun.clear();
        cluster
    }

    /// Some node has room for so much only.
    fn is_limited(&self) -> bool {
        !self.loads.capacity.is_empty()
    }

    fn is_up(&self, node: NodeId) -> bool {
        self.view.is_up(node)
    }

    /// A node comes, leaves or is lost, and a decision is made about it. False = it is not in a state to.
    fn happens(&mut self, node: NodeId, presence: Presence) -> bool {
        if self.is_up(node) == (presence == Presence::Joined) {
            return false;
        }
        let known = self.view.incarnation(node);
        match presence {
            Presence::Joined => self.see(node, known.next(), Presence::Joined),
            Presence::Leaving | Presence::Left => {
                self.see(node, known, Presence::Leaving);
                self.come_to_rest(|_| 0);
                self.see(node, known, Presence::Left);
            }
            Presence::Forced => self.see(node, known, Presence::Forced),
        }
        true
    }

    fn see(&mut self, node: NodeId, incarnation: Incarnation, presence: Presence) {
        self.view.nodes.insert(node, Sight { incarnation, presence });
        self.decide(&[]);
    }

    /// True if something has changed.
    fn decide(&mut self, events: &[Event]) -> bool {
        let base = self.record.clone();
        let mut decision = Decision::new(&base, &self.view).loaded(&self.loads);
        events.iter().for_each(|event| decision.absorb(event));
        let decided = decision.settle();
        let begun = decided.changes.iter().filter_map(|change| {
            let action = action_of(change.run.state)?;
            let (lane, service) = (change.instance.lane(), change.instance.service.clone());
            Some(Begun { lane, service, action, node: change.run.node.node })
        });
        self.begun.extend(begun);
        self.record = decided.record;
        decided.changed
    }

    /// Commands succeed, all that are at hand together, or (with a choice) one after the other; then whatever prefers to, moves.
    fn come_to_rest(&mut self, choose: impl FnMut(usize) -> usize) {
        self.come_to_rest_by(false, choose);
    }

    fn come_to_rest_by(&mut self, one_by_one: bool, mut choose: impl FnMut(usize) -> usize) {
        for _ in 0..ROUNDS_MAX * if one_by_one { 10 } else { 1 } {
            let mut events: Vec<Event> = outstanding(&self.record).into_iter().map(success).collect();
            if events.is_empty() {
                events = self.free_transfers();
            } else if one_by_one {
                let chosen = choose(events.len());
                events = vec![events.swap_remove(chosen)];
            }
            if events.is_empty() || !self.decide(&events) {
                return;
            }
        }
        panic!("it does not come to rest: {:?}", self.begun);
    }

    fn free_transfers(&self) -> Vec<Event> {
        let mut timers = Timers::new(TimerLimits { kill_ms: 0, margin_ms: 0, backoff_ms: u64::MAX });
        timers.observe(&self.record, Instant(0));
        let stable = timers.observe(&self.record, Instant(u64::MAX));
        stable.into_iter().filter(|event| matches!(event, Event::Stable { .. })).collect()
    }

    /// What `phalanx simulate` says is begun: service, action, node.
    fn foretold(&self, supposed: &Supposition) -> Vec<(String, String, String)> {
        let planning = Planning { view: &self.view, loads: &self.loads, room: DatabaseRoom::default() };
        let steps = simulate(&self.record, planning, supposed, &configuration()).expect("no order is refused");
        let begun = steps.into_iter().filter(|step| ["start", "stop", "recover"].contains(&step.action.as_str()));
        begun.map(|step| (step.service, step.action, step.node.unwrap_or_default())).collect()
    }

    fn root_of(&self, service: &str) -> &ServiceRecord {
        let record = &self.record.services[service];
        record.definition.parent.as_ref().map_or(record, |parent| self.root_of(parent))
    }

    fn group_of(&self, service: &str) -> Vec<&ServiceRecord> {
        let root = &self.root_of(service).definition.name;
        self.record
            .services
            .iter()
            .filter(|(name, _)| self.root_of(name).definition.name == *root)
            .map(|it| it.1)
            .collect()
    }

    /// Something of its group is there.
    fn is_on(&self, service: &str, node: NodeId) -> bool {
        let group = self.group_of(service);
        let mut runs = group.iter().flat_map(|member| member.runs());
        runs.any(|(_, run)| !run.state.is_idle() && run.node.node == node)
    }

    fn runs(&self) -> BTreeSet<String> {
        let runs = self.record.services.iter().flat_map(|(name, service)| service.runs().map(move |it| (name, it)));
        let active = runs.filter(|(_, (_, run))| !run.state.is_idle());
        active.map(|(name, (of, _))| of.map_or_else(|| name.clone(), |node| format!("{name}@{node}"))).collect()
    }

    fn may_run(&self, service: &str, node: NodeId) -> bool {
        let definition = &self.root_of(service).definition;
        let listed = match &definition.allowable_nodes {
            AllowableNodes::Any => true,
            AllowableNodes::Listed(nodes) => nodes.contains(&node),
        };
        listed && !definition.disallowable_nodes.contains(&node)
    }
}

fn action_of(state: RunState) -> Option<&'static str> {
    match state {
        RunState::Starting => Some("start"),
        RunState::Stopping => Some("stop"),
        RunState::Recovering => Some("recover"),
        RunState::DeRegistered
        | RunState::AwaitMaturity
        | RunState::AwaitParent
        | RunState::StartCleanup
        | RunState::Registered
        | RunState::StopKill
        | RunState::PendRecovery
        | RunState::RecoveryCleanup
        | RunState::FenceStart
        | RunState::FenceStop
        | RunState::FenceRecovery
        | RunState::Failed
        | RunState::FailedRecovery => None,
    }
}

fn success(command: Command) -> Event {
    let Command { instance, operation, kind, target, .. } = command;
    let result = OperationResult { instance, operation, kind, outcome: LaunchResult::Succeeded };
    Event::Finished { from: target, result }
}

fn configuration() -> ConfigurationRecord {
    let nodes = (0..NODES).map(|node| (NodeId(node), NodeConfiguration::new(format!("n{node}"), "host:1".to_owned())));
    ConfigurationRecord { nodes: nodes.collect(), ..ConfigurationRecord::default() }
}

/// Smaller = more preferred.
fn place(definition: &ServiceDefinition, node: NodeId) -> usize {
    match &definition.node_preferences {
        NodePreferences::None => 0,
        NodePreferences::Ordered(nodes) => nodes.iter().position(|other| *other == node).unwrap_or(usize::MAX),
        NodePreferences::Unordered(nodes) => usize::from(!nodes.contains(&node)),
    }
}

/// The node that leaves, fails or joins; none if the drawn cluster has none that could.
fn supposition(case: &Case, cluster: &Cluster) -> Option<(NodeId, Supposition, Presence)> {
    let fit: Vec<NodeId> = (0..NODES).map(NodeId).filter(|node| cluster.is_up(*node) != case.comes).collect();
    let node = *fit.get(case.node.index(fit.len().max(1)))?;
    Some(match (case.comes, case.fails) {
        (true, _) => (node, Supposition::Joins(node), Presence::Joined),
        (false, true) => (node, Supposition::Fails(node), Presence::Forced),
        (false, false) => (node, Supposition::Leaves(node), Presence::Left),
    })
}

fn foretells_what_is_decided(case: &Case) -> Result<(), TestCaseError> {
    let mut cluster = Cluster::of(case);
    let Some((node, supposed, presence)) = supposition(case, &cluster) else { return Ok(()) };
    let (foretold, before) = (cluster.foretold(&supposed), cluster.record.clone());
    prop_assert_eq!(&cluster.record, &before, "nothing is done");
    prop_assert!(cluster.happens(node, presence));
    cluster.come_to_rest(|_| 0);
    let begun = cluster.begun.iter().map(|it| (it.service.clone(), it.action.to_owned(), format!("n{}", it.node)));
    prop_assert_eq!(foretold, begun.collect::<Vec<_>>(), "{:?}", supposed);
    Ok(())
}

/// With a complete order of preference nothing depends on who is first.
fn foretells_whatever_ends_first(case: &Case, order: &[prop::sample::Index]) -> Result<(), TestCaseError> {
    let mut case = case.clone();
    case.capacity = None;
    for draft in case.drafts.iter_mut().filter(|draft| !draft.is_on_all) {
        let mut nodes: Vec<NodeId> = (0..NODES).map(NodeId).collect();
        nodes.rotate_left(usize::from(draft.allowable % 4));
        draft.preferences = NodePreferences::Ordered(nodes);
    }
    let mut cluster = Cluster::of(&case);
    let Some((node, supposed, presence)) = supposition(&case, &cluster) else { return Ok(()) };
    let (foretold, leaves) = (cluster.foretold(&supposed), presence == Presence::Left);
    let mut draws = order.iter().cycle();
    let mut choose = |count: usize| draws.next().map_or(0, |index| index.index(count));
    let known = cluster.view.incarnation(node);
    match presence {
        Presence::Joined => cluster.see(node, known.next(), presence),
        Presence::Forced => cluster.see(node, known, presence),
        Presence::Leaving | Presence::Left => cluster.see(node, known, Presence::Leaving),
    }
    cluster.come_to_rest_by(true, &mut choose);
    if leaves {
        cluster.see(node, known, Presence::Left);
        cluster.come_to_rest_by(true, &mut choose);
    }
    let mut begun: Vec<_> =
        cluster.begun.iter().map(|it| (it.service.clone(), it.action.to_owned(), format!("n{}", it.node))).collect();
    let mut foretold = foretold;
    begun.sort_unstable();
    foretold.sort_unstable();
    prop_assert_eq!(foretold, begun, "{:?}", supposed);
    Ok(())
}

fn disturbs_little(case: &Case) -> Result<usize, TestCaseError> {
    let mut cluster = Cluster::of(case);
    let Some((node, supposed, presence)) = supposition(case, &cluster) else { return Ok(0) };
    let before = cluster.clone();
    prop_assert!(cluster.happens(node, presence));
    cluster.come_to_rest(|_| 0);
    let mut times: BTreeMap<(&String, &str), usize> = BTreeMap::new();
    for begun in &cluster.begun {
        *times.entry((&begun.lane, begun.action)).or_default() += 1;
        if presence == Presence::Joined {
            joining_disturbs(&before, &cluster, begun, node)?;
        } else {
            // A free transfer is made to the most preferred node only: if that was full and goes, the next one may have room.
            let free = before.root_of(&begun.service).definition.transfer_cost == TransferCost::Free;
            let excused = free && before.is_limited();
            prop_assert!(
                excused || before.is_on(&begun.service, node),
                "{:?} is not on {}: {:?}",
                begun,
                node,
                supposed
            );
        }
    }
    let often = times.iter().find(|(_, times)| **times > 1).filter(|_| !before.is_limited());
    prop_assert!(often.is_none(), "{:?} after {:?}: {:?}", often, supposed, cluster.begun);
    Ok(cluster.begun.len())
}

/// Something is begun because `node` has come.
fn joining_disturbs(before: &Cluster, after: &Cluster, begun: &Begun, node: NodeId) -> Result<(), TestCaseError> {
    let ran = before.runs().contains(&begun.lane);
    let definition = &before.root_of(&begun.service).definition;
    if !ran {
        // What moves away from a node makes room there.
        let room = before.is_limited() && after.begun.iter().any(|other| other.action == "stop");
        prop_assert!(before.may_run(&begun.service, node) || room, "{:?} need not wait for {}", begun, node);
        return Ok(());
    }
    let (old, new) = (before.root_of(&begun.service), after.root_of(&begun.service));
    let moved = place(definition, new.run.node.node) < place(definition, old.run.node.node);
    // Two that prefer the same node are stopped for it, though there may be room for one.
    let free = definition.transfer_cost == TransferCost::Free;
    prop_assert!(free && (moved || before.is_limited()), "{:?} is disturbed by {}", begun, node);
    Ok(())
}

/// Cases that are always the same.
fn cases(count: usize) -> impl Iterator<Item = Case> {
    let mut runner = TestRunner::deterministic();
    (0..count).map(move |_| case().new_tree(&mut runner).expect("a case can be drawn").current())
}

/// What is drawn must not be such that little happens.
#[test]
fn the_cases_have_something_to_disturb() {
    let mut begun: BTreeMap<(Presence, &str), usize> = BTreeMap::new();
    for case in cases(600) {
        let mut cluster = Cluster::of(&case);
        let Some((node, _, presence)) = supposition(&case, &cluster) else { continue };
        cluster.happens(node, presence);
        cluster.come_to_rest(|_| 0);
        cluster.begun.iter().for_each(|it| *begun.entry((presence, it.action)).or_default() += 1);
    }
    let wanted = [
        (Presence::Joined, "start"),
        (Presence::Joined, "stop"),
        (Presence::Joined, "recover"),
        (Presence::Left, "start"),
        (Presence::Left, "stop"),
        (Presence::Forced, "start"),
        (Presence::Forced, "recover"),
    ];
    let few: Vec<_> = wanted.iter().filter(|it| begun.get(it).is_none_or(|count| *count < 10)).collect();
    assert!(few.is_empty(), "hardly ever: {few:?} of {begun:?}");
}

#[cfg(feature = "deliberate-bugs")]
#[test]
fn a_leave_that_stops_services_everywhere_is_noticed() {
    use phalanx_protocol::bugs::{self, Bug};
    let noticed = |case: Case| disturbs_little(&case).is_err();
    assert!(!cases(100).any(noticed));
    assert!(bugs::with(Some(Bug::EveryLeaveIsAReason), || cases(100).any(noticed)));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, failure_persistence: None, ..ProptestConfig::default() })]

    /// `simulate` says just what is begun, in the order in which it is.
    #[test]
    fn what_is_foretold_is_what_the_rules_decide(case in case()) {
        foretells_what_is_decided(&case)?;
    }

    /// The same whatever command ends first, if no choice depends on what else is chosen.
    #[test]
    fn what_is_foretold_happens_in_whatever_order_commands_end(
        case in case(),
        order in prop::collection::vec(any::<prop::sample::Index>(), 1..20),
    ) {
        foretells_whatever_ends_first(&case, &order)?;
    }

    #[test]
    fn a_node_that_comes_or_goes_touches_only_what_it_must(case in case()) {
        disturbs_little(&case)?;
    }
}
