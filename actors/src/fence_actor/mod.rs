//! Looks for a proof of death of each node that is being forced out (protocol §4.5, §4.6 step 3).
//!
//! Only after the mark is committed, only for the incarnation that was marked, and again with a pause until it succeeds or the
//! membership manager no longer asks for it. What it waits for is reported, because without a proof recovery waits.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use actix::prelude::*;
use phalanx_messages::NodeIncarnation;
use phalanx_messages::membership::{Certainty, FenceMethod};
use phalanx_protocol::manager::FenceTarget;

use crate::guard::PanicGuard;
use crate::ports::{DeathProved, InjectPanic, ProveDead, RunFenceAgent};

mod search;

use search::{Failure, Line, Method, Search, Success};

/// Pause before the methods that have failed are tried again.
const RETRY: Duration = Duration::from_secs(2);

/// Sent by the membership manager whenever the victims change: everybody who still needs a proof.
#[derive(Debug, Clone, Message)]
#[rtype(result = "()")]
pub struct SeekProofs(pub BTreeMap<NodeIncarnation, FenceTarget>);

/// Sent by whoever shows status: what is being waited for.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "BTreeMap<NodeIncarnation, String>")]
pub struct AwaitedProofs;

/// Who carries the methods out, as far as this node has them.
#[derive(Debug, Default, Clone)]
pub struct FenceMethods {
    /// F3.
    pub local: Option<Recipient<ProveDead>>,
    /// F1 and F2.
    pub agents: Option<Recipient<RunFenceAgent>>,
}

/// See the module.
#[derive(Debug)]
pub struct FenceActor {
    methods: FenceMethods,
    proved: Recipient<DeathProved>,
    guard: PanicGuard,
    searches: BTreeMap<NodeIncarnation, Search>,
    /// Whose proof of death was told; it is not committed yet as long as it is still asked for.
    told: BTreeSet<NodeIncarnation>,
}

impl FenceActor {
    /// Proofs go to `proved`.
    #[must_use]
    pub const fn new(methods: FenceMethods, proved: Recipient<DeathProved>, guard: PanicGuard) -> Self {
        Self { methods, proved, guard, searches: BTreeMap::new(), told: BTreeSet::new() }
    }

    fn attempt(&mut self, victim: NodeIncarnation, line: Line, ctx: &mut Context<Self>) {
        let Some(search) = self.searches.get_mut(&victim) else { return };
        let Some(method) = search.begin(line) else { return };
        tracing::info!(%victim, method = method.name(), "proving death");
        let (node, late) = (search.node().to_owned(), Duration::from_millis(search.late_ms()));
        let attempt = self.carry_out(victim, node, method);
        ctx.spawn(attempt.into_actor(self).map(move |result, actor, ctx| match result {
            Ok(()) => actor.succeeded(victim, line, late, ctx),
            Err(text) => actor.failed(victim, line, text, ctx),
        }));
    }

    fn succeeded(&mut self, victim: NodeIncarnation, line: Line, late: Duration, ctx: &mut Context<Self>) {
        let Some(search) = self.searches.get_mut(&victim) else { return };
        match (search.succeeded(line), line) {
            (Success::GoesOn, _) => self.attempt(victim, line, ctx),
            // What the host had under way when it was switched off may still land.
            (Success::Proved, Line::Agents) => {
                ctx.run_later(late, move |actor, _| actor.proved(victim, line.method()));
            }
            (Success::Proved, Line::Local | Line::Storage) => self.proved(victim, line.method()),
        }
    }

    fn carry_out(
        &self,
        victim: NodeIncarnation,
        node: String,
        method: Method,
    ) -> impl Future<Output = Result<(), String>> + use<> {
        let methods = self.methods.clone();
        async move {
            let gone = |closed: MailboxError| Err(format!("whoever carries it out is gone: {closed}"));
            match method {
                Method::Local(handle) => match methods.local {
                    Some(local) => local.send(ProveDead { victim, handle }).await.unwrap_or_else(gone),
                    None => Err("this node cannot fence locally; confirm by hand that the victim is dead".to_owned()),
                },
                Method::Agent(agent) => match methods.agents {
                    Some(agents) => agents.send(RunFenceAgent { node, agent }).await.unwrap_or_else(gone),
                    None => Err("this node runs no fence agents".to_owned()),
                },
            }
        }
    }

    fn proved(&mut self, victim: NodeIncarnation, method: FenceMethod) {
        // A search that was called off meanwhile needs no answer.
        if !self.searches.contains_key(&victim) {
            return;
        }
        if method.proves() == Certainty::Death {
            self.searches.remove(&victim);
            self.told.insert(victim);
        }
        self.proved.do_send(DeathProved { victim, method });
    }

    fn failed(&mut self, victim: NodeIncarnation, line: Line, text: String, ctx: &mut Context<Self>) {
        let Some(search) = self.searches.get_mut(&victim) else { return };
        let Failure { goes_on, is_news } = search.failed(line, text.clone());
        if is_news {
            tracing::warn!(%victim, reason = %text, "no proof of death yet");
        }
        if goes_on {
            self.attempt(victim, line, ctx);
        } else {
            ctx.run_later(RETRY, move |actor, ctx| actor.attempt(victim, line, ctx));
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
    fn seek(&mut self, wanted: BTreeMap<NodeIncarnation, FenceTarget>, ctx: &mut Context<Self>) {
        self.searches.retain(|victim, _| wanted.contains_key(victim));
        self.told.retain(|victim| wanted.contains_key(victim));
        for (victim, target) in wanted {
            if self.told.contains(&victim) {
                continue;
            }
            for line in self.searches.entry(victim).or_default().learn(target) {
                self.attempt(victim, line, ctx);
            }
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
        MessageResult(self.searches.iter().map(|(victim, search)| (*victim, search.text())).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use phalanx_messages::configuration::FenceAgent;
    use phalanx_messages::register::FenceHandle;
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

    /// Agents whose name begins with `good` do what they are told.
    struct Agents(mpsc::UnboundedSender<RunFenceAgent>);

    impl Actor for Agents {
        type Context = Context<Self>;
    }

    impl Handler<RunFenceAgent> for Agents {
        type Result = Result<(), String>;

        fn handle(&mut self, message: RunFenceAgent, _: &mut Self::Context) -> Self::Result {
            let good = message.agent.agent.starts_with("good");
            self.0.send(message).expect("the test listens");
            if good { Ok(()) } else { Err("timed out".to_owned()) }
        }
    }

    fn here() -> FenceTarget {
        FenceTarget { name: "n1".to_owned(), local: Some(FenceHandle::default()), ..FenceTarget::default() }
    }

    fn elsewhere(agents: &[&str]) -> FenceTarget {
        let agent = |(level, name): (u8, &&str)| FenceAgent { level, ..FenceAgent::new(*name) };
        let agents = (0..).zip(agents).map(agent).collect();
        FenceTarget { name: "n1".to_owned(), agents, late_ms: 3_000, ..FenceTarget::default() }
    }

    #[actix_rt::test]
    async fn tries_again_until_the_death_is_proved_and_reports_what_it_waits_for() {
        tokio::time::pause();
        let (sender, mut proofs) = mpsc::unbounded_channel();
        let local = Some(SecondTimeLucky(Vec::new()).start().recipient());
        let methods = FenceMethods { local, agents: None };
        let fence = FenceActor::new(methods, Listener(sender).start().recipient(), guard()).start();
        fence.send(SeekProofs([(N1, here())].into())).await.unwrap();
        let proof = proofs.recv().await.unwrap();
        assert_eq!((proof.victim, proof.method), (N1, FenceMethod::Local));
        assert!(fence.send(AwaitedProofs).await.unwrap().is_empty());
    }

    #[actix_rt::test]
    async fn the_next_agent_follows_one_that_fails_and_the_proof_waits_for_late_writes() {
        tokio::time::pause();
        let (sender, mut proofs) = mpsc::unbounded_channel();
        let (asked, mut questions) = mpsc::unbounded_channel();
        let methods = FenceMethods { local: None, agents: Some(Agents(asked).start().recipient()) };
        let fence = FenceActor::new(methods, Listener(sender).start().recipient(), guard()).start();
        let begin = tokio::time::Instant::now();
        fence.send(SeekProofs([(N1, elsewhere(&["bad", "good", "good_too"]))].into())).await.unwrap();
        let proof = proofs.recv().await.unwrap();
        assert_eq!((proof.victim, proof.method), (N1, FenceMethod::Agent));
        // Until the proof is committed it is asked for again.
        fence.send(SeekProofs([(N1, elsewhere(&["bad", "good"]))].into())).await.unwrap();
        let waited = begin.elapsed();
        assert!(waited >= Duration::from_secs(3), "T_late had not passed: {waited:?}");
        let mut tried = Vec::new();
        while let Ok(RunFenceAgent { node, agent }) = questions.try_recv() {
            tried.push((node, agent.agent));
        }
        assert_eq!(tried, [("n1".to_owned(), "bad".to_owned()), ("n1".to_owned(), "good".to_owned())]);
    }

    #[actix_rt::test]
    async fn a_search_that_is_called_off_tells_nobody() {
        tokio::time::pause();
        let (sender, mut proofs) = mpsc::unbounded_channel();
        let (asked, mut questions) = mpsc::unbounded_channel();
        let methods = FenceMethods { local: None, agents: Some(Agents(asked).start().recipient()) };
        let fence = FenceActor::new(methods, Listener(sender).start().recipient(), guard()).start();
        fence.send(SeekProofs([(N1, elsewhere(&["good"]))].into())).await.unwrap();
        questions.recv().await.unwrap();
        fence.send(SeekProofs(BTreeMap::new())).await.unwrap();
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert!(proofs.try_recv().is_err());
    }

    #[actix_rt::test]
    async fn without_a_method_it_says_so() {
        let (sender, _proofs) = mpsc::unbounded_channel();
        let fence = FenceActor::new(FenceMethods::default(), Listener(sender).start().recipient(), guard()).start();
        fence.send(SeekProofs([(N1, elsewhere(&[]))].into())).await.unwrap();
        assert!(fence.send(AwaitedProofs).await.unwrap()[&N1].contains("by hand"));
        fence.send(SeekProofs(BTreeMap::new())).await.unwrap();
        assert!(fence.send(AwaitedProofs).await.unwrap().is_empty());
    }
}
