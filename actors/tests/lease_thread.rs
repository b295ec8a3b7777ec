//! The lease thread seen from its edges: what reaches the disk, the gate, the warden and the recipients (protocol §3.3, §9.1).
//!
//! Most run inline on tokio's paused clock, where time moves only when everybody waits. Those of the real thread wait for
//! what must come and measure nothing.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test")]

use std::sync::Arc;
use std::sync::atomic::Ordering;

use phalanx_actors::clock::Clock;
use phalanx_actors::lease_thread::{self, LeaseSettings, Publication};
use phalanx_messages::membership::NodeState;
use phalanx_messages::register::{Claim, ClaimPhase, NodeRegister, OwnState, Pill};
use phalanx_messages::{Incarnation, NodeId, NodeIncarnation, Revision, Term};
use phalanx_storage::{ClusterDisk, Durability, Fault, MemoryDisk, Target};

#[path = "lease_thread/watchdog.rs"]
mod watchdog;
#[path = "lease_thread/world.rs"]
mod world;

use world::{ME, PROFILE, World, member, pass};

#[actix::test]
async fn a_publication_is_on_the_disk_before_it_is_answered() {
    let mut world = World::new(Clock::Boot);
    let handle = world.thread();
    assert_eq!(world.own().heartbeat, 1, "the first write precedes the return of spawn");
    assert!(world.lease().await && world.gate.is_open());
    let seen = Revision { term: Term(2), seq: 9 };
    let heartbeat = handle.publish(Publication { seen: Some(seen), ..Publication::default() }).await.unwrap();
    let own = world.own();
    assert!(own.heartbeat >= heartbeat);
    assert_eq!((own.seen, own.nonce, own.incarnation), (seen, 77, ME.incarnation));
    handle.stop(Some(OwnState::CleanDown)).await.unwrap();
    assert_eq!(world.own().own_state, OwnState::CleanDown);
    assert!(!world.gate.is_open());
    assert!(handle.publish(Publication::default()).await.is_err(), "the thread has ended");
}

#[actix::test]
async fn a_panic_of_the_thread_is_a_panic_of_the_node() {
    let mut world = World::new(Clock::Boot);
    let handle = world.thread();
    let claim = |term| Publication {
        claim: Some(Claim { term: Term(term), phase: ClaimPhase::Claim, owned: Term(0) }),
        ..Publication::default()
    };
    handle.publish(claim(5)).await.unwrap();
    assert!(handle.publish(claim(4)).await.is_err());
    assert!(world.panicked().await.contains("a claim goes back (I-M6)"));
    assert!(world.gate.is_panicking());
}

#[actix::test]
async fn renews_every_period_and_tells_of_every_reading() {
    let mut world = World::paused();
    let handle = world.inline();
    let first = world.next_read().await;
    assert_eq!(first.0.registers[&ME.node].as_ref().unwrap().heartbeat, 1);
    let issued = handle.last_renewal();
    for heartbeat in 2..5 {
        let read = world.next_read().await;
        assert_eq!(read.0.registers[&ME.node].as_ref().unwrap().heartbeat, heartbeat);
        // tokio's timers are late by up to a millisecond.
        let late_ms = read.0.begun.since(issued.plus(500 * (heartbeat - 1)));
        assert!(late_ms < 10 && read.0.begun == handle.last_renewal(), "{late_ms} ms late");
    }
    let feeds = world.feeds.load(Ordering::Relaxed);
    assert!((5..=7).contains(&feeds), "{feeds} feeds in 1500 ms");
    let before = world.clock.now();
    handle.renew_now();
    assert_eq!(world.next_read().await.0.begun, before);
}

#[actix::test]
async fn claims_are_durable_and_heartbeats_are_not() {
    let mut world = World::paused();
    let handle = world.inline();
    world.next_read().await;
    let before = world.blocks.counts();
    let hears = [NodeId(0)].into_iter().collect();
    handle.publish(Publication { hears: Some(hears), ..Publication::default() }).await.unwrap();
    assert_eq!(world.blocks.counts().durable_writes, before.durable_writes);
    let claim = Claim { term: Term(1), phase: ClaimPhase::Claim, owned: Term(0) };
    handle.publish(Publication { claim: Some(claim), ..Publication::default() }).await.unwrap();
    let after = world.blocks.counts();
    assert_eq!((after.writes - before.writes, after.durable_writes - before.durable_writes), (2, 1));
    assert_eq!((world.own().claim, world.own().hears), (claim, hears));
}

/// Protocol §4.7, fault 24.
#[actix::test]
async fn rides_a_stall_through_with_the_gate_closed() {
    let mut world = World::paused();
    world.master(NodeState::Joined, Vec::new());
    let handle = world.inline();
    handle.publish(member()).await.unwrap();
    assert!(world.lease().await);
    world.blocks.fail_writes(true);
    world.blocks.fail_reads(true);
    assert!(!world.lease().await);
    assert!(!world.gate.is_open());
    let (feeds, published) = (world.feeds.load(Ordering::Relaxed), handle.publish(Publication::default()));
    pass(10_000).await;
    assert!(world.feeds.load(Ordering::Relaxed) >= feeds + 39, "its warden lets it wait");
    world.blocks.fail_writes(false);
    world.blocks.fail_reads(false);
    assert!(world.lease().await);
    published.await.unwrap();
    assert!(world.gate.is_open());
    pass(1).await;
    assert_eq!(world.own().own_state, OwnState::Member);
}

#[actix::test]
async fn a_node_that_was_marked_during_a_stall_panics_when_it_returns() {
    let mut world = World::paused();
    world.master(NodeState::Joined, Vec::new());
    let handle = world.inline();
    handle.publish(member()).await.unwrap();
    assert!(world.lease().await);
    world.blocks.fail_reads(true);
    assert!(!world.lease().await);
    world.blocks.fail_reads(false);
    world.master(NodeState::ForcedLeaving, Vec::new());
    assert!(world.panicked().await.contains("forced out"));
}

/// Found by the simulator: a claimant that died before it wrote anything is `Resigned` once it has started again, and its record
/// has no mark.
#[actix::test]
async fn a_mark_is_seen_beside_a_newer_term_in_which_nothing_was_written() {
    let mut world = World::paused();
    world.master(NodeState::Joined, Vec::new());
    let _handle = world.inline();
    assert!(world.lease().await);
    let claim = Claim { term: Term(9), phase: ClaimPhase::Resigned, owned: Term(9) };
    let claimant = NodeId(2);
    let register = NodeRegister { incarnation: Incarnation(7), claim, ..NodeRegister::default() };
    let mut writer = world.disk.registers().writer(claimant, Incarnation(7)).unwrap();
    writer.write(&register, Durability::Volatile).unwrap();
    world.master(NodeState::ForcedLeaving, Vec::new());
    assert!(world.panicked().await.contains("forced out: marked"));
}

#[actix::test]
async fn a_pill_closes_the_gate_for_good() {
    let mut world = World::paused();
    let handle = world.inline();
    assert!(world.lease().await);
    world.master(NodeState::Joined, vec![Pill { target: ME.node, incarnation: ME.incarnation, term: Term(3) }]);
    assert!(world.panicked().await.contains("node 0 published the order"));
    world.gate.extend(world.clock.now().plus(60_000));
    assert!(!world.gate.is_open());
    let feeds = world.feeds.load(Ordering::Relaxed);
    pass(5_000).await;
    assert_eq!(world.feeds.load(Ordering::Relaxed), feeds, "the warden is not fed any more");
    assert!(handle.publish(Publication::default()).await.is_err());
}

/// Protocol §9.1, the conjunction.
#[actix::test]
async fn one_critical_actor_that_does_not_tick_stops_feeding_and_renewing() {
    let mut world = World::paused();
    let handle = world.inline();
    let (lively, stuck) = (handle.liveness("lively"), handle.liveness("stuck"));
    assert!(world.lease().await);
    let tick = |both: bool| {
        lively.tick();
        if both {
            stuck.tick();
        }
    };
    for _ in 0..20 {
        pass(250).await;
        tick(true);
    }
    let (feeds, heartbeat) = (world.feeds.load(Ordering::Relaxed), world.own().heartbeat);
    assert!(world.gate.is_open());
    for _ in 0..20 {
        pass(250).await;
        tick(false);
    }
    assert!(!world.lease().await && !world.gate.is_open());
    assert!(world.feeds.load(Ordering::Relaxed) <= feeds + 4, "at most 2 R more");
    assert!(world.own().heartbeat <= heartbeat + 2);
    tick(true);
    assert!(world.lease().await);
}

#[actix::test]
async fn an_older_incarnation_is_refused_at_the_start() {
    let world = World::paused();
    world.inline();
    let me = NodeIncarnation { incarnation: Incarnation(3), ..ME };
    let older = LeaseSettings { me, ..world.settings() };
    assert!(lease_thread::spawn_inline(older, world.disk.clone(), world.edges()).is_err());
}

#[actix::test]
async fn a_disk_that_does_not_take_the_first_write_is_refused() {
    let world = World::paused();
    world.blocks.fail_writes(true);
    let refused = lease_thread::spawn_inline(world.settings(), world.disk.clone(), world.edges());
    assert!(refused.is_err() && !world.gate.is_open());
}

/// Row 25: "heartbeat write hangs 3 L and completes late: lease lost; late completion does not revive (L-1)". The thread itself does not
/// hang: the gate is closed when the lease ends, and the warden is fed, because a stall may be ridden through.
#[actix::test]
async fn fault_25_a_heartbeat_write_that_hangs_loses_the_lease_and_does_not_revive_it() {
    let mut world = World::new(Clock::Boot);
    world.master(NodeState::Joined, Vec::new());
    let handle = world.thread_on_faulty();
    handle.publish(member()).await.unwrap();
    assert!(world.lease().await && world.gate.is_open());
    let own = world.disk.registers().region().slot(ME.node, 0);
    world.faulty.inject(Fault::Stall(Target::WRITES.on(own, 2)));
    let mut published = handle.publish(Publication::default());
    assert!(!world.lease().await, "lost although the write has not returned");
    assert!(!world.gate.is_open());
    let feeds = world.feeds.load(Ordering::Relaxed);
    pass(2 * PROFILE.lease_ms).await;
    assert!(world.feeds.load(Ordering::Relaxed) > feeds, "its warden lets it wait");
    assert!(published.try_recv().is_err() && !world.gate.is_open());
    let counted = handle.last_renewal();
    world.faulty.mend();
    published.await.unwrap();
    assert!(world.lease().await, "valid again by a renewal that began after the loss");
    assert!(handle.last_renewal().since(counted) >= 3 * PROFILE.lease_ms, "the late write itself did not count");
}

/// What is published while a write is on its way is not carried by it, and not answered with it.
#[actix::test]
async fn a_publication_during_a_write_that_hangs_is_answered_by_the_next_one() {
    let mut world = World::new(Clock::Boot);
    let handle = world.thread_on_faulty();
    assert!(world.lease().await);
    let own = world.disk.registers().region().slot(ME.node, 0);
    world.faulty.inject(Fault::Stall(Target::WRITES.on(own, 2)));
    let first =
        handle.publish(Publication { seen: Some(Revision { term: Term(2), seq: 1 }), ..Publication::default() });
    world.faulty.wait_stalled(1);
    let second =
        handle.publish(Publication { seen: Some(Revision { term: Term(2), seq: 2 }), ..Publication::default() });
    pass(50).await; // until it has certainly been heard
    world.faulty.mend();
    let (first, second) = (first.await.unwrap(), second.await.unwrap());
    assert!(first < second);
    assert_eq!(world.own().seen.seq, 2);
}

/// Row 27: "both NB slots of a live node rot: healed by its next two renewals".
#[actix::test]
async fn fault_27_a_live_node_heals_its_register_by_its_next_two_renewals() {
    let mut world = World::paused();
    world.master(NodeState::Joined, Vec::new());
    let handle = world.inline();
    handle.publish(member()).await.unwrap();
    assert!(world.lease().await);
    let slots = [0, 1].map(|slot| world.disk.registers().region().slot(ME.node, slot));
    for round in 0..3 {
        slots.into_iter().for_each(|slot| world.blocks.corrupt(slot));
        assert_eq!(world.disk.registers().read(ME.node).unwrap(), None, "round {round}");
        // A renewal, as the next one would be.
        handle.publish(Publication::default()).await.unwrap();
        let disk = world.disk.clone();
        let valid = || disk.registers().inspect(ME.node).unwrap().iter().filter(|slot| slot.is_ok()).count();
        assert_eq!((valid(), world.own().own_state), (1, OwnState::Member));
        handle.publish(Publication::default()).await.unwrap();
        assert_eq!(valid(), 2);
        assert!(world.gate.is_open());
    }
}

/// Row 62 on a running node: the renewal looks at the length before it touches the disk (protocol §1.3).
#[actix::test]
async fn fault_62_a_disk_that_was_cut_ends_the_node_before_it_is_touched() {
    struct Cut(MemoryDisk, Arc<std::sync::atomic::AtomicBool>);

    impl phalanx_storage::SharedDisk for Cut {
        fn geometry(&self) -> phalanx_storage::Geometry {
            self.0.geometry()
        }

        fn read_blocks(
            &self,
            first: phalanx_storage::BlockIndex,
            blocks: &mut [phalanx_storage::Block],
        ) -> std::io::Result<()> {
            assert!(!self.1.load(Ordering::Relaxed), "touched");
            self.0.read_blocks(first, blocks)
        }

        fn write_blocks(
            &self,
            first: phalanx_storage::BlockIndex,
            blocks: &[phalanx_storage::Block],
            durability: Durability,
        ) -> std::io::Result<()> {
            assert!(!self.1.load(Ordering::Relaxed), "touched");
            self.0.write_blocks(first, blocks, durability)
        }

        fn verify(&self, _: phalanx_storage::BlockIndex, _: u64) -> std::io::Result<()> {
            let cut = std::io::Error::new(std::io::ErrorKind::UnexpectedEof, "cut under a running node");
            if self.1.load(Ordering::Relaxed) { Err(cut) } else { Ok(()) }
        }
    }

    let mut world = World::paused();
    let cut = Arc::<std::sync::atomic::AtomicBool>::default();
    let disk = ClusterDisk::open(Arc::new(Cut(world.blocks.clone(), cut.clone()))).unwrap();
    let _handle = lease_thread::spawn_inline(world.settings(), disk, world.edges()).unwrap();
    assert!(world.lease().await);
    cut.store(true, Ordering::Relaxed);
    assert_eq!(world.panicked().await, "cut under a running node");
    assert!(world.gate.is_panicking());
}
