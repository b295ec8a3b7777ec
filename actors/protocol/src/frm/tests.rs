//! Scenarios of protocol §3.4, step by step. The whole state space is the model checker's (MC1).

use super::*;

const ME: NodeId = NodeId(1);
const LOWER: NodeId = NodeId(0);
const HIGHER: NodeId = NodeId(2);

fn claim(term: u64, phase: ClaimPhase, owned: u64) -> Claim {
    Claim { term: Term(term), phase, owned: Term(owned) }
}

fn view(claim: Claim, expired: bool, heartbeat: u64) -> Option<ClaimView> {
    Some(ClaimView { claim, expired, incarnation: Incarnation(1), heartbeat })
}

fn live(term: u64, phase: ClaimPhase, owned: u64) -> Option<ClaimView> {
    view(claim(term, phase, owned), false, 5)
}

fn read(views: &[(NodeId, Option<ClaimView>)]) -> FrmInput {
    FrmInput::Registers(views.iter().copied().collect())
}

fn revision(term: u64, seq: u64) -> Revision {
    Revision { term: Term(term), seq }
}

fn fresh() -> Frm {
    Frm::new(ME, Incarnation(7), Claim::default())
}

/// A machine that has written `Claim(term)` and is about to read.
fn contending(term: u64) -> Frm {
    let mut frm = fresh();
    frm.step(FrmInput::Elect);
    let base = live(term - 1, ClaimPhase::Withdrawn, 0);
    let publish = FrmOutput::Publish(claim(term, ClaimPhase::Claim, 0));
    assert_eq!(frm.step(read(&[(LOWER, base)])), [publish]);
    assert_eq!(frm.step(FrmInput::Published), [FrmOutput::ReadRegisters]);
    frm
}

/// The owner of `term`, base committed.
fn owner(term: u64) -> Frm {
    let mut frm = contending(term);
    assert_eq!(frm.step(read(&[(LOWER, live(0, ClaimPhase::None, 0))])), [FrmOutput::Load]);
    assert_eq!(frm.step(FrmInput::Loaded(Some(revision(term - 1, 9)))), [FrmOutput::Write(revision(term, 0))]);
    let announce = FrmOutput::Publish(claim(term, ClaimPhase::Owner, term));
    assert_eq!(frm.step(FrmInput::Written), [announce]);
    assert!(!frm.is_owner());
    assert_eq!(frm.step(FrmInput::Published), [FrmOutput::ReadRegisters]);
    assert!(!frm.is_owner(), "the base is not committed yet");
    assert_eq!(frm.step(read(&[])), [FrmOutput::Owned(revision(term, 0))]);
    assert!(frm.is_owner());
    frm
}

#[test]
fn an_election_without_rivals_claims_loads_writes_announces_and_looks_again() {
    let mut frm = owner(4);
    assert_eq!(frm.step(FrmInput::Commit), [FrmOutput::Write(revision(4, 1))]);
    assert_eq!(frm.step(FrmInput::Commit), [], "one at a time");
    assert_eq!(frm.step(FrmInput::Written), [FrmOutput::ReadRegisters]);
    let old = live(3, ClaimPhase::Owner, 3);
    let done = frm.step(read(&[(LOWER, old), (HIGHER, live(5, ClaimPhase::Withdrawn, 2))]));
    assert_eq!(done, [FrmOutput::Committed(revision(4, 1))]);
    assert_eq!(frm.step(FrmInput::Resign), [FrmOutput::Publish(claim(4, ClaimPhase::Resigned, 4))]);
    assert!(!frm.is_owner());
    assert_eq!(frm.step(FrmInput::Published), [FrmOutput::Resigned]);
    assert!(frm.is_idle());
}

/// Step 1: the new term is above every term claimed or owned.
#[test]
fn the_claim_is_above_everything_that_any_register_names() {
    let mut frm = fresh();
    frm.step(FrmInput::Elect);
    let views = [(LOWER, view(claim(3, ClaimPhase::Owner, 3), true, 5)), (HIGHER, live(2, ClaimPhase::Withdrawn, 6))];
    assert_eq!(frm.step(read(&views)), [FrmOutput::Publish(claim(7, ClaimPhase::Claim, 0))]);
}

/// Step 2.
#[test]
fn nobody_stands_against_a_live_claim() {
    for phase in [ClaimPhase::Claim, ClaimPhase::Owner] {
        let mut frm = fresh();
        frm.step(FrmInput::Elect);
        assert_eq!(frm.step(read(&[(HIGHER, live(3, phase, 0))])), [FrmOutput::Withdrawn]);
        assert_eq!((frm.claim(), frm.is_idle()), (Claim::default(), true));
    }
}

/// Step 5a, the defence of a live master (I-M5).
#[test]
fn a_claimant_withdraws_if_whom_it_held_for_expired_has_moved() {
    for (heartbeat, outcome) in [(5, FrmOutput::Load), (6, FrmOutput::Publish(claim(4, ClaimPhase::Withdrawn, 0)))] {
        let mut frm = fresh();
        frm.step(FrmInput::Elect);
        frm.step(read(&[(LOWER, view(claim(3, ClaimPhase::Owner, 3), true, 5))]));
        frm.step(FrmInput::Published);
        assert_eq!(frm.step(read(&[(LOWER, view(claim(3, ClaimPhase::Owner, 3), true, heartbeat))])), [outcome]);
    }
}

/// Steps 5b and 5c.
#[test]
fn a_claimant_withdraws_waits_or_wins_by_what_the_others_say() {
    let withdraw = [FrmOutput::Publish(claim(4, ClaimPhase::Withdrawn, 0))];
    for (node, view, outcome) in [
        (LOWER, live(5, ClaimPhase::Withdrawn, 0), &withdraw),
        (LOWER, live(3, ClaimPhase::Withdrawn, 4), &withdraw),
        (HIGHER, live(4, ClaimPhase::Owner, 4), &withdraw),
        (HIGHER, live(4, ClaimPhase::Resigned, 0), &withdraw),
        (LOWER, live(4, ClaimPhase::Claim, 0), &withdraw),
        (HIGHER, live(4, ClaimPhase::Claim, 0), &[FrmOutput::Waiting]),
        (HIGHER, view(claim(4, ClaimPhase::Claim, 0), true, 5), &withdraw),
        (HIGHER, live(4, ClaimPhase::Withdrawn, 0), &[FrmOutput::Load]),
        (HIGHER, live(3, ClaimPhase::Owner, 3), &[FrmOutput::Load]),
        (HIGHER, None, &[FrmOutput::Waiting]),
    ] {
        assert_eq!(contending(4).step(read(&[(node, view)])), outcome, "{node} {view:?}");
    }
}

#[test]
fn whoever_waits_reads_again_and_wins_when_the_higher_id_has_withdrawn() {
    let mut frm = contending(4);
    let higher = |phase| read(&[(HIGHER, live(4, phase, 0))]);
    assert_eq!(frm.step(higher(ClaimPhase::Claim)), [FrmOutput::Waiting]);
    assert_eq!(frm.step(higher(ClaimPhase::Withdrawn)), [], "that reading may have begun before the claim");
    assert_eq!(frm.step(FrmInput::Poll), [FrmOutput::ReadRegisters]);
    assert_eq!(frm.step(higher(ClaimPhase::Claim)), [FrmOutput::Waiting]);
    assert_eq!(frm.step(FrmInput::Poll), [FrmOutput::ReadRegisters]);
    assert_eq!(frm.step(higher(ClaimPhase::Withdrawn)), [FrmOutput::Load]);
}

/// Step 6.
#[test]
fn an_owner_that_loads_a_newer_record_has_been_superseded() {
    let mut frm = contending(4);
    frm.step(read(&[]));
    let gone = [FrmOutput::Deposed { by: Term(6) }, FrmOutput::Publish(claim(4, ClaimPhase::Resigned, 4))];
    assert_eq!(frm.step(FrmInput::Loaded(Some(revision(6, 0)))), gone);
    assert_eq!(frm.step(FrmInput::Published), []);
    assert!(frm.is_idle());
}

#[test]
fn an_empty_disk_is_a_base_too() {
    let mut frm = contending(1);
    frm.step(read(&[]));
    assert_eq!(frm.step(FrmInput::Loaded(None)), [FrmOutput::Write(revision(1, 0))]);
}

/// `commit_check`, every row.
#[test]
fn a_commit_is_suspended_or_lost_by_a_newer_claim() {
    let deposed = |by| vec![FrmOutput::Deposed { by: Term(by) }, FrmOutput::Publish(claim(4, ClaimPhase::Resigned, 4))];
    for (view, outcome) in [
        (live(5, ClaimPhase::Withdrawn, 3), vec![FrmOutput::Committed(revision(4, 1))]),
        (live(5, ClaimPhase::Withdrawn, 5), deposed(5)),
        (live(5, ClaimPhase::Claim, 3), vec![FrmOutput::Suspended]),
        (view(claim(5, ClaimPhase::Claim, 3), true, 5), deposed(5)),
        (live(5, ClaimPhase::Owner, 5), deposed(5)),
        (live(5, ClaimPhase::Resigned, 5), deposed(5)),
        (None, vec![FrmOutput::Suspended]),
    ] {
        let mut frm = owner(4);
        frm.step(FrmInput::Commit);
        frm.step(FrmInput::Written);
        let outputs = frm.step(read(&[(HIGHER, view)]));
        assert_eq!(outputs, outcome, "{view:?}");
        assert_eq!(frm.is_owner(), matches!(outcome[..], [FrmOutput::Committed(_)]));
    }
}

#[test]
fn a_suspended_commit_counts_once_every_newer_claim_is_withdrawn() {
    let mut frm = owner(4);
    frm.step(FrmInput::Commit);
    frm.step(FrmInput::Written);
    assert_eq!(frm.step(read(&[(LOWER, live(5, ClaimPhase::Claim, 0)), (HIGHER, None)])), [FrmOutput::Suspended]);
    frm.step(FrmInput::Poll);
    let half = [(LOWER, live(5, ClaimPhase::Withdrawn, 0)), (HIGHER, None)];
    assert_eq!(frm.step(read(&half)), [FrmOutput::Suspended]);
    frm.step(FrmInput::Poll);
    let clear = [(LOWER, live(5, ClaimPhase::Withdrawn, 0)), (HIGHER, live(2, ClaimPhase::Owner, 2))];
    assert_eq!(frm.step(read(&clear)), [FrmOutput::Committed(revision(4, 1))]);
}

#[test]
fn an_owner_without_a_commit_learns_of_newer_claims_from_any_reading() {
    let mut frm = owner(4);
    let observed = |phase| FrmInput::Observed([(LOWER, live(5, phase, 0))].into());
    assert_eq!(frm.step(observed(ClaimPhase::Withdrawn)), []);
    assert_eq!(frm.step(observed(ClaimPhase::Claim)), [FrmOutput::Suspended]);
    assert!(!frm.is_owner());
    assert_eq!(frm.step(FrmInput::Commit), []);
    assert_eq!(frm.step(FrmInput::Poll), [FrmOutput::ReadRegisters]);
    assert_eq!(frm.step(read(&[(LOWER, live(5, ClaimPhase::Withdrawn, 0))])), [FrmOutput::Resumed]);
    assert_eq!(frm.step(FrmInput::Commit), [FrmOutput::Write(revision(4, 1))]);
}

/// Trap 1 and the sticky field: what an incarnation owned or left undecided, the next one says it owned.
#[test]
fn a_restart_raises_owned_unless_the_claim_was_withdrawn() {
    for (before, after) in [
        (claim(5, ClaimPhase::Claim, 2), claim(5, ClaimPhase::Resigned, 5)),
        (claim(5, ClaimPhase::Owner, 5), claim(5, ClaimPhase::Resigned, 5)),
        (claim(5, ClaimPhase::Resigned, 5), claim(5, ClaimPhase::Resigned, 5)),
        (claim(5, ClaimPhase::Withdrawn, 2), claim(5, ClaimPhase::Withdrawn, 2)),
        (Claim::default(), Claim::default()),
    ] {
        let mut frm = Frm::new(ME, Incarnation(8), before);
        assert_eq!(frm.claim(), after);
        frm.step(FrmInput::Elect);
        let next = claim(before.term.0 + 1, ClaimPhase::Claim, after.owned.0);
        assert_eq!(frm.step(read(&[])), [FrmOutput::Publish(next)]);
    }
}

/// A withdrawn claim of the same incarnation leaves `owned` alone.
#[test]
fn withdrawing_burns_the_term_but_does_not_own_it() {
    let mut frm = contending(4);
    frm.step(read(&[(LOWER, live(4, ClaimPhase::Claim, 0))]));
    assert_eq!(frm.step(FrmInput::Published), [FrmOutput::Withdrawn]);
    frm.step(FrmInput::Elect);
    let again = frm.step(read(&[(LOWER, view(claim(4, ClaimPhase::Claim, 0), true, 5))]));
    assert_eq!(again, [FrmOutput::Publish(claim(5, ClaimPhase::Claim, 0))]);
}

#[test]
fn a_resignation_waits_for_the_running_write() {
    let mut frm = contending(4);
    frm.step(read(&[]));
    frm.step(FrmInput::Loaded(None));
    frm.step(FrmInput::Written);
    assert_eq!(frm.step(FrmInput::Resign), [], "the announcement is being written");
    assert_eq!(frm.step(FrmInput::Published), [FrmOutput::Publish(claim(4, ClaimPhase::Resigned, 4))]);
    assert_eq!(frm.step(FrmInput::Published), [FrmOutput::Resigned]);

    let mut frm = fresh();
    frm.step(FrmInput::Elect);
    frm.step(FrmInput::Resign);
    assert_eq!(frm.step(read(&[])), [FrmOutput::Withdrawn]);
}

#[test]
fn an_unreadable_register_holds_the_election_back_before_anything_is_claimed() {
    let mut frm = fresh();
    frm.step(FrmInput::Elect);
    assert_eq!(frm.step(read(&[(LOWER, None)])), [FrmOutput::Waiting]);
    assert_eq!(frm.step(FrmInput::Poll), [FrmOutput::ReadRegisters]);
    assert_eq!(frm.step(read(&[(LOWER, live(0, ClaimPhase::None, 0))])).len(), 1);
}

#[test]
#[should_panic(expected = "a newer incarnation writes the register of node 1")]
fn a_second_writer_of_the_own_register_is_never_tolerated() {
    let mut frm = fresh();
    frm.step(FrmInput::Elect);
    let other = ClaimView { incarnation: Incarnation(8), claim: Claim::default(), expired: false, heartbeat: 1 };
    frm.step(read(&[(ME, Some(other))]));
}
