//! The newest committed database, for whoever watches by it: the event manager daemon.

use super::Launcher;
use super::io::LauncherOutput;

impl Launcher {
    /// Shows a newer database once it is known to be committed.
    pub(super) fn show_committed(&mut self) {
        let revision = self.known.revision;
        if self.is_known_committed() && revision > self.shown {
            self.shown = revision;
            self.emit(LauncherOutput::Committed(self.known.clone()));
        }
    }

    /// Whoever decides in the depoch of the database that is known here has called it, or a later one, committed. One of an earlier
    /// depoch than was called committed may be one that its owner could not commit: the next owner may have loaded the one before.
    pub(super) fn is_known_committed(&self) -> bool {
        let (known, announced) = (self.known.revision, self.announced);
        known.term == announced.term && known <= announced
    }
}

#[cfg(test)]
mod tests {
    use phalanx_messages::order::{ConsumedRequest, RegistrationOrder};
    use phalanx_messages::profile::TimingProfile;
    use phalanx_messages::registration::{RegistrationMessage, RegistrationRecord};
    use phalanx_messages::{Incarnation, Instant, NodeId, NodeIncarnation, Revision, Term};

    use super::super::{LauncherInput, LauncherRead, LauncherSettings, RegistrationReader};
    use super::*;
    use crate::moment::Moment;
    use crate::registration::DatabaseRoom;

    const ME: NodeIncarnation = NodeIncarnation { node: NodeId(1), incarnation: Incarnation(1) };
    const DECIDES: NodeIncarnation = NodeIncarnation { node: NodeId(0), incarnation: Incarnation(1) };

    const fn revision(term: u64, seq: u64) -> Revision {
        Revision { term: Term(term), seq }
    }

    /// A database that has consumed the first order of this node.
    fn database(revision: Revision) -> RegistrationRecord {
        let consumed = ConsumedRequest { incarnation: ME.incarnation, counter: 1, answer: Ok(()) };
        RegistrationRecord { revision, requests: [(ME.node, consumed)].into(), ..RegistrationRecord::default() }
    }

    fn step(launcher: &mut Launcher, input: LauncherInput) -> Vec<LauncherOutput> {
        launcher.step(Moment { now: Instant(1_000), open: true, may_act: true }, input)
    }

    fn is_said(output: &LauncherOutput) -> bool {
        matches!(output, LauncherOutput::Committed(_) | LauncherOutput::Answer { .. })
    }

    /// Found by the simulator (I-R11): the database of an owner that was deposed before it had committed it was read, its successor
    /// had built on the one before and called that committed. Event groups were enabled by it, and an order that it had consumed was
    /// answered.
    #[test]
    fn a_database_of_an_earlier_depoch_than_was_called_committed_is_not_believed() {
        let settings = LauncherSettings { me: ME, profile: TimingProfile::DEV, room: DatabaseRoom::default() };
        let mut launcher = Launcher::new(settings);
        let order = RegistrationOrder::Standby { node: ME.node, standby: true };
        assert_eq!(step(&mut launcher, LauncherInput::Ask { counter: 1, order }), []);
        let message = RegistrationMessage::Committed { revision: revision(3, 0) };
        let read = LauncherOutput::Read(LauncherRead::Registration(RegistrationReader::Follower));
        let asked = step(&mut launcher, LauncherInput::Received { from: DECIDES, message });
        assert_eq!(asked.as_slice(), std::slice::from_ref(&read));
        let older = LauncherInput::RegistrationRead(RegistrationReader::Follower, Ok(Some(database(revision(2, 10)))));
        assert!(!step(&mut launcher, older).iter().any(is_said), "nobody has called it committed");
        assert_eq!(step(&mut launcher, LauncherInput::Tick).iter().filter(|output| **output == read).count(), 0);
        let message = RegistrationMessage::Committed { revision: revision(3, 0) };
        assert_eq!(step(&mut launcher, LauncherInput::Received { from: DECIDES, message }), [read]);
        let newer = database(revision(3, 0));
        let said = LauncherInput::RegistrationRead(RegistrationReader::Follower, Ok(Some(newer.clone())));
        let said: Vec<LauncherOutput> = step(&mut launcher, said).into_iter().filter(is_said).collect();
        let answer = LauncherOutput::Answer { counter: 1, answer: Ok(()) };
        assert_eq!(said, [answer, LauncherOutput::Committed(newer.into())]);
    }
}
