//! MC3: the production [`Lease`](phalanx_protocol::lease::Lease) against the deadline after which its node counts as dead (protocol
//! §3.3, §4.5, §8.2).
//!
//! One node and the world around it, in whole units of time. The node renews, feeds its watchdog and writes data. Whatever it does
//! takes two steps (check, then feed or submit; begin a read, then end it), and any time may pass between them: a freeze is an
//! interleaving. Its writes land at any time while it lives, and up to `T_late` after its death. The watchdog resets it when it was
//! not fed for `W`. At some time the master marks the node in the membership record and then publishes the pill.
//!
//! The node counts as dead `T_fence` after the order could be read by whoever began to read later (`c`), or after its register was
//! seen to hold its last value (`h`), whichever is first. The reader of the register is as quick as can be: `h` is the moment of the
//! landing.
//!
//! Times in a state are relative to now, so it has no horizon: what is explored is everything, for ever. Clocks run alike; `D(x)`
//! covers their rates.
//!
//! Absent: another claimant. Step 5a and I-M5 are not looked at here.

mod state;

use phalanx_messages::profile::TimingProfile;
use phalanx_protocol::bugs::Bug;
use phalanx_protocol::lease::StallPolicy;
use stateright::{Model, Property};

pub use state::State;

/// I-F2.
pub const NOTHING_LANDS: &str = "I-F2 nothing of the dead takes effect";
/// I-F4.
pub const NOTHING_IS_SUBMITTED: &str = "I-F4 nothing is submitted after T_self";

/// See the module.
#[derive(Debug, Clone, Copy)]
pub struct LeaseModel {
    /// Timing of the lease.
    pub profile: TimingProfile,
    /// The node counts as dead after this time, in units.
    pub deadline: u64,
    /// The master publishes pills besides the mark in the record.
    pub pills: bool,
    /// Register and record of the master may be unreadable at any look.
    pub unreadable: bool,
    /// What a lost lease means.
    pub stall: StallPolicy,
    /// There is a watchdog, and it fires.
    pub watchdog: bool,
    /// The rule taken out of the machine. Needs the feature `deliberate-bugs`.
    pub bug: Option<Bug>,
}

/// What a read of the master's register and record shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Sight {
    /// What is on the disk.
    Disk,
    /// Neither can be read.
    Unreadable,
}

/// One step of the world.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// One unit of time passes.
    Pass,
    /// The lease thread looks at the clock.
    Tick,
    /// The outstanding write of the own register lands.
    RenewalLands,
    /// The lease thread learns that it has.
    RenewalCompleted,
    /// The outstanding read takes place.
    Look(Sight),
    /// The lease thread gets what was read.
    ReadCompleted,
    /// The lease thread finds that it may feed the watchdog.
    MayFeed,
    /// It feeds it.
    Feed,
    /// Somebody finds the gate open.
    MaySubmit,
    /// And writes data.
    Submit,
    /// The data lands.
    DataLands,
    /// The mark is in the membership record of the master.
    Mark,
    /// The pill is in the register of the master.
    Publish,
}

impl LeaseModel {
    /// A lease of `lease` units, a watchdog of `watchdog`, writes that land up to `late` units after death; the deadline of protocol
    /// §3.11.
    #[must_use]
    pub const fn new(lease: u64, watchdog: u64, late: u64) -> Self {
        let profile = TimingProfile {
            io_timeout_ms: 1,
            renewal_ms: 1,
            lease_ms: lease,
            warn_ms: lease,
            watchdog_ms: watchdog,
            stop_ms: watchdog,
            watchdog_delta_ms: 0,
            late_write_ms: late,
            drift_ppm: 0,
            granularity_ms: 0,
            guard_ms: 0,
            ..TimingProfile::DEV
        };
        let (pills, unreadable, stall) = (true, true, StallPolicy::Panic);
        Self { profile, deadline: profile.fence_ms(), pills, unreadable, stall, watchdog: true, bug: None }
    }
}

impl Model for LeaseModel {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State::initial(self)]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        with_bug(self.bug, || state.actions(self, actions));
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        with_bug(self.bug, || state.apply(self, action));
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(NOTHING_LANDS, |_, state: &State| !state.landed_after_death),
            Property::always(NOTHING_IS_SUBMITTED, |_, state: &State| !state.submitted_too_late),
            Property::sometimes("the deadline comes", |_, state: &State| state.certain),
            Property::sometimes("the node halts before it", |_, state: &State| state.halted && !state.certain),
            Property::sometimes("the watchdog is fed after the lease has ended", |_, state: &State| state.fed_late),
        ]
    }
}

#[cfg(feature = "deliberate-bugs")]
fn with_bug<R>(bug: Option<Bug>, work: impl FnOnce() -> R) -> R {
    phalanx_protocol::bugs::with(bug, work)
}

#[cfg(not(feature = "deliberate-bugs"))]
fn with_bug<R>(bug: Option<Bug>, work: impl FnOnce() -> R) -> R {
    assert!(bug.is_none(), "this build has no deliberate bugs");
    work()
}
