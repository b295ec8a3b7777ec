//! Rules of recovery as they were first written, which a model or a simulation must be seen to refuse (protocol §5.9).
//!
//! Reached only under a deliberate [`Bug`].

use phalanx_messages::Level;
use phalanx_messages::membership::{Certainty, StepPhase};

use super::Coordinator;
use super::level_states::{Subject, joining_at, members_at, victims};
use crate::bugs::{self, Bug};

/// Victims recover one by one, not as a wave.
pub(super) fn recovers_alone() -> bool {
    bugs::active(Bug::NoWave) || bugs::active(Bug::RestartWhenFinished)
}

/// Every transition of such a batch goes to its next barrier alone.
pub(super) fn advances_alone(forced: bool) -> bool {
    if forced { recovers_alone() } else { bugs::active(Bug::BatchAdvancesAlone) }
}

impl Coordinator {
    /// T-7 and T-9 before there was T-10: a victim recovers as soon as it is certain. One that was held waits until the others have
    /// reached the level, or in the very first version until they have finished it.
    pub(super) fn start_forced_alone(&mut self, level: Level) -> bool {
        let needs = self.draft.levels.get(&level).map_or(Certainty::Death, |registration| registration.needs);
        let (members, joining) = (members_at(&self.draft, level), joining_at(&self.draft, level));
        if members.is_empty() {
            return false;
        }
        let here: Vec<_> = victims(&self.draft).filter(|victim| Some(level) <= victim.top).collect();
        let to_come =
            |other: Level| if bugs::active(Bug::RestartWhenFinished) { other <= level } else { other < level };
        let waits = |subject: Subject| here.iter().any(|other| other.subject != subject && to_come(other.step.level));
        let starting: Vec<Subject> = here
            .iter()
            .filter(|victim| victim.step.level == level && victim.is_certain(needs))
            .filter(|victim| match victim.step.phase {
                StepPhase::Between => true,
                StepPhase::Notifying => false,
                StepPhase::Held => !waits(victim.subject),
            })
            .map(|victim| victim.subject)
            .collect();
        starting.iter().for_each(|subject| self.start(*subject, members.union(&joining)));
        !starting.is_empty()
    }
}
