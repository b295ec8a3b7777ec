//! The world of MC1: registers, nodes, and what a perfect observer knows.

use std::collections::BTreeMap;

use phalanx_messages::register::{Claim, ClaimPhase};
use phalanx_messages::{Incarnation, NodeId, Revision, Term};
use phalanx_protocol::bugs::Bug;
use phalanx_protocol::frm::{ClaimView, ClaimViews, Frm, FrmInput, FrmOutput};

use super::{Action, FrmModel};

/// A regular register with its outstanding write, and one of a dead incarnation that a newer one did not wait for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(super) struct Register<T> {
    value: T,
    pending: Option<T>,
    late: Option<T>,
}

/// What a read of a register may return.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Values {
    /// The last completed write.
    Completed,
    /// The outstanding one.
    Outstanding,
}

/// Which register of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Write {
    /// Its claim.
    Claim,
    /// Its record.
    Record,
}

impl<T: Copy> Register<T> {
    pub(super) fn values(&self) -> impl Iterator<Item = Values> + use<T> {
        [Some(Values::Completed), self.pending.is_some().then_some(Values::Outstanding)].into_iter().flatten()
    }

    pub(super) fn get(&self, value: Values) -> T {
        match value {
            Values::Completed => self.value,
            Values::Outstanding => self.pending.unwrap_or(self.value),
        }
    }

    pub(super) const fn is_pending(&self) -> bool {
        self.pending.is_some()
    }

    fn write(&mut self, value: T) {
        assert!(self.pending.is_none(), "R-1: at most one outstanding write");
        self.pending = Some(value);
    }

    fn complete(&mut self) {
        self.value = self.pending.take().unwrap_or(self.value);
    }

    fn abandon(&mut self) {
        self.late = self.pending.take();
    }
}

/// A committed or uncommitted record: its revision and the set of decisions in it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Record {
    revision: Revision,
    decisions: u8,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Node {
    pub(super) claim: Register<Claim>,
    pub(super) record: Register<Record>,
    pub(super) run: Run,
    incarnation: Incarnation,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Run {
    Down,
    Up {
        frm: Frm,
        doing: Doing,
        /// Decisions in the owner's state, the one being committed included.
        decisions: u8,
    },
}

/// The output that the node is carrying out.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Doing {
    /// The first write of this incarnation.
    Booting,
    Resting,
    Paused(Paused),
    Publishing,
    Writing,
    Reading {
        survey: bool,
        read: Vec<(Claim, bool)>,
    },
    Loading {
        next: usize,
        best: Record,
    },
}

/// Why a node looks again after a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Paused {
    /// A claimant lets a higher one go first.
    Waiting,
    /// An owner saw a newer claim.
    Suspended,
}

impl Node {
    /// A write of a dead incarnation may still take effect.
    pub(super) fn may_land(&self, write: Write, early_restart: bool) -> bool {
        let down = self.run == Run::Down && !early_restart;
        match write {
            Write::Claim => (down && self.claim.is_pending()) || self.claim.late.is_some(),
            Write::Record => (down && self.record.is_pending()) || self.record.late.is_some(),
        }
    }

    pub(super) fn highest_term(&self) -> Term {
        self.claim.pending.map_or(Term(0), |claim| claim.term).max(self.claim.value.term)
    }
}

/// Everything there is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct State {
    pub(super) nodes: Vec<Node>,
    pub(super) crashes: u8,
    pub(super) decisions_made: u8,
    /// Who passed step 5d of each term.
    pub(super) owners: BTreeMap<Term, (NodeId, Incarnation)>,
    /// Every committed record.
    committed: Vec<Record>,
    /// I-M1 is broken.
    pub two_owners: bool,
    /// I-M2 is broken.
    pub chain_broken: bool,
    /// I-M6 is broken.
    pub gone_back: bool,
    pub(super) landed_late: bool,
}

impl State {
    pub(super) fn initial(nodes: u16) -> Self {
        let node = |index: u16| Node {
            claim: Register::default(),
            record: Register::default(),
            run: Run::Up {
                frm: Frm::new(NodeId(index), Incarnation(1), Claim::default()),
                doing: Doing::Resting,
                decisions: 0,
            },
            incarnation: Incarnation(1),
        };
        Self {
            nodes: (0..nodes).map(node).collect(),
            crashes: 0,
            decisions_made: 0,
            owners: BTreeMap::new(),
            committed: Vec::new(),
            two_owners: false,
            chain_broken: false,
            gone_back: false,
            landed_late: false,
        }
    }

    /// Index of the register that `reader` reads after `done` others. It does not read its own.
    pub(super) fn reads_next(&self, reader: NodeId, done: usize) -> usize {
        if done < usize::from(reader.0) { done } else { done + 1 }
    }

    pub(super) fn pauses(&self, why: Paused) -> bool {
        self.nodes
            .iter()
            .any(|node| matches!(&node.run, Run::Up { doing: Doing::Paused(paused), .. } if *paused == why))
    }

    pub(super) fn decision_survived(&self) -> bool {
        self.committed.iter().any(|record| record.revision.seq == 0 && record.decisions != 0)
    }

    pub(super) fn apply(&mut self, model: &FrmModel, action: Action) {
        match action {
            Action::Elect(id, term) => self.elect(model, id, Term(term)),
            Action::Commit(id) => {
                let bit = 1 << self.decisions_made;
                self.decisions_made += 1;
                if let Run::Up { decisions, .. } = &mut self.node(id).run {
                    *decisions |= bit;
                }
                self.step(model, id, FrmInput::Commit);
            }
            Action::Resign(id) => self.step(model, id, FrmInput::Resign),
            Action::Poll(id) => self.step(model, id, FrmInput::Poll),
            Action::Observe(id) => self.observe(model, id),
            Action::Read { reader, value, alive } => self.read(model, reader, value, alive),
            Action::Complete(id) => self.complete(model, id),
            Action::Crash(id) => {
                self.crashes += 1;
                self.node(id).run = Run::Down;
            }
            Action::Restart(id) => self.restart(model, id),
            Action::Land(id, write) => self.land(id, write),
            Action::Vanish(id, Write::Claim) => {
                let claim = &mut self.node(id).claim;
                let _gone = claim.late.take().or_else(|| claim.pending.take());
            }
            Action::Vanish(id, Write::Record) => {
                let record = &mut self.node(id).record;
                let _gone = record.late.take().or_else(|| record.pending.take());
            }
        }
    }

    fn node(&mut self, id: NodeId) -> &mut Node {
        &mut self.nodes[usize::from(id.0)]
    }

    /// A node stands for election. Without a survey the machine is shown a register that leads it to `term`.
    fn elect(&mut self, model: &FrmModel, id: NodeId, term: Term) {
        self.step(model, id, FrmInput::Elect);
        if !model.bounds.survey {
            let burnt = Claim { term: Term(term.0 - 1), phase: ClaimPhase::Withdrawn, owned: Term(0) };
            let other = NodeId(u16::from(id.0 == 0));
            self.step(model, id, FrmInput::Registers([(other, Some(view(burnt, false)))].into()));
        }
    }

    fn observe(&mut self, model: &FrmModel, id: NodeId) {
        let views = self.nodes.iter().enumerate().map(|(index, node)| (self::id(index), node.claim.value));
        let views: ClaimViews =
            views.filter(|(node, _)| *node != id).map(|(node, claim)| (node, Some(view(claim, false)))).collect();
        self.step(model, id, FrmInput::Observed(views));
    }

    fn read(&mut self, model: &FrmModel, id: NodeId, value: Values, alive: bool) {
        let nodes = self.nodes.len();
        let source = match &self.nodes[usize::from(id.0)].run {
            Run::Up { doing: Doing::Reading { read, .. }, .. } => self.reads_next(id, read.len()),
            Run::Up { doing: Doing::Loading { next, .. }, .. } => *next,
            Run::Up { .. } | Run::Down => return,
        };
        let (claim, record) = (self.nodes[source].claim.get(value), self.nodes[source].record.get(value));
        let Run::Up { doing, decisions, .. } = &mut self.node(id).run else { return };
        let input = match doing {
            Doing::Reading { read, .. } => {
                read.push((claim, alive));
                if read.len() + 1 < nodes {
                    return;
                }
                let read = std::mem::take(read);
                let views = read.into_iter().enumerate();
                FrmInput::Registers(
                    views.map(|(done, (claim, alive))| (seen_from(id, done), Some(view(claim, alive)))).collect(),
                )
            }
            Doing::Loading { next, best } => {
                *best = record.max(*best);
                *next += 1;
                if *next < nodes {
                    return;
                }
                *decisions = best.decisions;
                FrmInput::Loaded((best.revision != Revision::default()).then_some(best.revision))
            }
            Doing::Booting | Doing::Resting | Doing::Paused(_) | Doing::Publishing | Doing::Writing => return,
        };
        self.step(model, id, input);
    }

    fn complete(&mut self, model: &FrmModel, id: NodeId) {
        let Run::Up { doing, .. } = &self.node(id).run else { return };
        let write = if *doing == Doing::Writing { Write::Record } else { Write::Claim };
        let booting = *doing == Doing::Booting;
        self.take_effect(id, write);
        if booting {
            self.set_doing(id, Doing::Resting);
        } else {
            let input = if write == Write::Record { FrmInput::Written } else { FrmInput::Published };
            self.step(model, id, input);
        }
    }

    fn take_effect(&mut self, id: NodeId, write: Write) {
        let node = self.node(id);
        let before = (node.claim.value, node.record.value.revision);
        match write {
            Write::Claim => node.claim.complete(),
            Write::Record => node.record.complete(),
        }
        self.compare(id, before);
    }

    /// I-M6: terms never go back, nor does `owned`.
    fn compare(&mut self, id: NodeId, before: (Claim, Revision)) {
        let node = self.node(id);
        let (claim, record) = (node.claim.value, node.record.value.revision);
        self.gone_back |= claim.term < before.0.term || claim.owned < before.0.owned || record < before.1;
    }

    fn restart(&mut self, model: &FrmModel, id: NodeId) {
        let node = self.node(id);
        // Nothing is outstanding here unless the model breaks the rule of §3.7.
        node.claim.abandon();
        node.record.abandon();
        node.incarnation = node.incarnation.next();
        let (incarnation, on_disk) = (node.incarnation, node.claim.value);
        let frm = on_machine(model.bug, || Frm::new(id, incarnation, on_disk));
        node.claim.write(frm.claim());
        node.run = Run::Up { frm, doing: Doing::Booting, decisions: 0 };
    }

    fn land(&mut self, id: NodeId, write: Write) {
        let superseded = self.owners.last_key_value().map(|(term, _)| *term);
        let node = self.node(id);
        let before = (node.claim.value, node.record.value.revision);
        match write {
            Write::Claim => match node.claim.late.take() {
                Some(late) => node.claim.value = late,
                None => node.claim.complete(),
            },
            Write::Record => match node.record.late.take() {
                Some(late) => node.record.value = late,
                None => node.record.complete(),
            },
        }
        let landed = write == Write::Record && Some(node.record.value.revision.term) < superseded;
        self.landed_late |= landed;
        self.compare(id, before);
    }

    fn set_doing(&mut self, id: NodeId, what: Doing) {
        if let Run::Up { doing, .. } = &mut self.node(id).run {
            *doing = what;
        }
    }

    /// Gives the machine an input and begins what it asks for.
    fn step(&mut self, model: &FrmModel, id: NodeId, input: FrmInput) {
        let survey = input == FrmInput::Elect;
        let awaited = matches!(input, FrmInput::Resign | FrmInput::Observed(_));
        let Run::Up { frm, .. } = &mut self.node(id).run else { return };
        let outputs = on_machine(model.bug, || frm.step(input));
        if !awaited || !outputs.is_empty() {
            self.set_doing(id, Doing::Resting);
        }
        for output in outputs {
            self.perform(id, output, survey);
        }
    }

    fn perform(&mut self, id: NodeId, output: FrmOutput, survey: bool) {
        let doing = match output {
            FrmOutput::ReadRegisters => Doing::Reading { survey, read: Vec::new() },
            FrmOutput::Publish(claim) => {
                self.node(id).claim.write(claim);
                Doing::Publishing
            }
            FrmOutput::Load => {
                self.own(id);
                Doing::Loading { next: 0, best: Record::default() }
            }
            FrmOutput::Write(revision) => {
                let node = self.node(id);
                if let Run::Up { decisions, .. } = node.run {
                    node.record.write(Record { revision, decisions });
                }
                Doing::Writing
            }
            FrmOutput::Owned(revision) | FrmOutput::Committed(revision) => {
                self.commit(id, revision);
                return;
            }
            FrmOutput::Suspended => Doing::Paused(Paused::Suspended),
            FrmOutput::Waiting => Doing::Paused(Paused::Waiting),
            FrmOutput::Resumed | FrmOutput::Withdrawn | FrmOutput::Deposed { .. } | FrmOutput::Resigned => return,
        };
        self.set_doing(id, doing);
    }

    /// I-M1. A term of an earlier incarnation is another owner's.
    fn own(&mut self, id: NodeId) {
        let node = &self.nodes[usize::from(id.0)];
        let Run::Up { frm, .. } = &node.run else { return };
        let owner = (id, node.incarnation);
        self.two_owners |= *self.owners.entry(frm.term()).or_insert(owner) != owner;
    }

    /// I-M2: committed records form one chain in which decisions only accumulate.
    fn commit(&mut self, id: NodeId, revision: Revision) {
        let Run::Up { decisions, .. } = self.node(id).run else { return };
        let record = Record { revision, decisions };
        let place = self.committed.partition_point(|known| *known < record);
        self.committed.insert(place, record);
        self.chain_broken |= self.committed.windows(2).any(|pair| {
            let [earlier, later] = pair else { return false };
            earlier.revision == later.revision || earlier.decisions & !later.decisions != 0
        });
    }
}

/// Which node is the one that `reader` reads after `done` others.
fn seen_from(reader: NodeId, done: usize) -> NodeId {
    let done = id(done);
    if done < reader { done } else { NodeId(done.0 + 1) }
}

pub(super) fn id(index: usize) -> NodeId {
    NodeId(u16::try_from(index).unwrap_or(u16::MAX))
}

pub(super) const fn is_claimed(claim: Claim) -> bool {
    matches!(claim.phase, ClaimPhase::Claim | ClaimPhase::Owner)
}

const fn view(claim: Claim, alive: bool) -> ClaimView {
    ClaimView { claim, expired: !alive, incarnation: Incarnation(1), heartbeat: alive as u64 }
}

/// Runs the production machine, with a rule taken out if the model says so.
#[cfg(feature = "deliberate-bugs")]
fn on_machine<R>(bug: Option<Bug>, run: impl FnOnce() -> R) -> R {
    phalanx_protocol::bugs::with(bug, run)
}

#[cfg(not(feature = "deliberate-bugs"))]
fn on_machine<R>(bug: Option<Bug>, run: impl FnOnce() -> R) -> R {
    assert!(bug.is_none(), "this build has no deliberate bugs");
    run()
}
