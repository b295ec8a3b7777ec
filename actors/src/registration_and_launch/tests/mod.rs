//! Two and three nodes with everything of registration and launch in them, over a disk in memory, a network that delivers at
//! once, and wardens that do what the test wants. Time is paused: what takes no time needed no timer.

mod orders;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use phalanx_messages::configuration::{ConfigurationRecord, NodeConfiguration};
use phalanx_messages::launch::{Action, LaunchResult, Leaves, Program};
use phalanx_messages::membership::{LevelState, TransitionKind};
use phalanx_messages::notification::{SubsystemAcknowledged, SubsystemAnswer, SubsystemNotification, TransitionNotice};
use phalanx_messages::registration::{
    CommandKind, DecisionRegister, Order, RegistrationMessage, RegistrationRecord, RunState,
};
use phalanx_messages::service::{ServiceCommand, ServiceDefinition};
use phalanx_messages::{Incarnation, Level, NodeId, NotificationId, OperationId, Revision, Term, TransitionId};
use tokio::sync::mpsc;

use super::*;
use crate::disk::DiskFailure;
use crate::event_manager::EventManager;
use crate::membership_watcher::MembershipWatcher;
use crate::ports::GetServices;
use crate::ports::NodePanic;
use crate::restart::Restarts;

const N0: NodeIncarnation = NodeIncarnation { node: NodeId(0), incarnation: Incarnation(1) };
const N1: NodeIncarnation = NodeIncarnation { node: NodeId(1), incarnation: Incarnation(1) };

/// What all nodes share.
#[derive(Default)]
struct World {
    decisions: BTreeMap<NodeId, DecisionRegister>,
    registrations: BTreeMap<NodeId, RegistrationRecord>,
    nodes: BTreeMap<NodeId, (NodeIncarnation, Addr<RegistrationAndLaunch>)>,
    /// What the wardens were asked, in order.
    asked: Vec<(NodeId, WardenRequest)>,
    /// Nodes whose warden never answers.
    stuck: NodeSet,
    forced: Vec<NodeIncarnation>,
    told: Vec<String>,
}

impl World {
    fn record(&self) -> RegistrationRecord {
        self.registrations.values().max_by_key(|record| record.revision).cloned().unwrap()
    }

    fn run(&self) -> phalanx_messages::registration::ServiceRun {
        self.record().services["licence"].run.clone()
    }

    /// Actions that the warden of a node was asked for; none = a kill.
    fn actions(&self, node: NodeIncarnation) -> Vec<Option<Action>> {
        let of_node = self.asked.iter().filter(|(asked, _)| *asked == node.node);
        of_node
            .filter_map(|(_, request)| match request {
                WardenRequest::Launch(launch) => Some(Some(launch.action)),
                WardenRequest::Kill { .. } => Some(None),
                WardenRequest::Watch { .. } | WardenRequest::Forget { .. } => None,
            })
            .collect()
    }
}

type Shared = Arc<Mutex<World>>;

/// Plays disk, network, warden and everybody else for one node.
struct Surroundings {
    me: NodeIncarnation,
    world: Shared,
}

impl Actor for Surroundings {
    type Context = Context<Self>;
}

impl Handler<ReadDecisions> for Surroundings {
    type Result = Result<BTreeMap<NodeId, Option<DecisionRegister>>, DiskFailure>;

    fn handle(&mut self, _: ReadDecisions, _: &mut Self::Context) -> Self::Result {
        let world = self.world.lock().unwrap();
        Ok((0..3).map(|n| (NodeId(n), Some(world.decisions.get(&NodeId(n)).copied().unwrap_or_default()))).collect())
    }
}

impl Handler<WriteDecision> for Surroundings {
    type Result = Result<(), DiskFailure>;

    fn handle(&mut self, write: WriteDecision, _: &mut Self::Context) -> Self::Result {
        self.world.lock().unwrap().decisions.insert(self.me.node, write.register);
        Ok(())
    }
}

impl Handler<ReadRegistration> for Surroundings {
    type Result = Result<Option<RegistrationRecord>, DiskFailure>;

    fn handle(&mut self, _: ReadRegistration, _: &mut Self::Context) -> Self::Result {
        Ok(Some(self.world.lock().unwrap().record()))
    }
}

impl Handler<WriteRegistration> for Surroundings {
    type Result = Result<(), DiskFailure>;

    fn handle(&mut self, write: WriteRegistration, _: &mut Self::Context) -> Self::Result {
        self.world.lock().unwrap().registrations.insert(self.me.node, (*write.record).clone());
        Ok(())
    }
}

impl Handler<SendToPeer> for Surroundings {
    type Result = ();

    fn handle(&mut self, SendToPeer { to, message }: SendToPeer, _: &mut Self::Context) {
        if let Some((_, peer)) = self.world.lock().unwrap().nodes.get(&to) {
            peer.do_send(PeerEvent::Received { from: self.me, message });
        }
    }
}

impl Handler<WardenRequest> for Surroundings {
    type Result = ResponseFuture<LaunchResult>;

    fn handle(&mut self, request: WardenRequest, _: &mut Self::Context) -> Self::Result {
        let mut world = self.world.lock().unwrap();
        world.asked.push((self.me.node, request));
        let stuck = world.stuck.contains(self.me.node);
        Box::pin(async move { if stuck { std::future::pending().await } else { LaunchResult::Succeeded } })
    }
}

impl Handler<RequestForce> for Surroundings {
    type Result = ();

    fn handle(&mut self, request: RequestForce, _: &mut Self::Context) {
        self.world.lock().unwrap().forced.push(request.victim);
    }
}

impl Handler<ServiceHappened> for Surroundings {
    type Result = ();

    fn handle(&mut self, happened: ServiceHappened, _: &mut Self::Context) {
        self.world.lock().unwrap().told.push(happened.text);
    }
}

impl Handler<NodePanic> for Surroundings {
    type Result = ();

    fn handle(&mut self, panic: NodePanic, _: &mut Self::Context) {
        self.world.lock().unwrap().told.push(format!("panic: {}", panic.reason));
    }
}

struct Answers(mpsc::UnboundedSender<SubsystemAcknowledged>);

impl Actor for Answers {
    type Context = Context<Self>;
}

impl Handler<SubsystemAcknowledged> for Answers {
    type Result = ();

    fn handle(&mut self, answer: SubsystemAcknowledged, _: &mut Self::Context) {
        let _ = self.0.send(answer);
    }
}

struct Node {
    me: NodeIncarnation,
    registration: Addr<RegistrationAndLaunch>,
    events: Addr<EventManager>,
    answers: mpsc::UnboundedReceiver<SubsystemAcknowledged>,
    gate: Gate,
}

fn service() -> ServiceDefinition {
    let command = |command: &str| Some(ServiceCommand::shell(command.to_owned(), 1_000));
    ServiceDefinition {
        start_command: command("start"),
        stop_command: command("stop"),
        recovery_command: command("recover"),
        leaves: Leaves::State,
        ..ServiceDefinition::new("licence")
    }
}

fn world() -> Shared {
    tokio::time::pause();
    let world = World::default();
    let shared = Arc::new(Mutex::new(world));
    shared.lock().unwrap().registrations.insert(NodeId(0), RegistrationRecord::of_definitions([service()]));
    shared
}

fn configuration() -> Arc<ConfigurationRecord> {
    let entry = |node: u16| {
        let entry = NodeConfiguration::new(format!("n{node}"), "");
        (NodeId(node), entry)
    };
    Arc::new(ConfigurationRecord { nodes: (0..3).map(entry).collect(), ..Default::default() })
}

fn boot(world: &Shared, me: NodeIncarnation) -> Node {
    let surroundings = Surroundings { me, world: world.clone() }.start();
    let clock = Clock::tokio();
    let gate = Gate::new(clock);
    gate.extend(clock.now().plus(100_000_000));
    let guard = PanicGuard::new("registration", gate.clone(), surroundings.clone().recipient());
    let settings = RegistrationSettings {
        me,
        profile: TimingProfile::DEV,
        clock,
        gate: gate.clone(),
        guard: guard.clone(),
        surroundings: CommandSurroundings {
            cluster: "dev".to_owned(),
            node: format!("n{}", me.node),
            socket: "socket".to_owned(),
            agent_runner: Vec::new(),
        },
        room: DatabaseRoom::default(),
    };
    let edges = RegistrationEdges {
        read_decisions: surroundings.clone().recipient(),
        write_decision: surroundings.clone().recipient(),
        read_registration: surroundings.clone().recipient(),
        write_registration: surroundings.clone().recipient(),
        peers: surroundings.clone().recipient(),
        warden: surroundings.clone().recipient(),
        actors: Default::default(),
        force: surroundings.clone().recipient(),
        happened: vec![surroundings.clone().recipient()],
        committed: Vec::new(),
    };
    let registration = RegistrationAndLaunch::new(settings, edges).start();
    registration.do_send(ConfigurationChanged(configuration()));
    world.lock().unwrap().nodes.insert(me.node, (me, registration.clone()));
    let watcher = MembershipWatcher::new(me, Restarts::new(guard.clone(), clock), registration.clone().recipient());
    let (sender, answers) = mpsc::unbounded_channel();
    let watchers = vec![watcher.start().recipient()];
    let events = EventManager::new(guard, Answers(sender).start().recipient(), watchers).start();
    Node { me, registration, events, answers, gate }
}

/// One notice about `who`, with the others as context.
fn notification(
    who: NodeIncarnation,
    kind: TransitionKind,
    barrier: u8,
    states: &[(NodeIncarnation, LevelState)],
) -> SubsystemNotification {
    let transition = TransitionId { term: Term(1), counter: u64::from(who.node.0) * 10 + kind as u64 };
    let id = NotificationId { transition, level: Level::EVENT_MANAGER, barrier, restart: 0 };
    SubsystemNotification {
        level: Level::EVENT_MANAGER,
        batch: vec![TransitionNotice { id, node: who.node, incarnation: who.incarnation, kind, renotification: false }],
        states: states.iter().map(|(who, state)| (who.node, (who.incarnation, *state))).collect(),
        participants: NodeSet::EMPTY,
        formation: Term(1),
    }
}

impl Node {
    fn tell(&self, notification: &SubsystemNotification) {
        self.events.do_send(notification.clone());
    }

    async fn acknowledges(&mut self, who: NodeIncarnation) {
        let answer = self.answers.recv().await.unwrap();
        assert_eq!((answer.subject, answer.answer), (who, SubsystemAnswer::Acknowledged));
    }

    /// Dies: nobody hears of it or from it any more.
    fn dies(self, world: &Shared) {
        self.gate.close_for_good();
        world.lock().unwrap().nodes.remove(&self.me.node);
    }
}

/// Waits, in paused time, until the world is as it should be.
async fn until(world: &Shared, what: &str, condition: impl Fn(&World) -> bool) {
    for _ in 0..2_000 {
        if condition(&world.lock().unwrap()) {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let world = world.lock().unwrap();
    panic!("never: {what}; told {:#?}, run {:#?}", world.told, world.run());
}

/// Both nodes are joined, and the service runs on n0.
async fn two_nodes(world: &Shared) -> (Node, Node) {
    let mut n0 = boot(world, N0);
    n0.tell(&notification(N0, TransitionKind::Joining, 0, &[(N0, LevelState::Joining)]));
    n0.acknowledges(N0).await;
    until(world, "the service runs on n0", |world| world.run().state == RunState::Registered).await;
    let mut n1 = boot(world, N1);
    let joining = [(N0, LevelState::Joined), (N1, LevelState::Joining)];
    for node in [&mut n0, &mut n1] {
        node.tell(&notification(N1, TransitionKind::Joining, 0, &joining));
        node.acknowledges(N1).await;
    }
    (n0, n1)
}

#[actix_rt::test]
async fn the_next_node_recovers_and_starts_what_the_dead_decision_maker_ran_without_any_timer() {
    let world = world();
    let (n0, mut n1) = two_nodes(&world).await;
    until(&world, "n0 knows n1", |world| world.record().view.len() == 2).await;
    n0.dies(&world);
    let before = tokio::time::Instant::now();
    n1.registration.do_send(LeaseView { expired: NodeSet::EMPTY, dead: vec![N0], gone: Vec::new() });
    let forced = [(N0, LevelState::ForcedLeaving), (N1, LevelState::Joined)];
    n1.tell(&notification(N0, TransitionKind::ForcedLeaving, 0, &forced));
    n1.acknowledges(N0).await;
    while world.lock().unwrap().run().state != RunState::Registered {
        tokio::task::yield_now().await;
    }
    assert!(before.elapsed().as_millis() < 2, "the fail-over waited for a timer");

    let world = world.lock().unwrap();
    assert_eq!(world.run().node, N1);
    assert_eq!(world.actions(N1), [Some(Action::Recovery), Some(Action::Start)]);
    let mut launches = world.asked.iter().filter_map(|(_, request)| match request {
        WardenRequest::Launch(launch) => Some(launch),
        WardenRequest::Kill { .. } | WardenRequest::Watch { .. } | WardenRequest::Forget { .. } => None,
    });
    let recovery = launches.find(|launch| launch.action == Action::Recovery).expect("it recovers");
    let variable =
        |name: &str| recovery.environment.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
    assert_eq!((variable("PHALANX_VICTIM"), variable("PHALANX_NODE")), (Some("n0"), Some("n1")));
    assert_eq!(recovery.clean_up, Some(Program::shell("stop")));
    assert!(world.told.contains(&"service licence: recovering on n1 what n0 left".to_owned()));
}

#[actix_rt::test]
async fn a_leaving_node_answers_its_second_barrier_when_nothing_is_placed_on_it() {
    let world = world();
    let (mut n0, mut n1) = two_nodes(&world).await;
    world.lock().unwrap().stuck.insert(NodeId(0)); // the stop command does not end
    let leaving = [(N0, LevelState::Leaving), (N1, LevelState::Joined)];
    for barrier in [0, 1] {
        n1.tell(&notification(N0, TransitionKind::Leaving, barrier, &leaving));
        n1.acknowledges(N0).await;
        n0.tell(&notification(N0, TransitionKind::Leaving, barrier, &leaving));
        if barrier == 0 {
            n0.acknowledges(N0).await;
        }
    }
    until(&world, "n1 decides and stops the service", |world| {
        world.decisions[&NodeId(1)].claim.owned == Term(2) && world.run().state == RunState::Stopping
    })
    .await;
    assert!(n0.answers.try_recv().is_err(), "the stop command still runs");
    world.lock().unwrap().stuck.remove(NodeId(0));
    // The stop times out, the kill ends, and n0 must be forced out, for it could not stop the service.
    until(&world, "n0 is to be forced out", |world| world.forced.contains(&N0)).await;
    assert!(n0.answers.try_recv().is_err(), "a node that must be forced out has not let go");
    assert_eq!(world.lock().unwrap().run().state, RunState::FenceStop);
}

#[actix_rt::test]
async fn the_last_node_stops_its_service_and_leaves() {
    let world = world();
    let (mut n0, mut n1) = two_nodes(&world).await;
    let leaving = [(N0, LevelState::Leaving), (N1, LevelState::Joined)];
    for barrier in [0, 1] {
        for node in [&mut n0, &mut n1] {
            node.tell(&notification(N0, TransitionKind::Leaving, barrier, &leaving));
            node.acknowledges(N0).await;
        }
    }
    until(&world, "the service moved", |world| world.run().state == RunState::Registered && world.run().node == N1)
        .await;
    assert_eq!(world.lock().unwrap().actions(N0), [Some(Action::Start), Some(Action::Stop)]);
    n0.dies(&world);
    let alone = [(N0, LevelState::Inactive), (N1, LevelState::Leaving)];
    for barrier in [0, 1] {
        n1.tell(&notification(N1, TransitionKind::Leaving, barrier, &alone));
        n1.acknowledges(N1).await;
    }
    let world = world.lock().unwrap();
    assert!(world.record().is_drained(N1));
    assert_eq!(world.actions(N1), [Some(Action::Start), Some(Action::Stop)]);
}

/// A database that is written, but that nobody calls committed, may never come to be: the next owner of the decisions may have
/// loaded the one before it.
#[actix_rt::test]
async fn a_leaving_node_does_not_believe_a_database_that_is_not_committed() {
    let world = world();
    let (mut n0, mut n1) = two_nodes(&world).await;
    world.lock().unwrap().stuck.insert(NodeId(0)); // the stop command does not end
    let leaving = [(N0, LevelState::Leaving), (N1, LevelState::Joined)];
    for node in [&mut n0, &mut n1] {
        node.tell(&notification(N0, TransitionKind::Leaving, 0, &leaving));
        node.acknowledges(N0).await;
    }
    until(&world, "n1 stops the service", |world| world.run().state == RunState::Stopping).await;
    let mut drained = world.lock().unwrap().record();
    drained.revision.seq += 100;
    drained.services.get_mut("licence").unwrap().run.state = RunState::DeRegistered;
    assert!(drained.is_drained(N0));
    world.lock().unwrap().registrations.insert(NodeId(2), drained.clone());
    n0.tell(&notification(N0, TransitionKind::Leaving, 1, &leaving));
    tokio::time::sleep(std::time::Duration::from_secs(3)).await;
    assert!(n0.answers.try_recv().is_err(), "left by the word of a database that is not committed");
    let message = RegistrationMessage::Committed { revision: drained.revision };
    n0.registration.do_send(PeerEvent::Received { from: N1, message: PeerMessage::Registration(message) });
    n0.acknowledges(N0).await;
}

/// A daemon that was stopped and continues finds its gate closed: nothing it had in flight is believed or done.
#[actix_rt::test]
async fn a_node_without_lease_neither_writes_nor_runs_nor_reports() {
    let world = world();
    let mut n0 = boot(&world, N0);
    n0.gate.close();
    n0.tell(&notification(N0, TransitionKind::Joining, 0, &[(N0, LevelState::Joining)]));
    n0.acknowledges(N0).await; // adopting a view touches nothing shared
    tokio::time::sleep(std::time::Duration::from_secs(30)).await;
    assert!(world.lock().unwrap().decisions.is_empty() && world.lock().unwrap().asked.is_empty());
    n0.gate.extend(Clock::tokio().now().plus(100_000_000));
    until(&world, "it goes on with a lease", |world| world.run().state == RunState::Registered).await;
}

/// Protocol RL-4: commands for another incarnation, of a deposed decision maker, or older than one seen.
#[actix_rt::test]
async fn commands_that_are_not_for_it_are_not_taken() {
    let world = world();
    let (n0, n1) = two_nodes(&world).await;
    let revision = |term, seq| Revision { term: Term(term), seq };
    let order = |depoch: u64, operation: Revision, target: NodeIncarnation| {
        let operation = OperationId { revision: operation, index: 0 };
        let command = phalanx_messages::registration::Command {
            instance: phalanx_messages::registration::Instance::only("licence"),
            operation,
            kind: CommandKind::Start,
            target,
            victim: None,
            generation: operation,
        };
        let message = RegistrationMessage::Orders {
            depoch: Term(depoch),
            orders: vec![Order { command, definition: service() }],
        };
        n1.registration.do_send(PeerEvent::Received { from: n0.me, message: PeerMessage::Registration(message) });
    };
    order(9, revision(9, 1), N0);
    order(9, revision(9, 1), NodeIncarnation { incarnation: Incarnation(2), ..N1 });
    order(9, revision(9, 1), N1);
    order(8, revision(9, 2), N1);
    order(9, revision(8, 7), N1);
    until(&world, "one start on n1", |world| !world.actions(N1).is_empty()).await;
    tokio::time::sleep(std::time::Duration::from_secs(5)).await;
    assert_eq!(world.lock().unwrap().actions(N1), [Some(Action::Start)]);
}

#[actix_rt::test]
async fn status_is_that_of_the_contract_on_every_node() {
    let world = world();
    let (n0, n1) = two_nodes(&world).await;
    for node in [&n0, &n1] {
        let status = loop {
            let status = node.registration.send(GetServices).await.unwrap().services.remove(0);
            if status.nodes["n1"].state == "up" && status.state == "registered" {
                break status;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        };
        assert_eq!((status.name.as_str(), status.node.as_deref()), ("licence", Some("n0")));
        assert_eq!(status.generation.as_deref(), Some("1.1"));
        let states: Vec<&str> = status.nodes.values().map(|node| node.state.as_str()).collect();
        assert_eq!((states, status.wanted, status.reason), (vec!["registered", "up", "down"], true, None));
    }
}

#[actix_rt::test]
async fn a_panic_of_registration_and_launch_is_the_nodes() {
    let world = world();
    let n0 = boot(&world, N0);
    assert!(n0.registration.send(InjectPanic).await.is_err());
    until(&world, "the node panics", |world| world.told.iter().any(|text| text.starts_with("panic: actor"))).await;
    assert!(n0.gate.is_panicking());
}
