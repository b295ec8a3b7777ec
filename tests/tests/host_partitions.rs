//! Partitions of every kind in protocol §4.3 with real hosts: who stays is what the table says, whoever goes is dead before its
//! service starts elsewhere, and everybody comes back.

use std::collections::BTreeSet;

use phalanx_messages::profile::TimingProfile;
use phalanx_tests::host_cluster::{Agent, HostCluster, master, nodes_in, ticker};
use phalanx_tests::lan::Lan;
use phalanx_tests::process_cluster::list;
use phalanx_tests::requirement::{Requirement, available};
use serde_json::Value;

/// A cluster of so many hosts whose first node leads and has the service; none if this machine cannot have it.
fn formed(count: usize) -> Option<HostCluster> {
    if !available(&[Requirement::Root, Requirement::Namespaces]) {
        return None;
    }
    let cluster = HostCluster::form(count, &[Agent::Good]);
    let all: Vec<usize> = (0..count).collect();
    let status = cluster.wait("all nodes", |status| nodes_in(status, "joined") == all && ticker(status).is_some());
    assert_eq!((master(&status), ticker(&status)), (Some(0), Some(0)));
    Some(cluster)
}

fn at_rest(status: &Value) -> bool {
    list(status, "transitions").is_empty()
}

/// Waits until exactly these nodes are left, with one of `masters` as their master and the service on one of them alone.
fn left(cluster: &HostCluster, stay: &[usize], masters: &[usize]) {
    let status = cluster.wait(&format!("{stay:?} alone"), |status| {
        at_rest(status)
            && nodes_in(status, "joined") == stay
            && ticker(status).is_some_and(|node| stay.contains(&node))
            && master(status).is_some_and(|master| masters.contains(&master))
    });
    assert_eq!(nodes_in(&status, "inactive").len() + stay.len(), list(&status, "nodes").len(), "{status:#}");
    let lives: Vec<String> = cluster.journals.living("ticker").into_iter().map(|(_, node)| node).collect();
    assert_eq!(lives, [format!("n{}", ticker(&status).expect("it runs"))], "nothing of it lives elsewhere");
    let _ = cluster.ticked(); // no instance beside another one
}

/// Everything is mended, whoever went is started again, and all are joined. Gives where the master and the service are.
fn whole_again(cluster: &mut HostCluster, count: usize) -> (usize, usize) {
    cluster.lan.heal();
    let all: Vec<usize> = (0..count).collect();
    let status = cluster.wait("a status", at_rest);
    for node in nodes_in(&status, "inactive") {
        let _ = cluster.wait_exit(node);
        cluster.start_again(node);
    }
    let status = cluster.wait("all nodes", |status| {
        at_rest(status) && nodes_in(status, "joined") == all && ticker(status).is_some() && master(status).is_some()
    });
    let _ = cluster.ticked();
    (master(&status).expect("there is one"), ticker(&status).expect("it runs"))
}

/// "A-B cut, both see C, C master", then the same with a cut one way.
#[test]
fn fault_16_two_that_do_not_hear_each_other_keep_the_master_and_the_lower_id() {
    let Some(mut cluster) = formed(3) else { return };
    cluster.lan.cut(1, 2);
    left(&cluster, &[0, 1], &[0]);
    assert_eq!(whole_again(&mut cluster, 3), (0, 0));
    cluster.lan.cut_one_way(1, 2);
    left(&cluster, &[0, 1], &[0]);
    assert_eq!(whole_again(&mut cluster, 3), (0, 0));
    assert_eq!(cluster.ticked(), ["n0"], "the service never noticed");
}

/// "A-B cut, A master", then the same with a cut one way, towards the master and from it.
#[test]
fn fault_15_whoever_the_master_does_not_hear_or_who_does_not_hear_it_goes() {
    let Some(mut cluster) = formed(3) else { return };
    cluster.lan.cut(0, 1);
    left(&cluster, &[0, 2], &[0]);
    assert_eq!(whole_again(&mut cluster, 3), (0, 0));
    cluster.lan.cut_one_way(0, 1);
    left(&cluster, &[0, 2], &[0]);
    assert_eq!(whole_again(&mut cluster, 3), (0, 0));
    cluster.lan.cut_one_way(2, 0);
    left(&cluster, &[0, 1], &[0]);
    assert_eq!(whole_again(&mut cluster, 3), (0, 0));
    assert_eq!(cluster.ticked(), ["n0"], "the service never noticed");
}

/// "{A,B} | {C,D}: side with the master", then "all links down: the master alone stays".
#[test]
fn fault_14_the_half_of_the_master_stays_and_with_all_links_down_the_master_alone() {
    let Some(mut cluster) = formed(4) else { return };
    cluster.lan.part(&[0, 3], &[1, 2]);
    left(&cluster, &[0, 3], &[0]);
    assert_eq!(whole_again(&mut cluster, 4), (0, 0));
    cluster.lan.part(&[0, 1, 2, 3], &[0, 1, 2, 3]);
    left(&cluster, &[0], &[0]);
    assert_eq!(whole_again(&mut cluster, 4), (0, 0));
    assert_eq!(cluster.ticked(), ["n0"], "the service never noticed");
}

/// "5 nodes 2 | 3, master in the 2: 3 stay; the master evicts its own side and hands over". The service runs in the two.
#[test]
fn the_larger_side_stays_though_the_master_and_its_service_are_on_the_other() {
    let Some(mut cluster) = formed(5) else { return };
    cluster.lan.part(&[0, 1], &[2, 3, 4]);
    left(&cluster, &[2, 3, 4], &[2, 3, 4]);
    let (_, node) = whole_again(&mut cluster, 5);
    assert_eq!(cluster.ticked(), ["n0".to_owned(), format!("n{node}")]);
}

/// A link that is cut again and again, each time for less than `T_net`.
#[test]
fn fault_19_a_link_that_flaps_for_less_than_t_net_is_not_acted_on() {
    let Some(cluster) = formed(3) else { return };
    let starts = |status: &Value| -> BTreeSet<String> {
        list(status, "nodes").iter().map(|node| format!("{}.{}", node["name"], node["incarnation"])).collect()
    };
    let before = starts(&cluster.wait("all nodes", at_rest));
    let profile = TimingProfile::DEV;
    for (one, other) in [(0, 1), (1, 2), (0, 2), (0, 1)] {
        cluster.lan.cut(one, other);
        cluster.let_pass(profile.net_ms / 3);
        cluster.lan.mend(one, other);
        cluster.let_pass(profile.net_ms / 3);
    }
    cluster.let_pass(profile.settle_ms); // by then whoever was missed is marked
    let after = cluster.wait("all nodes", |status| at_rest(status) && nodes_in(status, "joined") == [0, 1, 2]);
    assert_eq!(starts(&after), before, "nobody was started again");
    assert_eq!(cluster.agent_calls(), Vec::<String>::new());
    assert_eq!(cluster.ticked(), ["n0"]);
}

/// Another host has taken the address of a node, so what is sent to the node arrives where nobody has its key: that is a cut, and the
/// node goes. It comes back with a new address that an administrator has given it; the others use that at once.
#[test]
fn an_address_that_moves_to_another_host_is_a_cut_and_a_new_one_is_used_at_once() {
    let Some(mut cluster) = formed(3) else { return };
    cluster.lan.move_address(&Lan::ip(2), 2, 1);
    left(&cluster, &[0, 1], &[0]);
    let new = Lan::ip(40);
    cluster.lan.add_address(&new, 2);
    let changed = cluster.run(&["node", "set", "n2", &format!("address={new}:7600")]);
    assert!(changed.status.success(), "{changed:?}");
    cluster.set_bind(2, &format!("{new}:7600"));
    assert_eq!(whole_again(&mut cluster, 3), (0, 0));
    assert_eq!(cluster.ticked(), ["n0"], "the service never noticed");
}
