//! Of each pair of nodes the higher id dials, and goes on dialling; the lower one knocks when it learns of the peer.

use super::*;

/// Wait before the second attempt to dial; doubled for each further one, up to a third of T_net.
const BACKOFF_MS_MIN: u64 = 10;

/// A configured peer.
pub(super) struct Peer {
    pub address: String,
    pub link: Option<Link>,
    pub dial: Dial,
    /// Attempts since a link last stood for T_net.
    pub attempts: u32,
}

pub(super) enum Dial {
    Idle,
    Waiting(SpawnHandle),
    Running(JoinHandle<()>),
}

impl Interconnect {
    /// Dials a peer now, unless it is connected or being dialled. A lower id only knocks.
    pub(super) fn dial(&mut self, node: NodeId, ctx: &mut Context<Self>) {
        if self.refuse_connections {
            return;
        }
        let Some(peer) = self.peers.get_mut(&node) else { return };
        match peer.dial {
            Dial::Running(_) => return,
            Dial::Waiting(handle) => {
                ctx.cancel_future(handle);
            }
            Dial::Idle => {}
        }
        peer.dial = Dial::Idle;
        let outdated = self.is_outdated(node);
        let Some(peer) = self.peers.get(&node).filter(|peer| peer.link.is_none() || outdated) else { return };
        // A link that stands is only replaced by one with the spoken key.
        let attempt = if outdated { 0 } else { peer.attempts };
        let stream = self.dialer.dial(peer.address.clone());
        let (secrets, admission) = (self.secrets.clone(), self.admission.clone());
        let run = async move {
            let stream = stream.await.map_err(|error| {
                tracing::debug!(%node, %error, "failed to dial");
                Failed { peer: None, reason: CloseReason::Unreachable }
            })?;
            handshake::run(stream, Side::Dialled(node), attempt, secrets, admission).await
        };
        let handle = self.shake_hands(Task::Dialled(node), run, ctx);
        if let Some(peer) = self.peers.get_mut(&node) {
            peer.dial = Dial::Running(handle);
        }
    }

    /// The link to that peer stands on a key that is not the spoken one, and it is this node's part to dial.
    fn is_outdated(&self, node: NodeId) -> bool {
        let link = self.peers.get(&node).and_then(|peer| peer.link.as_ref());
        node < self.me.node && link.is_some_and(|link| link.cluster_key() != *self.secrets.cluster_keys.spoken())
    }

    /// From now on these keys are taken, and the first is spoken. Links on a key that is taken no longer close. Those on another one than
    /// the spoken are replaced by whoever dials them: the old link stands until the new one does.
    pub(super) fn use_keys(&mut self, cluster_keys: ClusterKeys, ctx: &mut Context<Self>) {
        tracing::info!(keys = ?cluster_keys, "cluster keys; the first is spoken");
        let pair = self.secrets.pair.clone();
        self.secrets = Rc::new(Secrets { cluster_keys, pair });
        let nodes: Vec<NodeId> = self.peers.keys().copied().collect();
        for node in nodes {
            let link = self.peers.get(&node).and_then(|peer| peer.link.as_ref());
            if link.is_some_and(|link| !self.secrets.cluster_keys.accepts(&link.cluster_key())) {
                self.close_link(node, CloseReason::KeyDropped);
            }
            let is_without = self.peers.get(&node).is_some_and(|peer| peer.link.is_none());
            if self.is_outdated(node) || (is_without && node < self.me.node) {
                self.dial(node, ctx);
            }
        }
    }

    /// The keys, and the links that stand on each.
    pub(super) fn keys_in_use(&self) -> KeysInUse {
        let link = |link: &Link| (link.peer().node, Fingerprint::of(&link.cluster_key()));
        KeysInUse {
            accepted: self.secrets.cluster_keys.accepted().map(Fingerprint::of).collect(),
            links: self.links().map(link).collect(),
        }
    }

    pub(super) fn shake_hands(
        &self,
        task: Task,
        run: impl Future<Output = Result<Established, Failed>> + 'static,
        ctx: &Context<Self>,
    ) -> JoinHandle<()> {
        let (actor, limit) = (ctx.address(), self.net);
        spawn_guarded(&self.guard, async move {
            let stalled = || Failed { peer: None, reason: CloseReason::HandshakeTimeout };
            let result = tokio::time::timeout(limit, run).await.unwrap_or_else(|_| Err(stalled()));
            actor.do_send(HandshakeEnded { task, result });
        })
    }

    /// A lower node id says that it is there.
    pub(super) fn knocked(&mut self, peer: NodeIncarnation, ctx: &mut Context<Self>) {
        self.admission.borrow_mut().learn(peer);
        let link = self.peers.get(&peer.node).and_then(|known| known.link.as_ref());
        if link.is_some_and(|link| link.peer().incarnation < peer.incarnation) {
            self.close_link(peer.node, CloseReason::Replaced);
        }
        if let Some(known) = self.peers.get_mut(&peer.node) {
            known.attempts = 0;
        }
        self.dial(peer.node, ctx);
    }

    /// Dials again after a wait that grows, if it is this node's part to dial.
    pub(super) fn redial(&mut self, node: NodeId, ctx: &mut Context<Self>) {
        if node > self.me.node {
            return;
        }
        let Some(peer) = self.peers.get_mut(&node) else { return };
        let attempts = peer.attempts;
        peer.attempts = attempts.saturating_add(1);
        if attempts == 0 {
            return self.dial(node, ctx);
        }
        let wait = backoff(self.net / 3, attempts, self.me.node, node);
        let handle = ctx.run_later(wait, move |actor, ctx| actor.guarded(|actor| actor.dial(node, ctx)));
        peer.dial = Dial::Waiting(handle);
    }
}

impl Peer {
    pub const fn unknown() -> Self {
        Self { address: String::new(), link: None, dial: Dial::Idle, attempts: 0 }
    }
}

impl Dial {
    pub fn cancel(self, ctx: &mut Context<Interconnect>) {
        match self {
            Self::Idle => {}
            Self::Waiting(handle) => {
                ctx.cancel_future(handle);
            }
            Self::Running(task) => task.abort(),
        }
    }
}

/// Spread over peers without a random number, so that a simulated run stays the same run: 50 to 100 % of the doubled wait.
fn backoff(longest: Duration, attempts: u32, me: NodeId, peer: NodeId) -> Duration {
    let doubled = Duration::from_millis(BACKOFF_MS_MIN << attempts.saturating_sub(1).min(16)).min(longest);
    let spread = (u32::from(me.0) * 31 + u32::from(peer.0) * 17 + attempts * 7) % 51;
    doubled * (50 + spread) / 100
}
