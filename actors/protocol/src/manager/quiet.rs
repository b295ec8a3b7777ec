//! When time alone may change something.
//!
//! A joined node that is not master and hears everybody has nothing to do while nothing runs: what could change with time is whose
//! lease has ended, and when that may happen is known. So it need not look at the clock as often as a node that waits for something.

use phalanx_messages::Instant;
use phalanx_messages::membership::NodeState;

use super::*;
use crate::coordinator::level_states::{subjects, unmarked_members};
use crate::mastership::Course;

impl Manager {
    /// When the next tick is due at the latest, seen from a tick at `now`. Whoever gives this machine another input meanwhile,
    /// heartbeats excepted, gives it a tick [`TICK_MS`] after that.
    #[must_use]
    pub fn next_tick(&self, now: Instant) -> Instant {
        let quiet = self.quiet_until().map(|until| until.min(now.plus(QUIET_TICK_MS)));
        quiet.map_or(now.plus(TICK_MS), |due| due.max(now.plus(1)))
    }

    /// Ticks before that have no output unless something else arrives; none = any tick may have one.
    pub(super) fn quiet_until(&self) -> Option<Instant> {
        let rests = self.coordinator.is_none()
            && self.is_settled_member()
            && self.machine_rests()
            && self.looks_for_nothing()
            && self.hears_everybody();
        self.watch.judged_until().filter(|_| rests)
    }

    fn is_settled_member(&self) -> bool {
        self.own_state() == NodeState::Joined
            && !(self.leave_wanted || self.ended || self.handing_over)
            && self.ending.is_none()
            && subjects(&self.newest).next().is_none()
            && self.agent.is_quiet()
            && self.requests.is_empty()
    }

    fn machine_rests(&self) -> bool {
        self.frm.is_idle()
            && self.frm_queue.is_empty()
            && !self.frm_busy
            && self.frm_poll_since.is_none()
            && self.standing.is_none()
            // Whoever told the newest record may lead no more: then it is this node's turn as soon as the gate lets it act.
            && matches!(self.course(), Course::Follow(_))
    }

    fn looks_for_nothing(&self) -> bool {
        let reads = self.looking || self.probing || self.following || self.looking_for_end;
        !reads
            && self.reading.is_some()
            && self.probes.is_empty()
            && self.master().is_some()
            && self.newest.configuration <= self.configuration.revision
    }

    fn hears_everybody(&self) -> bool {
        let mut others = unmarked_members(&self.newest);
        others.remove(self.here());
        self.suspected.is_empty() && self.rounds.is_idle() && others.iter().all(|node| self.detector.hears(node))
    }
}
