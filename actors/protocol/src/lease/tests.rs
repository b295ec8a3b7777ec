//! Each rule of protocol §3.3 by its name, and §4.7.

use super::*;
use phalanx_messages::Incarnation;
use phalanx_messages::membership::{MemberEntry, Victim};

const ME: NodeIncarnation = NodeIncarnation { node: NodeId(1), incarnation: Incarnation(4) };
const MASTER: NodeId = NodeId(0);
const PROFILE: TimingProfile = TimingProfile::DEV; // tau 250, R 500, L 2000, guard 125
const T: Instant = Instant(1_000_000);

/// Drives a lease against one disk whose I/O takes as long as the test says.
struct Node {
    lease: Lease,
    now: Instant,
    registers: BTreeMap<NodeId, Option<NodeRegister>>,
    record: Option<MembershipRecord>,
}

fn register_of_the_master() -> NodeRegister {
    let claim = Claim { term: Term(3), phase: ClaimPhase::Owner, owned: Term(3) };
    NodeRegister { incarnation: Incarnation(1), claim, ..NodeRegister::default() }
}

fn record(state: NodeState, incarnation: u64) -> MembershipRecord {
    let entry = MemberEntry { incarnation: Incarnation(incarnation), state, ..MemberEntry::default() };
    MembershipRecord { nodes: [(ME.node, entry)].into(), ..MembershipRecord::default() }
}

impl Node {
    fn new(stall: StallPolicy) -> Self {
        let first = NodeRegister { own_state: OwnState::Booting, nonce: 77, ..NodeRegister::default() };
        Self {
            lease: Lease::new(ME, PROFILE, stall, first),
            now: T,
            registers: [(MASTER, Some(register_of_the_master())), (ME.node, Some(NodeRegister::default()))].into(),
            record: Some(record(NodeState::Joined, 4)),
        }
    }

    /// A member with a lease that was issued at `T`.
    fn member() -> Self {
        let mut node = Self::new(StallPolicy::RideThrough);
        node.lease.wanted.own_state = OwnState::Member;
        let written = node.tick();
        assert_eq!(node.write(&written, 10), [LeaseOutput::Read]);
        assert_eq!(node.read(10), [LeaseOutput::Valid { until: T.plus(2_000) }]);
        node
    }

    fn at(&mut self, ms: u64) -> &mut Self {
        self.now = T.plus(ms);
        self
    }

    fn tick(&mut self) -> Vec<LeaseOutput> {
        self.lease.step(LeaseInput::Tick { now: self.now, alive: true })
    }

    /// Carries out the one write in `outputs`, which takes `ms`.
    fn write(&mut self, outputs: &[LeaseOutput], ms: u64) -> Vec<LeaseOutput> {
        let [LeaseOutput::Write { register, .. }] = outputs else { panic!("one write expected: {outputs:?}") };
        self.registers.insert(ME.node, Some((**register).clone()));
        self.now = self.now.plus(ms);
        self.lease.step(LeaseInput::WriteCompleted { now: self.now })
    }

    fn read(&mut self, ms: u64) -> Vec<LeaseOutput> {
        self.now = self.now.plus(ms);
        let record = match (self.lease.owner_in(&self.registers), &self.record) {
            (None, _) => OwnerRecord::NoOwner,
            (Some(_), None) => OwnerRecord::Unreadable,
            (Some(_), Some(record)) => OwnerRecord::Read(record),
        };
        self.lease.step(LeaseInput::ReadCompleted { ended: self.now, registers: &self.registers, record })
    }

    /// One whole cycle from a tick at `ms`.
    fn cycle(&mut self, ms: u64) -> Vec<LeaseOutput> {
        let written = self.at(ms).tick();
        assert_eq!(self.write(&written, 1), [LeaseOutput::Read]);
        self.read(1)
    }
}

fn register_in(outputs: &[LeaseOutput]) -> (&NodeRegister, bool) {
    let [LeaseOutput::Write { register, durable }] = outputs else { panic!("one write expected: {outputs:?}") };
    (register, *durable)
}

fn assert_panics(outputs: &[LeaseOutput], part: &str) {
    let [LeaseOutput::Panic { reason }] = outputs else { panic!("a panic expected: {outputs:?}") };
    assert!(reason.contains(part), "{reason}");
}

#[test]
fn l5_a_lease_counts_from_the_issue_of_its_write() {
    let mut node = Node::member();
    assert_eq!(node.at(499).tick(), []);
    let written = node.at(500).tick();
    node.write(&written, 200);
    assert_eq!(node.read(200), [LeaseOutput::Extended { until: T.plus(2_500) }]);
}

#[test]
fn l1_a_renewal_that_ends_after_the_lease_has_ended_does_not_count() {
    let mut node = Node::member();
    let written = node.at(500).tick();
    node.write(&written, 10);
    assert!(node.lease.is_valid(T.plus(1_999)));
    // The cycle of T+500 would give a lease until T+2500, but ends at T+2000. What follows reads first.
    assert_eq!(node.at(2_000).read(0), [LeaseOutput::Lost, LeaseOutput::Read]);
    assert!(!node.lease.is_valid(T.plus(2_001)));
}

#[test]
fn l1_the_lease_ends_by_itself_and_the_warning_comes_first() {
    let mut node = Node::member();
    let written = node.at(500).tick();
    assert_eq!(node.at(1_499).tick(), []);
    assert_eq!(node.at(1_500).tick(), [LeaseOutput::Late]);
    assert_eq!(node.at(1_900).tick(), [], "a warning is given once");
    assert_eq!(node.at(2_000).tick(), [LeaseOutput::Lost], "the write hangs");
    node.at(9_000);
    assert_eq!(node.write(&written, 0), [LeaseOutput::Read], "fault 25: completes three leases late");
    assert_eq!(node.read(0), [LeaseOutput::Read], "and does not revive the lease: it looks first");
}

#[test]
fn l2_a_second_writer_of_the_own_register_is_a_panic() {
    let mut node = Node::member();
    let written = node.at(500).tick();
    node.write(&written, 1);
    node.registers.get_mut(&ME.node).unwrap().as_mut().unwrap().nonce = 78;
    assert_panics(&node.read(1), "another host writes the register of node 1");
}

#[test]
fn l2_nothing_is_concluded_from_the_own_register_after_a_write_that_failed() {
    let mut node = Node::member();
    let written = node.at(500).tick();
    let (register, _) = register_in(&written);
    assert_eq!(register.heartbeat, 2);
    let now = T.plus(510);
    assert_eq!(node.lease.step(LeaseInput::WriteFailed { now }), []);
    assert_eq!(node.at(759).tick(), [], "not before the I/O time-out");
    let again = node.at(760).tick();
    assert_eq!(register_in(&again).0.heartbeat, 3);
    node.write(&again, 1);
    assert_eq!(node.read(1), [LeaseOutput::Extended { until: T.plus(2_760) }]);
}

#[test]
fn l3_a_pill_for_this_incarnation_is_a_panic() {
    for (incarnation, ends) in [(3, false), (4, true), (5, false)] {
        let mut node = Node::member();
        let pill = Pill { target: ME.node, incarnation: Incarnation(incarnation), term: Term(3) };
        node.registers.get_mut(&MASTER).unwrap().as_mut().unwrap().pills.push(pill);
        let outputs = node.cycle(500);
        if ends {
            assert_panics(&outputs, "node 0 published the order");
        } else {
            assert_eq!(outputs, [LeaseOutput::Extended { until: T.plus(2_500) }]);
        }
    }
}

#[test]
fn l3_a_mark_a_newer_incarnation_or_a_ghost_in_the_owners_record_is_a_panic() {
    let ghost = |incarnation| {
        let victim: Victim = Victim {
            incarnation: Incarnation(incarnation),
            top: None,
            fence: phalanx_messages::membership::FenceState::default(),
            reason: String::new(),
            step: phalanx_messages::membership::Step {
                transition: phalanx_messages::TransitionId::default(),
                kind: phalanx_messages::membership::TransitionKind::ForcedLeaving,
                level: phalanx_messages::Level::DLM,
                barrier: 0,
                restart: 0,
                phase: phalanx_messages::membership::StepPhase::Between,
                participants: NodeSet::EMPTY,
            },
        };
        MembershipRecord { ghosts: [(ME.node, victim)].into(), ..record(NodeState::Joined, 4) }
    };
    for (record, part) in [
        (record(NodeState::ForcedLeaving, 4), "marked"),
        (record(NodeState::Joined, 5), "incarnation 5 took the place of 4"),
        (ghost(4), "a ghost"),
    ] {
        let mut node = Node::member();
        node.record = Some(record);
        assert_panics(&node.cycle(500), part);
    }
    for record in [record(NodeState::ForcedLeaving, 3), ghost(3)] {
        let mut node = Node::member();
        node.record = Some(record);
        assert_eq!(
            node.cycle(500),
            [LeaseOutput::Extended { until: T.plus(2_500) }],
            "an earlier incarnation is meant"
        );
    }
}

#[test]
fn l4_a_renewal_without_the_owners_register_or_record_does_not_count() {
    let mut node = Node::member();
    node.registers.insert(MASTER, None);
    assert_eq!(node.cycle(500), []);
    node.registers.insert(MASTER, Some(register_of_the_master()));
    node.record = None;
    assert_eq!(node.cycle(752), [], "repeated after the I/O time-out");
    node.record = Some(record(NodeState::Joined, 4));
    assert_eq!(node.cycle(1_004), [LeaseOutput::Extended { until: T.plus(3_004) }]);
    // The owner of a newer term is readable, so the old one does not matter any more.
    let claim = Claim { term: Term(4), phase: ClaimPhase::Owner, owned: Term(4) };
    node.registers.insert(NodeId(2), Some(NodeRegister { claim, ..register_of_the_master() }));
    node.registers.insert(MASTER, None);
    assert_eq!(node.cycle(1_504), [LeaseOutput::Extended { until: T.plus(3_504) }]);
}

#[test]
fn the_first_renewal_counts_only_if_it_leaves_time_to_act() {
    for (read_ms, counts) in [(1_865, false), (1_864, true)] {
        let mut node = Node::new(StallPolicy::Panic);
        let written = node.tick();
        assert_eq!(register_in(&written).0.heartbeat, 1);
        assert!(register_in(&written).1, "the incarnation is durable");
        node.write(&written, 10);
        let valid = node.read(read_ms).contains(&LeaseOutput::Valid { until: T.plus(2_000) });
        assert_eq!(valid, counts);
    }
}

#[test]
fn a_cluster_that_nobody_has_owned_yet_gives_leases_too() {
    let mut node = Node::new(StallPolicy::RideThrough);
    node.registers.insert(MASTER, Some(NodeRegister::default()));
    let written = node.tick();
    node.write(&written, 1);
    assert_eq!(node.read(1), [LeaseOutput::Valid { until: T.plus(2_000) }]);
}

#[test]
fn r1_publications_travel_together_in_the_write_after_the_running_one() {
    let mut node = Node::member();
    let claim = Claim { term: Term(5), phase: ClaimPhase::Claim, owned: Term(0) };
    let publish = |node: &mut Node, publication| {
        let now = node.now;
        node.lease.step(LeaseInput::Publish { now, publication })
    };
    let seen = Revision { term: Term(3), seq: 8 };
    let running = publish(node.at(100), Publication { seen: Some(seen), ..Publication::default() });
    assert!(!register_in(&running).1, "only claims need to survive loss of power");
    assert_eq!(register_in(&running).0.seen, seen);
    let older = Some(Revision { term: Term(3), seq: 7 });
    assert_eq!(publish(&mut node, Publication { claim: Some(claim), seen: older, ..Publication::default() }), []);
    let pills = vec![Pill { target: NodeId(2), incarnation: Incarnation(9), term: Term(3) }];
    assert_eq!(publish(&mut node, Publication { pills: Some(pills.clone()), ..Publication::default() }), []);
    node.write(&running, 1);
    let both = node.read(1);
    assert_eq!(both[0], LeaseOutput::Extended { until: T.plus(2_100) });
    let (register, durable) = register_in(&both[1..]);
    assert!(durable);
    assert_eq!((register.claim, &register.pills, register.seen), (claim, &pills, seen));
    node.write(&both[1..], 1);
    assert_eq!(node.read(1), [LeaseOutput::Extended { until: T.plus(2_102) }]);
    assert_eq!(node.at(602).tick().len(), 1);
}

/// Protocol §9.1: a live heartbeat thread in a dead daemon is the classical fault.
#[test]
fn nothing_is_written_or_fed_while_a_critical_actor_does_not_tick() {
    let mut node = Node::member();
    let dead = |node: &mut Node, ms| node.lease.step(LeaseInput::Tick { now: T.plus(ms), alive: false });
    assert_eq!(dead(&mut node, 600), []);
    assert!(!node.lease.may_feed(T.plus(600)));
    assert_eq!(node.lease.step(LeaseInput::RenewNow { now: T.plus(700) }), []);
    assert_eq!(dead(&mut node, 2_000), [LeaseOutput::Late, LeaseOutput::Lost][1..]);
    assert_eq!(node.at(2_100).tick(), [LeaseOutput::Read]);
    assert!(node.lease.may_feed(T.plus(2_100)));
}

/// Protocol §4.7, fault 24.
#[test]
fn ride_through_looks_before_it_writes_and_then_has_a_new_lease() {
    let mut node = Node::member();
    assert_eq!(node.at(9_000).tick(), [LeaseOutput::Lost, LeaseOutput::Read]);
    assert!(node.lease.may_feed(node.now));
    let frozen = node.read(10);
    assert_eq!(register_in(&frozen).0.own_state, OwnState::Suspended);
    node.write(&frozen, 10);
    let back = node.read(10);
    assert_eq!(back[0], LeaseOutput::Valid { until: T.plus(11_010) });
    assert_eq!(register_in(&back[1..]).0.own_state, OwnState::Member);
}

#[test]
fn ride_through_ends_if_the_node_is_no_longer_a_member() {
    let mut node = Node::member();
    node.record = Some(record(NodeState::Inactive, 4));
    node.at(9_000).tick();
    assert_panics(&node.read(1), "no longer a member");

    let mut booting = Node::new(StallPolicy::RideThrough);
    let written = booting.tick();
    booting.write(&written, 1);
    booting.read(1);
    booting.record = Some(record(NodeState::Inactive, 3));
    booting.at(9_000).tick();
    assert_eq!(booting.read(1).len(), 1, "a node that was no member goes on");
}

/// Protocol §4.7, fault 23.
#[test]
fn without_ride_through_a_lost_lease_is_the_end() {
    let mut node = Node::member();
    node.lease.stall = StallPolicy::Panic;
    let outputs = node.at(2_000).tick();
    assert_eq!(outputs[0], LeaseOutput::Lost);
    assert_panics(&outputs[1..], "the lease ended");
    assert!(!node.lease.may_feed(node.now));
    assert_eq!(node.at(2_500).tick(), []);
}

#[test]
fn the_last_word_follows_the_running_cycle() {
    let mut node = Node::member();
    let running = node.at(500).tick();
    let stop = LeaseInput::Stop { now: node.now, final_state: Some(OwnState::CleanDown) };
    assert_eq!(node.lease.step(stop), []);
    node.write(&running, 1);
    let last = node.read(1);
    let (register, durable) = register_in(&last[1..]);
    assert_eq!((register.own_state, durable), (OwnState::CleanDown, true));
    assert_eq!(node.write(&last[1..], 1), [LeaseOutput::Stopped]);
    assert_eq!(node.at(5_000).tick(), []);
}
