//! MC2: a pair of slots is a regular register (protocol §1.2, lemma REG), read by the production rule [`TwoPasses`].
//!
//! One writer alternates between two slots, one write at a time. A block under a write reads as the old value, the
//! new one, or torn, at each look anew. A write fails or its writer crashes at any point, and what is left of the block is any
//! of the three for ever; the next incarnation goes on after the newest valid slot, a failed write is followed by one to the
//! same slot. Readers look at the slots in any order, and anything may happen in between.
//!
//! Checked: a read returns the last write that had completed when it began, or a newer one.

use phalanx_messages::{Incarnation, NodeId, Term};
use phalanx_storage::BlockIndex;
use phalanx_storage::header::{Header, WriteId};
use phalanx_storage::two_passes::{SlotValue, TwoPasses};
use stateright::{Model, Property};
use uuid::Uuid;

/// See the module.
#[derive(Debug, Clone, Copy)]
pub struct RegisterModel {
    /// Writes, sequence 2 and up; sequence 0 and 1 are those of the formatter.
    pub writes: u8,
    /// Writes that fail, or crashes of the writer.
    pub failures: u8,
    /// Readers.
    pub readers: usize,
    /// Readers believe a single valid slot at once: what R-4 forbids.
    pub one_pass: bool,
}

/// What a block holds: the sequence of a write, or garbage.
type Block = Option<u8>;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Slot {
    block: Block,
    /// The write that is under way.
    writing: Option<u8>,
}

/// One reader in the middle of a read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
struct Reader {
    /// Newest write that had completed when the read began; 0 = no read under way.
    floor: u8,
    /// The look before, if it settled nothing.
    before: Option<[Block; 2]>,
    /// The look under way: slots seen so far.
    seen: [Option<Block>; 2],
}

/// Everything there is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct State {
    slots: [Slot; 2],
    /// Sequence of the next write.
    next: u8,
    completed: u8,
    failures: u8,
    crashed: bool,
    readers: Vec<Reader>,
    stale: bool,
    /// Some read was settled by its second look.
    second_look: bool,
}

/// One step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Issue the next write.
    Write,
    /// It completes.
    Complete,
    /// It fails, or the writer crashes in it, and leaves this behind.
    Fail {
        /// The writer is gone.
        crash: bool,
        /// Contents of the block from now on.
        left: Option<u8>,
    },
    /// A new incarnation goes on after the newest valid slot.
    Restart,
    /// A reader begins.
    Begin(usize),
    /// A reader reads one slot and finds this.
    Look(usize, usize, Option<u8>),
}

impl Slot {
    /// What a read may find.
    fn contents(self) -> Vec<Block> {
        match self.writing {
            None => vec![self.block],
            Some(new) if self.block.is_none() => vec![None, Some(new)],
            Some(new) => vec![self.block, None, Some(new)],
        }
    }
}

impl RegisterModel {
    fn look(self, state: &mut State, reader: usize) {
        let reader = &mut state.readers[reader];
        let [Some(first), Some(second)] = reader.seen else { return };
        let look = [first, second];
        reader.seen = [None, None];
        // The rule depends on the look before and this one only, so it is run on these two.
        let mut rule = TwoPasses::default();
        let before = reader.before.replace(look);
        if let Some(before) = before {
            assert_eq!(rule.look(before.map(|block| block.map(value))), None, "a settled read goes on");
        }
        let settled = match rule.look(look.map(|block| block.map(value))) {
            None if self.one_pass => look.iter().position(Option::is_some),
            settled => settled,
        };
        let Some(believed) = settled.and_then(|slot| look[slot]) else { return };
        state.stale |= believed < reader.floor;
        state.second_look |= before.is_some();
        *reader = Reader::default();
    }

    fn writer_actions(self, state: &State, actions: &mut Vec<Action>) {
        if state.crashed {
            actions.push(Action::Restart);
            return;
        }
        match state.slots.iter().find(|slot| slot.writing.is_some()) {
            None if state.next < self.writes + 2 => actions.push(Action::Write),
            None => {}
            Some(slot) => {
                actions.push(Action::Complete);
                if state.failures < self.failures {
                    for left in slot.contents() {
                        actions.push(Action::Fail { crash: false, left });
                        actions.push(Action::Fail { crash: true, left });
                    }
                }
            }
        }
    }
}

impl Model for RegisterModel {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let slot = |sequence| Slot { block: Some(sequence), writing: None };
        vec![State {
            slots: [slot(0), slot(1)],
            next: 2,
            completed: 1,
            failures: 0,
            crashed: false,
            readers: vec![Reader::default(); self.readers],
            stale: false,
            second_look: false,
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        self.writer_actions(state, actions);
        for (index, reader) in state.readers.iter().enumerate() {
            if reader.floor == 0 {
                actions.push(Action::Begin(index));
                continue;
            }
            for slot in [0, 1].into_iter().filter(|slot| reader.seen[*slot].is_none()) {
                actions.extend(state.slots[slot].contents().into_iter().map(|block| Action::Look(index, slot, block)));
            }
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        let under_way = state.slots.iter().position(|slot| slot.writing.is_some());
        match (action, under_way) {
            (Action::Write, _) => {
                state.slots[usize::from(state.next % 2)].writing = Some(state.next);
                state.next += 1;
            }
            (Action::Complete, Some(slot)) => {
                let written = state.slots[slot].writing.take();
                state.slots[slot].block = written;
                state.completed = written.unwrap_or(state.completed);
            }
            (Action::Fail { crash, left }, Some(slot)) => {
                state.slots[slot] = Slot { block: left, writing: None };
                state.failures += 1;
                state.crashed = crash;
                state.next += u8::from(!crash); // its sequence is burnt, and the same slot is next
            }
            (Action::Complete | Action::Fail { .. }, None) => return None,
            (Action::Restart, _) => {
                let newest = state.slots.iter().filter_map(|slot| slot.block).max()?;
                state.next = newest + 1;
                state.crashed = false;
            }
            (Action::Begin(reader), _) => state.readers[reader].floor = state.completed,
            (Action::Look(reader, slot, block), _) => {
                state.readers[reader].seen[slot] = Some(block);
                self.look(&mut state, reader);
            }
        }
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("REG no read is stale", |_, state: &State| !state.stale),
            Property::always("one slot is always valid", |_, state: &State| {
                state.slots.iter().any(|slot| slot.block.is_some() && slot.writing.is_none())
            }),
            Property::sometimes("the second look settles a read", |_, state: &State| state.second_look),
            Property::sometimes("all writes complete", |model: &Self, state: &State| state.completed > model.writes),
        ]
    }
}

/// The production value of a write.
fn value(sequence: u8) -> SlotValue {
    SlotValue::of(&Header {
        record_type: 0,
        minor: 0,
        cluster: Uuid::nil(),
        address: BlockIndex(0),
        owner: NodeId(0),
        slot: u16::from(sequence % 2),
        part: 0,
        parts: 1,
        incarnation: Incarnation(1),
        epoch: Term(0),
        sequence: u64::from(sequence),
        write: WriteId { boot: 0, counter: u64::from(sequence) },
        payload_bytes: 0,
    })
}
