//! Which licences are out, computed from the journal. Pure.

use std::collections::BTreeMap;

use super::journal::{Entry, Event};

/// Which licences are out, and which instance granted each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ledger {
    licences: usize,
    last: u64,
    granted: BTreeMap<u64, String>,
}

impl Ledger {
    /// The state after `entries`, of at most `licences` at a time.
    #[must_use]
    pub fn replay(entries: &[Entry], licences: usize) -> Self {
        let mut ledger = Self { licences, last: 0, granted: BTreeMap::new() };
        for entry in entries {
            ledger.apply(entry);
        }
        ledger
    }

    /// Learns what is in the journal.
    pub fn apply(&mut self, entry: &Entry) {
        match &entry.event {
            Event::Up { .. } => {}
            Event::Take { id } => {
                self.last = self.last.max(*id);
                self.granted.insert(*id, entry.generation.clone());
            }
            Event::Return { id } => {
                self.granted.remove(id);
            }
            Event::Recovered { licences, .. } => self.granted.retain(|id, _| !licences.contains(id)),
        }
    }

    /// The licence to grant next; none if all are out. Numbers are never given twice.
    #[must_use]
    pub fn next(&self) -> Option<u64> {
        (self.free() > 0).then_some(self.last + 1)
    }

    /// True if that licence is out.
    #[must_use]
    pub fn is_granted(&self, id: u64) -> bool {
        self.granted.contains_key(&id)
    }

    /// Licences that are out.
    pub fn granted(&self) -> impl Iterator<Item = u64> {
        self.granted.keys().copied()
    }

    /// Licences that one instance granted and that are still out.
    #[must_use]
    pub fn granted_by(&self, generation: &str) -> Vec<u64> {
        self.granted.iter().filter(|(_, by)| *by == generation).map(|(id, _)| *id).collect()
    }

    /// Licences that can be granted.
    #[must_use]
    pub fn free(&self) -> usize {
        self.licences.saturating_sub(self.granted.len())
    }
}
