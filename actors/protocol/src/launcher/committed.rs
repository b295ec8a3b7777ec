//! The newest committed database, for whoever watches by it: the event manager daemon.

use super::Launcher;
use super::io::LauncherOutput;

impl Launcher {
    /// Shows a newer database once somebody has called it committed: the next owner of the decisions may load the one before it.
    pub(super) fn show_committed(&mut self) {
        let revision = self.known.revision;
        if revision <= self.announced && revision > self.shown {
            self.shown = revision;
            self.emit(LauncherOutput::Committed(self.known.clone()));
        }
    }
}
