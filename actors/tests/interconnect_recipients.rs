//! The interconnect driven as the other actors drive it: through recipients alone.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use phalanx_actors::clock::Clock;
use phalanx_actors::gate::Gate;
use phalanx_actors::guard::PanicGuard;
use phalanx_actors::interconnect::{
    ClusterKey, Disconnect, Interconnect, InterconnectSettings, Network, StaticKeyPair,
};
use phalanx_actors::ports::{ConfigurationChanged, NodePanic, PeerEvent, SendToPeer};
use phalanx_messages::configuration::{ConfigurationRecord, NodeConfiguration};
use phalanx_messages::peer::{JoinRefusal, MembershipMessage, PeerMessage};
use phalanx_messages::profile::TimingProfile;
use phalanx_messages::{Incarnation, NodeId, NodeIncarnation};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use uuid::Uuid;

const N0: NodeIncarnation = NodeIncarnation { node: NodeId(0), incarnation: Incarnation(1) };
const N1: NodeIncarnation = NodeIncarnation { node: NodeId(1), incarnation: Incarnation(1) };

/// Everything a neighbouring actor holds of the interconnect, and what it hears.
struct Edges {
    send: Recipient<SendToPeer>,
    configure: Recipient<ConfigurationChanged>,
    disconnect: Recipient<Disconnect>,
    events: mpsc::UnboundedReceiver<PeerEvent>,
}

struct Ear(mpsc::UnboundedSender<PeerEvent>);

impl Actor for Ear {
    type Context = Context<Self>;
}

impl Handler<PeerEvent> for Ear {
    type Result = ();

    fn handle(&mut self, event: PeerEvent, _: &mut Self::Context) {
        let _ = self.0.send(event);
    }
}

impl Handler<NodePanic> for Ear {
    type Result = ();

    fn handle(&mut self, panic: NodePanic, _: &mut Self::Context) {
        panic!("{}", panic.reason);
    }
}

fn start(me: NodeIncarnation, listener: TcpListener) -> Edges {
    let (sender, events) = mpsc::unbounded_channel();
    let ear = Ear(sender).start();
    let settings = InterconnectSettings {
        me,
        cluster: Uuid::from_u128(1),
        cluster_keys: ClusterKey([3; 32]).into(),
        key_pair: StaticKeyPair::generate().expect("the system has randomness"),
        profile: TimingProfile::DEV,
        clock: Clock::Boot,
        refuse_connections: false,
    };
    let guard = PanicGuard::new("interconnect", Gate::new(Clock::Boot), ear.clone().recipient());
    let actor = Interconnect::new(settings, Network::tcp(listener), vec![ear.recipient().into()], guard).start();
    let (send, configure) = (actor.clone().recipient(), actor.clone().recipient());
    Edges { send, configure, disconnect: actor.recipient(), events }
}

impl Edges {
    async fn next(&mut self) -> PeerEvent {
        loop {
            let event = tokio::time::timeout(Duration::from_secs(60), self.events.recv()).await;
            let event = event.expect("an event comes in time").expect("the ear lives");
            if !matches!(event, PeerEvent::Received { message: PeerMessage::Heartbeat(_), .. }) {
                return event;
            }
        }
    }
}

#[actix_rt::test]
async fn peers_come_up_speak_and_go_down() {
    let (mut nodes, mut listeners) = (BTreeMap::new(), Vec::new());
    for id in 0..2 {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let name = format!("node-{id}");
        let configured = NodeConfiguration::new(name, address);
        nodes.insert(NodeId(id), configured);
        listeners.push(listener);
    }
    let record = Arc::new(ConfigurationRecord { nodes, ..ConfigurationRecord::default() });
    let mut one = start(N1, listeners.pop().unwrap());
    let mut zero = start(N0, listeners.pop().unwrap());
    // To nobody yet: dropped, since senders repeat.
    let unheard = PeerMessage::Membership(MembershipMessage::JoinRefused(JoinRefusal::NotConfigured));
    zero.send.do_send(SendToPeer { to: NodeId(1), message: unheard });
    for edges in [&zero, &one] {
        edges.configure.do_send(ConfigurationChanged(record.clone()));
    }
    assert!(matches!(zero.next().await, PeerEvent::Up(N1)));
    assert!(matches!(one.next().await, PeerEvent::Up(N0)));

    let message = PeerMessage::Membership(MembershipMessage::JoinRefused(JoinRefusal::BusyLeaving));
    zero.send.do_send(SendToPeer { to: NodeId(9), message: message.clone() });
    zero.send.do_send(SendToPeer { to: NodeId(1), message: message.clone() });
    let PeerEvent::Received { from: N0, message: arrived } = one.next().await else { panic!("N0 speaks") };
    assert_eq!(arrived, message);

    zero.disconnect.do_send(Disconnect);
    assert!(matches!(one.next().await, PeerEvent::Down(N0)));
}
