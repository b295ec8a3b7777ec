//! Deliberate bugs, so that the tests which must catch them can be seen to catch them (protocol §3.10, §5.9, "variant").
//!
//! Exist only with the feature `deliberate-bugs`, which a release build refuses; without it [`active`] is the constant
//! `false` and the compiler removes every trace. Chosen at run time and for one thread only: one test binary tries each bug,
//! and tests that run in parallel do not see each other's. `PHALANX_BUG` chooses one for every thread from its beginning, to see
//! which tests fail.

#[cfg(all(feature = "deliberate-bugs", not(debug_assertions)))]
compile_error!("the feature `deliberate-bugs` is for debug builds of tests only");

/// One rule taken out, or put back to its first version. `docs/design/deliberate-bugs.md` says who catches which.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Bug {
    /// The sticky `owned` field is neither written nor read (protocol §3.4, trap 2).
    NoOwned,
    /// A commit does not read the claims again.
    NoRereadInCommit,
    /// Claimants of one term neither wait nor withdraw (protocol §3.4, step 5c).
    NoWithdrawal,
    /// `Resigned` counts as `Withdrawn`; without `owned`, which would cover for it (protocol §3.4, trap 1).
    ResignedLikeWithdrawn,
    /// A claimant does not look whether the owner that it held for expired has moved since (protocol §3.4, step 5a).
    LiveOwnerDecrowned,
    /// An owner that loads a base of a newer term does not give way (protocol §3.4, step 6).
    SupersededOwnerGoesOn,
    /// L-1: a renewal that ends after the lease has ended counts.
    LateRenewalCounts,
    /// L-3: neither pills nor the mark in the record of the owner make a node halt.
    OrderToDieIgnored,
    /// L-4: a renewal counts although the register or the record of the owner is unreadable.
    UnreadableOwnerIgnored,
    /// L-5: the lease counts from the completion of the renewal, not from the issue of its write.
    LeaseFromCompletion,
    /// A node does not notice that its lease has ended, and goes on feeding its watchdog (protocol §3.3).
    LeaseNeverEnds,
    /// Two nodes of which one hears the other are linked (protocol §4.3).
    OneWayLinkCounts,
    /// The survivor rule is applied to views that are still changing (protocol §4.3, `T_settle`).
    NoSettling,
    /// Nodes are marked whether those who are left have quorum or not (protocol §4.4, I-F6).
    MarkedWithoutQuorum,
    /// The first barrier of a level is passed before every participant has acknowledged it.
    BarrierSkipped,
    /// A forced leave starts the levels' recovery before the certainty that they need (protocol I-F1, T-11).
    RecoveryBeforeProof,
    /// Participants are told of a step that is not committed yet (protocol T-1, I-M3).
    NotifiedBeforeCommit,
    /// A new master advances steps of participants that have not promised to hear nobody older (protocol §3.6).
    ReportsNotAwaited,
    /// A proof of the death of an older incarnation counts for the newer one (protocol §4.5).
    OldDeathProves,
    /// A cold start forgets what an earlier one had not recovered (protocol T-18).
    GhostsForgotten,
    /// Whatever is held restarts with number 1, for the second time too (protocol T-9).
    RestartNumberReset,
    /// First version of T-9, T-10: no wave, and what is held waits until other victims have *finished* the level.
    RestartWhenFinished,
    /// T-10 left out: victims recover each on its own and overtake each other.
    NoWave,
    /// First version of T-9, T-18: a held join waits for a recovery that is parked because the level is empty.
    HeldJoinWaitsForParked,
    /// First version of T-19: only joins wait for a recovery; a leave enters beside it.
    LeaveBesideRecovery,
    /// First version of T-5: transitions of one batch advance each on its own.
    BatchAdvancesAlone,
    /// T-9 left out: a dead participant only leaves the set of those awaited.
    NoHold,
    /// T-9: acknowledgements of a step count after its restart.
    OldRestartCounts,
    /// First version of T-18: a victim stays at an optional level that has lost its last user.
    EmptyLevelNotSkipped,
    /// T-13 left out: a new incarnation is admitted while the old one is not recovered.
    EarlyRejoin,
    /// T-18: a cold start overwrites the entry of the forming master and leaves no ghost.
    NoOwnGhost,
    /// T-19: a join waits only for recoveries that will come to its own level.
    JoinAboveUnrecovered,
    /// First version of T-21, without T-23: older records are not dropped; the number of a step alone tells what is new.
    OrderByNumberOnly,
    /// First version of §5.5, as [`OrderByNumberOnly`](Bug::OrderByNumberOnly): numbers are compared within one transition only.
    StatePerTransition,
    /// First version of table 5.3: Forced-Leaving in state Inactive is an error.
    NothingToRecover,
    /// T-23: one notice at a time, a join of the own node last.
    BatchInPieces,
    /// T-18: a node that finds a ghost of itself does not panic.
    GhostIgnored,
    /// The same, and it does not panic as `Inactive` either (protocol §5.5).
    OutcastLivesOn,
    /// M-4: records of a master whose term is over are processed.
    OlderTermHeard,
    /// An acknowledgement goes out before the subsystem has answered.
    AcknowledgedBeforeAnswer,
    /// An acknowledgement that is repeated says `Failed` (protocol I-T13).
    SecondAnswerDiffers,
    /// A service that was lost starts elsewhere without its recovery command (protocol §6.3, I-R5).
    StartBeforeRecovery,
    /// RL-4: a node takes commands before it has joined the event-manager level and after it has left.
    AdmittedAnyTime,
    /// RL-4: commands of a decision maker that was deposed are taken, so that there are two.
    OldDecisionsAdmitted,
    /// I-R8: an operation older than one that was seen is run.
    OperationsOutOfOrder,
    /// I-R7: commands go out with the decision, before it is committed.
    SentBeforeCommit,
    /// RL-4: an incarnation takes commands that were meant for another one of its node.
    CommandsForAnyIncarnation,
    /// RL-4: a result counts whatever operation it is of, if only the node is the right one.
    ResultsOfAnyOperation,
    /// RL-2: a decision is made with an older view than the newest decision had.
    OlderViewDecides,
    /// RL-3: a service is placed on a node, whichever incarnation of it.
    PlacementWithoutIncarnation,
    /// RL-3 and RL-2: a node that is not in the view is lost, and decisions are made with older views.
    AbsentIsLost,
    /// First version of §6.3: a leave is noticed when it begins, by services that are registered then.
    LeaveNoticedOnce,
    /// First version of §6.3: after a failed recovery the next node recovers at once.
    RecoveryWithoutCleanUp,
    /// First version of §6.3: without a node to recover it, a lost service counts as recovered.
    UnrecoverableForgotten,
    /// First version of §6.3: a service that is held is de-registered.
    HoldIsAState,
    /// First version of §6.3: no row for a failed start that cannot be cleaned.
    UncleanStartStays,
    /// RL-8: the only member does not clean again, and waits for ever.
    OnlyMemberWaits,
    /// First version of §6.3: T stays while nobody can take the service.
    TransferWaitsForCandidate,
    /// First version of §6.3: T stays when the service is lost.
    TransferKeptInRecovery,
    /// First version of §6.3: what is stopped starts again if it is `auto` or T is set, wanted or not.
    RestartedWithoutWant,
    /// First version of §6.2: a service waits for maturity again after it was lost.
    MaturityNotLatched,
    /// RL-11: a parent is stopped while a child of it still starts.
    StopBesideStartingChild,
    /// RL-14: a parent does not wait until its children are recovered.
    RecoveryInAnyOrder,
    /// §6.3: a free transfer goes to a node that has failed to start the service.
    FreeTransferToWhoeverFailed,
    /// RL-13: the nodes that failed a group are forgotten when its root is registered.
    ExclusionsEndWithStart,
    /// §6.3: after a failed start the next node starts it, and what the start has left is not killed before.
    NextStartBeforeCleanUp,
    /// §6.3: whichever node leaves, services are stopped everywhere.
    EveryLeaveIsAReason,
    /// §6.2: `disallowable_nodes` is not looked at.
    DisallowedTaken,
    /// RL-3: a node that is marked counts as lost, before its death is certain.
    DoomedIsLost,
    /// RL-6: the second barrier of a leave is acknowledged although the database places something on the leaver.
    LeavesUndrained,
    /// §6.5: a node that was notified of a registration is not notified again when it has started anew.
    LaterStartNotNotified,
    /// §6.3: an event group stays enabled where its service is registered no more.
    EventsStayEnabled,
    /// §6.5: the summary of a service on all nodes is that of its most advanced instance.
    SummaryOfMostAdvanced,
}

impl Bug {
    /// Every bug.
    pub const ALL: &[Self] = &[
        Self::NoOwned,
        Self::NoRereadInCommit,
        Self::NoWithdrawal,
        Self::ResignedLikeWithdrawn,
        Self::LiveOwnerDecrowned,
        Self::SupersededOwnerGoesOn,
        Self::LateRenewalCounts,
        Self::OrderToDieIgnored,
        Self::UnreadableOwnerIgnored,
        Self::LeaseFromCompletion,
        Self::LeaseNeverEnds,
        Self::OneWayLinkCounts,
        Self::NoSettling,
        Self::MarkedWithoutQuorum,
        Self::BarrierSkipped,
        Self::RecoveryBeforeProof,
        Self::NotifiedBeforeCommit,
        Self::ReportsNotAwaited,
        Self::OldDeathProves,
        Self::GhostsForgotten,
        Self::RestartNumberReset,
        Self::RestartWhenFinished,
        Self::NoWave,
        Self::HeldJoinWaitsForParked,
        Self::LeaveBesideRecovery,
        Self::BatchAdvancesAlone,
        Self::NoHold,
        Self::OldRestartCounts,
        Self::EmptyLevelNotSkipped,
        Self::EarlyRejoin,
        Self::NoOwnGhost,
        Self::JoinAboveUnrecovered,
        Self::OrderByNumberOnly,
        Self::StatePerTransition,
        Self::NothingToRecover,
        Self::BatchInPieces,
        Self::GhostIgnored,
        Self::OutcastLivesOn,
        Self::OlderTermHeard,
        Self::AcknowledgedBeforeAnswer,
        Self::SecondAnswerDiffers,
        Self::StartBeforeRecovery,
        Self::AdmittedAnyTime,
        Self::OldDecisionsAdmitted,
        Self::OperationsOutOfOrder,
        Self::SentBeforeCommit,
        Self::CommandsForAnyIncarnation,
        Self::ResultsOfAnyOperation,
        Self::OlderViewDecides,
        Self::PlacementWithoutIncarnation,
        Self::AbsentIsLost,
        Self::LeaveNoticedOnce,
        Self::RecoveryWithoutCleanUp,
        Self::UnrecoverableForgotten,
        Self::HoldIsAState,
        Self::UncleanStartStays,
        Self::OnlyMemberWaits,
        Self::TransferWaitsForCandidate,
        Self::TransferKeptInRecovery,
        Self::RestartedWithoutWant,
        Self::MaturityNotLatched,
        Self::StopBesideStartingChild,
        Self::RecoveryInAnyOrder,
        Self::FreeTransferToWhoeverFailed,
        Self::ExclusionsEndWithStart,
        Self::NextStartBeforeCleanUp,
        Self::EveryLeaveIsAReason,
        Self::DisallowedTaken,
        Self::DoomedIsLost,
        Self::LeavesUndrained,
        Self::LaterStartNotNotified,
        Self::EventsStayEnabled,
        Self::SummaryOfMostAdvanced,
    ];
}

/// True if `bug` is to be made on this thread.
#[cfg(not(feature = "deliberate-bugs"))]
#[must_use]
#[inline(always)]
pub const fn active(_bug: Bug) -> bool {
    false
}

#[cfg(feature = "deliberate-bugs")]
pub use chosen::{Active, activate, active, with};

#[cfg(feature = "deliberate-bugs")]
mod chosen {
    use std::cell::Cell;
    use std::marker::PhantomData;

    use super::Bug;

    thread_local! {
        static ACTIVE: Cell<Option<Bug>> = Cell::new(named());
    }

    /// The bug that `PHALANX_BUG` names, for a whole run of tests or a whole process.
    fn named() -> Option<Bug> {
        let name = std::env::var("PHALANX_BUG").ok()?;
        let named = Bug::ALL.iter().find(|bug| format!("{bug:?}") == name);
        Some(*named.unwrap_or_else(|| panic!("PHALANX_BUG names no deliberate bug: {name}")))
    }

    /// True if `bug` is to be made on this thread.
    #[must_use]
    pub fn active(bug: Bug) -> bool {
        ACTIVE.get() == Some(bug)
    }

    /// Makes `bug` (or none) on this thread until the guard is dropped.
    #[must_use]
    pub fn activate(bug: Option<Bug>) -> Active {
        Active { before: ACTIVE.replace(bug), stays_on_its_thread: PhantomData }
    }

    /// Runs `f` with `bug` (or none) on this thread.
    pub fn with<R>(bug: Option<Bug>, f: impl FnOnce() -> R) -> R {
        let _active = activate(bug);
        f()
    }

    /// Puts back what was active before.
    #[derive(Debug)]
    pub struct Active {
        before: Option<Bug>,
        stays_on_its_thread: PhantomData<*const ()>,
    }

    impl Drop for Active {
        fn drop(&mut self) {
            ACTIVE.set(self.before);
        }
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn a_bug_is_active_on_its_thread_until_its_guard_goes() {
            let _none = activate(None);
            with(Some(Bug::NoOwned), || {
                assert!(active(Bug::NoOwned) && !active(Bug::NoWithdrawal));
                assert!(!std::thread::spawn(|| active(Bug::NoOwned)).join().unwrap());
                with(None, || assert!(!active(Bug::NoOwned)));
                assert!(active(Bug::NoOwned));
            });
            assert!(!active(Bug::NoOwned));
        }
    }
}
