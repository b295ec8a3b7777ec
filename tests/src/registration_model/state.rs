//! One state of the world of MC6, in a normal form: whatever can make no difference any more is left out.
//!
//! Operations are named by their order on one node and in one lane, and by whether they are the database's current one.

use std::hash::{Hash, Hasher};

use phalanx_messages::NodeId;
use phalanx_messages::registration::CommandKind;

use super::{Budget, LANES_MAX, NODES_MAX};

/// An interned database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RecordId(pub u32);

/// An interned view.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ViewId(pub u32);

/// An operation as one slot knows it; later ones are greater.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Op(pub u8);

impl Op {
    /// None was seen.
    pub const NONE: Self = Self(0);
    /// Was the current one until now; later than every other old one.
    pub const NEWLY_OLD: Self = Self(254);
    /// The current operation of the machine in the database.
    pub const CURRENT: Self = Self(255);

    const fn is_old(self) -> bool {
        self.0 != Self::NONE.0 && self.0 != Self::CURRENT.0
    }
}

/// What is remembered of the newest operation.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Memory {
    pub last: Op,
    pub result: Option<bool>,
}

/// A command that was superseded and may still arrive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Late {
    pub op: Op,
    pub kind: CommandKind,
    pub incarnation: u8,
}

/// Most superseded commands on their way to one slot.
pub const LATE_MAX: usize = 4;

/// One lane on one node.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Slot {
    /// What the executor knows.
    pub executor: Memory,
    /// What the warden knows.
    pub warden: Memory,
    /// What runs for the newest operation.
    pub running: Option<CommandKind>,
    /// Processes of the service may run.
    pub service: bool,
    /// Processes of a recovery may run.
    pub recovery: bool,
    /// A start really succeeded (only looked at with strict starts).
    pub worked: bool,
    /// A result of the current operation, said by an incarnation that is gone.
    pub posthumous: Option<bool>,
    pub late: [Option<Late>; LATE_MAX],
}

impl Slot {
    /// Something of the lane may run here.
    pub const fn may_run(&self) -> bool {
        self.service || self.recovery
    }

    /// The current operation of the lane is superseded.
    pub fn supersede(&mut self) {
        let late = self.late.iter_mut().flatten().map(|late| &mut late.op);
        for op in [&mut self.executor.last, &mut self.warden.last].into_iter().chain(late) {
            if *op == Op::CURRENT {
                *op = Op::NEWLY_OLD;
            }
        }
        self.posthumous = None;
    }

    /// A command that was superseded goes on its way.
    ///
    /// # Panics
    /// If more are on their way than there is room for: the bounds of the model are too wide.
    pub fn send_late(&mut self, late: Late) {
        if !self.late.contains(&Some(late)) {
            let free = self.late.iter_mut().find(|place| place.is_none());
            *free.expect("there is room for a late command") = Some(late);
        }
    }

    /// Forgets what can never arrive or count any more.
    pub fn prune(&mut self, life: Life, keeps: Keeps) {
        if life.present.is_none() {
            let said = self.executor.last == Op::CURRENT;
            let posthumous = self.posthumous.or(self.executor.result.filter(|_| said));
            *self = Self { posthumous, late: self.late, ..Self::default() };
        }
        for place in &mut self.late {
            let hopeless = |late: &Late| {
                let gone = !keeps.incarnations && life.present != Some(late.incarnation);
                gone || (!keeps.operations && late.op <= self.warden.last)
            };
            if place.as_ref().is_some_and(hopeless) {
                *place = None;
            }
        }
        if !keeps.results {
            for memory in [&mut self.executor, &mut self.warden] {
                memory.result = memory.result.filter(|_| memory.last == Op::CURRENT);
            }
        }
        self.rename();
    }

    fn rename(&mut self) {
        let late = self.late.iter().flatten().map(|late| late.op);
        let mut old: Vec<Op> = late.chain([self.executor.last, self.warden.last]).filter(|op| op.is_old()).collect();
        old.sort_unstable();
        old.dedup();
        let name = |op: &mut Op| {
            if let Some(place) = old.iter().position(|other| other == op) {
                *op = Op(u8::try_from(place + 1).unwrap_or(Op::NEWLY_OLD.0 - 1));
            }
        };
        name(&mut self.executor.last);
        name(&mut self.warden.last);
        self.late.iter_mut().flatten().for_each(|late| name(&mut late.op));
        self.late.sort_unstable();
    }
}

/// Which incarnation of a node is at the level, if any.
#[derive(Debug, Clone, Copy)]
pub struct Life {
    pub present: Option<u8>,
}

/// What must be kept although the rules make it harmless, because one of them is taken out.
#[derive(Debug, Default, Clone, Copy)]
pub struct Keeps {
    pub incarnations: bool,
    pub operations: bool,
    pub results: bool,
}

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct State {
    /// The level as it is.
    pub truth: ViewId,
    /// The committed database.
    pub database: RecordId,
    /// The level as each node has adopted it.
    pub views: [ViewId; NODES_MAX],
    /// The view of a decision that is still undecided (only of a variant).
    pub deciding: [Option<ViewId>; NODES_MAX],
    /// Nodes of whom each node has not adopted the newest truth, as bits.
    pub behind: [u8; NODES_MAX],
    /// Marked nodes, as bits.
    pub marked: u8,
    /// Lanes of which a registered instance was lost and is not recovered, as bits.
    pub lost: u8,
    /// Likewise, of whatever really worked.
    pub worked: u8,
    pub slots: [[Slot; LANES_MAX]; NODES_MAX],
    pub budget: Budget,
}

impl State {
    pub const fn is_marked(&self, node: NodeId) -> bool {
        self.marked & bit(node) != 0
    }

    pub fn slot(&mut self, node: NodeId, lane: usize) -> &mut Slot {
        &mut self.slots[usize::from(node.0)][lane]
    }

    /// 64 bits; two states with the same are taken for one.
    pub fn fingerprint(&self) -> u64 {
        let mut mixer = Mixer(0x1234_5678, 0x9abc_def0);
        self.hash(&mut mixer);
        mixer.finish()
    }
}

/// One node in a set of bits.
pub const fn bit(node: NodeId) -> u8 {
    1 << node.0
}

struct Mixer(u64, u64);

impl Hasher for Mixer {
    fn finish(&self) -> u64 {
        self.0 ^ self.1.rotate_left(29)
    }

    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.write_u64(u64::from_le_bytes(word));
        }
    }

    fn write_u8(&mut self, number: u8) {
        self.write_u64(u64::from(number));
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = (self.0 ^ number).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        self.0 ^= self.0 >> 32;
        self.1 = (self.1.rotate_left(5) ^ number).wrapping_mul(0xD6E8_FEB8_6659_FD93);
        self.1 ^= self.1 >> 29;
    }
}
