//! What a run has reached: a campaign that never reaches a place has not tested it (protocol §8.1, "sometimes").

use std::collections::BTreeMap;
use std::fmt::Write as _;

use phalanx_messages::membership::{FenceMethod, MembershipRecord, NodeState, StepPhase, TransitionKind};
use phalanx_messages::peer::JoinRefusal;
use phalanx_protocol::agent::table::{Row, Standing};

use crate::invariants::subjects;

/// See the module.
#[derive(Debug, Clone, Default)]
pub struct Coverage {
    places: BTreeMap<&'static str, u64>,
    rows: BTreeMap<(Row, Standing), u64>,
}

impl Coverage {
    /// A place was reached.
    pub fn reach(&mut self, place: &'static str) {
        *self.places.entry(place).or_default() += 1;
    }

    /// A row of Table 1 was reached from that state.
    pub fn row(&mut self, row: Row, standing: Standing) {
        *self.rows.entry((row, standing)).or_default() += 1;
    }

    /// How often a place was reached.
    #[must_use]
    pub fn count(&self, place: &str) -> u64 {
        self.places.get(place).copied().unwrap_or(0)
    }

    /// Rows of Table 1 that were reached, from whatever state.
    pub fn rows(&self) -> impl Iterator<Item = Row> {
        self.rows.keys().map(|(row, _)| *row)
    }

    /// Adds another run.
    pub fn add(&mut self, other: &Self) {
        for (place, count) in &other.places {
            *self.places.entry(place).or_default() += count;
        }
        for (row, count) in &other.rows {
            *self.rows.entry(*row).or_default() += count;
        }
    }

    /// Everything reached, a line each.
    #[must_use]
    pub fn report(&self) -> String {
        let mut text = String::new();
        for (place, count) in &self.places {
            writeln!(text, "{count:>9}  {place}").ok(); // a string takes everything
        }
        for ((row, standing), count) in &self.rows {
            writeln!(text, "{count:>9}  Table 1: {row:?} in {standing:?}").ok();
        }
        text
    }

    pub(super) fn refused(&mut self, refusal: &JoinRefusal) {
        self.reach(match refusal {
            JoinRefusal::NotMaster => "refused: not master",
            JoinRefusal::BusyLeaving => "refused: busy leaving",
            JoinRefusal::NotConfigured => "refused: not configured",
            JoinRefusal::NotFullyConnected { .. } => "refused: not fully connected",
            JoinRefusal::BarrierMismatch { .. } => "refused: barrier mismatch",
            JoinRefusal::LevelOrder => "refused: level order",
            JoinRefusal::DuplicateId => "refused: duplicate id",
            JoinRefusal::OtherHost => "refused: other host",
            JoinRefusal::KeyMismatch => "refused: key mismatch",
            JoinRefusal::NoQuorum { .. } => "refused: no quorum",
        });
    }

    pub(super) fn forced(&mut self, reason: &str) {
        let kinds = [
            ("unreadable", "forced out: its register is unreadable"),
            ("sign of life", "forced out: silent on the disk"),
            ("connection closed", "forced out: connection closed and silent on the disk"),
            ("are dead", "forced out: its processes are dead"),
            ("started again", "forced out: it was started again"),
            ("links are cut", "forced out: links are cut"),
            ("by hand", "forced out: by hand"),
        ];
        let kind = kinds.into_iter().find(|(word, _)| reason.contains(word));
        self.reach(kind.map_or("forced out: another reason", |(_, place)| place));
    }

    pub(super) fn panicked(&mut self, reason: &str) {
        let kinds = [
            ("by the master", "panic: expelled by the master"),
            ("published the order", "panic: a pill"),
            ("marked (", "panic: marked in the record"),
            ("a ghost", "panic: a ghost in the record"),
            ("by hand", "panic: a master fenced by hand"),
            ("forced out", "panic: told that it is out"),
            ("formed without", "panic: the cluster was formed without this node"),
            ("links are cut", "panic: abdicates"),
            ("shared disk", "panic: the disk fails the register machine"),
            ("warden", "panic: its warden has ended"),
            ("no longer a member", "panic: no longer a member after a stall"),
            ("another host", "panic: another host writes the register"),
            ("took the place", "panic: a newer incarnation is active"),
        ];
        let kind = kinds.into_iter().find(|(word, _)| reason.contains(word));
        self.reach(kind.map_or("panic: another reason", |(_, place)| place));
    }

    /// A record was committed.
    pub(super) fn committed(&mut self, record: &MembershipRecord) {
        self.reach("records committed");
        for (subject, step) in subjects(record) {
            let ghost = matches!(subject, phalanx_protocol::coordinator::level_states::Subject::Ghost(_));
            match (step.phase, step.kind, step.restart > 0) {
                (StepPhase::Held, TransitionKind::Joining, _) => self.reach("held: a join"),
                (StepPhase::Held, TransitionKind::Leaving, _) => self.reach("held: a leave"),
                (StepPhase::Held, TransitionKind::ForcedLeaving, _) => self.reach("held: a recovery"),
                (StepPhase::Notifying, TransitionKind::Joining, true) => self.reach("restarted: a join"),
                (StepPhase::Notifying, TransitionKind::Leaving, true) => self.reach("restarted: a leave"),
                (StepPhase::Notifying, TransitionKind::ForcedLeaving, true) => self.reach("restarted: a recovery"),
                (_, _, _) => {}
            }
            if ghost {
                self.reach("a ghost is being recovered");
            }
        }
        for method in record.nodes.values().filter_map(|entry| entry.fence.method) {
            self.reach(match method {
                FenceMethod::OwnWord => "proof: own word (F0)",
                FenceMethod::Local => "proof: local fence (F3)",
                FenceMethod::Operator => "proof: operator (F5)",
                FenceMethod::NewIncarnation => "proof: new incarnation",
                FenceMethod::Agent => "proof: fence agent (F2)",
                FenceMethod::Storage => "proof: storage fence (F1)",
                FenceMethod::Deadline => "proof: deadline (F4)",
            });
        }
        let forced = record.nodes.values().filter(|entry| entry.state == NodeState::ForcedLeaving);
        let running = |phase| {
            move |entry: &&phalanx_messages::membership::MemberEntry| {
                entry.step.as_ref().is_some_and(|step| step.phase == phase)
            }
        };
        let forced: Vec<_> = forced.collect();
        if forced.len() > 1 && forced.iter().copied().any(|entry| running(StepPhase::Held)(&entry)) {
            self.reach("double failure in recovery");
        }
        if record.nodes.values().any(|entry| entry.leave_requested && entry.state == NodeState::Joining) {
            self.reach("a leave is asked for while joining");
        }
    }
}
