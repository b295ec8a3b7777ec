//! Changes of the event-manager level, one after the other, and when each is answered (protocol RL-2, RL-6, RL-7).

use phalanx_messages::registration::{RegistrationRecord, View};

use super::Launcher;
use super::io::{LauncherOutput, LauncherRead, RegistrationReader};
use super::machine::StartingTable;
use crate::bugs::{self, Bug};
use crate::registration::{DeciderInput, LeaseSigns};

/// Token of a view that nobody waits for: changes are numbered from 1.
const NO_CHANGE: u64 = 0;

impl Launcher {
    pub(super) fn next_change(&mut self) {
        while let Some((change, sights)) = self.changes.front() {
            let (change, joining) = (*change, sights.joining);
            if joining && self.starting_table != StartingTable::Read {
                return self.read_starting_table();
            }
            let Some((_, sights)) = self.changes.pop_front() else { return };
            if !self.joined && !joining {
                // Asked to take part in a recovery before its own join: there is nothing of it here.
                self.emit(LauncherOutput::Adopted(change));
                continue;
            }
            let database = if joining { self.known.seen() } else { View::default() };
            self.level.adopt(&sights, &database);
            self.starting_table = StartingTable::Needed;
            if joining {
                self.joined = true;
                self.admission.accept(true);
                let early = std::mem::take(&mut self.early);
                early.into_iter().for_each(|(depoch, order)| self.take(depoch, order));
            }
            self.adopting.insert(change, sights.draining);
            let view = self.level.view().clone();
            self.drive(DeciderInput::View { view, token: change });
        }
    }

    /// Whose lease has ended, and who has gone from the level.
    pub(super) fn signs_changed(&mut self, signs: LeaseSigns) {
        let news = self.level.gone(&signs.gone);
        self.drive(DeciderInput::Leases(signs));
        if news && self.joined {
            let view = self.level.view().clone();
            self.drive(DeciderInput::View { view, token: NO_CHANGE });
        }
    }

    /// Who was at the level when the last decision was made and is not there now, is gone: read before anything is adopted.
    fn read_starting_table(&mut self) {
        if self.starting_table != StartingTable::Asked {
            self.starting_table = StartingTable::Asked;
            self.emit(LauncherOutput::Read(LauncherRead::Registration(RegistrationReader::StartingTable)));
        }
    }

    pub(super) fn read_starting_table_again(&mut self) {
        if self.starting_table == StartingTable::Failed {
            self.read_starting_table();
        }
    }

    pub(super) fn starting_table_read(&mut self, result: Result<Option<RegistrationRecord>, String>) {
        match result {
            Ok(record) => {
                self.starting_table = StartingTable::Read;
                self.learn(record.unwrap_or_default().into());
                self.next_change();
            }
            Err(failure) => {
                self.starting_table = StartingTable::Failed;
                self.emit(LauncherOutput::DiskFailed(failure));
            }
        }
    }

    /// No decision made with an older view is undecided.
    pub(super) fn adopted(&mut self, change: u64) {
        match self.adopting.remove(&change) {
            Some(false) => self.emit(LauncherOutput::Adopted(change)),
            Some(true) => {
                self.draining.push((self.readings_begun, change));
                self.refresh();
            }
            None => {}
        }
    }

    /// Looks at the newest database, which came by the newest reading. One that had begun before this node was asked to let go
    /// may miss a start that was committed by somebody who did not know yet (protocol RL-6). Nor is one believed that nobody has
    /// called committed: the next owner of the decisions may have loaded the one before it.
    pub(super) fn answer_if_drained(&mut self) {
        let reading = self.readings_begun;
        let drained = self.known.is_drained(self.settings.me) && self.known.revision == self.announced;
        let drained = drained || bugs::active(Bug::LeavesUndrained);
        let fresh = |(after, _): &(u64, u64)| *after < reading;
        let (fresh, stale): (Vec<_>, Vec<_>) = std::mem::take(&mut self.draining).into_iter().partition(fresh);
        let again = !stale.is_empty();
        self.draining = stale;
        if drained && !fresh.is_empty() {
            self.admission.accept(false);
            fresh.into_iter().for_each(|(_, change)| self.emit(LauncherOutput::Adopted(change)));
        } else {
            self.draining.extend(fresh);
        }
        if again {
            self.refresh();
        }
    }
}
