//! Rows of the fault table (protocol §8.5, docs/faults.md) about claims of a term: several register machines on one disk.
//!
//! Each output of a machine is carried out when the test says so; a node that is not moved is frozen. Every interleaving is the
//! model checker's (MC1).

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use phalanx_messages::register::{Claim, ClaimPhase};
use phalanx_messages::{Incarnation, NodeId, Revision, Term};
use phalanx_protocol::frm::{ClaimView, Frm, FrmInput, FrmOutput};

const N0: NodeId = NodeId(0);
const N1: NodeId = NodeId(1);

struct Node {
    frm: Frm,
    due: VecDeque<FrmOutput>,
    told: Vec<FrmOutput>,
}

/// Claims and records as they stand on the disk.
#[derive(Default)]
struct Disk {
    claims: BTreeMap<NodeId, (Claim, u64)>,
    records: BTreeMap<NodeId, Revision>,
}

struct World {
    disk: Disk,
    nodes: BTreeMap<NodeId, Node>,
    /// Whom the others hold for expired.
    expired: BTreeSet<NodeId>,
}

impl World {
    fn new() -> Self {
        let node = |id| {
            let frm = Frm::new(id, Incarnation(1), Claim::default());
            (id, Node { frm, due: VecDeque::new(), told: Vec::new() })
        };
        let claims = [N0, N1].map(|id| (id, (Claim::default(), 1))).into();
        Self { disk: Disk { claims, ..Disk::default() }, nodes: [N0, N1].map(node).into(), expired: BTreeSet::new() }
    }

    fn give(&mut self, id: NodeId, input: FrmInput) {
        let node = self.nodes.get_mut(&id).expect("one of two");
        node.due.extend(node.frm.step(input));
    }

    /// Carries out the next output of a node; gives it.
    fn carry_out(&mut self, id: NodeId) -> Option<FrmOutput> {
        let output = self.nodes.get_mut(&id).expect("one of two").due.pop_front()?;
        match output {
            FrmOutput::ReadRegisters => {
                let views = self.views(id);
                self.give(id, FrmInput::Registers(views));
            }
            FrmOutput::Publish(claim) => {
                let register = self.disk.claims.get_mut(&id).expect("one of two");
                *register = (claim, register.1 + 1);
                self.give(id, FrmInput::Published);
            }
            FrmOutput::Load => {
                let newest = self.newest();
                self.give(id, FrmInput::Loaded(newest));
            }
            FrmOutput::Write(revision) => {
                self.disk.records.insert(id, revision);
                self.give(id, FrmInput::Written);
            }
            told @ (FrmOutput::Owned(_)
            | FrmOutput::Committed(_)
            | FrmOutput::Suspended
            | FrmOutput::Resumed
            | FrmOutput::Waiting
            | FrmOutput::Withdrawn
            | FrmOutput::Deposed { .. }
            | FrmOutput::Resigned) => self.nodes.get_mut(&id).expect("one of two").told.push(told),
        }
        Some(output)
    }

    /// Carries out everything; gives what the node was told since it was last asked.
    fn run(&mut self, id: NodeId) -> Vec<FrmOutput> {
        while self.carry_out(id).is_some() {}
        std::mem::take(&mut self.nodes.get_mut(&id).expect("one of two").told)
    }

    /// Carries out everything before the next output of that kind.
    fn run_before(&mut self, id: NodeId, stop: impl Fn(&FrmOutput) -> bool) {
        while self.nodes[&id].due.front().is_some_and(|next| !stop(next)) {
            self.carry_out(id);
        }
        assert!(!self.nodes[&id].due.is_empty(), "it never comes to that");
    }

    fn views(&self, reader: NodeId) -> BTreeMap<NodeId, Option<ClaimView>> {
        let view = |(id, (claim, heartbeat)): (&NodeId, &(Claim, u64))| {
            let (claim, heartbeat, incarnation) = (*claim, *heartbeat, Incarnation(1));
            (*id, Some(ClaimView { claim, expired: self.expired.contains(id), incarnation, heartbeat }))
        };
        self.disk.claims.iter().filter(|(id, _)| **id != reader).map(view).collect()
    }

    /// The newest record of all areas: what every reader takes.
    fn newest(&self) -> Option<Revision> {
        self.disk.records.values().copied().max()
    }

    fn elect(&mut self, id: NodeId) -> Vec<FrmOutput> {
        self.give(id, FrmInput::Elect);
        self.run(id)
    }
}

fn revision(term: u64, seq: u64) -> Revision {
    Revision { term: Term(term), seq }
}

const fn is_claim(output: &FrmOutput) -> bool {
    matches!(output, FrmOutput::Publish(Claim { phase: ClaimPhase::Claim, .. }))
}

/// Row 7: "master frozen 10 T_fence inside commit, resumes: sees higher owned; late MA write ignored". Frozen before its write and
/// after it. (That its lease has ended too: `without_ride_through_a_lost_lease_is_the_end`,
/// `frozen_daemon_and_warden_find_themselves_out_when_they_wake`.)
#[test]
fn fault_07_a_master_that_was_frozen_inside_a_commit_finds_a_newer_owner() {
    for written in [false, true] {
        let mut world = World::new();
        assert_eq!(world.elect(N0), [FrmOutput::Owned(revision(1, 0))]);
        world.give(N0, FrmInput::Commit);
        world.run_before(N0, |output| matches!(output, FrmOutput::Write(_)));
        if written {
            world.carry_out(N0);
        }
        world.expired.insert(N0);
        assert_eq!(world.elect(N1), [FrmOutput::Owned(revision(2, 0))]);
        world.give(N1, FrmInput::Commit);
        assert_eq!(world.run(N1), [FrmOutput::Committed(revision(2, 1))]);

        assert_eq!(world.run(N0), [FrmOutput::Deposed { by: Term(2) }], "never Committed");
        assert_eq!(world.disk.records[&N0], revision(1, 1), "its write has landed, late");
        assert_eq!(world.newest(), Some(revision(2, 1)), "and nobody takes it");
        assert!(!world.nodes[&N0].frm.is_owner());
        world.give(N1, FrmInput::Commit);
        assert_eq!(world.run(N1), [FrmOutput::Committed(revision(2, 2))], "it harms the new master's commits no more");
    }
}

/// Row 34: "two claimants of one term: lower id waits; exactly one owner".
#[test]
fn fault_34_of_two_claimants_of_one_term_the_lower_id_waits_and_owns() {
    let mut world = World::new();
    for id in [N0, N1] {
        world.give(id, FrmInput::Elect);
        world.run_before(id, is_claim);
    }
    for id in [N0, N1] {
        world.carry_out(id); // both have claimed the same term before either looks
    }
    let terms = [N0, N1].map(|id| (world.disk.claims[&id].0.term, world.disk.claims[&id].0.phase));
    assert_eq!(terms, [(Term(1), ClaimPhase::Claim); 2]);
    assert_eq!(world.run(N0), [FrmOutput::Waiting]);
    assert_eq!(world.run(N1), [FrmOutput::Withdrawn]);
    world.give(N0, FrmInput::Poll);
    assert_eq!(world.run(N0), [FrmOutput::Owned(revision(1, 0))]);
    assert!(world.nodes[&N0].frm.is_owner() && !world.nodes[&N1].frm.is_owner());
}

/// Row 35: "claimant crashes after Claim: term burnt; live master (if any) suspends, re-elects with t+1".
#[test]
fn fault_35_a_claimant_that_crashes_burns_its_term() {
    let mut world = World::new();
    assert_eq!(world.elect(N0), [FrmOutput::Owned(revision(1, 0))]);
    // N1 takes the master for expired, claims term 2, and is no more.
    world.expired.insert(N0);
    world.give(N1, FrmInput::Elect);
    world.run_before(N1, is_claim);
    world.carry_out(N1);
    world.expired.clear();

    world.give(N0, FrmInput::Commit);
    assert_eq!(world.run(N0), [FrmOutput::Suspended], "it may have an owner");
    world.give(N0, FrmInput::Poll);
    assert_eq!(world.run(N0), [FrmOutput::Suspended]);
    world.expired.insert(N1);
    world.give(N0, FrmInput::Poll);
    assert_eq!(world.run(N0), [FrmOutput::Deposed { by: Term(2) }]);
    assert_eq!(world.elect(N0), [FrmOutput::Owned(revision(3, 0))], "term 2 is burnt");
    world.give(N0, FrmInput::Commit);
    assert_eq!(world.run(N0), [FrmOutput::Committed(revision(3, 1))]);
}

/// Row 35 without a master: whoever stands next takes the term above.
#[test]
fn fault_35_a_burnt_term_is_passed_over_where_nobody_leads() {
    let mut world = World::new();
    world.give(N1, FrmInput::Elect);
    world.run_before(N1, is_claim);
    world.carry_out(N1);
    world.expired.insert(N1);
    assert_eq!(world.elect(N0), [FrmOutput::Owned(revision(2, 0))]);
}
