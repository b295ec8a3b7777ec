//! What can be seen of a simulated cluster from outside.

use phalanx_messages::NodeId;
use phalanx_messages::membership::{FenceMethod, NodeState};
use phalanx_messages::register::ClaimPhase;

use super::SimulatedCluster;
use super::stage::{Event, Happened};
use crate::order_checker;

impl SimulatedCluster {
    /// State of a node in the newest record on the disk.
    #[must_use]
    pub fn state(&self, id: u16) -> NodeState {
        let record = self.disk.memberships().newest().expect("memory is readable").unwrap_or_default();
        record.nodes.get(&NodeId(id)).map_or(NodeState::Inactive, |entry| entry.state)
    }

    /// Why a node was forced out, by the newest record.
    #[must_use]
    pub fn reason(&self, id: u16) -> String {
        let record = self.disk.memberships().newest().expect("memory is readable").unwrap_or_default();
        record.nodes.get(&NodeId(id)).map_or_else(String::new, |entry| entry.reason.clone())
    }

    /// How its death was proved, by the newest record.
    #[must_use]
    pub fn proof(&self, id: u16) -> Option<FenceMethod> {
        let record = self.disk.memberships().newest().expect("memory is readable").unwrap_or_default();
        record.nodes.get(&NodeId(id)).and_then(|entry| entry.fence.method)
    }

    /// Suspect rounds that have been announced: each is a peer that was lost while its disk showed it alive (protocol §4.1).
    #[must_use]
    pub fn rounds(&self) -> u64 {
        let registers = self.disk.registers().read_all().expect("memory is readable");
        registers.values().flatten().map(|register| register.announced_round).max().unwrap_or(0)
    }

    /// Whose register owns the highest term, if it is alive.
    #[must_use]
    pub fn master(&self) -> Option<u16> {
        let registers = self.disk.registers().read_all().expect("memory is readable");
        let owner = |(node, register): (&NodeId, &Option<phalanx_messages::register::NodeRegister>)| {
            let register = register.as_ref().filter(|register| register.claim.phase == ClaimPhase::Owner)?;
            Some((register.claim.term, node.0))
        };
        let newest = registers.iter().filter_map(owner).max();
        newest.map(|(_, node)| node).filter(|node| self.stage.is_alive(*node))
    }

    /// Where the service runs.
    #[must_use]
    pub fn serving(&self) -> Vec<u16> {
        self.stage.serving()
    }

    /// A node's process runs.
    #[must_use]
    pub fn is_alive(&self, id: u16) -> bool {
        self.stage.is_alive(id)
    }

    /// Everything that happened, in order.
    #[must_use]
    pub fn journal(&self) -> Vec<Event> {
        self.stage.journal()
    }

    /// Nodes that panicked, with their reasons, in order.
    #[must_use]
    pub fn panics(&self) -> Vec<(u16, String)> {
        let panic = |event: Event| match event.what {
            Happened::Panicked(reason) => Some((event.node, reason)),
            Happened::Started
            | Happened::Joined
            | Happened::Ended(_)
            | Happened::Dead
            | Happened::Step(_)
            | Happened::Service(_) => None,
        };
        self.journal().into_iter().filter_map(panic).collect()
    }

    /// True if the journal has such an event.
    #[must_use]
    pub fn has_happened(&self, wanted: impl FnMut(&Event) -> bool) -> bool {
        self.stage.journal_has(wanted)
    }

    /// Every step of every subsystem was in order.
    ///
    /// # Panics
    /// With those that were not.
    pub fn check(&self) {
        let wrong = self.disorder();
        assert!(wrong.is_empty(), "steps out of order: {wrong:#?}\n{}", self.text());
    }

    /// Every step of a subsystem that was out of order.
    ///
    /// # Panics
    /// If no subsystem did anything.
    #[must_use]
    pub fn disorder(&self) -> Vec<String> {
        let step = |event: Event| if let Happened::Step(line) = event.what { Some(line) } else { None };
        let steps: Vec<_> = self.journal().into_iter().filter_map(step).collect();
        assert!(!steps.is_empty(), "no subsystem was notified");
        order_checker::check(&steps)
    }

    /// The journal as text.
    #[must_use]
    pub fn text(&self) -> String {
        let line = |Event { at_ms, node, what, .. }: Event| match what {
            Happened::Step(line) => {
                format!("{at_ms:>8} {} {}\n", line.text(), if line.ended { "ended" } else { "begun" })
            }
            what @ (Happened::Started
            | Happened::Joined
            | Happened::Ended(_)
            | Happened::Panicked(_)
            | Happened::Dead
            | Happened::Service(_)) => format!("{at_ms:>8} n{node} {what:?}\n"),
        };
        self.journal().into_iter().map(line).collect()
    }
}
