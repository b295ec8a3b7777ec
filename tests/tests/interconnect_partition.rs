//! Interconnects on a simulated network: partition, repair, crash.
//!
//! turmoil loses what is sent into a partition for good, so an old connection never recovers: time-outs and new connections must.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use phalanx_actors::clock::Clock;
use phalanx_actors::interconnect::InterconnectSettings;
use phalanx_actors::ports::PeerEvent;
use phalanx_messages::NodeIncarnation;
use phalanx_messages::configuration::ConfigurationRecord;
use phalanx_messages::peer::PeerMessage;
use phalanx_tests::peers::{PeerNode, configuration, incarnation, settings};
use phalanx_tests::simulated_network::simulated_network;
use turmoil::{Builder, Sim};

const PORT: u16 = 7700;
const HOSTS: [&str; 3] = ["n0", "n1", "n2"];
/// Simulated time within which everything must have happened.
const PATIENCE: Duration = Duration::from_secs(30);

/// Everything that was heard, in order: who heard it, and what.
type Heard = Rc<RefCell<Vec<(u16, PeerEvent)>>>;

struct Cluster {
    sim: Sim<'static>,
    heard: Heard,
}

impl Cluster {
    /// Three hosts, each running one node that says `hello` to whoever comes up.
    fn start() -> Self {
        let mut sim = Builder::new()
            .simulation_duration(Duration::from_secs(600))
            .tick_duration(Duration::from_millis(1))
            .rng_seed(42)
            .enable_tokio_io()
            .build();
        let heard = Heard::default();
        for (id, host) in (0..).zip(HOSTS) {
            let (heard, starts) = (heard.clone(), Arc::new(AtomicU64::new(0)));
            sim.host(host, move || {
                let me = incarnation(id, starts.fetch_add(1, Ordering::Relaxed) + 1);
                run(me, heard.clone())
            });
        }
        Self { sim, heard }
    }

    /// Steps until `happened` finds what it looks for among the events since this call, and gives the time it took.
    fn until(&mut self, what: &str, mut happened: impl FnMut(&[(u16, PeerEvent)]) -> bool) -> Duration {
        self.heard.borrow_mut().clear();
        let begun = self.sim.elapsed();
        while !happened(&self.heard.borrow()) {
            assert!(self.sim.elapsed() - begun < PATIENCE, "{what}; heard {:?}", self.heard.borrow());
            self.sim.step().expect("no host fails");
        }
        self.sim.elapsed() - begun
    }
}

async fn run(me: NodeIncarnation, heard: Heard) -> Result<(), Box<dyn std::error::Error>> {
    let network = simulated_network(PORT).await?;
    let mut node = PeerNode::start(InterconnectSettings { clock: Clock::tokio(), ..settings(me) }, network);
    node.configure(&record());
    while let Some(event) = node.events.recv().await {
        if let PeerEvent::Up(peer) = event {
            node.say(peer.node.0, "hello");
        }
        if !matches!(event, PeerEvent::Received { message: PeerMessage::Heartbeat(_), .. }) {
            heard.borrow_mut().push((me.node.0, event));
        }
    }
    Err("the interconnect is gone".into())
}

fn record() -> ConfigurationRecord {
    let addresses = HOSTS.map(|host| format!("{host}:{PORT}"));
    configuration((0..).zip(&addresses).map(|(id, address)| (id, address.as_str())))
}

fn up(heard: &[(u16, PeerEvent)], at: u16, peer: NodeIncarnation) -> bool {
    heard.iter().any(|(who, event)| *who == at && matches!(event, PeerEvent::Up(up) if *up == peer))
}

fn down(heard: &[(u16, PeerEvent)], at: u16, peer: NodeIncarnation) -> bool {
    heard.iter().any(|(who, event)| *who == at && matches!(event, PeerEvent::Down(down) if *down == peer))
}

fn said(heard: &[(u16, PeerEvent)], at: u16, peer: NodeIncarnation) -> bool {
    let by = |event: &PeerEvent| matches!(event, PeerEvent::Received { from, .. } if *from == peer);
    heard.iter().any(|(who, event)| *who == at && by(event))
}

fn all_said(heard: &[(u16, PeerEvent)]) -> bool {
    let pairs = [(0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1)];
    pairs.into_iter().all(|(at, peer)| said(heard, at, incarnation(peer, 1)))
}

#[test]
fn a_partition_is_noticed_on_both_sides_and_its_repair_too() {
    let mut cluster = Cluster::start();
    cluster.until("all three meet", all_said);
    for (lonely, cut) in [(0, "n0"), (2, "n2")] {
        let others: Vec<_> = HOSTS.into_iter().filter(|host| *host != cut).collect();
        let rest: Vec<_> = (0..3).filter(|id| *id != lonely).collect();
        others.iter().for_each(|other| cluster.sim.partition(cut, *other));
        let took = cluster.until("both sides notice", |heard| {
            rest.iter().all(|id| down(heard, lonely, incarnation(*id, 1)) && down(heard, *id, incarnation(lonely, 1)))
        });
        let expected = Duration::from_millis(600)..Duration::from_millis(1_000);
        assert!(expected.contains(&took), "T_net is 750 ms, less what the last heartbeat is old: {took:?}");
        let between = cluster.heard.borrow().iter().any(|(who, event)| {
            rest.contains(who) && matches!(event, PeerEvent::Down(peer) if rest.contains(&peer.node.0))
        });
        assert!(!between, "the others still hear each other");

        others.iter().for_each(|other| cluster.sim.repair(cut, *other));
        let took = cluster.until("they meet again", |heard| {
            rest.iter().all(|id| said(heard, lonely, incarnation(*id, 1)) && said(heard, *id, incarnation(lonely, 1)))
        });
        assert!(took < Duration::from_millis(2_000), "one handshake may have to time out first: {took:?}");
    }
}

#[test]
fn a_crashed_host_is_down_and_comes_back_with_its_next_incarnation() {
    let mut cluster = Cluster::start();
    cluster.until("all three meet", all_said);
    for (id, host) in [(0, "n0"), (2, "n2")] {
        let others: Vec<_> = (0..3).filter(|other| *other != id).collect();
        cluster.sim.crash(host);
        cluster.until("the others notice", |heard| others.iter().all(|other| down(heard, *other, incarnation(id, 1))));
        cluster.sim.bounce(host);
        cluster.until("it is back", |heard| others.iter().all(|other| up(heard, *other, incarnation(id, 2))));
    }
}

/// One seed is one run: the same events in the same order at the same simulated time.
#[test]
fn a_run_can_be_repeated() {
    let run = || {
        let mut cluster = Cluster::start();
        let met = cluster.until("all three meet", all_said);
        cluster.sim.partition("n0", "n1");
        let parted = cluster
            .until("both notice", |heard| down(heard, 0, incarnation(1, 1)) && down(heard, 1, incarnation(0, 1)));
        let events: Vec<_> = cluster.heard.borrow().iter().map(|event| format!("{event:?}")).collect();
        (met, parted, events)
    };
    assert_eq!(run(), run());
}
