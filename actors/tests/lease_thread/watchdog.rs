//! The hardware watchdog: fed by the lease thread, and never after the lease has ended (protocol §3.3, condition C2).

use std::sync::{Arc, Mutex};

use phalanx_actors::gate::Gate;
use phalanx_actors::lease_thread::{self, LeaseEdges, LeaseHandle, LeaseSettings};
use phalanx_actors::ports::Watchdog;
use phalanx_messages::membership::NodeState;
use phalanx_protocol::lease::StallPolicy;

use super::world::{PROFILE, World, member, pass};

/// A device that notes whether the lease was valid whenever it was fed.
struct NotedWatchdog(Arc<Mutex<Vec<bool>>>, Gate);

impl Watchdog for NotedWatchdog {
    fn feed(&mut self) -> std::io::Result<()> {
        self.0.lock().unwrap().push(self.1.is_open());
        Ok(())
    }
}

/// Whether the gate was open at each feed, so far.
#[derive(Clone, Default)]
struct Feeds(Arc<Mutex<Vec<bool>>>);

impl Feeds {
    fn seen(&self) -> Vec<bool> {
        self.0.lock().unwrap().clone()
    }
}

fn guarded(world: &World, feeds: &Feeds, stall: StallPolicy) -> std::io::Result<LeaseHandle> {
    let settings = LeaseSettings { stall, ..world.settings() };
    let watchdog: Box<dyn Watchdog> = Box::new(NotedWatchdog(feeds.0.clone(), world.gate.clone()));
    let edges = LeaseEdges { watchdog: Some(watchdog), ..world.edges() };
    lease_thread::spawn_inline(settings, world.disk.clone(), edges)
}

async fn guarded_member(world: &mut World, feeds: &Feeds) -> LeaseHandle {
    world.master(NodeState::Joined, Vec::new());
    let handle = guarded(world, feeds, StallPolicy::Panic).unwrap();
    handle.publish(member()).await.unwrap();
    assert!(world.lease().await);
    handle
}

#[actix::test]
async fn a_watchdog_is_fed_while_the_lease_is_valid_and_never_after_it_has_ended() {
    let (mut world, feeds) = (World::paused(), Feeds::default());
    let _handle = guarded_member(&mut world, &feeds).await;
    pass(10_000).await;
    let healthy = feeds.seen();
    let expected = usize::try_from(10_000 / PROFILE.feed_ms()).unwrap();
    assert!(healthy.len() >= expected, "{} feeds in 10 s", healthy.len());
    world.blocks.fail_writes(true);
    world.blocks.fail_reads(true);
    assert!(!world.lease().await);
    let until_the_end = feeds.seen();
    assert!(until_the_end.len() > healthy.len(), "the lease was valid for a while");
    let before_the_first_lease = until_the_end.iter().take_while(|open| !**open).count();
    assert!(until_the_end[before_the_first_lease..].iter().all(|open| *open), "{until_the_end:?}");
    world.blocks.fail_writes(false);
    world.blocks.fail_reads(false);
    pass(60_000).await;
    assert_eq!(feeds.seen().len(), until_the_end.len(), "not even when the disk is back");
}

#[actix::test]
async fn a_node_that_panics_for_another_reason_feeds_no_more() {
    let (mut world, feeds) = (World::paused(), Feeds::default());
    let _handle = guarded_member(&mut world, &feeds).await;
    world.gate.close_for_good(); // as an actor's guard does
    let before = feeds.seen().len();
    pass(60_000).await;
    assert_eq!(feeds.seen().len(), before);
}

#[actix::test]
async fn a_node_that_rides_stalls_through_may_have_no_watchdog() {
    let (world, feeds) = (World::paused(), Feeds::default());
    let refused = guarded(&world, &feeds, StallPolicy::RideThrough).unwrap_err();
    assert!(refused.to_string().contains("cannot ride a stall through"), "{refused}");
}
