//! Looks for a proof of death of each node that is being forced out (protocol §4.5, §4.6 step 3).
//!
//! Only after the mark is committed, only for the incarnation that was marked, and again with a pause until it succeeds or the
//! membership manager no longer asks for it. What it waits for is reported, because without a proof recovery waits.

use std::collections::BTreeMap;
use std::time::Duration;

use actix::prelude::*;
use phalanx_messages::NodeIncarnation;
use phalanx_messages::membership::FenceMethod;
use phalanx_messages::register::FenceHandle;

use crate::guard::PanicGuard;
use crate::ports::{DeathProved, InjectPanic, ProveDead};

/// Pause between two attempts on one victim.
const RETRY: Duration = Duration::from_secs(2);

/// Sent by the membership manager whenever the victims change: everybody who still needs a proof.
#[derive(Debug, Clone, Message)]
#[rtype(result = "()")]
pub struct SeekProofs(pub BTreeMap<NodeIncarnation, FenceHandle>);

/// Sent by whoever shows status: what is being waited for.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "BTreeMap<NodeIncarnation, String>")]
pub struct AwaitedProofs;

/// One victim.
#[derive(Debug)]
struct Search {
    handle: FenceHandle,
    running: bool,
    last_error: Option<String>,
}

/// See the module.
#[derive(Debug)]
pub struct FenceActor {
    local: Option<Recipient<ProveDead>>,
    proved: Recipient<DeathProved>,
    guard: PanicGuard,
    searches: BTreeMap<NodeIncarnation, Search>,
}

impl FenceActor {
    /// `local` is fence method F3, if this node can do that; proofs go to `proved`.
    #[must_use]
    pub const fn new(local: Option<Recipient<ProveDead>>, proved: Recipient<DeathProved>, guard: PanicGuard) -> Self {
        Self { local, proved, guard, searches: BTreeMap::new() }
    }

    fn attempt(&mut self, victim: NodeIncarnation, ctx: &mut Context<Self>) {
        let Some(search) = self.searches.get_mut(&victim).filter(|search| !search.running) else { return };
        let Some(local) = &self.local else {
            search.last_error =
                Some("this node has no fence method; confirm by hand that the victim is dead".to_owned());
            return;
        };
        search.running = true;
        tracing::info!(%victim, "proving death by the local fence");
        let attempt = local.send(ProveDead { victim, handle: search.handle.clone() });
        ctx.spawn(attempt.into_actor(self).map(move |answer, actor, ctx| {
            let result = answer.unwrap_or_else(|closed| Err(format!("the local fence is gone: {closed}")));
            actor.attempted(victim, result, ctx);
        }));
    }

    fn attempted(&mut self, victim: NodeIncarnation, result: Result<(), String>, ctx: &mut Context<Self>) {
        // A search that was called off meanwhile needs no answer.
        let Some(search) = self.searches.get_mut(&victim) else { return };
        search.running = false;
        match result {
            Ok(()) => {
                self.searches.remove(&victim);
                self.proved.do_send(DeathProved { victim, method: FenceMethod::Local });
            }
            Err(text) => {
                tracing::warn!(%victim, reason = %text, "no proof of death yet");
                search.last_error = Some(text);
                ctx.run_later(RETRY, move |actor, ctx| actor.attempt(victim, ctx));
            }
        }
    }
}

impl Actor for FenceActor {
    type Context = Context<Self>;
}

impl Handler<SeekProofs> for FenceActor {
    type Result = ();

    fn handle(&mut self, SeekProofs(wanted): SeekProofs, ctx: &mut Self::Context) {
        let guard = self.guard.clone();
        guard.run(|| self.seek(wanted, ctx));
    }
}

impl FenceActor {
    fn seek(&mut self, wanted: BTreeMap<NodeIncarnation, FenceHandle>, ctx: &mut Context<Self>) {
        self.searches.retain(|victim, _| wanted.contains_key(victim));
        for (victim, handle) in wanted {
            self.searches.entry(victim).or_insert(Search { handle, running: false, last_error: None });
        }
        let fresh = |(_, search): &(&NodeIncarnation, &Search)| search.last_error.is_none();
        for victim in self.searches.iter().filter(fresh).map(|(victim, _)| *victim).collect::<Vec<_>>() {
            self.attempt(victim, ctx); // does nothing for one that is being tried already
        }
    }
}

impl Handler<InjectPanic> for FenceActor {
    type Result = ();

    fn handle(&mut self, _: InjectPanic, _: &mut Self::Context) {
        self.guard.run(|| panic!("injected"));
    }
}

impl Handler<AwaitedProofs> for FenceActor {
    type Result = MessageResult<AwaitedProofs>;

    fn handle(&mut self, _: AwaitedProofs, _: &mut Self::Context) -> Self::Result {
        let text = |search: &Search| search.last_error.clone().unwrap_or_else(|| "local fence running".to_owned());
        MessageResult(self.searches.iter().map(|(victim, search)| (*victim, text(search))).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use phalanx_messages::{Incarnation, NodeId};
    use tokio::sync::mpsc;

    const N1: NodeIncarnation = NodeIncarnation { node: NodeId(1), incarnation: Incarnation(4) };

    /// Fails the first attempt on each victim.
    struct SecondTimeLucky(Vec<NodeIncarnation>);

    impl Actor for SecondTimeLucky {
        type Context = Context<Self>;
    }

    impl Handler<ProveDead> for SecondTimeLucky {
        type Result = Result<(), String>;

        fn handle(&mut self, message: ProveDead, _: &mut Self::Context) -> Self::Result {
            let first = !self.0.contains(&message.victim);
            self.0.push(message.victim);
            if first { Err("busy".to_owned()) } else { Ok(()) }
        }
    }

    struct Listener(mpsc::UnboundedSender<DeathProved>);

    impl Actor for Listener {
        type Context = Context<Self>;
    }

    impl Handler<DeathProved> for Listener {
        type Result = ();

        fn handle(&mut self, message: DeathProved, _: &mut Self::Context) {
            self.0.send(message).expect("the test listens");
        }
    }

    struct Nobody;

    impl Actor for Nobody {
        type Context = Context<Self>;
    }

    impl Handler<crate::ports::NodePanic> for Nobody {
        type Result = ();

        fn handle(&mut self, _: crate::ports::NodePanic, _: &mut Self::Context) {}
    }

    fn guard() -> PanicGuard {
        let gate = crate::gate::Gate::new(crate::clock::Clock::Boot);
        PanicGuard::new("fence", gate, Nobody.start().recipient())
    }

    #[actix_rt::test]
    async fn tries_again_until_the_death_is_proved_and_reports_what_it_waits_for() {
        tokio::time::pause();
        let (sender, mut proofs) = mpsc::unbounded_channel();
        let local = SecondTimeLucky(Vec::new()).start();
        let fence = FenceActor::new(Some(local.recipient()), Listener(sender).start().recipient(), guard()).start();
        fence.send(SeekProofs([(N1, FenceHandle::default())].into())).await.unwrap();
        let proof = proofs.recv().await.unwrap();
        assert_eq!((proof.victim, proof.method), (N1, FenceMethod::Local));
        assert!(fence.send(AwaitedProofs).await.unwrap().is_empty());
    }

    #[actix_rt::test]
    async fn without_a_method_it_says_so() {
        let (sender, _proofs) = mpsc::unbounded_channel();
        let fence = FenceActor::new(None, Listener(sender).start().recipient(), guard()).start();
        fence.send(SeekProofs([(N1, FenceHandle::default())].into())).await.unwrap();
        assert!(fence.send(AwaitedProofs).await.unwrap()[&N1].contains("by hand"));
        fence.send(SeekProofs(BTreeMap::new())).await.unwrap();
        assert!(fence.send(AwaitedProofs).await.unwrap().is_empty());
    }
}
