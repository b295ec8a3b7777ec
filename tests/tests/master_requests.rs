//! What administrators ask of the master, with whole nodes in one process: nothing is done twice, nobody alive is called dead.

use phalanx_actors::interconnect::Disconnect;
use phalanx_actors::local_api::Ask;
use phalanx_actors::membership_manager::MembershipEnded;
use phalanx_actors::ports::{GetMembership, MembershipStatus, PeerEvent};
use phalanx_messages::NodeId;
use phalanx_messages::admin::{AdminAnswer, AdminRequest};
use phalanx_messages::configuration::{NodeChange, NodeSettings};
use phalanx_messages::membership::NodeState;
use phalanx_messages::peer::{MasterRequest, MembershipMessage, PeerMessage};
use phalanx_tests::node_cluster::{TestCluster, TestNode, state};

async fn membership(node: &TestNode) -> MembershipStatus {
    node.handle.actors().membership.send(GetMembership).await.expect("the membership manager lives")
}

async fn ask(node: &TestNode, request: AdminRequest) -> AdminAnswer {
    node.handle.actors().local_api.send(Ask(request)).await.expect("the local socket lives")
}

fn refusal(answer: AdminAnswer) -> (u8, String) {
    let AdminAnswer::Refused { code, text } = answer else { panic!("{answer:?}") };
    (code, text)
}

fn votes(votes: u8) -> Vec<NodeChange> {
    let settings = NodeSettings { votes: Some(votes), ..NodeSettings::default() };
    vec![NodeChange::Set { name: "n0".to_owned(), address: None, settings }]
}

fn change(changes: Vec<NodeChange>) -> AdminRequest {
    AdminRequest::Change { base: None, changes, dry_run: false }
}

/// Waits until `node` has a master that is one of those, and gives its place among `nodes`.
async fn master_of(nodes: &[TestNode], asked: usize, allowed: &[usize]) -> usize {
    loop {
        let master = membership(&nodes[asked]).await.master.map(|node| usize::from(node.0));
        if let Some(master) = master.filter(|master| allowed.contains(master)) {
            return master;
        }
        tokio::task::yield_now().await;
    }
}

/// A copy of the request of `source` arrives at the membership manager of `at`.
fn arrives(at: &TestNode, source: &TestNode, counter: u64, vote: u8) {
    let request = MasterRequest::Change { base: None, changes: votes(vote) };
    let message = PeerMessage::Membership(MembershipMessage::Request { counter, request });
    at.handle.actors().membership.do_send(PeerEvent::Received { from: source.handle.me(), message });
}

async fn votes_at(node: &TestNode) -> u8 {
    membership(node).await.configuration.nodes[&NodeId(0)].votes
}

#[actix_rt::test]
async fn a_change_whose_answer_was_lost_is_never_made_twice_not_even_by_the_next_master() {
    let mut cluster = TestCluster::new(3, Vec::new()).await;
    let nodes = [cluster.start(0), cluster.start(1), cluster.start(2)];
    for node in &nodes {
        assert!(node.handle.joined().await);
    }
    let master = master_of(&nodes, 0, &[0, 1, 2]).await;
    let others: Vec<usize> = (0..3).filter(|node| *node != master).collect();
    let source = others[0];

    arrives(&nodes[master], &nodes[source], 7, 3);
    while votes_at(&nodes[master]).await != 3 {
        tokio::task::yield_now().await;
    }
    let answer = ask(&nodes[others[1]], change(votes(4))).await;
    assert!(matches!(answer, AdminAnswer::Changed { committed: true, .. }), "{answer:?}");
    // Copies of it, and of an older one that was given up, arrive late.
    arrives(&nodes[master], &nodes[source], 7, 3);
    arrives(&nodes[master], &nodes[source], 6, 9);
    assert_eq!(votes_at(&nodes[master]).await, 4);
    let answer = ask(&nodes[master], change(votes(4))).await;
    assert!(matches!(answer, AdminAnswer::Changed { committed: false, .. }), "{answer:?}");

    nodes[master].handle.leave().await;
    assert_eq!(nodes[master].handle.ended().await, MembershipEnded::Left);
    let next = master_of(&nodes, source, &others).await;
    // The new master commits something, so that it has certainly taken over.
    let note = NodeSettings { watchdog_attested: Some(true), ..NodeSettings::default() };
    let note = vec![NodeChange::Set { name: "n0".to_owned(), address: None, settings: note }];
    let answer = ask(&nodes[others[1]], change(note)).await; // `source` has counted further than it knows
    assert!(matches!(answer, AdminAnswer::Changed { committed: true, .. }), "{answer:?}");
    arrives(&nodes[next], &nodes[source], 7, 3);
    assert_eq!(votes_at(&nodes[next]).await, 4);

    // Everything is on the disk, where the newest membership record says.
    let record = cluster.disk.memberships().newest().unwrap().unwrap();
    let configuration = cluster.disk.configurations().find(record.configuration).unwrap().unwrap();
    let first = &configuration.nodes[&NodeId(0)];
    assert_eq!((first.votes, first.watchdog_attested), (4, true));
    assert!(configuration.nodes.values().all(|node| node.public_key.is_some()), "the keys learnt at the first joins");
}

#[actix_rt::test]
async fn the_only_member_is_not_forced_out() {
    let mut cluster = TestCluster::new(2, Vec::new()).await;
    let node = cluster.start(0);
    assert!(node.handle.joined().await);
    let answer = ask(&node, AdminRequest::Fence { node: "n0".to_owned(), reason: String::new() }).await;
    let (code, text) = refusal(answer);
    assert!(code == 1 && text.contains("only member") && text.contains("phalanx node leave n0"), "{text}");
    let answer = ask(&node, AdminRequest::Fence { node: "n1".to_owned(), reason: String::new() }).await;
    assert_eq!(refusal(answer).0, 3);
}

/// Protocol §4.5, F5: refused while the victim's lease may be valid, and while anybody is connected to it.
#[actix_rt::test]
async fn a_victim_with_a_sign_of_life_is_not_confirmed_dead() {
    let mut cluster = TestCluster::new(3, Vec::new()).await;
    let nodes = [cluster.start(0), cluster.start(1), cluster.start(2)];
    for node in &nodes {
        assert!(node.handle.joined().await);
    }
    let master = master_of(&nodes, 0, &[0, 1, 2]).await;
    let others: Vec<usize> = (0..3).filter(|node| *node != master).collect();
    let (victim, asked) = (others[0], others[1]);
    let name = format!("n{victim}");
    let answer = ask(&nodes[asked], AdminRequest::Fence { node: name.clone(), reason: "test".to_owned() }).await;
    assert_eq!(answer, AdminAnswer::Done);
    assert_eq!(nodes[victim].panicked().await, "forced out by the master");

    // Its process goes on here, as that of a node whose panic does not end it: it is connected, and renews no lease.
    let confirm = || ask(&nodes[asked], AdminRequest::ConfirmDead { node: name.clone() });
    let mut signs = Vec::new();
    loop {
        let answer = confirm().await;
        if answer == AdminAnswer::Done {
            break;
        }
        let (code, text) = refusal(answer);
        assert_eq!(code, 107, "{text}");
        if text.contains("its register was written") {
            signs.push("register");
        } else {
            assert!(text.contains("connected to it over the interconnect"), "{text}");
            signs.push("connection");
            nodes[victim].handle.actors().interconnect.do_send(Disconnect);
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    signs.dedup();
    assert_eq!(signs, ["register", "connection"]);
    while state(&nodes[asked], u16::try_from(victim).unwrap()).await != NodeState::Inactive {
        tokio::task::yield_now().await;
    }
    let record = membership(&nodes[asked]).await.record;
    let reason = &record.nodes[&NodeId(u16::try_from(victim).unwrap())].reason;
    assert!(reason.contains("confirmed by the program that runs this node through"), "{reason}");
}
