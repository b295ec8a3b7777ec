//! Links between interconnects over TCP: they come, go and come back, and nobody else gets in.

use phalanx_actors::interconnect::{
    CloseReason, ClusterKey, ClusterKeys, Fingerprint, GetKeysInUse, InterconnectSettings, MasterIs, Network, Refusal,
    SetSeen, StaticKeyPair, UseKeys,
};
use phalanx_actors::ports::{InjectPanic, PeerEvent};
use phalanx_messages::configuration::ConfigurationRecord;
use phalanx_messages::limits::{HANDSHAKE_FRAME_BYTES_MAX, HANDSHAKES_MAX, PEER_FRAME_BYTES_MAX};
use phalanx_messages::peer::PeerMessage;
use phalanx_messages::profile::TimingProfile;
use phalanx_messages::{NodeId, NodeIncarnation, Revision, Term};
use phalanx_tests::peers::{PeerNode, configuration, incarnation, listen, listen_again, restarted, settings};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use uuid::Uuid;

const N0: NodeIncarnation = incarnation(0, 1);
const N1: NodeIncarnation = incarnation(1, 1);
const N2: NodeIncarnation = incarnation(2, 1);

/// Nodes of one configuration, with ids from 0; the changed settings are the caller's.
async fn cluster(all: impl IntoIterator<Item = InterconnectSettings>) -> (Vec<PeerNode>, ConfigurationRecord) {
    let (mut nodes, mut addresses) = (Vec::new(), Vec::new());
    for settings in all {
        let (listener, address) = listen().await.expect("the loopback has a free port");
        addresses.push((settings.me.node.0, address));
        nodes.push(PeerNode::start(settings, Network::tcp(listener)));
    }
    let configuration = configuration(addresses.iter().map(|(id, address)| (*id, address.as_str())));
    nodes.iter().for_each(|node| node.configure(&configuration));
    (nodes, configuration)
}

async fn pair(first: InterconnectSettings, second: InterconnectSettings) -> (PeerNode, PeerNode, ConfigurationRecord) {
    let (nodes, configuration) = cluster([first, second]).await;
    let [first, second] = <[PeerNode; 2]>::try_from(nodes).ok().expect("two were started");
    (first, second, configuration)
}

fn address(configuration: &ConfigurationRecord, node: u16) -> &str {
    &configuration.nodes[&NodeId(node)].address
}

/// A refusal on one side shows on that side.
async fn until_closed(node: &PeerNode, reason: CloseReason) {
    node.until(&format!("{reason:?}"), |shown| shown.closed.contains_key(&reason)).await;
}

#[actix_rt::test]
async fn three_nodes_hear_each_other_in_order() {
    let (mut nodes, _) = cluster([N0, N1, N2].map(settings)).await;
    for node in &mut nodes {
        let (mut up, me) = (Vec::new(), node.settings.me);
        for _ in 0..2 {
            let PeerEvent::Up(peer) = node.next().await else { panic!("both peers come up") };
            up.push(peer);
        }
        up.sort_unstable();
        assert_eq!(up, [N0, N1, N2].into_iter().filter(|peer| *peer != me).collect::<Vec<_>>());
    }
    for number in 0..200 {
        nodes[0].say(2, format!("{number}"));
    }
    for number in 0..200 {
        nodes[2].expect_text(N0, &format!("{number}")).await;
    }
    nodes[2].say(1, "to another");
    nodes[1].expect_text(N2, "to another").await;
}

#[actix_rt::test]
async fn heartbeats_carry_what_was_seen_and_who_is_heard() {
    let (zero, mut one, _) = pair(settings(N0), settings(N1)).await;
    one.expect_up(N0).await;
    let seen = Revision { term: Term(3), seq: 4 };
    zero.interconnect.do_send(SetSeen(seen));
    let mut last_seq = 0;
    loop {
        let PeerEvent::Received { from: N0, message: PeerMessage::Heartbeat(beat) } = one.next_with_heartbeats().await
        else {
            panic!("only heartbeats come");
        };
        assert!(beat.seq > last_seq);
        last_seq = beat.seq;
        if beat.seen == seen {
            assert_eq!(beat.hears, [NodeId(1)].into_iter().collect());
            return;
        }
    }
}

#[actix_rt::test]
async fn a_message_of_many_frames_arrives_whole_and_a_larger_one_harms_nothing() {
    let (mut zero, mut one, _) = pair(settings(N0), settings(N1)).await;
    zero.expect_up(N1).await;
    one.expect_up(N0).await;
    let large = "x".repeat(PEER_FRAME_BYTES_MAX - 1024);
    one.say(0, "y".repeat(PEER_FRAME_BYTES_MAX));
    one.say(0, large.clone());
    zero.expect_text(N1, &large).await;
}

/// Either side's restart is noticed at once, and the old incarnation is down before the new one is up.
#[actix_rt::test]
async fn a_restarted_peer_comes_back_with_its_next_incarnation() {
    let (mut zero, mut one, configuration) = pair(settings(N0), settings(N1)).await;
    zero.expect_up(N1).await;
    one.expect_up(N0).await;

    let next = restarted(one.stop());
    let mut one = PeerNode::start(next, Network::tcp(listen_again(address(&configuration, 1)).await));
    one.configure(&configuration);
    one.expect_up(N0).await;
    zero.expect_down(N1).await;
    zero.expect_up(incarnation(1, 2)).await;

    let next = restarted(zero.stop());
    let mut zero = PeerNode::start(next, Network::tcp(listen_again(address(&configuration, 0)).await));
    zero.configure(&configuration);
    zero.expect_up(incarnation(1, 2)).await;
    one.expect_down(N0).await;
    one.expect_up(incarnation(0, 2)).await;
    one.say(0, "welcome back");
    zero.expect_text(incarnation(1, 2), "welcome back").await;
}

/// A frozen old start, or a second host with the same id, does not displace the new one.
#[actix_rt::test]
async fn an_older_incarnation_is_refused_and_a_newer_one_replaces() {
    let (mut zero, mut one, configuration) = pair(settings(N0), settings(incarnation(1, 5))).await;
    zero.expect_up(incarnation(1, 5)).await;
    one.expect_up(N0).await;
    let (listener, _) = listen().await.unwrap();
    let old = PeerNode::start(settings(incarnation(1, 4)), Network::tcp(listener));
    old.configure(&configuration);
    until_closed(&old, CloseReason::RefusedByPeer(Refusal::OldIncarnation)).await;
    until_closed(&zero, CloseReason::Refused(Refusal::OldIncarnation)).await;
    zero.say(1, "still there");
    one.expect_text(N0, "still there").await;

    let (listener, _) = listen().await.unwrap();
    let mut new = PeerNode::start(settings(incarnation(1, 6)), Network::tcp(listener));
    new.configure(&configuration);
    new.expect_up(N0).await;
    zero.expect_down(incarnation(1, 5)).await;
    zero.expect_up(incarnation(1, 6)).await;
    one.expect_down(N0).await;
}

#[actix_rt::test]
async fn who_does_not_know_the_cluster_key_stays_out_and_harms_nothing() {
    let stranger = InterconnectSettings { cluster_keys: ClusterKey([8; 32]).into(), ..settings(N2) };
    let (mut nodes, _) = cluster([settings(N0), settings(N1), stranger]).await;
    nodes[0].expect_up(N1).await;
    nodes[1].expect_up(N0).await;
    until_closed(&nodes[0], CloseReason::NotAuthentic).await;
    until_closed(&nodes[1], CloseReason::NotAuthentic).await;
    nodes[2].until("the stranger is cut off", |shown| shown.closed.contains_key(&CloseReason::HandshakeCut)).await;
    assert!(nodes[2].statistics().await.connected.is_empty());
    nodes[0].say(1, "undisturbed");
    nodes[1].expect_text(N0, "undisturbed").await;
}

const OLD: ClusterKey = ClusterKey([7; 32]);
const NEW: ClusterKey = ClusterKey([9; 32]);

/// Uses these keys, the first of them spoken.
fn use_keys(node: &PeerNode, keys: &[ClusterKey]) {
    let all = keys.iter().skip(1).cloned().try_fold(ClusterKeys::from(keys[0].clone()), |all, key| all.with(key));
    node.interconnect.do_send(UseKeys(all.expect("two at most")));
}

/// Waits until the one link of a node stands on that key.
async fn until_on(node: &PeerNode, key: &ClusterKey) {
    let key = Fingerprint::of(key);
    loop {
        let in_use = node.interconnect.send(GetKeysInUse).await.expect("it lives");
        if in_use.links.values().eq([&key]) {
            return;
        }
        tokio::task::yield_now().await;
    }
}

/// The three steps of a change. The higher id dials, so its step makes the link anew: down and up at once.
#[actix_rt::test]
async fn the_cluster_key_changes_and_whoever_has_the_old_one_stays_out() {
    let (mut zero, mut one, record) = pair(settings(N0), settings(N1)).await;
    zero.expect_up(N1).await;
    one.expect_up(N0).await;
    for node in [&zero, &one] {
        use_keys(node, &[OLD, NEW]);
        until_on(node, &OLD).await;
    }
    use_keys(&zero, &[NEW, OLD]);
    zero.say(1, "still on the old key");
    one.expect_text(N0, "still on the old key").await;
    until_on(&zero, &OLD).await;
    use_keys(&one, &[NEW, OLD]);
    one.expect_down(N0).await;
    one.expect_up(N0).await;
    zero.expect_down(N1).await;
    zero.expect_up(N1).await;
    for node in [&zero, &one] {
        until_on(node, &NEW).await;
        use_keys(node, &[NEW]);
    }
    one.say(0, "on the new key");
    zero.expect_text(N1, "on the new key").await;
    let closed = zero.statistics().await.closed;
    assert!(!closed.contains_key(&CloseReason::KeyDropped) && !closed.contains_key(&CloseReason::NotAuthentic));

    let (listener, _) = listen().await.unwrap();
    let late = PeerNode::start(settings(incarnation(1, 2)), Network::tcp(listener));
    late.configure(&record);
    until_closed(&zero, CloseReason::NotAuthentic).await;
    zero.say(1, "undisturbed");
    one.expect_text(N0, "undisturbed").await;
}

/// Steps in a wrong order: the link stands on the old key until the peer knows the new one, also if it breaks meanwhile.
#[actix_rt::test]
async fn a_key_that_is_spoken_too_early_costs_nothing() {
    let (mut zero, mut one, record) = pair(settings(N0), settings(N1)).await;
    zero.expect_up(N1).await;
    one.expect_up(N0).await;
    use_keys(&one, &[NEW, OLD]);
    until_closed(&zero, CloseReason::NotAuthentic).await;
    one.say(0, "as before");
    zero.expect_text(N1, "as before").await; // no Down before it

    let next = restarted(zero.stop());
    let mut zero = PeerNode::start(next, Network::tcp(listen_again(address(&record, 0)).await));
    zero.configure(&record);
    zero.expect_up(N1).await;
    one.expect_down(N0).await;
    one.expect_up(incarnation(0, 2)).await;
    until_on(&zero, &OLD).await;
    use_keys(&zero, &[OLD, NEW]);
    zero.expect_down(N1).await;
    zero.expect_up(N1).await;
    until_on(&zero, &NEW).await;
}

/// A key that was stolen: whatever stands on it ends at once.
#[actix_rt::test]
async fn a_key_that_is_dropped_takes_its_links_along() {
    let (mut zero, mut one, _) = pair(settings(N0), settings(N1)).await;
    zero.expect_up(N1).await;
    one.expect_up(N0).await;
    use_keys(&zero, &[NEW]);
    zero.expect_down(N1).await;
    one.expect_down(N0).await;
    until_closed(&zero, CloseReason::KeyDropped).await;
    until_closed(&zero, CloseReason::NotAuthentic).await;
    use_keys(&one, &[NEW]);
    zero.expect_up(N1).await;
    one.expect_up(N0).await;
}

#[actix_rt::test]
async fn another_cluster_with_the_same_key_stays_out() {
    let other = InterconnectSettings { cluster: Uuid::from_u128(1), ..settings(N1) };
    let (zero, one, _) = pair(settings(N0), other).await;
    until_closed(&zero, CloseReason::Refused(Refusal::OtherCluster)).await;
    until_closed(&one, CloseReason::Refused(Refusal::OtherCluster)).await;
    assert!(zero.statistics().await.connected.is_empty() && one.statistics().await.connected.is_empty());
}

#[actix_rt::test]
async fn a_node_with_another_key_than_configured_stays_out_until_its_key_is_there() {
    let (zero_settings, one_settings) = (settings(N0), settings(N1));
    let key = one_settings.key_pair.public;
    let (zero_listener, zero_address) = listen().await.unwrap();
    let (one_listener, one_address) = listen().await.unwrap();
    let mut zero = PeerNode::start(zero_settings, Network::tcp(zero_listener));
    let one = PeerNode::start(one_settings, Network::tcp(one_listener));
    let mut record = configuration([(0, zero_address.as_str()), (1, one_address.as_str())]);
    one.configure(&record);
    record.nodes.get_mut(&NodeId(1)).unwrap().public_key = Some(StaticKeyPair::generate().unwrap().public);
    zero.configure(&record);
    until_closed(&zero, CloseReason::Refused(Refusal::KeyMismatch)).await;
    until_closed(&one, CloseReason::RefusedByPeer(Refusal::KeyMismatch)).await;

    record.nodes.get_mut(&NodeId(1)).unwrap().public_key = Some(key);
    zero.configure(&record);
    zero.expect_up(N1).await;
    // A key that changes under a connection ends it, and so does the end of the node's configuration.
    record.nodes.get_mut(&NodeId(1)).unwrap().public_key = Some([1; 32]);
    zero.configure(&record);
    zero.expect_down(N1).await;
    record.nodes.get_mut(&NodeId(1)).unwrap().public_key = Some(key);
    zero.configure(&record);
    zero.expect_up(N1).await;
    record.nodes.remove(&NodeId(1));
    zero.configure(&record);
    zero.expect_down(N1).await;
    until_closed(&one, CloseReason::RefusedByPeer(Refusal::NotConfigured)).await;
}

/// Bytes that are no handshake end their own connection at once, or after T_net if they say nothing.
#[actix_rt::test]
async fn garbage_oversized_and_stalled_connections_are_closed_and_harm_nothing() {
    let (mut zero, mut one, configuration) = pair(settings(N0), settings(N1)).await;
    zero.expect_up(N1).await;
    one.expect_up(N0).await;
    let oversized = u32::try_from(HANDSHAKE_FRAME_BYTES_MAX + 1).unwrap().to_be_bytes();
    let noise = [&[0, 0, 0, 48][..], &[0xA5; 48]].concat();
    let cases = [
        (&b"GET / HTTP/1.1\r\n\r\n"[..], CloseReason::Oversized),
        (&oversized[..], CloseReason::Oversized),
        (&noise, CloseReason::NotAuthentic),
        (&[0, 0, 0, 0], CloseReason::NotAuthentic),
        (&[0, 0], CloseReason::HandshakeTimeout),
    ];
    for (bytes, reason) in cases {
        let before = zero.statistics().await.closed.get(&reason).copied().unwrap_or(0);
        let mut stream = TcpStream::connect(address(&configuration, 0)).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        // Closed with bytes unread is a reset, which is as good an end.
        let answer = stream.read(&mut [0; 16]).await;
        assert!(matches!(answer, Ok(0) | Err(_)), "nothing is answered to {bytes:?}");
        zero.until(&format!("{reason:?}"), |shown| shown.closed.get(&reason) > Some(&before)).await;
    }
    zero.say(1, "undisturbed");
    one.expect_text(N0, "undisturbed").await;
}

#[actix_rt::test]
async fn connections_that_say_nothing_do_not_keep_a_peer_out() {
    let profile = TimingProfile { net_ms: 60_000, ..TimingProfile::DEV };
    let (listener, zero_address) = listen().await.unwrap();
    let mut zero = PeerNode::start(InterconnectSettings { profile, ..settings(N0) }, Network::tcp(listener));
    let (listener, one_address) = listen().await.unwrap();
    let configuration = configuration([(0, zero_address.as_str()), (1, one_address.as_str())]);
    zero.configure(&configuration);
    let mut silent = Vec::new();
    for _ in 0..HANDSHAKES_MAX + 10 {
        silent.push(TcpStream::connect(&zero_address).await.unwrap());
    }
    zero.until("ten have gone", |shown| shown.closed.get(&CloseReason::HandshakesFull) >= Some(&10)).await;
    assert_eq!(zero.statistics().await.handshakes, HANDSHAKES_MAX);
    let one = PeerNode::start(settings(N1), Network::tcp(listener));
    one.configure(&configuration);
    zero.expect_up(N1).await;
}

/// Issue: with every connection refused exactly one node becomes master; this is how a test refuses them.
#[actix_rt::test]
async fn with_connections_refused_nobody_is_ever_up() {
    let refusing = |me| InterconnectSettings { refuse_connections: true, ..settings(me) };
    let (nodes, configuration) = cluster([refusing(N0), settings(N1), refusing(N2)]).await;
    nodes[1].until("N1 tries more than once", |shown| shown.closed.get(&CloseReason::Unreachable) > Some(&2)).await;
    assert!(TcpStream::connect(address(&configuration, 0)).await.is_err());
    for node in &nodes {
        assert!(node.statistics().await.connected.is_empty());
    }
}

#[actix_rt::test]
async fn a_panic_inside_is_a_panic_of_the_node_and_peers_see_it_go() {
    let (zero, mut one, _) = pair(settings(N0), settings(N1)).await;
    one.expect_up(N0).await;
    let PeerNode { interconnect, gate, mut panics, events: _events, .. } = zero;
    assert!(gate.is_open());
    interconnect.do_send(InjectPanic);
    assert_eq!(panics.recv().await.unwrap(), "actor interconnect panicked: injected");
    assert!(!gate.is_open());
    one.expect_down(N0).await;
}

/// Protocol §4.1: beyond 8 nodes only ring neighbours and the master are beaten, and the links in between stay up.
#[actix_rt::test]
async fn links_that_are_only_probed_stay_up() {
    let (mut nodes, _) = cluster((0..10).map(|id| settings(incarnation(id, 1)))).await;
    for node in &mut nodes {
        for _ in 0..9 {
            assert!(matches!(node.next().await, PeerEvent::Up(_)));
        }
        node.interconnect.do_send(MasterIs(Some(NodeId(0))));
    }
    // 24 beats of a neighbour take four times T_net.
    let (mut neighbour, mut far) = (0, 0);
    while neighbour < 24 {
        match nodes[5].next_with_heartbeats().await {
            PeerEvent::Received { from, .. } if from == incarnation(4, 1) => neighbour += 1,
            PeerEvent::Received { from, .. } if from == incarnation(8, 1) => far += 1,
            PeerEvent::Received { .. } => {}
            event @ (PeerEvent::Up(_) | PeerEvent::Down(_)) => panic!("{event:?}"),
        }
    }
    assert!(far < 12, "{far} beats of a link that is only probed");
    for node in &nodes {
        assert_eq!(node.statistics().await.connected.len(), 9);
    }
}
