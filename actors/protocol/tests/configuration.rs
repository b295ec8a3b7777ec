//! The membership configuration changes by rules that hold whatever is asked for.

use std::collections::{BTreeMap, BTreeSet};

use phalanx_messages::configuration::{
    ChangeRefusal, ConfigurationRecord, FenceAgent, NodeChange, NodeConfiguration, NodeSettings, PanicPolicy,
};
use phalanx_messages::membership::{MemberEntry, MembershipRecord, NodeState};
use phalanx_messages::{Incarnation, NodeId, Revision};
use phalanx_protocol::configuration::{change, difference, same_settings, whole};
use proptest::prelude::*;

const NODES_MAX: u16 = 6;

fn node(name: &str, port: u16) -> NodeConfiguration {
    NodeConfiguration::new(name, format!("127.0.0.1:{port}"))
}

fn three() -> ConfigurationRecord {
    let nodes = (0..3).map(|id| (NodeId(id), node(&format!("n{id}"), 7600 + id))).collect();
    ConfigurationRecord { cluster: "alpha".to_owned(), nodes, ..ConfigurationRecord::default() }
}

fn add(name: &str, id: Option<u16>, port: u16) -> NodeChange {
    let address = format!("127.0.0.1:{port}");
    NodeChange::Add { name: name.to_owned(), id: id.map(NodeId), address, settings: NodeSettings::default() }
}

fn remove(name: &str) -> NodeChange {
    NodeChange::Remove { name: name.to_owned() }
}

fn set(name: &str, settings: NodeSettings) -> NodeChange {
    NodeChange::Set { name: name.to_owned(), address: None, settings }
}

fn address(name: &str, port: u16) -> NodeChange {
    let address = Some(format!("127.0.0.1:{port}"));
    NodeChange::Set { name: name.to_owned(), address, settings: NodeSettings::default() }
}

fn with_state(node: u16, state: NodeState) -> MembershipRecord {
    let entry = MemberEntry { incarnation: Incarnation(1), state, ..MemberEntry::default() };
    MembershipRecord { nodes: [(NodeId(node), entry)].into(), ..MembershipRecord::default() }
}

fn refused(changes: &[NodeChange]) -> ChangeRefusal {
    change(&three(), &MembershipRecord::default(), NODES_MAX, changes).expect_err("it must be refused")
}

#[test]
fn a_new_node_gets_the_lowest_free_id_and_the_panic_policy_of_the_others() {
    let mut record = three();
    record.nodes.values_mut().for_each(|node| node.panic = PanicPolicy::Reboot);
    record.nodes.remove(&NodeId(1));
    let record = change(&record, &MembershipRecord::default(), NODES_MAX, &[add("n9", None, 9)]).unwrap();
    let new = &record.nodes[&NodeId(1)];
    assert_eq!((new.name.as_str(), new.panic, new.votes, new.shutdown_ms), ("n9", PanicPolicy::Reboot, 1, 300_000));
}

/// Protocol §4.4.
#[test]
fn the_votes_of_the_disk_are_changed_beside_the_nodes() {
    let (record, membership) = (three(), MembershipRecord::default());
    let majority = change(&record, &membership, NODES_MAX, &[NodeChange::DiskVotes { votes: Some(0) }]).unwrap();
    assert_eq!((majority.disk_votes, &majority.nodes), (Some(0), &record.nodes));
    assert!(!same_settings(&record, &majority), "it is a change that has to be committed");
    let alone = change(&majority, &membership, NODES_MAX, &[NodeChange::DiskVotes { votes: None }]).unwrap();
    assert!(same_settings(&record, &alone));
}

#[test]
fn every_refusal_has_its_name_its_code_and_a_next_step() {
    let cases = [
        (vec![add("n1", None, 9)], 78, "node `n1` exists, with id 1"),
        (vec![add("n9", Some(1), 9)], 78, "id 1 of node `n9` belongs to node `n1`"),
        (vec![add("n9", Some(6), 9)], 78, "must be below 6"),
        (vec![add("n9", None, 7601)], 78, "address 127.0.0.1:7601 of node `n9` belongs to node `n1`"),
        (vec![add("a b", None, 9)], 78, "must begin with a letter"),
        (vec![address("n0", 0)], 78, "must be `host:port`"),
        (vec![remove("n7")], 105, "the cluster has n0, n1, n2"),
        (vec![remove("n0"), remove("n1"), remove("n2")], 1, "a cluster without nodes"),
        ((3..7).map(|id| add(&format!("n{id}"), None, id)).collect(), 78, "created for 6 nodes"),
        (vec![set("n0", NodeSettings { shutdown_ms: Some(0), ..NodeSettings::default() })], 78, "must be above 0"),
    ];
    for (changes, code, text) in cases {
        let refusal = refused(&changes);
        assert!(refusal.code() == code && refusal.to_string().contains(text), "{changes:?}: {refusal}");
    }
    let mixed = vec![
        set("n0", NodeSettings { panic: Some(PanicPolicy::Crash), ..NodeSettings::default() }),
        add("n9", None, 9),
    ];
    assert!(matches!(refused(&mixed), ChangeRefusal::PanicNotChosen { .. }));
}

#[test]
fn a_secret_never_gets_onto_the_disk_and_what_does_is_bounded() {
    let fence = |parameters: &[(&str, &str)]| {
        let parameters = parameters.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let fence = Some(vec![FenceAgent { parameters, ..FenceAgent::new("fence_ipmilan") }]);
        [set("n0", NodeSettings { fence, ..NodeSettings::default() })]
    };
    for secret in ["passwd", "password", "passwd_script", "key", "secret", "token", "snmp_community", "Auth-Key"] {
        let text = refused(&fence(&[(secret, "x")])).to_string();
        assert!(text.contains("fence.d/<node>.toml") && text.contains(secret), "{text}");
    }
    assert!(refused(&fence(&[("ip", &"x".repeat(1024))])).to_string().contains("at most 1024"));
    let allowed = fence(&[("ip", "10.0.0.1"), ("lanplus", "true"), ("keyboard", "us")]);
    change(&three(), &MembershipRecord::default(), NODES_MAX, &allowed).unwrap();
}

#[test]
fn an_active_or_haunted_node_is_not_removed() {
    for state in [NodeState::Joining, NodeState::Joined, NodeState::Leaving, NodeState::ForcedLeaving] {
        let refusal = change(&three(), &with_state(1, state), NODES_MAX, &[remove("n1")]).unwrap_err();
        assert_eq!(refusal, ChangeRefusal::Active { name: "n1".to_owned(), state });
    }
    let left = with_state(1, NodeState::Inactive);
    assert!(!change(&three(), &left, NODES_MAX, &[remove("n1")]).unwrap().nodes.contains_key(&NodeId(1)));
}

#[test]
fn two_nodes_swap_their_addresses_in_one_change() {
    let swap = [address("n0", 7601), address("n1", 7600)];
    let record = change(&three(), &MembershipRecord::default(), NODES_MAX, &swap).unwrap();
    assert_eq!(record.nodes[&NodeId(0)].address, "127.0.0.1:7601");
    assert!(matches!(refused(&swap[..1]), ChangeRefusal::AddressTaken { .. }));
}

#[test]
fn a_change_that_touches_nothing_is_empty() {
    let unchanged = change(&three(), &MembershipRecord::default(), NODES_MAX, &[address("n0", 7600)]).unwrap();
    assert!(same_settings(&three(), &unchanged));
    assert_eq!(difference(&three().nodes, &unchanged.nodes), []);
}

fn settings() -> impl Strategy<Value = NodeSettings> {
    let panic = prop_oneof![Just(PanicPolicy::Exit), Just(PanicPolicy::Reboot), Just(PanicPolicy::Watchdog)];
    let agent = |name: &str| FenceAgent {
        parameters: [("ip".to_owned(), "10.0.0.1".to_owned())].into(),
        ..FenceAgent::new(name)
    };
    let fence = prop_oneof![Just(vec![]), Just(vec![agent("a")]), Just(vec![agent("b"), agent("a")])];
    use proptest::option::of;
    (of(0..3u8), of(panic), of(1..4u64), of(any::<bool>()), of(fence), of(0..3u32)).prop_map(
        |(votes, panic, shutdown_ms, watchdog_attested, fence, capacity)| NodeSettings {
            votes,
            panic,
            shutdown_ms,
            watchdog_attested,
            fence,
            capacity,
        },
    )
}

/// Few names, ids and addresses, so that they clash.
fn any_change() -> impl Strategy<Value = NodeChange> {
    let name = || (0..5u16).prop_map(|name| format!("n{name}"));
    let address = || (1..6u16).prop_map(|port| format!("h:{port}"));
    let id = proptest::option::of((0..NODES_MAX + 1).prop_map(NodeId));
    prop_oneof![
        (name(), id, address(), settings()).prop_map(|(name, id, address, settings)| NodeChange::Add {
            name,
            id,
            address,
            settings
        }),
        name().prop_map(|name| NodeChange::Remove { name }),
        (name(), proptest::option::of(address()), settings()).prop_map(|(name, address, settings)| NodeChange::Set {
            name,
            address,
            settings
        }),
    ]
}

fn any_nodes() -> impl Strategy<Value = BTreeMap<NodeId, NodeConfiguration>> {
    let ids = proptest::sample::subsequence((0..NODES_MAX).collect::<Vec<_>>(), 1..=5);
    let shuffled = |of: Vec<u16>| Just(of).prop_shuffle();
    (ids, shuffled((0..6).collect()), shuffled((1..7).collect()), proptest::collection::vec(settings(), 6)).prop_map(
        |(ids, names, ports, settings)| {
            let empty = ConfigurationRecord::default();
            let adds = ids.iter().enumerate().map(|(index, id)| NodeChange::Add {
                name: format!("n{}", names[index]),
                id: Some(NodeId(*id)),
                address: format!("h:{}", ports[index]),
                settings: NodeSettings {
                    panic: Some(settings[index].panic.unwrap_or_default()),
                    ..settings[index].clone()
                },
            });
            let adds: Vec<_> = adds.collect();
            change(&empty, &MembershipRecord::default(), NODES_MAX, &adds).expect("they do not clash").nodes
        },
    )
}

fn states() -> impl Strategy<Value = MembershipRecord> {
    let all =
        vec![NodeState::Inactive, NodeState::Joining, NodeState::Joined, NodeState::Leaving, NodeState::ForcedLeaving];
    proptest::collection::btree_map(0..NODES_MAX, proptest::sample::select(all), 0..6).prop_map(|states| {
        let entry = |state| MemberEntry { incarnation: Incarnation(1), state, ..MemberEntry::default() };
        let nodes = states.into_iter().map(|(node, state)| (NodeId(node), entry(state))).collect();
        MembershipRecord { nodes, ..MembershipRecord::default() }
    })
}

proptest! {
    #[test]
    fn names_ids_and_addresses_stay_unique_and_no_active_node_goes(
        nodes in any_nodes(),
        membership in states(),
        changes in proptest::collection::vec(any_change(), 1..6),
    ) {
        let before = ConfigurationRecord { nodes, ..ConfigurationRecord::default() };
        if let Ok(after) = change(&before, &membership, NODES_MAX, &changes) {
            let names: BTreeSet<_> = after.nodes.values().map(|node| &node.name).collect();
            let addresses: BTreeSet<_> = after.nodes.values().map(|node| &node.address).collect();
            prop_assert!(names.len() == after.nodes.len() && addresses.len() == after.nodes.len());
            prop_assert!(!after.nodes.is_empty() && after.nodes.keys().all(|id| id.0 < NODES_MAX));
            for (id, entry) in &membership.nodes {
                let active = entry.state != NodeState::Inactive;
                if let Some(node) = before.nodes.get(id).filter(|_| active) {
                    prop_assert_eq!(after.nodes.get(id).map(|node| &node.name), Some(&node.name));
                }
            }
        }
    }

    #[test]
    fn the_difference_of_two_configurations_gives_the_second(from in any_nodes(), to in any_nodes()) {
        let before = ConfigurationRecord { nodes: from.clone(), ..ConfigurationRecord::default() };
        let changes = difference(&from, &to);
        let after = change(&before, &MembershipRecord::default(), NODES_MAX, &changes).unwrap();
        prop_assert_eq!(&after.nodes, &to);
        prop_assert!(difference(&after.nodes, &to).is_empty());
        prop_assert_eq!(changes.is_empty(), from == to);
    }

    #[test]
    fn what_is_set_already_changes_nothing(nodes in any_nodes()) {
        let before = ConfigurationRecord { nodes, revision: Revision::default(), ..ConfigurationRecord::default() };
        let again = before.nodes.values().map(|node| NodeChange::Set {
            name: node.name.clone(),
            address: Some(node.address.clone()),
            settings: whole(node),
        });
        let after = change(&before, &MembershipRecord::default(), NODES_MAX, &again.collect::<Vec<_>>()).unwrap();
        prop_assert!(same_settings(&before, &after));
    }
}
