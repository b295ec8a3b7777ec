//! Whole nodes on a disk whose I/Os hang (protocol §4.7; §8.5 rows 20, 22 and 24): real threads, one disk in memory, and for each node a
//! path of its own to it.

use std::time::Duration;

use phalanx_messages::membership::NodeState;
use phalanx_messages::profile::TimingProfile;
use phalanx_storage::{Fault, FaultyDisk, Target};
use phalanx_tests::node_cluster::{TestCluster, TestNode, state};

/// Leases that no busy machine loses by itself.
const PROFILE: TimingProfile = TimingProfile::LOCAL_MMAP; // R 1 s, L 4 s

async fn joined(count: u16) -> (TestCluster, Vec<TestNode>, Vec<FaultyDisk>) {
    let mut cluster = TestCluster::timed(count, Vec::new(), PROFILE).await;
    let (nodes, paths): (Vec<_>, Vec<_>) = (0..count).map(|id| cluster.start_on_faulty(id)).unzip();
    for node in &nodes {
        assert!(node.handle.joined().await);
    }
    (cluster, nodes, paths)
}

async fn until(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let waited = async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), waited).await.unwrap_or_else(|_| panic!("never: {what}"));
}

fn stall(paths: &[FaultyDisk]) {
    paths.iter().for_each(|path| path.inject(Fault::Stall(Target::ALL)));
}

fn mend(paths: &[FaultyDisk]) {
    paths.iter().for_each(FaultyDisk::mend);
}

/// Row 22: "disk stall all < L: no state change".
#[actix_rt::test]
async fn fault_22_a_stall_of_every_path_that_is_shorter_than_the_lease_changes_nothing() {
    let (cluster, nodes, paths) = joined(3).await;
    let record = || cluster.disk.memberships().newest().unwrap().unwrap();
    let before = record();
    stall(&paths);
    tokio::time::sleep(Duration::from_millis(PROFILE.renewal_ms)).await;
    mend(&paths);
    tokio::time::sleep(Duration::from_millis(2 * PROFILE.lease_ms)).await;
    assert_eq!(record(), before);
    for node in &nodes {
        assert!(node.handle.gate().is_open());
    }
}

/// Row 24: "same, ride_through: all freeze, thaw after renewal; nobody expelled": of the nodes themselves, whose gates close and open.
#[actix_rt::test]
async fn fault_24_a_stall_of_every_path_that_outlasts_the_lease_is_ridden_through_by_all() {
    let (cluster, nodes, paths) = joined(3).await;
    stall(&paths);
    until("every gate closed", async || nodes.iter().all(|node| !node.handle.gate().is_open())).await;
    tokio::time::sleep(Duration::from_millis(PROFILE.lease_ms)).await;
    assert!(nodes.iter().all(|node| !node.handle.gate().is_open() && !node.handle.gate().is_panicking()));
    mend(&paths);
    until("every gate open", async || nodes.iter().all(|node| node.handle.gate().is_open())).await;
    tokio::time::sleep(Duration::from_millis(2 * PROFILE.lease_ms)).await;
    let record = cluster.disk.memberships().newest().unwrap().unwrap();
    assert!(
        record.nodes.values().all(|entry| entry.state == NodeState::Joined && entry.incarnation.0 == 1),
        "{record:?}"
    );
    assert!(nodes.iter().all(|node| node.handle.gate().is_open()));
}

/// Row 20 where the path does not fail but hangs: "suspends at L; marked; recovery". The node itself is alive all the time, so it is
/// marked by its silence on the disk, and finds the mark when its path is back.
#[actix_rt::test]
async fn fault_20_a_member_whose_path_to_the_disk_hangs_suspends_itself_and_is_marked() {
    let (_cluster, nodes, paths) = joined(3).await;
    let master = nodes[0].handle.membership().await.unwrap().master.unwrap();
    let lost = (0..3_u16).rfind(|id| *id != master.0).unwrap();
    let (victim, path) = (&nodes[usize::from(lost)], &paths[usize::from(lost)]);
    let other = &nodes[usize::from(master.0)];
    stall(std::slice::from_ref(path));
    until("its gate closed", async || !victim.handle.gate().is_open()).await;
    assert!(!victim.handle.gate().is_panicking(), "it rides through, in case nobody misses it");
    until("its mark", async || state(other, lost).await == NodeState::ForcedLeaving).await;
    mend(std::slice::from_ref(path));
    let reason = victim.panicked().await;
    assert!(reason.contains("forced out"), "{reason}");
    assert!(other.handle.gate().is_open());
}
