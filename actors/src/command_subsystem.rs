//! A subsystem whose work is done by commands from the configuration (`[[subsystem]]`; architecture §3, "command subsystems").
//!
//! Every notice of a notification runs the command of its kind once, one after the other, and is answered exactly once. A newer
//! notice about the same node replaces an older one: what the older command still does is void, and its answer is not given
//! (spec, Table 1, "Allowed Re-notifications"). A kind without a command is acknowledged at once.
//!
//! Kernel-level: its panic is the node's.

use std::collections::VecDeque;
use std::sync::Arc;

use actix::prelude::*;
use phalanx_messages::configuration::ConfigurationRecord;
use phalanx_messages::launch::{Action, LaunchRequest, LaunchResult, Leaves, Owner, Program, WardenRequest};
use phalanx_messages::membership::{LevelRegistration, TransitionKind};
use phalanx_messages::notification::{SubsystemAcknowledged, SubsystemAnswer, SubsystemNotification, TransitionNotice};
use phalanx_messages::{NodeId, NodeIncarnation};

use crate::guard::PanicGuard;
use crate::ports::{ConfigurationChanged, InjectPanic};

/// What a command subsystem does for each kind of transition.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SubsystemCommands {
    /// For each barrier of a join.
    pub on_joining: Option<Program>,
    /// For each barrier of a graceful leave.
    pub on_leaving: Option<Program>,
    /// For each barrier of a forced leave.
    pub on_forced_leaving: Option<Program>,
    /// Run by the warden after the node has died, before it may be called dead.
    pub on_panic: Option<Program>,
    /// A command is killed and counted as failed after this long.
    pub timeout_ms: u64,
}

impl SubsystemCommands {
    const fn of(&self, kind: TransitionKind) -> Option<&Program> {
        match kind {
            TransitionKind::Joining | TransitionKind::JoinExtending => self.on_joining.as_ref(),
            TransitionKind::Leaving => self.on_leaving.as_ref(),
            TransitionKind::ForcedLeaving => self.on_forced_leaving.as_ref(),
        }
    }
}

/// What a command subsystem is given.
#[derive(Debug, Clone)]
pub struct CommandSubsystemSettings {
    /// This node.
    pub me: NodeId,
    /// What it registers with the membership manager.
    pub registration: LevelRegistration,
    /// What it runs.
    pub commands: SubsystemCommands,
    /// Variables that every command gets.
    pub environment: Vec<(String, String)>,
    /// Gives nodes their names.
    pub configuration: Arc<ConfigurationRecord>,
    /// Its panics are the node's.
    pub guard: PanicGuard,
}

/// See the module.
pub struct CommandSubsystem {
    settings: CommandSubsystemSettings,
    warden: Recipient<WardenRequest>,
    answers: Recipient<SubsystemAcknowledged>,
    waiting: VecDeque<TransitionNotice>,
    running: Option<TransitionNotice>,
}

impl CommandSubsystem {
    /// A subsystem that processes nothing yet. Its answers go to the membership manager.
    #[must_use]
    pub const fn new(
        settings: CommandSubsystemSettings,
        warden: Recipient<WardenRequest>,
        answers: Recipient<SubsystemAcknowledged>,
    ) -> Self {
        Self { settings, warden, answers, waiting: VecDeque::new(), running: None }
    }

    fn notified(&mut self, notification: SubsystemNotification, ctx: &mut Context<Self>) {
        for notice in notification.batch {
            let replaced = |old: &TransitionNotice| (old.node, old.incarnation) == (notice.node, notice.incarnation);
            self.waiting.retain(|old| !replaced(old));
            if self.running.is_some_and(|running| replaced(&running)) {
                self.running = None; // its answer is void; the warden aborts it when the next command comes
            }
            self.waiting.push_back(notice);
        }
        self.go_on(ctx);
    }

    fn go_on(&mut self, ctx: &mut Context<Self>) {
        while self.running.is_none() {
            let Some(notice) = self.waiting.pop_front() else { return };
            match self.settings.commands.of(notice.kind).cloned() {
                None => self.answer(&notice, SubsystemAnswer::Acknowledged),
                Some(command) => self.launch(notice, command, ctx),
            }
        }
    }

    fn launch(&mut self, notice: TransitionNotice, command: Program, ctx: &mut Context<Self>) {
        self.running = Some(notice);
        let launched = self.warden.send(WardenRequest::Launch(self.request(&notice, command)));
        ctx.spawn(launched.into_actor(self).map(move |result, actor, ctx| {
            let guard = actor.settings.guard.clone();
            guard.run(|| {
                if actor.running != Some(notice) {
                    return; // replaced meanwhile
                }
                actor.running = None;
                let result = result.unwrap_or_else(|closed| LaunchResult::Failed { text: closed.to_string() });
                actor.answer(
                    &notice,
                    match result {
                        LaunchResult::Succeeded => SubsystemAnswer::Acknowledged,
                        LaunchResult::Failed { text } => SubsystemAnswer::Failed { text },
                    },
                );
                actor.go_on(ctx);
            });
        }));
    }

    fn request(&self, notice: &TransitionNotice, command: Program) -> LaunchRequest {
        let CommandSubsystemSettings { registration, commands, configuration, .. } = &self.settings;
        let action = match notice.kind {
            TransitionKind::Joining | TransitionKind::JoinExtending => "joining",
            TransitionKind::Leaving => "leaving",
            TransitionKind::ForcedLeaving => "forced-leaving",
        };
        let own = [
            ("PHALANX_NODE", configuration.name_of(self.settings.me)),
            ("PHALANX_SUBSYSTEM", registration.name.clone()),
            ("PHALANX_LEVEL", registration.level.to_string()),
            ("PHALANX_ACTION", action.to_owned()),
            ("PHALANX_SUBJECT", configuration.name_of(notice.node)),
            ("PHALANX_SUBJECT_INCARNATION", notice.incarnation.to_string()),
            ("PHALANX_TRANSITION", notice.id.transition.to_string()),
            ("PHALANX_BARRIER", notice.id.barrier.to_string()),
            ("PHALANX_RESTART", notice.id.restart.to_string()),
        ];
        let mut environment = self.settings.environment.clone();
        environment.extend(own.map(|(key, value)| (key.to_owned(), value)));
        LaunchRequest {
            owner: Owner::Subsystem(registration.name.clone()),
            operation: None,
            action: Action::Transition,
            command,
            environment,
            timeout_ms: commands.timeout_ms,
            // Without `on_panic` the subsystem says that its processes are all there is.
            leaves: if commands.on_panic.is_some() { Leaves::State } else { Leaves::Processes },
            clean_up: commands.on_panic.clone(),
            retries: 0,
        }
    }

    fn answer(&self, notice: &TransitionNotice, answer: SubsystemAnswer) {
        if let SubsystemAnswer::Failed { text } = &answer {
            tracing::warn!(subsystem = self.settings.registration.name, reason = %text, "a command failed");
        }
        let subject = NodeIncarnation { node: notice.node, incarnation: notice.incarnation };
        self.answers.do_send(SubsystemAcknowledged { subject, id: notice.id, answer });
    }
}

impl Actor for CommandSubsystem {
    type Context = Context<Self>;
}

impl Handler<SubsystemNotification> for CommandSubsystem {
    type Result = ();

    fn handle(&mut self, notification: SubsystemNotification, ctx: &mut Self::Context) {
        let guard = self.settings.guard.clone();
        guard.run(|| self.notified(notification, ctx));
    }
}

impl Handler<ConfigurationChanged> for CommandSubsystem {
    type Result = ();

    fn handle(&mut self, ConfigurationChanged(configuration): ConfigurationChanged, _: &mut Self::Context) {
        self.settings.configuration = configuration;
    }
}

impl Handler<InjectPanic> for CommandSubsystem {
    type Result = ();

    fn handle(&mut self, _: InjectPanic, _: &mut Self::Context) {
        self.settings.guard.clone().run(|| panic!("injected"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::gate::Gate;
    use crate::ports::NodePanic;
    use phalanx_messages::membership::{BarrierCounts, Certainty};
    use phalanx_messages::set::NodeSet;
    use phalanx_messages::{Incarnation, Level, NotificationId, Term, TransitionId};
    use tokio::sync::{mpsc, oneshot};

    /// Hands each request to the test, which decides how it ends.
    struct FakeWarden(mpsc::UnboundedSender<(LaunchRequest, oneshot::Sender<LaunchResult>)>);

    impl Actor for FakeWarden {
        type Context = Context<Self>;
    }

    impl Handler<WardenRequest> for FakeWarden {
        type Result = ResponseFuture<LaunchResult>;

        fn handle(&mut self, request: WardenRequest, _: &mut Self::Context) -> Self::Result {
            let (sender, receiver) = oneshot::channel();
            match request {
                WardenRequest::Launch(request) => self.0.send((request, sender)).expect("the test listens"),
                WardenRequest::Kill { .. } | WardenRequest::Watch { .. } | WardenRequest::Forget { .. } => {
                    panic!("a subsystem only launches")
                }
            }
            Box::pin(async move { receiver.await.expect("the test answers") })
        }
    }

    struct Listener<M: Message + Send>(mpsc::UnboundedSender<M>)
    where
        M::Result: Send;

    impl<M: Message<Result = ()> + Send + Unpin + 'static> Actor for Listener<M> {
        type Context = Context<Self>;
    }

    impl<M: Message<Result = ()> + Send + Unpin + 'static> Handler<M> for Listener<M> {
        type Result = ();

        fn handle(&mut self, message: M, _: &mut Self::Context) {
            self.0.send(message).expect("the test listens");
        }
    }

    struct Bench {
        subsystem: Addr<CommandSubsystem>,
        requests: mpsc::UnboundedReceiver<(LaunchRequest, oneshot::Sender<LaunchResult>)>,
        answers: mpsc::UnboundedReceiver<SubsystemAcknowledged>,
        panics: mpsc::UnboundedReceiver<NodePanic>,
    }

    fn bench() -> Bench {
        let (request_sender, requests) = mpsc::unbounded_channel();
        let (answer_sender, answers) = mpsc::unbounded_channel();
        let (panic_sender, panics) = mpsc::unbounded_channel();
        let registration = LevelRegistration {
            level: Level(100),
            name: "storage".to_owned(),
            barriers: BarrierCounts { joining: 1, leaving: 1, forced_leaving: 1 },
            needs: Certainty::Io,
            optional: false,
        };
        let commands = SubsystemCommands {
            on_joining: Some(Program::shell("join")),
            on_forced_leaving: Some(Program::shell("recover")),
            timeout_ms: 1_000,
            ..SubsystemCommands::default()
        };
        let guard = PanicGuard::new("storage", Gate::new(Clock::Boot), Listener(panic_sender).start().recipient());
        let settings = CommandSubsystemSettings {
            me: NodeId(0),
            registration,
            commands,
            environment: Vec::new(),
            configuration: Arc::default(),
            guard,
        };
        let warden = FakeWarden(request_sender).start().recipient();
        let answer = Listener(answer_sender).start().recipient();
        Bench { subsystem: CommandSubsystem::new(settings, warden, answer).start(), requests, answers, panics }
    }

    fn notification(kinds: &[(u16, TransitionKind, u64)]) -> SubsystemNotification {
        let notice = |(node, kind, counter): &(u16, TransitionKind, u64)| TransitionNotice {
            id: NotificationId {
                transition: TransitionId { term: Term(1), counter: *counter },
                level: Level(100),
                barrier: 0,
                restart: 0,
            },
            node: NodeId(*node),
            incarnation: Incarnation(1),
            kind: *kind,
            renotification: false,
        };
        SubsystemNotification {
            level: Level(100),
            batch: kinds.iter().map(notice).collect(),
            states: Default::default(),
            participants: NodeSet::EMPTY,
            formation: Term(1),
        }
    }

    #[actix_rt::test]
    async fn every_notice_runs_its_command_and_is_answered_once() {
        let mut bench = bench();
        let batch = [(1, TransitionKind::Joining, 1), (2, TransitionKind::Leaving, 2), (3, TransitionKind::Joining, 3)];
        bench.subsystem.do_send(notification(&batch));
        let (request, end) = bench.requests.recv().await.unwrap();
        assert_eq!(request.command, Program::shell("join"));
        assert!(request.environment.contains(&("PHALANX_SUBJECT_INCARNATION".to_owned(), "1".to_owned())));
        end.send(LaunchResult::Succeeded).unwrap();
        let (_, end) = bench.requests.recv().await.unwrap();
        end.send(LaunchResult::Failed { text: "no such device".to_owned() }).unwrap();
        let mut answers = Vec::new();
        for _ in 0..3 {
            let SubsystemAcknowledged { subject, answer, .. } = bench.answers.recv().await.unwrap();
            answers.push((subject.node.0, answer));
        }
        let failed = SubsystemAnswer::Failed { text: "no such device".to_owned() };
        let expected = [(1, SubsystemAnswer::Acknowledged), (2, SubsystemAnswer::Acknowledged), (3, failed)];
        assert_eq!(answers, expected, "a leave has no command here and is acknowledged when its turn comes");
    }

    /// Spec, Table 1, "Allowed Re-notifications": Forced-Leaving replaces a Joining that is being processed.
    #[actix_rt::test]
    async fn a_renotification_voids_what_is_being_processed() {
        let mut bench = bench();
        bench.subsystem.do_send(notification(&[(1, TransitionKind::Joining, 1)]));
        let (_, first) = bench.requests.recv().await.unwrap();
        bench.subsystem.do_send(notification(&[(1, TransitionKind::ForcedLeaving, 2)]));
        let (request, second) = bench.requests.recv().await.unwrap();
        assert_eq!(request.command, Program::shell("recover"));
        first.send(LaunchResult::Succeeded).unwrap();
        second.send(LaunchResult::Succeeded).unwrap();
        let answer = bench.answers.recv().await.unwrap();
        assert_eq!(answer.id.transition.counter, 2);
        assert!(bench.answers.try_recv().is_err());
    }

    #[actix_rt::test]
    async fn a_panic_of_a_subsystem_is_the_nodes() {
        let mut bench = bench();
        bench.subsystem.do_send(InjectPanic);
        assert!(bench.panics.recv().await.unwrap().reason.contains("storage"));
    }
}
