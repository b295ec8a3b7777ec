//! The shared disk as values: one regular single-writer register for each node and area (protocol §1.1 D1 to D4, §1.2 lemma REG).
//!
//! A read that overlaps a write returns the old value or the new one, each time anew, also one after the other (new/old inversion).
//! A write that its process did not live to complete lands, vanishes or tears its slot; the other slot of the pair stays, so the
//! last completed value is never lost. What was not made durable may be lost with power (§1.3).
//!
//! Blocks, slots and checksums are the storage crate's and are checked there and by MC2.

use std::collections::BTreeMap;
use std::sync::Arc;

use phalanx_messages::configuration::ConfigurationRecord;
use phalanx_messages::membership::MembershipRecord;
use phalanx_messages::register::NodeRegister;
use phalanx_messages::registration::{DecisionRegister, RegistrationRecord};
use phalanx_messages::{NodeId, Revision};

use super::random::Random;

/// One regular register.
#[derive(Debug, Clone)]
pub struct Register<T> {
    value: Arc<T>,
    /// What has survived so far if power is lost now.
    durable: Arc<T>,
    flight: Option<Flight<T>>,
}

#[derive(Debug, Clone)]
struct Flight<T> {
    value: Arc<T>,
    durable: bool,
}

/// What became of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It is there.
    Landed,
    /// It is not, and never will be; torn or not, the other slot holds the old value.
    Vanished,
}

impl<T: Default> Default for Register<T> {
    fn default() -> Self {
        let value = Arc::new(T::default());
        Self { durable: Arc::clone(&value), value, flight: None }
    }
}

impl<T> Register<T> {
    /// A register with a first value.
    #[must_use]
    pub fn new(value: T) -> Self {
        let value = Arc::new(value);
        Self { durable: Arc::clone(&value), value, flight: None }
    }

    /// What a reader may see now.
    #[must_use]
    pub fn read(&self, random: &mut Random) -> Arc<T> {
        match &self.flight {
            Some(flight) if random.coin() => Arc::clone(&flight.value),
            Some(_) | None => Arc::clone(&self.value),
        }
    }

    /// The last value of which the write has ended.
    #[must_use]
    pub const fn settled(&self) -> &Arc<T> {
        &self.value
    }

    /// A write begins.
    ///
    /// # Panics
    /// If another one of this register is outstanding (protocol R-1).
    pub fn begin(&mut self, value: Arc<T>, durable: bool) {
        assert!(self.flight.is_none(), "R-1: two writes of one register are outstanding");
        self.flight = Some(Flight { value, durable });
    }

    /// The write ends, one way or the other; nothing if there is none.
    pub fn end(&mut self, fate: Fate) {
        let Some(flight) = self.flight.take().filter(|_| fate == Fate::Landed) else { return };
        self.value = flight.value;
        if flight.durable {
            self.durable = Arc::clone(&self.value);
        }
    }

    fn flush(&mut self) {
        self.durable = Arc::clone(&self.value);
    }

    /// Pages were written back in any order, or not.
    fn lose_power(&mut self, random: &mut Random) {
        self.end(if random.coin() { Fate::Landed } else { Fate::Vanished });
        if random.coin() {
            self.value = Arc::clone(&self.durable);
        }
        self.flush();
    }
}

/// The pair of slots of one node's configuration area. Both are looked at, so both are kept.
#[derive(Debug, Clone, Default)]
struct Slots {
    slots: [Option<Arc<ConfigurationRecord>>; 2],
    flight: Option<SlotFlight>,
}

#[derive(Debug, Clone)]
struct SlotFlight {
    slot: usize,
    value: Arc<ConfigurationRecord>,
    before: Option<Arc<ConfigurationRecord>>,
}

/// See the module.
#[derive(Debug, Clone)]
pub struct Disk {
    /// `NB`.
    pub registers: BTreeMap<NodeId, Register<NodeRegister>>,
    /// `MA`.
    pub memberships: BTreeMap<NodeId, Register<MembershipRecord>>,
    /// `RN`.
    pub decisions: BTreeMap<NodeId, Register<DecisionRegister>>,
    /// `RD`.
    pub registrations: BTreeMap<NodeId, Register<RegistrationRecord>>,
    /// `CF`.
    configurations: BTreeMap<NodeId, Slots>,
}

impl Disk {
    /// As formatted: nobody has ever started.
    #[must_use]
    pub fn formatted(configuration: &ConfigurationRecord, services: &RegistrationRecord, nodes_max: u16) -> Self {
        let nodes = || (0..nodes_max).map(NodeId);
        let mut configurations: BTreeMap<NodeId, Slots> = nodes().map(|node| (node, Slots::default())).collect();
        if let Some(first) = configurations.values_mut().next() {
            first.slots[0] = Some(Arc::new(configuration.clone()));
        }
        let mut registrations: BTreeMap<_, _> = nodes().map(|node| (node, Register::default())).collect();
        registrations.insert(NodeId(0), Register::new(services.clone()));
        Self {
            registers: nodes().map(|node| (node, Register::default())).collect(),
            memberships: nodes().map(|node| (node, Register::default())).collect(),
            decisions: nodes().map(|node| (node, Register::default())).collect(),
            registrations,
            configurations,
        }
    }

    /// The newest membership record a reader may find now.
    #[must_use]
    pub fn newest_membership(&self, random: &mut Random) -> Arc<MembershipRecord> {
        let records = self.memberships.values().map(|register| register.read(random));
        records.max_by_key(|record| record.revision).unwrap_or_default()
    }

    /// The newest registration database a reader may find now.
    #[must_use]
    pub fn newest_registration(&self, random: &mut Random) -> Arc<RegistrationRecord> {
        // As formatted only the first area has a record; the last one of equal revisions counts.
        let records = self.registrations.values().rev().map(|register| register.read(random));
        records.max_by_key(|record| record.revision).unwrap_or_default()
    }

    /// The configuration of that revision, in any slot.
    #[must_use]
    pub fn find_configuration(&self, revision: Revision) -> Option<Arc<ConfigurationRecord>> {
        let slots = self.configurations.values().flat_map(|slots| slots.slots.iter().flatten());
        slots.filter(|record| record.revision == revision).max_by_key(|record| record.revision).cloned()
    }

    /// The newest configuration in any slot.
    #[must_use]
    pub fn newest_configuration(&self) -> Option<Arc<ConfigurationRecord>> {
        let slots = self.configurations.values().flat_map(|slots| slots.slots.iter().flatten());
        slots.max_by_key(|record| record.revision).cloned()
    }

    /// A write of the configuration begins: into the older slot, unless that holds `keep`. The slot is torn until it ends.
    pub fn begin_configuration(&mut self, node: NodeId, value: Arc<ConfigurationRecord>, keep: Revision) {
        let Some(pair) = self.configurations.get_mut(&node) else { return };
        let revision = |slot: &Option<Arc<ConfigurationRecord>>| slot.as_ref().map(|record| record.revision);
        let mut slot = usize::from(revision(&pair.slots[1]) < revision(&pair.slots[0]));
        if revision(&pair.slots[slot]) == Some(keep) {
            slot = 1 - slot;
        }
        let before = pair.slots[slot].take();
        pair.flight = Some(SlotFlight { slot, value, before });
    }

    /// That write ends; nothing if there is none. A slot that was torn stays so.
    pub fn end_configuration(&mut self, node: NodeId, fate: Fate, torn: bool) {
        let Some(pair) = self.configurations.get_mut(&node) else { return };
        let Some(SlotFlight { slot, value, before }) = pair.flight.take() else { return };
        pair.slots[slot] = match fate {
            Fate::Landed => Some(value),
            Fate::Vanished if torn => None,
            Fate::Vanished => before,
        };
    }

    /// What was volatile becomes durable (protocol §1.3: once a second).
    pub fn flush(&mut self) {
        self.registers.values_mut().for_each(Register::flush);
        self.memberships.values_mut().for_each(Register::flush);
        self.decisions.values_mut().for_each(Register::flush);
        self.registrations.values_mut().for_each(Register::flush);
    }

    /// Every process of the host is gone, and its page cache.
    pub fn lose_power(&mut self, random: &mut Random) {
        self.registers.values_mut().for_each(|register| register.lose_power(random));
        self.memberships.values_mut().for_each(|register| register.lose_power(random));
        self.decisions.values_mut().for_each(|register| register.lose_power(random));
        self.registrations.values_mut().for_each(|register| register.lose_power(random));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_read_beside_a_write_returns_either_value_and_after_it_only_the_new_one() {
        let mut random = Random::new(3);
        let mut register = Register::new(1);
        register.begin(Arc::new(2), true);
        let seen: Vec<i32> = (0..50).map(|_| *register.read(&mut random)).collect();
        assert!(seen.contains(&1) && seen.contains(&2));
        register.end(Fate::Landed);
        assert!((0..50).all(|_| *register.read(&mut random) == 2));
    }

    #[test]
    fn power_takes_only_what_was_not_durable() {
        let lost = |durable| {
            let ends = (0..50).map(|seed| {
                let mut register = Register::new(1);
                register.begin(Arc::new(2), durable);
                register.end(Fate::Landed);
                register.lose_power(&mut Random::new(seed));
                **register.settled()
            });
            ends.filter(|value| *value == 1).count()
        };
        assert_eq!(lost(true), 0);
        assert!((1..50).contains(&lost(false)));
    }

    #[test]
    fn the_configuration_that_is_needed_is_never_overwritten() {
        let record = |seq| ConfigurationRecord {
            revision: Revision { seq, ..Revision::default() },
            ..ConfigurationRecord::default()
        };
        let mut disk = Disk::formatted(&record(0), &RegistrationRecord::default(), 2);
        for seq in 1..6 {
            disk.begin_configuration(NodeId(0), Arc::new(record(seq)), record(0).revision);
            disk.end_configuration(NodeId(0), Fate::Vanished, seq % 2 == 0);
            assert!(disk.find_configuration(record(0).revision).is_some());
        }
    }
}
