//! Crash of the decision maker at every row of the table at the end of protocol §6.1, and how often commands run.
//!
//! The production machines on the production layout of the disk, stopped before a certain step ([`LauncherCluster`]). Node 0 decides
//! and runs nothing; node 1 or 2 runs the service; node 3 asks.

use phalanx_messages::NodeId;
use phalanx_messages::order::{DefinitionChange, RegistrationOrder, ServiceOrder};
use phalanx_messages::register::ClaimPhase;
use phalanx_messages::registration::{CommandKind, RegistrationRecord, RunState};
use phalanx_messages::service::{AllowableNodes, AutoRegister, NodePreferences, ServiceDefinition};
use phalanx_protocol::launcher::{LauncherInput, LauncherOutput, LauncherRead, LauncherWrite};
use phalanx_storage::BLOCK_BYTES;
use phalanx_tests::launcher_cluster::{LauncherCluster, Step, command};

/// Started by request on node 1, or else on node 2.
fn service(name: &str) -> ServiceDefinition {
    ServiceDefinition {
        allowable_nodes: AllowableNodes::Listed(vec![NodeId(1), NodeId(2)]),
        node_preferences: NodePreferences::Ordered(vec![NodeId(1), NodeId(2)]),
        auto_register: AutoRegister::Manual,
        start_command: command("start"),
        stop_command: command("stop"),
        notify_command: command("notify"),
        recovery_command: command("recover"),
        ..ServiceDefinition::new(name)
    }
}

/// The kinds of things that a decision is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Occasion {
    /// An administrator's request, put at node 3: the service starts on node 1.
    Request,
    /// The result of a stop: the service starts on node 2.
    Result,
    /// The loss of node 1: the service is recovered on node 2.
    Loss,
    /// The result of a start: node 2 is notified of it.
    Notification,
}

const OCCASIONS: [Occasion; 4] = [Occasion::Request, Occasion::Result, Occasion::Loss, Occasion::Notification];

impl Occasion {
    /// Four nodes at rest, and then what leads to the decision.
    fn begin(self) -> LauncherCluster {
        let mut cluster = LauncherCluster::joined(4, vec![service("web"), service("other")]);
        assert_eq!(cluster.decision_makers(), [0]);
        match self {
            Self::Request | Self::Notification => {
                cluster.ask_service(3, "web", ServiceOrder::Register);
            }
            Self::Result => {
                register(&mut cluster);
                cluster.ask_service(3, "web", ServiceOrder::Transfer { to: Some(NodeId(2)) });
            }
            Self::Loss => {
                register(&mut cluster);
                cluster.crash(1);
                cluster.force_out(1);
            }
        }
        cluster
    }

    /// What the decision makes of the service, and the command that follows from it.
    const fn decided(self) -> (RunState, u16, CommandKind) {
        match self {
            Self::Request => (RunState::Starting, 1, CommandKind::Start),
            Self::Result => (RunState::Starting, 2, CommandKind::Start),
            Self::Loss => (RunState::Recovering, 2, CommandKind::Recovery),
            Self::Notification => (RunState::Registered, 1, CommandKind::Notify),
        }
    }

    /// Where the service is at the end.
    const fn ends_on(self) -> u16 {
        match self {
            Self::Request | Self::Notification => 1,
            Self::Result | Self::Loss => 2,
        }
    }

    fn is_decided_by(self, record: &RegistrationRecord) -> bool {
        let run = &record.services["web"].run;
        let (state, node, kind) = self.decided();
        let notifies = !run.notifying.is_empty();
        (run.state, run.node.node.0) == (state, node) && notifies == (kind == CommandKind::Notify)
    }

    /// Stops before node 0 writes the database with the decision.
    fn stop_before_write(self) -> LauncherCluster {
        let mut cluster = self.begin();
        cluster.stop_before("the decision is written", |step| {
            step.of().node == NodeId(0) && step.written().is_some_and(|record| self.is_decided_by(record))
        });
        cluster
    }

    /// Node 0 is dead: somebody else decides, and the service is where it belongs, by one run of each command.
    fn ends_well(self, mut cluster: LauncherCluster) {
        cluster.force_out(0);
        self.goes_on_well(cluster);
    }

    fn goes_on_well(self, mut cluster: LauncherCluster) {
        cluster.until(&format!("{self:?}: everything rests"), LauncherCluster::is_at_rest);
        assert_eq!(cluster.at("web"), (RunState::Registered, self.ends_on()), "{self:?}\n{}", cluster.text());
        assert!(matches!(cluster.decision_makers()[..], [1 | 2]), "{self:?}");
        cluster.assert_each_ran_once();
        let stops = usize::from(self == Self::Result);
        let recoveries = usize::from(self == Self::Loss);
        let starts = 1 + stops + recoveries;
        let counted = [CommandKind::Start, CommandKind::Stop, CommandKind::Recovery];
        assert_eq!(counted.map(|kind| cluster.runs("web", kind)), [starts, stops, recoveries], "{self:?}");
    }
}

fn register(cluster: &mut LauncherCluster) {
    cluster.ask_service(3, "web", ServiceOrder::Register);
    cluster.until("the service runs", LauncherCluster::is_at_rest);
    assert_eq!(cluster.at("web"), (RunState::Registered, 1));
}

/// Commands for the service that its newest state asks for, and that somebody sends now.
fn sends(step: &Step, kind: CommandKind) -> bool {
    step.sent().iter().any(|command| command.instance.service == "web" && command.kind == kind)
}

/// Row 1: the database is the old one. The event is derived again from the membership, or sent again by its source.
#[test]
fn before_the_database_is_written() {
    for occasion in OCCASIONS {
        let mut cluster = occasion.stop_before_write();
        let before = cluster.newest();
        cluster.crash(0);
        assert_eq!(cluster.newest(), before);
        assert!(!occasion.is_decided_by(&before));
        occasion.ends_well(cluster);
    }
}

/// Row 2: likewise, wherever the write was torn.
#[test]
fn while_the_database_is_written() {
    for occasion in OCCASIONS {
        for bytes in (0..).map(|half| half * BLOCK_BYTES / 2) {
            let mut cluster = occasion.stop_before_write();
            let before = cluster.newest();
            cluster.tear(bytes);
            if cluster.newest() != before {
                // All of it is there: this is the next row.
                assert!(bytes > 0, "nothing was written");
                assert!(occasion.is_decided_by(&cluster.newest()));
                break;
            }
            occasion.ends_well(cluster);
        }
    }
}

/// Row 3: the next one adopts what it loads. Commands had not been sent.
#[test]
fn written_and_not_checked() {
    let answered = |step: &Step| matches!(step, Step::Give { input: LauncherInput::Written(_), .. });
    let asks = |step: &Step| matches!(step, Step::Carry { output: LauncherOutput::Read(LauncherRead::Decisions), .. });
    let checks = |step: &Step| matches!(step, Step::Give { input: LauncherInput::DecisionsRead(_), .. });
    let points: [&dyn Fn(&Step) -> bool; 3] = [&answered, &asks, &checks];
    for occasion in OCCASIONS {
        for point in points {
            let mut cluster = occasion.stop_before_write();
            cluster.step();
            cluster.stop_before("node 0 goes on", |step| step.of().node == NodeId(0) && point(step));
            let written = cluster.newest();
            assert!(occasion.is_decided_by(&written), "{occasion:?}");
            assert!(!cluster.was_sent(&written), "{occasion:?}");
            cluster.crash(0);
            occasion.ends_well(cluster);
        }
    }
}

/// Row 3 with a decision maker that only sleeps: it finds the newer claim, sends nothing, and follows.
#[test]
fn written_and_not_checked_by_one_that_wakes_again() {
    for occasion in OCCASIONS {
        let mut cluster = occasion.stop_before_write();
        cluster.step();
        let written = cluster.newest();
        cluster.freeze(0);
        cluster.expire(0);
        cluster.until("somebody else decides", |cluster| cluster.decision_makers().iter().any(|node| *node != 0));
        assert!(!cluster.was_sent(&written), "{occasion:?}");
        cluster.thaw(0);
        cluster.until(&format!("{occasion:?}: everything rests"), LauncherCluster::is_at_rest);
        assert!(!cluster.decision_makers().contains(&0), "{occasion:?}");
        assert_eq!(cluster.at("web"), (RunState::Registered, occasion.ends_on()), "{occasion:?}");
        cluster.assert_each_ran_once();
    }
}

/// Row 4: the new state with its operation; the next one sends every command that has no result, also of a service that is
/// registered.
#[test]
fn committed_and_no_command_sent() {
    for occasion in OCCASIONS {
        let mut cluster = occasion.stop_before_write();
        let (_, _, kind) = occasion.decided();
        cluster.stop_before("the command is sent", |step| sends(step, kind));
        let committed = cluster.newest();
        assert!(occasion.is_decided_by(&committed), "{occasion:?}");
        assert!(!cluster.was_sent(&committed), "{occasion:?}");
        cluster.crash(0);
        cluster.force_out(0);
        cluster.stop_before("the next one sends it", |step| sends(step, kind));
        let repeated = cluster.next().map(|step| step.sent()[0].operation);
        let run = &committed.services["web"].run;
        let operation = if kind == CommandKind::Notify { run.generation } else { run.operation };
        assert_eq!(repeated, Some(operation), "{occasion:?}: the same operation");
        occasion.goes_on_well(cluster);
    }
}

/// Row 5: two services start on two nodes by one decision, and one of the two commands is sent.
#[test]
fn some_commands_sent() {
    let mut cluster = LauncherCluster::joined(4, vec![]);
    let on = |name: &str, node: u16| ServiceDefinition {
        allowable_nodes: AllowableNodes::Listed(vec![NodeId(node)]),
        auto_register: AutoRegister::Always,
        ..service(name)
    };
    let new = |after| DefinitionChange { before: None, after };
    let changes = [new(on("one", 1)), new(on("two", 2))].into_iter().collect();
    let order = cluster.ask(3, RegistrationOrder::Apply(changes));
    let to = |node: u16| move |step: &Step| step.sent().iter().any(|command| command.target.node == NodeId(node));
    cluster.stop_before("the first command is sent", to(1));
    cluster.step();
    cluster.stop_before("the second command is sent", to(2));
    let operations = ["one", "two"].map(|service| cluster.run(service).operation);
    cluster.crash(0);
    cluster.until("the first command has run", |cluster| cluster.runs("one", CommandKind::Start) == 1);
    assert_eq!(cluster.runs("two", CommandKind::Start), 0);
    cluster.force_out(0);
    cluster.until("everything rests", LauncherCluster::is_at_rest);
    cluster.answer(order).expect("it was consumed with the decision");
    let ran: Vec<_> = cluster.ran().iter().filter(|ran| ran.kind == CommandKind::Start).collect();
    let ran: Vec<_> = ran.iter().map(|ran| (ran.lane.as_str(), ran.operation)).collect();
    assert_eq!(ran, [("one", operations[0]), ("two", operations[1])]);
    assert_eq!(
        ["one", "two"].map(|service| cluster.at(service)),
        [(RunState::Registered, 1), (RunState::Registered, 2)]
    );
    cluster.assert_each_ran_once();
}

/// Row 6: the executor tells its result again, to the next one, and does not run the command again.
#[test]
fn a_result_received_and_not_committed() {
    for (occasion, kind) in [
        (Occasion::Request, CommandKind::Start),
        (Occasion::Result, CommandKind::Stop),
        (Occasion::Loss, CommandKind::Recovery),
        (Occasion::Notification, CommandKind::Notify),
    ] {
        let mut cluster = occasion.begin();
        let tells = |node: u16| {
            move |step: &Step| step.of().node == NodeId(node) && step.results().iter().any(|result| result.kind == kind)
        };
        cluster.stop_before("the result arrives", tells(0));
        cluster.step();
        cluster
            .stop_before("what it leads to is written", |step| step.of().node == NodeId(0) && step.written().is_some());
        let before = cluster.newest();
        cluster.crash(0);
        assert_eq!(cluster.newest(), before, "{occasion:?}");
        cluster.force_out(0);
        let next = if occasion == Occasion::Loss { 2 } else { 1 };
        cluster.until("the next one decides", |cluster| cluster.decision_makers() == [next]);
        assert_eq!(cluster.newest().services, before.services, "{occasion:?}");
        occasion.goes_on_well(cluster);
    }
}

/// Row 7: nothing but the claim. The services are as they were, nothing is run, and the next one decides at once.
#[test]
fn holding_the_claim_only() {
    let mut cluster = LauncherCluster::joined(4, vec![service("web"), service("other")]);
    register(&mut cluster);
    let (before, ran, at) = (cluster.newest(), cluster.ran().len(), cluster.now());
    cluster.crash(0);
    cluster.prove_dead(0);
    cluster.until("the next one decides", |cluster| cluster.decision_makers() == [1]);
    assert_eq!(cluster.now(), at, "without waiting for anything");
    assert_eq!((cluster.newest().services, cluster.ran().len()), (before.services, ran));
    cluster.force_out(0);
    Occasion::Request.goes_on_well(cluster);
}

/// Row 7 while it claims: the next one dies after each of its disk requests, and the one after it decides.
#[test]
fn claiming() {
    let mut reached = Vec::new();
    for requests in 0.. {
        let mut cluster = LauncherCluster::joined(4, vec![service("web"), service("other")]);
        register(&mut cluster);
        let before = cluster.newest();
        cluster.crash(0);
        cluster.prove_dead(0);
        let is_request = |step: &Step| {
            let output = if let Step::Carry { output, .. } = step { Some(output) } else { None };
            let asks =
                output.is_some_and(|output| matches!(output, LauncherOutput::Read(_) | LauncherOutput::Write(_)));
            asks && step.of().node == NodeId(1)
        };
        for _ in 0..requests {
            cluster.stop_before("a request", is_request);
            if let Some(Step::Carry { output: LauncherOutput::Write(write), .. }) = cluster.next() {
                reached.push(match write {
                    LauncherWrite::Decision(register) => format!("{:?}", register.claim.phase),
                    LauncherWrite::Registration { .. } => "base".to_owned(),
                });
            }
            cluster.step();
        }
        let claimed = cluster.decision_makers() == [1];
        cluster.crash(1);
        cluster.force_out(1);
        cluster.force_out(0);
        cluster.until("the one after it decides", |cluster| cluster.decision_makers() == [2]);
        let services = cluster.newest().services;
        assert_eq!(services["other"], before.services["other"]);
        cluster.until("the service is recovered and runs", LauncherCluster::is_at_rest);
        assert_eq!(cluster.at("web"), (RunState::Registered, 2));
        cluster.assert_each_ran_once();
        if claimed {
            break;
        }
        reached.clear();
    }
    let phases = [ClaimPhase::Claim, ClaimPhase::Owner].map(|phase| format!("{phase:?}"));
    assert_eq!(reached, [phases[0].as_str(), "base", phases[1].as_str()]);
}

/// The tests can fail: each rule that is taken out is missed by the row that it belongs to.
#[cfg(feature = "deliberate-bugs")]
mod bugs {
    use std::panic::catch_unwind;

    use phalanx_protocol::bugs::{Bug, with};

    fn fails(bug: Bug, test: fn()) -> bool {
        with(Some(bug), || catch_unwind(test).is_err())
    }

    #[test]
    fn commands_that_are_sent_before_they_are_committed_are_noticed() {
        assert!(fails(Bug::SentBeforeCommit, super::written_and_not_checked));
    }

    #[test]
    fn a_commit_that_is_not_checked_is_noticed() {
        assert!(fails(Bug::NoRereadInCommit, super::written_and_not_checked_by_one_that_wakes_again));
    }
}
