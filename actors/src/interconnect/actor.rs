//! The actor: keeps one link to each configured peer, and tells who is there.

mod dialling;
mod handlers;
mod pulse;

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use actix::prelude::*;
use phalanx_messages::limits::{HANDSHAKES_MAX, PEER_FRAME_BYTES_MAX};
use phalanx_messages::peer::{Heartbeat, PeerMessage};
use phalanx_messages::set::NodeSet;
use phalanx_messages::{NodeId, NodeIncarnation, Revision, codec};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use self::dialling::{Dial, Peer};
use super::admission::{Admission, Side};
use super::beats;
use super::closing::{CloseReason, ClosingLog, Line, Origin, Refusal};
use super::handshake::{self, Established, Failed, Secrets};
use super::link::{Link, Session, Silence};
use super::network::{Dialer, Listener, Network, Stream};
use super::{
    ClusterKeys, Disconnect, Fingerprint, GetKeysInUse, GetLinkStatistics, InterconnectSettings, KeysInUse,
    LinkStatistics, MasterIs, ProbeAll, SetHeartbeatTargets, SetSeen, UseKeys,
};
use crate::clock::Clock;
use crate::guard::PanicGuard;
use crate::ports::{ConfigurationChanged, InjectPanic, PeerEvent, SendToPeer, SendToPeers};

/// Who is told of peers, and of which of their messages.
#[derive(Debug, Clone)]
pub struct PeerListener {
    to: Recipient<PeerEvent>,
    hears: fn(&PeerMessage) -> bool,
}

impl PeerListener {
    /// Hears of every peer, and those of their messages.
    #[must_use]
    pub const fn new(to: Recipient<PeerEvent>, hears: fn(&PeerMessage) -> bool) -> Self {
        Self { to, hears }
    }
}

impl From<Recipient<PeerEvent>> for PeerListener {
    fn from(to: Recipient<PeerEvent>) -> Self {
        Self::new(to, |_| true)
    }
}

/// Wait after the system refused to accept, for instance for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// See the module.
pub struct Interconnect {
    me: NodeIncarnation,
    clock: Clock,
    net: Duration,
    heartbeat: Duration,
    refuse_connections: bool,
    secrets: Rc<Secrets>,
    admission: Rc<RefCell<Admission>>,
    /// Until the accept task has it.
    listener: Option<Box<dyn Listener>>,
    dialer: Box<dyn Dialer>,
    events: Vec<PeerListener>,
    guard: PanicGuard,

    peers: BTreeMap<NodeId, Peer>,
    /// Incoming connections in their handshake, oldest first.
    handshakes: VecDeque<(u64, JoinHandle<()>)>,
    accepting: Option<JoinHandle<()>>,
    last_id: u64,

    beat_seq: u64,
    seen: Revision,
    master: Option<NodeId>,
    targets: Option<NodeSet>,
    probed: Option<Instant>,

    log: ClosingLog,
    closed: BTreeMap<CloseReason, u64>,
}

/// Sent by the accept task.
#[derive(Message)]
#[rtype(result = "()")]
struct Accepted {
    stream: Stream,
    from: SocketAddr,
}

/// Sent by the task that shakes hands on one connection.
#[derive(Message)]
#[rtype(result = "()")]
struct HandshakeEnded {
    task: Task,
    result: Result<Established, Failed>,
}

#[derive(Clone, Copy)]
enum Task {
    Dialled(NodeId),
    Accepted { id: u64, from: SocketAddr },
}

/// Sent by the session of a link when it ends.
#[derive(Message)]
#[rtype(result = "()")]
struct LinkEnded {
    node: NodeId,
    id: u64,
    reason: CloseReason,
}

impl Interconnect {
    /// An interconnect that tells `events` of peers and what they say.
    #[must_use]
    pub fn new(settings: InterconnectSettings, network: Network, events: Vec<PeerListener>, guard: PanicGuard) -> Self {
        let InterconnectSettings { me, cluster, cluster_keys, key_pair, profile, clock, refuse_connections } = settings;
        Self {
            me,
            clock,
            net: Duration::from_millis(profile.net_ms),
            heartbeat: Duration::from_millis(profile.heartbeat_ms()),
            refuse_connections,
            secrets: Rc::new(Secrets { cluster_keys, pair: key_pair }),
            admission: Rc::new(RefCell::new(Admission::new(me, cluster))),
            // A listener that nobody holds refuses.
            listener: (!refuse_connections).then_some(network.listener),
            dialer: network.dialer,
            events,
            guard,
            peers: BTreeMap::new(),
            handshakes: VecDeque::new(),
            accepting: None,
            last_id: 0,
            beat_seq: 0,
            seen: Revision::default(),
            master: None,
            targets: None,
            probed: None,
            log: ClosingLog::default(),
            closed: BTreeMap::new(),
        }
    }

    fn emit(&self, event: &PeerEvent) {
        for listener in &self.events {
            listener.to.do_send(event.clone());
        }
    }

    fn next_id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }

    fn note(&mut self, origin: Origin, reason: CloseReason) {
        *self.closed.entry(reason).or_default() += 1;
        if let Some(line) = self.log.closed(origin, reason, self.clock.now()) {
            tell(&line);
        }
    }

    fn configure(&mut self, configuration: &ConfigurationChanged, ctx: &mut Context<Self>) {
        let record = &configuration.0;
        self.admission.borrow_mut().configure(record.clone());
        self.start_accepting(ctx);
        let gone: Vec<_> = self.peers.keys().filter(|node| !record.nodes.contains_key(node)).copied().collect();
        for node in gone {
            self.close_link(node, CloseReason::Reconfigured);
            if let Some(peer) = self.peers.remove(&node) {
                peer.dial.cancel(ctx);
            }
        }
        let me = self.me.node;
        for (&node, configured) in record.nodes.iter().filter(|(node, _)| **node != me) {
            let address = configured.address.clone();
            let fresh = self.peers.get(&node).is_none_or(|peer| peer.address != address);
            let peer = self.peers.entry(node).or_insert_with(Peer::unknown);
            peer.address = address;
            let key = peer.link.as_ref().map(Link::key);
            let misfit = key.is_some_and(|key| self.admission.borrow().fits(node, &key).is_err());
            if misfit {
                self.close_link(node, CloseReason::Reconfigured);
            }
            if fresh || misfit {
                self.dial(node, ctx);
            }
        }
    }

    fn start_accepting(&mut self, ctx: &Context<Self>) {
        let Some(listener) = self.listener.take() else { return };
        let actor = ctx.address();
        self.accepting = Some(spawn_guarded(&self.guard, async move {
            loop {
                match listener.accept().await {
                    Ok((stream, from)) => actor.do_send(Accepted { stream, from }),
                    Err(error) => {
                        tracing::debug!(%error, "failed to accept a connection");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                }
            }
        }));
    }

    fn accepted(&mut self, stream: Stream, from: SocketAddr, ctx: &Context<Self>) {
        if self.handshakes.len() >= HANDSHAKES_MAX
            && let Some((_, oldest)) = self.handshakes.pop_front()
        {
            oldest.abort();
            self.note(Origin::Address(from.ip()), CloseReason::HandshakesFull);
        }
        let id = self.next_id();
        let run = handshake::run(stream, Side::Accepted, 0, self.secrets.clone(), self.admission.clone());
        let handle = self.shake_hands(Task::Accepted { id, from }, run, ctx);
        self.handshakes.push_back((id, handle));
    }

    fn handshake_ended(&mut self, task: Task, result: Result<Established, Failed>, ctx: &mut Context<Self>) {
        match task {
            Task::Dialled(node) => {
                let Some(peer) = self.peers.get_mut(&node) else { return };
                peer.dial = Dial::Idle;
            }
            Task::Accepted { id, .. } => self.handshakes.retain(|(other, _)| *other != id),
        }
        let failed = match result {
            Ok(established) => match self.establish(established, ctx) {
                Ok(()) => return,
                Err(failed) => failed,
            },
            Err(failed) => failed,
        };
        let origin = match (failed.peer, task) {
            (Some(peer), _) => Origin::Peer(peer.node),
            (None, Task::Dialled(node)) => Origin::Peer(node),
            (None, Task::Accepted { from, .. }) => Origin::Address(from.ip()),
        };
        self.note(origin, failed.reason);
        if let (CloseReason::Refused(Refusal::DialBack), Some(peer)) = (failed.reason, failed.peer) {
            self.knocked(peer, ctx);
        } else if let Task::Dialled(node) = task {
            self.redial(node, ctx);
        }
    }

    fn establish(&mut self, established: Established, ctx: &mut Context<Self>) -> Result<(), Failed> {
        let peer = established.peer;
        if !self.secrets.cluster_keys.accepts(&established.cluster_key) {
            return Err(Failed { peer: Some(peer), reason: CloseReason::KeyDropped }); // meanwhile
        }
        // Another connection may have been faster, or the configuration have changed, since the handshake judged.
        let judged = self.admission.borrow().admits(peer, &established.key);
        judged.map_err(|refusal| Failed { peer: Some(peer), reason: CloseReason::Refused(refusal) })?;
        self.admission.borrow_mut().learn(peer);
        self.close_link(peer.node, CloseReason::Replaced);
        let id = self.next_id();
        let (link, session) = Link::new(id, established, self.silence());
        let Some(known) = self.peers.get_mut(&peer.node) else { return Ok(()) };
        known.link = Some(link.clone());
        tracing::info!(%peer, "connected");
        self.emit(&PeerEvent::Up(peer));
        self.beat(&[link]);
        self.dial(peer.node, ctx); // again, if it stands on a key that is not the spoken one
        let (events, actor) = (self.events.clone(), ctx.address());
        spawn_guarded(&self.guard, async move {
            let reason = deliver(session, peer, &events).await;
            actor.do_send(LinkEnded { node: peer.node, id, reason });
        });
        Ok(())
    }

    fn close_link(&mut self, node: NodeId, reason: CloseReason) {
        let Some(link) = self.peers.get_mut(&node).and_then(|peer| peer.link.take()) else { return };
        link.close(reason);
        self.emit(&PeerEvent::Down(link.peer()));
        self.note(Origin::Peer(node), reason);
    }

    fn link_ended(&mut self, node: NodeId, id: u64, reason: CloseReason, ctx: &mut Context<Self>) {
        let net = self.net;
        let Some(peer) = self.peers.get_mut(&node) else { return };
        // A link that was closed from here has been told already.
        let Some(link) = peer.link.take_if(|link| link.id() == id) else { return };
        if link.since().elapsed() >= net {
            peer.attempts = 0;
        }
        let peer = link.peer();
        tracing::info!(%peer, ?reason, "disconnected");
        self.emit(&PeerEvent::Down(peer));
        self.note(Origin::Peer(node), reason);
        self.redial(node, ctx);
    }

    fn send(&mut self, to: impl Iterator<Item = NodeId>, message: &PeerMessage) {
        let mut links = to.filter_map(|to| self.peers.get(&to)?.link.as_ref()).peekable();
        if links.peek().is_none() {
            return;
        }
        match codec::encode(message, PEER_FRAME_BYTES_MAX) {
            Ok(bytes) => {
                let heartbeat = matches!(message, PeerMessage::Heartbeat(_));
                links.for_each(|link| link.send(bytes.clone(), heartbeat));
            }
            Err(error) => tracing::error!(%error, "a message to peers cannot be sent"),
        }
    }

    fn statistics(&self) -> LinkStatistics {
        LinkStatistics {
            connected: self.links().map(Link::peer).collect(),
            handshakes: self.handshakes.len(),
            closed: self.closed.clone(),
        }
    }

    /// Ends everything that runs beside the actor.
    fn end(&mut self) {
        for task in self.accepting.take().into_iter().chain(self.handshakes.drain(..).map(|(_, task)| task)) {
            task.abort();
        }
        for peer in self.peers.values_mut() {
            if let Some(link) = peer.link.take() {
                link.close(CloseReason::Ended);
            }
            if let Dial::Running(task) = std::mem::replace(&mut peer.dial, Dial::Idle) {
                task.abort();
            }
        }
    }

    fn guarded<R>(&mut self, handler: impl FnOnce(&mut Self) -> R) -> R {
        let guard = self.guard.clone();
        guard.run(|| handler(self))
    }
}

/// Hands on what a peer says, until the connection ends.
async fn deliver(mut session: Session, from: NodeIncarnation, events: &[PeerListener]) -> CloseReason {
    loop {
        let bytes = match session.next().await {
            Ok(bytes) => bytes,
            Err(reason) => return reason,
        };
        let Ok(message) = codec::decode::<PeerMessage>(&bytes, PEER_FRAME_BYTES_MAX) else {
            return CloseReason::Undecodable;
        };
        for listener in events.iter().filter(|listener| (listener.hears)(&message)) {
            listener.to.do_send(PeerEvent::Received { from, message: message.clone() });
        }
    }
}

/// Runs a task of the actor under its guard.
fn spawn_guarded(guard: &PanicGuard, task: impl Future<Output = ()> + 'static) -> JoinHandle<()> {
    let guard = guard.clone();
    let mut task = Box::pin(task);
    actix::spawn(poll_fn(move |cx| guard.run(|| task.as_mut().poll(cx))))
}

fn tell(line: &Line) {
    let Line { origin, reason, count } = line;
    if reason.is_ordinary() {
        tracing::debug!(%origin, ?reason, count, "connection closed");
    } else {
        tracing::warn!(%origin, ?reason, count, "connection closed");
    }
}

impl Actor for Interconnect {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.run_interval(self.heartbeat, |actor, _| actor.guarded(Self::tick));
    }
}

impl Drop for Interconnect {
    fn drop(&mut self) {
        self.end();
    }
}
