//! One host of a simulated cluster: a whole node, with a subsystem, a warden and a fence that belong to the test.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use actix::prelude::*;
use phalanx_actors::clock::Clock;
use phalanx_actors::ports::{ProveDead, Watchdog};
use phalanx_messages::launch::{Action, LaunchResult, Owner, WardenRequest};
use phalanx_messages::membership::{BarrierCounts, Certainty, LevelRegistration};
use phalanx_messages::notification::{SubsystemAcknowledged, SubsystemAnswer, SubsystemNotification, TransitionNotice};
use phalanx_messages::register::{FenceHandle, WatchdogKind};
use phalanx_messages::{Level, NodeIncarnation, NotificationId};
use phalanx_node::builder::{HostIdentity, Node, WardenPort};
use phalanx_protocol::lease::StallPolicy;
use uuid::Uuid;

use super::options::Hosts;
use super::stage::{Happened, Served, Stage};
use super::{PORT, host_name};
use crate::simulated_network::simulated_network;

/// Takes a moment for each notice, records when it begins and ends, and answers once.
struct Subsystem {
    node: u16,
    stage: Rc<Stage>,
    answers: Recipient<SubsystemAcknowledged>,
    processing: BTreeMap<NodeIncarnation, NotificationId>,
}

impl Actor for Subsystem {
    type Context = Context<Self>;
}

impl Handler<SubsystemNotification> for Subsystem {
    type Result = ();

    fn handle(&mut self, notification: SubsystemNotification, ctx: &mut Self::Context) {
        for notice in notification.batch {
            let subject = NodeIncarnation { node: notice.node, incarnation: notice.incarnation };
            self.processing.insert(subject, notice.id);
            self.stage.record_step(self.node, &notice, false);
            let takes = Duration::from_millis(self.stage.draw_ms(self.node));
            ctx.run_later(takes, move |subsystem, _| subsystem.end(subject, &notice));
        }
    }
}

impl Subsystem {
    fn end(&mut self, subject: NodeIncarnation, notice: &TransitionNotice) {
        if self.processing.get(&subject) != Some(&notice.id) {
            return; // replaced meanwhile: only the newer one is answered
        }
        self.processing.remove(&subject);
        self.stage.record_step(self.node, notice, true);
        let answer = SubsystemAnswer::Acknowledged;
        self.answers.do_send(SubsystemAcknowledged { subject, id: notice.id, answer });
    }
}

/// Runs nothing; says that every command succeeded.
struct Warden {
    node: u16,
    stage: Rc<Stage>,
}

impl Actor for Warden {
    type Context = Context<Self>;
}

impl Handler<WardenRequest> for Warden {
    type Result = MessageResult<WardenRequest>;

    fn handle(&mut self, request: WardenRequest, _: &mut Self::Context) -> Self::Result {
        match request {
            WardenRequest::Launch(launch) => {
                let generation = launch.environment.iter().find(|(name, _)| name == "PHALANX_GENERATION");
                let generation = generation.and_then(|(_, token)| token.parse().ok()).unwrap_or_default();
                self.stage.serve(self.node, Served { action: launch.action, generation });
            }
            WardenRequest::Kill { owner: Owner::Service(_), .. } => {
                self.stage.serve(self.node, Served { action: Action::Stop, generation: 0 });
            }
            WardenRequest::Kill { owner: Owner::Subsystem(_) | Owner::Event(_), .. }
            | WardenRequest::Watch { .. }
            | WardenRequest::Forget { .. } => {}
        }
        MessageResult(LaunchResult::Succeeded)
    }
}

/// Fence method F3: kills the victim's host, and answers once it is dead.
struct LocalFence(Rc<Stage>);

impl Actor for LocalFence {
    type Context = Context<Self>;
}

impl Handler<ProveDead> for LocalFence {
    type Result = ResponseFuture<Result<(), String>>;

    fn handle(&mut self, ProveDead { victim, .. }: ProveDead, _: &mut Self::Context) -> Self::Result {
        let stage = self.0.clone();
        if stage.incarnation(victim.node.0) == Some(victim) {
            stage.doom(victim.node.0);
        }
        Box::pin(async move {
            while stage.incarnation(victim.node.0) == Some(victim) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            Ok(())
        })
    }
}

/// The level between lock manager and event manager that the test's subsystem has.
fn level() -> LevelRegistration {
    LevelRegistration {
        level: Level::DLM,
        name: "recorder".to_owned(),
        barriers: BarrierCounts { joining: 2, leaving: 1, forced_leaving: 2 },
        needs: Certainty::Death,
        optional: false,
    }
}

/// What a host runs, if its node is meant to run: until it is crashed.
pub(super) async fn run(id: u16, stage: Rc<Stage>) -> Result<(), Box<dyn std::error::Error>> {
    if !stage.is_alive(id) {
        return std::future::pending().await; // powered down
    }
    let network = simulated_network(PORT).await?;
    let host = match stage.hosts {
        // An mmap disk serves no more, and only the network is cut here.
        Hosts::One | Hosts::OneFenced => 1,
        Hosts::Guarded => 10 + u128::from(id),
    };
    let host = HostIdentity { host: Uuid::from_u128(host), boot: Uuid::from_u128(stage.boot) };
    let (disk, key_pair) = (stage.disks[&id].clone(), stage.keys.pairs[&id].clone());
    let mut builder = Node::builder(disk, host_name(id), stage.keys.cluster.clone(), key_pair, network, host)
        .simulated(Clock::tokio())
        .level(
            level(),
            Box::new({
                let stage = stage.clone();
                move |answers| Subsystem { node: id, stage, answers, processing: BTreeMap::new() }.start().recipient()
            }),
        )
        .on_panic(Box::new({
            let stage = stage.clone();
            move |reason: &str| {
                stage.record(id, Happened::Panicked(reason.to_owned()));
                stage.doom(id);
            }
        }));
    match stage.hosts {
        Hosts::One => {}
        Hosts::OneFenced => builder = builder.local_fence(LocalFence(stage.clone()).start().recipient()),
        Hosts::Guarded => builder = builder.stall(StallPolicy::Panic),
    }
    let requests = Warden { node: id, stage: stage.clone() }.start().recipient();
    let device: Box<dyn Watchdog> = Box::new(stage.watchdogs[&id].clone());
    let watchdog = (stage.hosts == Hosts::Guarded).then_some((device, WatchdogKind::Hardware));
    let handle = builder.start(|_| Ok(WardenPort { requests, fence: FenceHandle::default(), line: None, watchdog }))?;
    stage.runs(id, handle.clone());
    tokio::task::spawn_local({
        let (handle, stage) = (handle.clone(), stage.clone());
        async move {
            if handle.joined().await {
                stage.record(id, Happened::Joined);
            }
        }
    });
    let end = handle.ended().await;
    stage.record(id, Happened::Ended(format!("{end:?}")));
    stage.doom(id);
    std::future::pending().await
}
