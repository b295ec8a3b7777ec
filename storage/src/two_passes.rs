//! The reader's rule for a pair of slots (protocol R-4): what a look at both slots allows to believe.
//!
//! Both valid: the newer one. One torn: look again, and believe the valid one only if it is the *same* value in both looks.
//! Without the second look the pair is not a regular register: a reader may see slot A from before write k-1 and slot B torn by
//! write k, and return a value older than the last completed one. Pure: the caller reads the slots.

use phalanx_messages::Incarnation;

use crate::header::{Header, WriteId};

/// Which write a slot held. Ordered by incarnation, then sequence; the write id only tells two apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct SlotValue {
    incarnation: Incarnation,
    sequence: u64,
    write: WriteId,
}

impl SlotValue {
    /// The write of a valid header.
    #[must_use]
    pub const fn of(header: &Header) -> Self {
        Self { incarnation: header.incarnation, sequence: header.sequence, write: header.write }
    }
}

/// Looks at one pair until one of them settles it.
#[derive(Debug, Default)]
pub struct TwoPasses {
    only_valid: Option<(usize, SlotValue)>,
}

impl TwoPasses {
    /// Takes one look at both slots (`None` = torn) and returns the slot to believe, or `None`: look again. Each look must
    /// begin after the one before has ended.
    pub fn look(&mut self, slots: [Option<SlotValue>; 2]) -> Option<usize> {
        match slots {
            [Some(first), Some(second)] => Some(usize::from(second > first)),
            [Some(value), None] => self.only(0, value),
            [None, Some(value)] => self.only(1, value),
            [None, None] => {
                self.only_valid = None;
                None
            }
        }
    }

    fn only(&mut self, slot: usize, value: SlotValue) -> Option<usize> {
        let before = self.only_valid.replace((slot, value));
        (before == self.only_valid).then_some(slot)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(incarnation: u64, sequence: u64) -> Option<SlotValue> {
        let (incarnation, write) = (Incarnation(incarnation), WriteId { boot: 0, counter: sequence });
        Some(SlotValue { incarnation, sequence, write })
    }

    #[test]
    fn the_newer_of_two_valid_slots_is_believed_at_once() {
        assert_eq!(TwoPasses::default().look([value(1, 4), value(1, 5)]), Some(1));
        assert_eq!(TwoPasses::default().look([value(1, 6), value(1, 5)]), Some(0));
        assert_eq!(TwoPasses::default().look([value(2, 2), value(1, 5)]), Some(0), "the incarnation counts first");
    }

    #[test]
    fn the_only_valid_slot_is_believed_when_seen_twice() {
        let mut passes = TwoPasses::default();
        assert_eq!(passes.look([value(1, 4), None]), None);
        assert_eq!(passes.look([value(1, 6), None]), None, "another value");
        assert_eq!(passes.look([None, value(1, 7)]), None, "another slot");
        assert_eq!(passes.look([None, None]), None);
        assert_eq!(passes.look([None, value(1, 7)]), None, "not in two looks running");
        assert_eq!(passes.look([None, value(1, 7)]), Some(1));
    }
}
