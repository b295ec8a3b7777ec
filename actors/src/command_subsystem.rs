//! A subsystem whose work is done by commands from the configuration (architecture §6, `[[subsystem]]`).
//!
//! Each notice of a notification runs the command of its kind once, through the warden; notices of one batch run beside each
//! other. The answer is the command's: exit status 0 is an acknowledgement, anything else a failure (protocol T-24). A kind
//! without a command is acknowledged at once.
//!
//! What always holds: each notice is answered once, and only the newest notice of a node is (spec, Table 1, "Allowed
//! Re-notifications"). A command that was overtaken is let run to its end, which its time-out bounds, and its answer is void;
//! the newer one starts after it. It is not killed: that would take with it whatever earlier commands left running on purpose.
//!
//! Commands run at least once for each step and must be idempotent: a restart of a step runs them again with a greater
//! `PHALANX_RESTART`.

use std::collections::BTreeMap;
use std::sync::Arc;

use actix::prelude::*;
use phalanx_messages::configuration::ConfigurationRecord;
use phalanx_messages::launch::{Action, LaunchRequest, LaunchResult, Leaves, Owner, WardenRequest};
use phalanx_messages::membership::{LevelRegistration, TransitionKind};
use phalanx_messages::notification::{SubsystemAcknowledged, SubsystemAnswer, SubsystemNotification, TransitionNotice};
use phalanx_messages::{NodeId, NodeIncarnation, NotificationId};

use crate::guard::PanicGuard;
use crate::ports::{ConfigurationChanged, InjectPanic};

/// One `[[subsystem]]` of the configuration.
#[derive(Debug, Clone)]
pub struct CommandSubsystemSettings {
    /// Level, name and barriers.
    pub registration: LevelRegistration,
    /// Run for each barrier of a join.
    pub on_joining: Option<String>,
    /// Run for each barrier of a graceful leave.
    pub on_leaving: Option<String>,
    /// Run for each barrier of a forced leave.
    pub on_forced_leaving: Option<String>,
    /// A command is killed after this long, in milliseconds.
    pub timeout_ms: u64,
    /// Run by the warden if this node dies after the first command.
    pub on_panic: Option<String>,
    /// Variables of every command, such as `PHALANX_SOCKET` and `PHALANX_CLUSTER`.
    pub environment: Vec<(String, String)>,
}

impl CommandSubsystemSettings {
    fn command(&self, kind: TransitionKind) -> Option<&String> {
        match kind {
            TransitionKind::Joining | TransitionKind::JoinExtending => self.on_joining.as_ref(),
            TransitionKind::Leaving => self.on_leaving.as_ref(),
            TransitionKind::ForcedLeaving => self.on_forced_leaving.as_ref(),
        }
    }
}

/// The newest notice of one node incarnation.
#[derive(Debug, Clone)]
struct Run {
    notice: TransitionNotice,
    state: RunState,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum RunState {
    /// Its command runs.
    Running,
    /// The command of an overtaken notice (this one) still runs.
    Waiting(NotificationId),
    /// Answered.
    Answered(SubsystemAnswer),
}

/// See the module.
#[derive(Debug)]
pub struct CommandSubsystem {
    me: NodeId,
    settings: CommandSubsystemSettings,
    warden: Recipient<WardenRequest>,
    answers: Recipient<SubsystemAcknowledged>,
    guard: PanicGuard,
    configuration: Arc<ConfigurationRecord>,
    runs: BTreeMap<NodeIncarnation, Run>,
}

impl CommandSubsystem {
    /// The subsystem of `settings` on node `me`. Node names come with [`ConfigurationChanged`].
    #[must_use]
    pub fn new(
        me: NodeId,
        settings: CommandSubsystemSettings,
        warden: Recipient<WardenRequest>,
        answers: Recipient<SubsystemAcknowledged>,
        guard: PanicGuard,
    ) -> Self {
        let configuration = Arc::default();
        Self { me, settings, warden, answers, guard, configuration, runs: BTreeMap::new() }
    }

    fn take(&mut self, notice: TransitionNotice, ctx: &mut Context<Self>) {
        let subject = NodeIncarnation { node: notice.node, incarnation: notice.incarnation };
        let state = match self.runs.get(&subject) {
            Some(run) if run.notice.id == notice.id => match &run.state {
                RunState::Running | RunState::Waiting(_) => return, // A repetition: it is being done.
                RunState::Answered(SubsystemAnswer::Acknowledged) => {
                    return self.answer(subject, notice.id, SubsystemAnswer::Acknowledged);
                }
                RunState::Answered(SubsystemAnswer::Failed { .. }) => RunState::Running,
            },
            Some(Run { notice, state: RunState::Running }) => RunState::Waiting(notice.id),
            Some(Run { state: RunState::Waiting(running), .. }) => RunState::Waiting(*running),
            Some(Run { state: RunState::Answered(_), .. }) | None => RunState::Running,
        };
        let starts = state == RunState::Running;
        self.runs.insert(subject, Run { notice, state });
        if starts {
            self.start(subject, notice, ctx);
        }
    }

    fn start(&mut self, subject: NodeIncarnation, notice: TransitionNotice, ctx: &mut Context<Self>) {
        let Some(command) = self.settings.command(notice.kind).cloned() else {
            return self.ended(subject, notice.id, LaunchResult::Succeeded, ctx);
        };
        tracing::info!(subsystem = %self.settings.registration.name, node = %subject, id = ?notice.id, "running command");
        let request = LaunchRequest {
            owner: Owner::Subsystem(self.settings.registration.name.clone()),
            operation: None,
            action: Action::Transition,
            command,
            environment: self.environment(&notice),
            timeout_ms: self.settings.timeout_ms,
            leaves: Leaves::State,
            clean_up: self.settings.on_panic.clone(),
        };
        let launch = self.warden.send(WardenRequest::Launch(request)).into_actor(self);
        ctx.spawn(launch.map(move |answer, actor, ctx| {
            let gone = |closed| LaunchResult::Failed { text: format!("the warden is gone: {closed}") };
            let result = answer.unwrap_or_else(gone);
            actor.guard.clone().run(|| actor.ended(subject, notice.id, result, ctx));
        }));
    }

    /// A command has ended: it answers its notice, or makes room for the one that overtook it.
    fn ended(&mut self, subject: NodeIncarnation, id: NotificationId, result: LaunchResult, ctx: &mut Context<Self>) {
        let Some(run) = self.runs.get_mut(&subject) else { return };
        if run.state == RunState::Waiting(id) {
            run.state = RunState::Running;
            let notice = run.notice;
            return self.start(subject, notice, ctx);
        }
        let answer = match result {
            LaunchResult::Succeeded => SubsystemAnswer::Acknowledged,
            LaunchResult::Failed { text } => SubsystemAnswer::Failed { text },
        };
        run.state = RunState::Answered(answer.clone());
        self.answer(subject, id, answer);
    }

    fn answer(&self, subject: NodeIncarnation, id: NotificationId, answer: SubsystemAnswer) {
        self.answers.do_send(SubsystemAcknowledged { subject, id, answer });
    }

    fn environment(&self, notice: &TransitionNotice) -> Vec<(String, String)> {
        let action = match notice.kind {
            TransitionKind::Joining | TransitionKind::JoinExtending => "joining",
            TransitionKind::Leaving => "leaving",
            TransitionKind::ForcedLeaving => "forced-leaving",
        };
        let own = [
            ("PHALANX_SUBSYSTEM", self.settings.registration.name.clone()),
            ("PHALANX_LEVEL", notice.id.level.to_string()),
            ("PHALANX_ACTION", action.to_owned()),
            ("PHALANX_SUBJECT", self.configuration.name_of(notice.node)),
            ("PHALANX_SUBJECT_INCARNATION", notice.incarnation.to_string()),
            ("PHALANX_BARRIER", notice.id.barrier.to_string()),
            ("PHALANX_TRANSITION", notice.id.transition.to_string()),
            ("PHALANX_RESTART", notice.id.restart.to_string()),
            ("PHALANX_NODE", self.configuration.name_of(self.me)),
        ];
        let own = own.into_iter().map(|(name, value)| (name.to_owned(), value));
        self.settings.environment.iter().cloned().chain(own).collect()
    }
}

impl Actor for CommandSubsystem {
    type Context = Context<Self>;
}

impl Handler<SubsystemNotification> for CommandSubsystem {
    type Result = ();

    fn handle(&mut self, notification: SubsystemNotification, ctx: &mut Self::Context) {
        self.guard.clone().run(|| {
            for notice in notification.batch {
                // Nothing more will be asked about an incarnation that a newer one has replaced.
                self.runs.retain(|who, run| {
                    let replaced = who.node == notice.node && who.incarnation < notice.incarnation;
                    !replaced || !matches!(run.state, RunState::Answered(_))
                });
                self.take(notice, ctx);
            }
        });
    }
}

impl Handler<ConfigurationChanged> for CommandSubsystem {
    type Result = ();

    fn handle(&mut self, ConfigurationChanged(record): ConfigurationChanged, _: &mut Self::Context) {
        self.configuration = record;
    }
}

impl Handler<InjectPanic> for CommandSubsystem {
    type Result = ();

    fn handle(&mut self, _: InjectPanic, _: &mut Self::Context) {
        self.guard.run(|| panic!("injected"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::gate::Gate;
    use crate::ports::NodePanic;
    use phalanx_messages::configuration::{NodeConfiguration, PanicPolicy};
    use phalanx_messages::membership::{BarrierCounts, Certainty};
    use phalanx_messages::set::NodeSet;
    use phalanx_messages::{Incarnation, Level, Term, TransitionId};
    use tokio::sync::{mpsc, oneshot};

    type Launched = (LaunchRequest, oneshot::Sender<LaunchResult>);

    /// Hands every launch to the test, which decides when and how it ends.
    struct Warden(mpsc::UnboundedSender<Launched>);

    impl Actor for Warden {
        type Context = Context<Self>;
    }

    impl Handler<WardenRequest> for Warden {
        type Result = ResponseFuture<LaunchResult>;

        fn handle(&mut self, request: WardenRequest, _: &mut Self::Context) -> Self::Result {
            let WardenRequest::Launch(request) = request else { panic!("only launches are expected: {request:?}") };
            let (sender, result) = oneshot::channel();
            self.0.send((request, sender)).expect("the test listens");
            Box::pin(async { result.await.expect("the test answers") })
        }
    }

    struct Listener<M>(mpsc::UnboundedSender<M>);

    impl<M: Unpin + 'static> Actor for Listener<M> {
        type Context = Context<Self>;
    }

    impl<M: Message<Result = ()> + Unpin + 'static> Handler<M> for Listener<M> {
        type Result = ();

        fn handle(&mut self, message: M, _: &mut Self::Context) {
            self.0.send(message).expect("the test listens");
        }
    }

    struct Bench {
        subsystem: Addr<CommandSubsystem>,
        notify: Recipient<SubsystemNotification>,
        launched: mpsc::UnboundedReceiver<Launched>,
        answers: mpsc::UnboundedReceiver<SubsystemAcknowledged>,
        panics: mpsc::UnboundedReceiver<NodePanic>,
        gate: Gate,
    }

    fn bench() -> Bench {
        let (launches, launched) = mpsc::unbounded_channel();
        let (answered, answers) = mpsc::unbounded_channel();
        let (panicked, panics) = mpsc::unbounded_channel();
        let gate = Gate::new(Clock::Boot);
        gate.extend(Clock::Boot.now().plus(60_000));
        let guard = PanicGuard::new("command subsystem", gate.clone(), Listener(panicked).start().recipient());
        let barriers = BarrierCounts { joining: 2, leaving: 1, forced_leaving: 1 };
        let settings = CommandSubsystemSettings {
            registration: LevelRegistration {
                level: Level(100),
                name: "mounts".to_owned(),
                barriers,
                needs: Certainty::Io,
                optional: false,
            },
            on_joining: Some("echo join".to_owned()),
            on_leaving: None,
            on_forced_leaving: Some("echo recover".to_owned()),
            timeout_ms: 5_000,
            on_panic: Some("umount all".to_owned()),
            environment: vec![("PHALANX_CLUSTER".to_owned(), "alpha".to_owned())],
        };
        let warden = Warden(launches).start().recipient();
        let answers_to = Listener(answered).start().recipient();
        let subsystem = CommandSubsystem::new(NodeId(0), settings, warden, answers_to, guard).start();
        Bench { notify: subsystem.clone().recipient(), subsystem, launched, answers, panics, gate }
    }

    fn notice(node: u16, kind: TransitionKind, barrier: u8, restart: u32) -> TransitionNotice {
        let transition = TransitionId { term: Term(3), counter: 17 };
        let id = NotificationId { transition, level: Level(100), barrier, restart };
        TransitionNotice { id, node: NodeId(node), incarnation: Incarnation(4), kind, renotification: restart > 0 }
    }

    fn notification(batch: Vec<TransitionNotice>) -> SubsystemNotification {
        let (states, participants) = (BTreeMap::new(), NodeSet::EMPTY);
        SubsystemNotification { level: Level(100), batch, states, participants, formation: Term(1) }
    }

    #[actix_rt::test]
    async fn runs_the_command_of_the_kind_once_and_answers_with_what_came_of_it() {
        let mut bench = bench();
        let joining = notice(1, TransitionKind::Joining, 1, 0);
        bench.notify.send(notification(vec![joining])).await.unwrap();
        bench.notify.send(notification(vec![joining])).await.unwrap(); // a repetition
        let (request, result) = bench.launched.recv().await.unwrap();
        assert_eq!((request.command.as_str(), request.clean_up.as_deref()), ("echo join", Some("umount all")));
        assert_eq!((request.leaves, request.timeout_ms), (Leaves::State, 5_000));
        let environment: Vec<String> =
            request.environment.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let expected = "PHALANX_CLUSTER=alpha PHALANX_SUBSYSTEM=mounts PHALANX_LEVEL=100 PHALANX_ACTION=joining \
                        PHALANX_SUBJECT=#1 PHALANX_SUBJECT_INCARNATION=4 PHALANX_BARRIER=1 PHALANX_TRANSITION=3.17 \
                        PHALANX_RESTART=0 PHALANX_NODE=#0";
        assert_eq!(environment.join(" "), expected);
        result.send(LaunchResult::Failed { text: "exit status 3".to_owned() }).unwrap();
        let failed = bench.answers.recv().await.unwrap();
        assert_eq!(failed.answer, SubsystemAnswer::Failed { text: "exit status 3".to_owned() });

        // T-24: notified again after a failure, it runs again; after that its answer is repeated.
        bench.notify.send(notification(vec![joining])).await.unwrap();
        let (_, result) = bench.launched.recv().await.unwrap();
        result.send(LaunchResult::Succeeded).unwrap();
        assert_eq!(bench.answers.recv().await.unwrap().answer, SubsystemAnswer::Acknowledged);
        bench.notify.send(notification(vec![joining])).await.unwrap();
        assert_eq!(bench.answers.recv().await.unwrap().id, joining.id);
        assert!(bench.launched.try_recv().is_err(), "nothing ran a third time");
    }

    #[actix_rt::test]
    async fn a_kind_without_command_is_acknowledged_and_a_batch_runs_in_parallel() {
        let mut bench = bench();
        let batch = vec![
            notice(1, TransitionKind::Joining, 0, 0),
            notice(2, TransitionKind::Leaving, 0, 0),
            notice(3, TransitionKind::Joining, 0, 0),
        ];
        bench.notify.send(notification(batch)).await.unwrap();
        assert_eq!(bench.answers.recv().await.unwrap().subject.node, NodeId(2));
        let (_, first) = bench.launched.recv().await.unwrap();
        let (_, second) = bench.launched.recv().await.unwrap();
        second.send(LaunchResult::Succeeded).unwrap();
        assert_eq!(bench.answers.recv().await.unwrap().subject.node, NodeId(3));
        first.send(LaunchResult::Succeeded).unwrap();
        assert_eq!(bench.answers.recv().await.unwrap().subject.node, NodeId(1));
    }

    /// Spec, Table 1, "Allowed Re-notifications": the newer notice alone is answered, once, after the older command ended.
    #[actix_rt::test]
    async fn a_renotification_voids_the_older_answer() {
        let mut bench = bench();
        bench.notify.send(notification(vec![notice(1, TransitionKind::Joining, 0, 0)])).await.unwrap();
        let (_, overtaken) = bench.launched.recv().await.unwrap();
        bench.notify.send(notification(vec![notice(1, TransitionKind::Joining, 0, 1)])).await.unwrap();
        let mut recovery = notice(1, TransitionKind::ForcedLeaving, 0, 0);
        recovery.id.transition.counter += 1;
        bench.notify.send(notification(vec![recovery])).await.unwrap();
        assert!(bench.launched.try_recv().is_err(), "never two commands for one node at once");
        overtaken.send(LaunchResult::Succeeded).unwrap();
        let (request, result) = bench.launched.recv().await.unwrap();
        assert_eq!(request.command, "echo recover", "the restart in between was overtaken too");
        result.send(LaunchResult::Succeeded).unwrap();
        assert_eq!(bench.answers.recv().await.unwrap().id, recovery.id);
        drop((bench.notify, bench.subsystem));
        assert!(bench.answers.recv().await.is_none(), "and nothing else is answered");
    }

    #[actix_rt::test]
    async fn learns_node_names_and_panics_for_the_whole_node() {
        let mut bench = bench();
        let mut record = ConfigurationRecord::default();
        let (name, address) = ("n1".to_owned(), "127.0.0.1:1".to_owned());
        let n1 = NodeConfiguration { name, address, public_key: None, votes: 1, panic: PanicPolicy::Exit };
        record.nodes.insert(NodeId(1), n1);
        bench.subsystem.send(ConfigurationChanged(Arc::new(record))).await.unwrap();
        bench.notify.send(notification(vec![notice(1, TransitionKind::Joining, 0, 0)])).await.unwrap();
        let (request, _result) = bench.launched.recv().await.unwrap();
        assert!(request.environment.contains(&("PHALANX_SUBJECT".to_owned(), "n1".to_owned())));
        assert!(bench.subsystem.send(InjectPanic).await.is_err(), "its mailbox is closed");
        assert!(bench.panics.recv().await.unwrap().reason.contains("injected"));
        assert!(!bench.gate.is_open());
    }
}
