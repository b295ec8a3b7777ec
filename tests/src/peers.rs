//! Interconnects in one process, each with an ear that hears its events.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use phalanx_actors::clock::Clock;
use phalanx_actors::gate::Gate;
use phalanx_actors::guard::PanicGuard;
use phalanx_actors::interconnect::{
    ClusterKey, Disconnect, GetLinkStatistics, Interconnect, InterconnectSettings, LinkStatistics, Network,
    StaticKeyPair,
};
use phalanx_actors::ports::{ConfigurationChanged, NodePanic, PeerEvent, SendToPeer};
use phalanx_messages::configuration::{ConfigurationRecord, NodeConfiguration};
use phalanx_messages::peer::{MembershipMessage, PeerMessage};
use phalanx_messages::profile::TimingProfile;
use phalanx_messages::{Incarnation, NodeId, NodeIncarnation};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use uuid::Uuid;

use crate::process_cluster::PATIENCE;

/// Passes on what it hears.
struct Ear {
    events: mpsc::UnboundedSender<PeerEvent>,
    panics: mpsc::UnboundedSender<String>,
}

impl Actor for Ear {
    type Context = Context<Self>;
}

impl Handler<PeerEvent> for Ear {
    type Result = ();

    fn handle(&mut self, event: PeerEvent, _: &mut Self::Context) {
        // A test that has ended hears no more.
        let _ = self.events.send(event);
    }
}

impl Handler<NodePanic> for Ear {
    type Result = ();

    fn handle(&mut self, panic: NodePanic, _: &mut Self::Context) {
        let _ = self.panics.send(panic.reason);
    }
}

/// That start of that node.
#[must_use]
pub const fn incarnation(node: u16, incarnation: u64) -> NodeIncarnation {
    NodeIncarnation { node: NodeId(node), incarnation: Incarnation(incarnation) }
}

/// A message that carries `text`.
#[must_use]
pub fn saying(text: impl Into<String>) -> PeerMessage {
    let victim = NodeIncarnation::default();
    PeerMessage::Membership(MembershipMessage::ForceRequest { victim, reason: text.into() })
}

/// A configuration of nodes at these addresses, named `node-<id>`.
#[must_use]
pub fn configuration<'a>(addresses: impl IntoIterator<Item = (u16, &'a str)>) -> ConfigurationRecord {
    let configured = |(id, address): (u16, &str)| {
        let (name, address) = (format!("node-{id}"), address.to_owned());
        (NodeId(id), NodeConfiguration::new(name, address))
    };
    let nodes: BTreeMap<_, _> = addresses.into_iter().map(configured).collect();
    ConfigurationRecord { cluster: "alpha".to_owned(), nodes, ..ConfigurationRecord::default() }
}

/// Settings of a node of one cluster, with a fresh key of its own.
///
/// # Panics
/// If the system has no randomness.
#[must_use]
pub fn settings(me: NodeIncarnation) -> InterconnectSettings {
    InterconnectSettings {
        me,
        cluster: Uuid::from_u128(0xA1FA),
        cluster_keys: ClusterKey([7; 32]).into(),
        key_pair: StaticKeyPair::generate().expect("the system has randomness"),
        profile: TimingProfile::DEV,
        clock: Clock::tokio(),
        refuse_connections: false,
    }
}

/// An interconnect and its ear.
pub struct PeerNode {
    /// What it was started with.
    pub settings: InterconnectSettings,
    /// The actor.
    pub interconnect: Addr<Interconnect>,
    /// Its gate, open at the start.
    pub gate: Gate,
    /// What it tells.
    pub events: mpsc::UnboundedReceiver<PeerEvent>,
    /// Why it panicked.
    pub panics: mpsc::UnboundedReceiver<String>,
}

impl PeerNode {
    /// Starts an interconnect on this network. It connects once it is configured.
    #[must_use]
    pub fn start(settings: InterconnectSettings, network: Network) -> Self {
        let (events_sender, events) = mpsc::unbounded_channel();
        let (panics_sender, panics) = mpsc::unbounded_channel();
        let ear = Ear { events: events_sender, panics: panics_sender }.start();
        let gate = Gate::new(settings.clock);
        gate.extend(settings.clock.now().plus(86_400_000));
        let guard = PanicGuard::new("interconnect", gate.clone(), ear.clone().recipient());
        let interconnect = Interconnect::new(settings.clone(), network, vec![ear.recipient().into()], guard).start();
        Self { settings, interconnect, gate, events, panics }
    }

    /// Gives it its configuration.
    pub fn configure(&self, configuration: &ConfigurationRecord) {
        self.interconnect.do_send(ConfigurationChanged(Arc::new(configuration.clone())));
    }

    /// Says `text` to a peer.
    pub fn say(&self, to: u16, text: impl Into<String>) {
        self.interconnect.do_send(SendToPeer { to: NodeId(to), message: saying(text) });
    }

    /// The next event that is not a heartbeat.
    ///
    /// # Panics
    /// If none comes in a generous time.
    pub async fn next(&mut self) -> PeerEvent {
        loop {
            match self.next_with_heartbeats().await {
                PeerEvent::Received { message: PeerMessage::Heartbeat(_), .. } => {}
                event @ (PeerEvent::Up(_) | PeerEvent::Down(_) | PeerEvent::Received { .. }) => return event,
            }
        }
    }

    /// The next event.
    ///
    /// # Panics
    /// If none comes in a generous time.
    pub async fn next_with_heartbeats(&mut self) -> PeerEvent {
        let event = tokio::time::timeout(PATIENCE, self.events.recv()).await.expect("an event comes in time");
        event.expect("the interconnect lives")
    }

    /// The next event must be that this peer is up.
    ///
    /// # Panics
    /// If it is another.
    pub async fn expect_up(&mut self, peer: NodeIncarnation) {
        let event = self.next().await;
        assert!(matches!(event, PeerEvent::Up(up) if up == peer), "{peer} is up: {event:?}");
    }

    /// The next event must be that this peer is down.
    ///
    /// # Panics
    /// If it is another.
    pub async fn expect_down(&mut self, peer: NodeIncarnation) {
        let event = self.next().await;
        assert!(matches!(event, PeerEvent::Down(down) if down == peer), "{peer} is down: {event:?}");
    }

    /// The next event must be that this peer says `text`.
    ///
    /// # Panics
    /// If it is another.
    pub async fn expect_text(&mut self, peer: NodeIncarnation, text: &str) {
        let PeerEvent::Received { from, message } = self.next().await else { panic!("{peer} says {text}") };
        assert_eq!(from, peer);
        assert!(message == saying(text), "{text}");
    }

    /// How it does.
    ///
    /// # Panics
    /// If it is gone.
    pub async fn statistics(&self) -> LinkStatistics {
        self.interconnect.send(GetLinkStatistics).await.expect("the interconnect lives")
    }

    /// Waits until its statistics show something.
    ///
    /// # Panics
    /// If they do not in a generous time.
    pub async fn until(&self, what: &str, shown: impl Fn(&LinkStatistics) -> bool) {
        let wait = async {
            while !shown(&self.statistics().await) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        assert!(tokio::time::timeout(PATIENCE, wait).await.is_ok(), "{what}: {:?}", self.statistics().await);
    }

    /// Stops it, as if its process ended: peers see their connections close.
    pub fn stop(self) -> InterconnectSettings {
        self.interconnect.do_send(Disconnect);
        self.settings
    }
}

/// Listens on a free port of the loopback; gives the address too.
///
/// # Errors
/// If it cannot listen.
pub async fn listen() -> io::Result<(TcpListener, String)> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?.to_string();
    Ok((listener, address))
}

/// Listens where another node did, as soon as that one lets go.
///
/// # Panics
/// If it does not in a generous time.
pub async fn listen_again(address: &str) -> TcpListener {
    let wait = async {
        loop {
            match TcpListener::bind(address).await {
                Ok(listener) => return listener,
                Err(_) => tokio::time::sleep(Duration::from_millis(1)).await,
            }
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.expect("the address becomes free")
}

/// The next start of that node: one incarnation later.
#[must_use]
pub const fn restarted(mut settings: InterconnectSettings) -> InterconnectSettings {
    settings.me.incarnation = settings.me.incarnation.next();
    settings
}
