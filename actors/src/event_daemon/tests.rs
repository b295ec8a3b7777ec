//! The daemon between real watchers and a warden that writes down what it is asked.

use phalanx_messages::event::{EventDefinition, EventGroupDefinition, ParameterValue};
use phalanx_messages::launch::{Action, LaunchRequest, Owner};
use phalanx_messages::registration::{RegistrationRecord, RunState, ServiceRecord, ServiceRun};
use phalanx_messages::service::{Invocation, ServiceCommand, ServiceDefinition};
use phalanx_messages::{Incarnation, NodeId, OperationId, Revision, Term};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::*;

const ME: NodeIncarnation = NodeIncarnation { node: NodeId(0), incarnation: Incarnation(1) };

struct Warden(UnboundedSender<WardenRequest>, LaunchResult);

impl Actor for Warden {
    type Context = Context<Self>;
}

impl Handler<WardenRequest> for Warden {
    type Result = MessageResult<WardenRequest>;

    fn handle(&mut self, request: WardenRequest, _: &mut Self::Context) -> Self::Result {
        let is_kill = matches!(request, WardenRequest::Kill { .. });
        self.0.send(request).ok();
        MessageResult(if is_kill { LaunchResult::Succeeded } else { self.1.clone() })
    }
}

struct Rig {
    daemon: Addr<EventDaemon>,
    asked: UnboundedReceiver<WardenRequest>,
    gate: Gate,
    clock: Clock,
}

fn daemon(result: LaunchResult) -> Rig {
    tokio::time::pause();
    let (sender, asked) = unbounded_channel();
    let clock = Clock::tokio();
    let gate = Gate::new(clock);
    gate.extend(clock.now().plus(1_000_000_000));
    let surroundings = CommandSurroundings {
        cluster: "dev".to_owned(),
        node: "n0".to_owned(),
        socket: "/run/x.sock".to_owned(),
        agent_runner: Vec::new(),
    };
    let warden = Warden(sender, result).start().recipient();
    let settings = DaemonSettings { me: ME, clock, gate: gate.clone(), surroundings, kill_ms: 5_000, warden };
    Rig { daemon: EventDaemon::new(settings).start(), asked, gate, clock }
}

/// Service `web` in that state, whose group has an event that occurs each ten seconds.
fn database(seq: u64, state: RunState) -> DatabaseCommitted {
    let words = ["tell", "${in.interval}", "${out.count}"].map(str::to_owned).to_vec();
    let event = EventDefinition {
        name: "tick".to_owned(),
        watcher: "timer".to_owned(),
        parameters: [("interval".to_owned(), ParameterValue::DurationMs(10_000))].into(),
        action: Some(ServiceCommand { run: Invocation::Arguments(words), timeout_ms: 900, retries: 0 }),
        quiet_ms: 0,
    };
    let group =
        EventGroupDefinition { name: "g".to_owned(), events: vec!["tick".to_owned()], nodes: vec![], enabled: true };
    let definition = ServiceDefinition { event_group: Some("g".to_owned()), ..ServiceDefinition::new("web") };
    let generation = OperationId { revision: Revision { term: Term(2), seq: 7 }, ..OperationId::default() };
    let run = ServiceRun { state, node: ME, generation, ..ServiceRun::default() };
    DatabaseCommitted(Arc::new(RegistrationRecord {
        revision: Revision { term: Term(2), seq },
        events: [("tick".to_owned(), event)].into_iter().collect(),
        event_groups: [("g".to_owned(), group)].into_iter().collect(),
        services: [("web".to_owned(), ServiceRecord::new(definition, run))].into_iter().collect(),
        ..RegistrationRecord::default()
    }))
}

async fn launched(rig: &mut Rig) -> LaunchRequest {
    match rig.asked.recv().await {
        Some(WardenRequest::Launch(request)) => request,
        other => panic!("{other:?}"),
    }
}

async fn tail(rig: &Rig) -> Vec<OccurrenceReport> {
    rig.daemon.send(GetOccurrences).await.unwrap().tail(usize::MAX)
}

async fn pass(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

/// Spec, Fig. 21 and Table 4: from the registration to the action function, which can say by the public request what failed.
#[actix_rt::test]
async fn an_event_of_a_registered_service_runs_its_action_with_everything_it_needs() {
    let mut rig = daemon(LaunchResult::Succeeded);
    rig.daemon.do_send(database(1, RunState::Starting));
    pass(60).await;
    assert!(rig.asked.try_recv().is_err(), "not registered yet");
    rig.daemon.do_send(database(2, RunState::Registered));
    let request = launched(&mut rig).await;
    assert_eq!(request.owner, Owner::Event("tick@web".to_owned()));
    assert_eq!((request.action, request.timeout_ms, request.operation), (Action::Watch, 900, None));
    assert_eq!(request.command.to_string(), "tell 10000 1");
    let expected = [
        ("PHALANX_SOCKET", "/run/x.sock"),
        ("PHALANX_CLUSTER", "dev"),
        ("PHALANX_NODE", "n0"),
        ("PHALANX_EVENT", "tick"),
        ("PHALANX_EVENT_GROUP", "g"),
        ("PHALANX_SERVICE", "web"),
        ("PHALANX_GENERATION", "8589934599"),
        ("PHALANX_OUT_COUNT", "1"),
        ("PHALANX_IN_INTERVAL", "10000"),
    ];
    for (name, value) in expected {
        assert!(
            request.environment.contains(&(name.to_owned(), value.to_owned())),
            "{name}: {:?}",
            request.environment
        );
    }
    let kill = rig.asked.recv().await.unwrap();
    let owner = Owner::Event("tick@web".to_owned());
    assert_eq!(kill, WardenRequest::Kill { owner, operation: None, timeout_ms: 5_000 }, "nothing of it may stay");
    pass(0).await;
    let told = tail(&rig).await;
    assert_eq!(told.len(), 1);
    assert_eq!((told[0].done.as_str(), told[0].service.as_deref()), ("succeeded", Some("web")));
    rig.daemon.do_send(database(3, RunState::Stopping));
    pass(60).await;
    assert!(rig.asked.try_recv().is_err(), "disabled in response to de-registration");
}

#[actix_rt::test]
async fn an_occurrence_waits_for_the_lease_and_is_then_acted_on() {
    let mut rig = daemon(LaunchResult::Failed { text: "exit status 3".to_owned() });
    rig.gate.close();
    rig.daemon.do_send(database(1, RunState::Registered));
    pass(11).await;
    assert!(rig.asked.try_recv().is_err());
    assert_eq!(tail(&rig).await[0].done, "waiting");
    rig.gate.extend(rig.clock.now().plus(1_000_000_000));
    assert_eq!(launched(&mut rig).await.command.to_string(), "tell 10000 1");
    pass(1).await;
    let told = &tail(&rig).await[0];
    assert_eq!((told.done.as_str(), told.text.as_str()), ("failed", "exit status 3"));
}

/// A panic costs the memory of the daemon, not the node, and not the database.
#[actix_rt::test]
async fn a_daemon_that_panics_begins_anew_until_it_is_too_much() {
    let mut rig = daemon(LaunchResult::Succeeded);
    rig.daemon.do_send(database(1, RunState::Registered));
    launched(&mut rig).await;
    for _ in 0..5 {
        rig.daemon.send(InjectPanic).await.unwrap();
    }
    rig.asked.recv().await.unwrap(); // the kill after the first
    assert_eq!(launched(&mut rig).await.command.to_string(), "tell 10000 1", "watched anew");
    let numbers: Vec<u64> = tail(&rig).await.iter().map(|told| told.number).collect();
    assert!(numbers.len() == 2 && numbers[0] < numbers[1], "numbers go on: {numbers:?}");
    rig.daemon.send(InjectPanic).await.unwrap();
    let report = rig.daemon.send(GetEvents).await.unwrap();
    assert_eq!(report.events[0].state, "failed");
    assert!(report.events[0].reason.as_ref().unwrap().contains("panicked too often"));
}

#[actix_rt::test]
async fn a_test_is_answered_when_the_action_has_ended() {
    let mut rig = daemon(LaunchResult::Failed { text: "exit status 1".to_owned() });
    rig.daemon.do_send(database(1, RunState::Registered));
    let test = |out: &[(&str, &str)], dry_run| TestEvent {
        name: "g".to_owned(),
        out: out.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        dry_run,
    };
    let dry = rig.daemon.send(test(&[("count", "5")], true)).await.unwrap().unwrap();
    assert_eq!((dry[0].done.as_str(), dry[0].text.as_str()), ("would-run", "tell 10000 5"));
    assert!(rig.asked.try_recv().is_err());
    let real = rig.daemon.send(test(&[("count", "5")], false)).await.unwrap().unwrap();
    assert_eq!((real[0].done.as_str(), real[0].text.as_str(), real[0].test), ("failed", "exit status 1", true));
    assert!(rig.daemon.send(test(&[], false)).await.unwrap().unwrap_err().contains("${out.count}"));
    let report = rig.daemon.send(GetEvents).await.unwrap();
    assert_eq!((report.events[0].state.as_str(), report.events[0].last_at_ms), ("watching", None));
    assert_eq!(report.groups[0].services, ["web"]);
}
