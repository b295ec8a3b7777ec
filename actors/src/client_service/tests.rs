//! The actor by its mailbox alone, with a warden that answers when the test lets it.

use phalanx_messages::launch::{Action, LaunchResult, Leaves, Owner, Program};
use phalanx_messages::order::{RegistrationOrder, ServiceOrder};
use phalanx_messages::registration::{Command, CommandKind, Instance};
use phalanx_messages::service::{Invocation, Monitor, ServiceCommand, ServiceDefinition};
use phalanx_messages::{Incarnation, NodeId, NodeIncarnation, Term};
use phalanx_protocol::launcher::OrderFailure;
use tokio::sync::{mpsc, oneshot};

use super::*;
use crate::clock::Clock;
use crate::guard::PanicGuard;
use crate::ports::NodePanic;

const ME: NodeIncarnation = NodeIncarnation { node: NodeId(1), incarnation: Incarnation(3) };

type Asked = (WardenRequest, oneshot::Sender<LaunchResult>);

/// Warden, registration-and-launch and supervisor.
struct Others {
    orders: mpsc::UnboundedSender<RegistrationOrder>,
    asked: mpsc::UnboundedSender<Asked>,
    reported: mpsc::UnboundedSender<OperationResult>,
    panics: mpsc::UnboundedSender<String>,
    monitored: mpsc::UnboundedSender<Monitored>,
}

impl Actor for Others {
    type Context = Context<Self>;
}

impl Handler<WardenRequest> for Others {
    type Result = ResponseFuture<LaunchResult>;

    fn handle(&mut self, request: WardenRequest, _: &mut Self::Context) -> Self::Result {
        let (answer, answered) = oneshot::channel();
        self.asked.send((request, answer)).unwrap();
        Box::pin(async move { answered.await.unwrap_or(LaunchResult::Failed { text: "killed".to_owned() }) })
    }
}

impl Handler<Reported> for Others {
    type Result = ();

    fn handle(&mut self, Reported(result): Reported, _: &mut Self::Context) {
        self.reported.send(result).unwrap();
    }
}

impl Handler<Monitored> for Others {
    type Result = ();

    fn handle(&mut self, monitored: Monitored, _: &mut Self::Context) {
        self.monitored.send(monitored).unwrap();
    }
}

impl Handler<CarryOut> for Others {
    type Result = Result<(), OrderFailure>;

    fn handle(&mut self, CarryOut(order): CarryOut, _: &mut Self::Context) -> Self::Result {
        self.orders.send(order).unwrap();
        Ok(())
    }
}

impl Handler<NodePanic> for Others {
    type Result = ();

    fn handle(&mut self, panic: NodePanic, _: &mut Self::Context) {
        self.panics.send(panic.reason).unwrap();
    }
}

struct Bench {
    service: Addr<ClientService>,
    asked: mpsc::UnboundedReceiver<Asked>,
    reported: mpsc::UnboundedReceiver<OperationResult>,
    panics: mpsc::UnboundedReceiver<String>,
    orders: mpsc::UnboundedReceiver<RegistrationOrder>,
    monitored: mpsc::UnboundedReceiver<Monitored>,
    gate: Gate,
    clock: Clock,
}

fn bench() -> Bench {
    tokio::time::pause();
    let (asks, asked) = mpsc::unbounded_channel();
    let (reports, reported) = mpsc::unbounded_channel();
    let (reasons, panics) = mpsc::unbounded_channel();
    let (ordering, orders) = mpsc::unbounded_channel();
    let (showing, monitored) = mpsc::unbounded_channel();
    let others =
        Others { orders: ordering, asked: asks, reported: reports, panics: reasons, monitored: showing }.start();
    let clock = Clock::tokio();
    let gate = Gate::new(clock);
    gate.extend(clock.now().plus(1_000_000));
    let settings = ClientServiceSettings {
        surroundings: CommandSurroundings {
            cluster: "dev".to_owned(),
            node: "n1".to_owned(),
            socket: "/run/n1.sock".to_owned(),
            agent_runner: vec!["phalanx".to_owned(), "agent-run".to_owned()],
        },
        kill_ms: 7_000,
        gate: gate.clone(),
        restarts: Restarts::new(PanicGuard::new("service", gate.clone(), others.clone().recipient()), clock),
        warden: others.clone().recipient(),
        actors: ServiceActors::default(),
        reported: others.clone().recipient(),
        monitored: others.clone().recipient(),
        orders: others.recipient(),
    };
    Bench { service: ClientService::new(settings).start(), asked, reported, panics, orders, monitored, gate, clock }
}

fn revision(seq: u64) -> Revision {
    Revision { term: Term(3), seq }
}

fn operation(seq: u64) -> OperationId {
    OperationId { revision: revision(seq), index: 0 }
}

fn perform(kind: CommandKind, seq: u64) -> Perform {
    let command = |word: &str| Some(ServiceCommand::shell(word.to_owned(), 1_500));
    let definition = ServiceDefinition {
        start_command: command("start"),
        stop_command: command("stop"),
        recovery_command: command("recover"),
        leaves: Leaves::State,
        ..ServiceDefinition::new("licence")
    };
    let recovers = kind == CommandKind::Recovery;
    let victim = recovers.then_some(NodeIncarnation { node: NodeId(2), incarnation: Incarnation(9) });
    let command = Command {
        instance: Instance::only("licence"),
        operation: operation(seq),
        kind,
        target: ME,
        victim,
        generation: operation(12),
    };
    Perform { order: Order { command, definition }, victim: recovers.then(|| "n2".to_owned()) }
}

#[actix_rt::test]
async fn a_command_runs_once_with_its_environment_and_its_result_is_repeated_until_consumed() {
    let mut bench = bench();
    for _ in 0..2 {
        bench.service.send(perform(CommandKind::Recovery, 14)).await.unwrap();
    }
    let (request, answer) = bench.asked.recv().await.unwrap();
    let WardenRequest::Launch(launch) = request else { panic!("a launch") };
    assert_eq!(
        (launch.action, launch.command, launch.timeout_ms),
        (Action::Recovery, Program::shell("recover"), 1_500)
    );
    assert_eq!((launch.operation, launch.clean_up), (Some(operation(14)), Some(Program::shell("stop"))));
    let variables: Vec<String> = launch.environment.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let expected = [
        "PHALANX_SOCKET=/run/n1.sock",
        "PHALANX_CLUSTER=dev",
        "PHALANX_NODE=n1",
        "PHALANX_SERVICE=licence",
        "PHALANX_ACTION=recovery",
        "PHALANX_GENERATION=12884901900", // 3 * 2^32 + 12
        "PHALANX_OPERATION=3.14.0",
        "PHALANX_PARENT=",
        "PHALANX_VICTIM=n2",
    ];
    assert_eq!(variables, expected);
    answer.send(LaunchResult::Succeeded).unwrap();
    for _ in 0..3 {
        let result = bench.reported.recv().await.unwrap();
        assert_eq!((result.operation, result.outcome), (operation(14), LaunchResult::Succeeded));
    }
    let consumed = DatabaseSeen { revision: revision(15), awaited: BTreeSet::new() };
    bench.service.send(consumed).await.unwrap();
    while bench.reported.try_recv().is_ok() {}
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(bench.reported.try_recv().is_err(), "a consumed result is not repeated");
    assert!(bench.asked.try_recv().is_err(), "the same operation runs once");
}

#[actix_rt::test]
async fn a_newer_operation_voids_the_result_of_an_older_one_which_is_never_run_again() {
    let mut bench = bench();
    bench.service.send(perform(CommandKind::Start, 12)).await.unwrap();
    let (_, start) = bench.asked.recv().await.unwrap();
    bench.service.send(perform(CommandKind::Kill, 13)).await.unwrap();
    let (request, kill) = bench.asked.recv().await.unwrap();
    let owner = Owner::Service("licence".to_owned());
    assert_eq!(request, WardenRequest::Kill { owner, operation: Some(operation(13)), timeout_ms: 7_000 });
    start.send(LaunchResult::Succeeded).unwrap();
    kill.send(LaunchResult::Succeeded).unwrap();
    bench.service.send(perform(CommandKind::Start, 12)).await.unwrap();
    assert_eq!(bench.reported.recv().await.unwrap().operation, operation(13));
    assert!(bench.asked.try_recv().is_err(), "an older operation is never run (I-R8)");
}

/// What a stopped daemon had in flight is neither begun nor told when it continues: its gate is closed.
#[actix_rt::test]
async fn without_lease_nothing_is_begun_and_nothing_is_told() {
    let mut bench = bench();
    bench.gate.close();
    bench.service.send(perform(CommandKind::Start, 12)).await.unwrap();
    assert!(bench.asked.try_recv().is_err());
    bench.gate.extend(bench.clock.now().plus(1_000_000));
    bench.service.send(perform(CommandKind::Start, 12)).await.unwrap();
    let (_, answer) = bench.asked.recv().await.unwrap();
    bench.gate.close();
    answer.send(LaunchResult::Succeeded).unwrap();
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(bench.reported.try_recv().is_err());
    bench.gate.extend(bench.clock.now().plus(1_000_000));
    assert_eq!(bench.reported.recv().await.unwrap().operation, operation(12));
}

/// The warden remembers for it: after a restart the same operation is asked for again, and gets the first one's result.
#[actix_rt::test]
async fn a_panic_is_survived_and_too_many_are_the_nodes() {
    let mut bench = bench();
    bench.service.send(perform(CommandKind::Start, 12)).await.unwrap();
    let (first, _still_running) = bench.asked.recv().await.unwrap();
    bench.service.send(InjectPanic).await.unwrap();
    bench.service.send(perform(CommandKind::Start, 12)).await.unwrap();
    let (again, answer) = bench.asked.recv().await.unwrap();
    assert_eq!(first, again);
    answer.send(LaunchResult::Succeeded).unwrap();
    assert_eq!(bench.reported.recv().await.unwrap().operation, operation(12));
    for _ in 0..5 {
        bench.service.send(InjectPanic).await.unwrap();
    }
    assert_eq!(bench.panics.recv().await.unwrap(), "an actor panicked too often to be restarted again");
    assert!(bench.gate.is_panicking());
}

/// Registration-and-launch lets go of a service that was removed. What it was given goes with it.
#[actix_rt::test]
async fn a_service_that_nobody_asks_any_more_ends() {
    let Bench { service, mut asked, .. } = bench();
    service.send(DatabaseSeen { revision: revision(13), awaited: BTreeSet::new() }).await.unwrap();
    tokio::time::sleep(2 * REPEAT).await;
    assert!(service.connected());
    drop(service);
    let ended = tokio::time::timeout(2 * REPEAT, asked.recv()).await;
    assert!(ended.is_ok_and(|asked| asked.is_none()), "it holds its warden no more");
}

fn registered(monitor: Option<Monitor>) -> Registered {
    let definition = ServiceDefinition { monitor, ..ServiceDefinition::new("licence") };
    let here =
        RegisteredHere { instance: Instance::only("licence"), generation: operation(12), held: false, definition };
    Registered(Some(Box::new(here)))
}

fn failed(text: &str) -> RegistrationOrder {
    let order = ServiceOrder::Failed { generation: revision(12), node: None, text: text.to_owned() };
    RegistrationOrder::Service { service: "licence".to_owned(), order }
}

/// Issue 7: "its action is the public request, so nothing is returned directly to registration-and-launch".
#[actix_rt::test]
async fn the_end_of_a_services_processes_is_told_as_an_administrator_would() {
    let mut bench = bench();
    bench.service.send(registered(None)).await.unwrap();
    let (request, answer) = bench.asked.recv().await.unwrap();
    let owner = Owner::Service("licence".to_owned());
    assert_eq!(request, WardenRequest::Watch { owner, operation: operation(12) });
    assert!(bench.orders.try_recv().is_err());
    answer.send(LaunchResult::Failed { text: "its processes have ended".to_owned() }).unwrap();
    assert_eq!(bench.orders.recv().await.unwrap(), failed("its processes have ended"));
    assert_eq!(bench.orders.recv().await.unwrap(), failed("its processes have ended"), "until it is taken up");
    bench.service.send(Registered(None)).await.unwrap();
    tokio::time::sleep(Duration::from_secs(100)).await;
    assert!(bench.orders.try_recv().is_err());
}

#[actix_rt::test]
async fn a_monitor_runs_while_the_gate_is_open_and_is_killed_when_the_registration_ends() {
    let mut bench = bench();
    let run = Invocation::Arguments(vec!["check".to_owned()]);
    bench
        .service
        .send(registered(Some(Monitor { run, interval_ms: 500, timeout_ms: 300, tolerance: 1 })))
        .await
        .unwrap();
    let (_watch, _nobody_ends) = bench.asked.recv().await.unwrap();
    bench.gate.close();
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(bench.asked.try_recv().is_err(), "a node without lease looks at nothing");
    bench.gate.extend(bench.clock.now().plus(1_000_000));
    let (request, answer) = bench.asked.recv().await.unwrap();
    let WardenRequest::Launch(launch) = request else { panic!("a launch") };
    assert_eq!((launch.action, launch.operation, launch.timeout_ms), (Action::Watch, None, 300));
    assert_eq!((launch.owner, launch.retries), (Owner::Event("monitor:licence".to_owned()), 0));
    answer.send(LaunchResult::Failed { text: LaunchResult::exit_status(1) }).unwrap();
    assert_eq!(bench.orders.recv().await.unwrap(), failed("its monitor failed: exit status 1"));
    let mut shown = Vec::new();
    while let Ok(Monitored { instance, monitor }) = bench.monitored.try_recv() {
        assert_eq!(instance, Instance::only("licence"));
        shown.extend(monitor.map(|monitor| (monitor.begun, monitor.bad_in_row)));
    }
    assert_eq!(shown, [(0, 0), (1, 0), (1, 1)], "what status shows, whenever it changes");
    let (_monitor, _runs) = bench.asked.recv().await.unwrap();
    bench.service.send(Registered(None)).await.unwrap();
    let (request, _) = bench.asked.recv().await.unwrap();
    let owner = Owner::Event("monitor:licence".to_owned());
    assert_eq!(request, WardenRequest::Kill { owner, operation: None, timeout_ms: 7_000 });
    let last = std::iter::from_fn(|| bench.monitored.try_recv().ok()).last().unwrap();
    assert_eq!(last.monitor, None, "it is not registered here any more");
}
