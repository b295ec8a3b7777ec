//! What a node shows of the membership.

use phalanx_messages::configuration::{ChangeRefusal, NodeChange};
use phalanx_messages::membership::Step;
use phalanx_messages::register::{ClaimPhase, HostWords};
use phalanx_messages::set::NodeSet;
use phalanx_messages::trace::TransitionTrace;
use phalanx_messages::{Instant, Term, TransitionId};

use super::*;
use crate::configuration::{change, same_settings};
use crate::coordinator::Coordinator;
use crate::coordinator::level_states::unmarked_members;
use crate::quorum::Quorum;

impl Manager {
    /// This node.
    #[must_use]
    pub const fn me(&self) -> NodeIncarnation {
        self.settings.me
    }

    /// Node ids lie below this.
    #[must_use]
    pub const fn nodes_max(&self) -> u16 {
        self.settings.nodes_max
    }

    /// Nothing is decided any more.
    #[must_use]
    pub const fn has_ended(&self) -> bool {
        self.ended
    }

    /// The newest committed record this node knows.
    #[must_use]
    pub const fn record(&self) -> &Arc<MembershipRecord> {
        &self.newest
    }

    /// The configuration that this node goes by.
    #[must_use]
    pub const fn configuration(&self) -> &Arc<ConfigurationRecord> {
        &self.configuration
    }

    /// The highest term that somebody with a live lease owns, and who.
    #[must_use]
    pub fn owner(&self, now: Instant) -> Option<(Term, NodeId)> {
        let candidates = self.watch.candidates(now);
        let owners = candidates.iter().filter(|(_, node)| node.live && node.claim.phase == ClaimPhase::Owner);
        owners.map(|(node, candidate)| (candidate.claim.term, *node)).max()
    }

    /// Votes of a majority cluster: whether there are enough, how many there are, and how many are needed. None if the disk decides
    /// alone. A node that is not master counts the members whose registers are alive, as the master will in a moment.
    #[must_use]
    pub fn votes(&self, now: Instant) -> Option<(bool, u32, u32)> {
        self.configuration.disk_votes?;
        let quorum = Quorum::of(&self.configuration);
        let candidates = self.watch.candidates(now);
        let alive = |node: &NodeId| candidates.get(node).is_some_and(|candidate| candidate.live);
        let members = unmarked_members(&self.newest).iter().filter(alive).collect();
        let present = self.coordinator.as_ref().and_then(Coordinator::present).unwrap_or(members);
        let (votes, needed) = quorum.count(&present);
        Some((quorum.is_reached_by(&present), votes, needed))
    }

    /// This node has the role of the master and no doubt about it, be its lease valid or not.
    #[must_use]
    pub const fn leads(&self) -> bool {
        self.coordinator.is_some() && self.frm.is_owner()
    }

    /// The lease was valid when it was last spoken of.
    #[must_use]
    pub const fn lease_valid(&self) -> bool {
        self.lease_valid
    }

    fn running(&self) -> impl Iterator<Item = &Step> {
        let entries = self.newest.nodes.values().filter_map(|entry| entry.step.as_ref());
        entries.chain(self.newest.ghosts.values().map(|ghost| &ghost.step))
    }

    /// Who has not acknowledged the running step of a transition; exact on the master, all participants elsewhere.
    #[must_use]
    pub fn awaiting(&self) -> BTreeMap<TransitionId, NodeSet> {
        let awaiting = |step: &Step| {
            self.coordinator.as_ref().map_or(step.participants, |coordinator| coordinator.awaiting(step.transition))
        };
        self.running().map(|step| (step.transition, awaiting(step))).collect()
    }

    /// Milliseconds that each running transition has taken.
    #[must_use]
    pub fn running_ms(&self, now: Instant) -> BTreeMap<TransitionId, u64> {
        let taken = |id: TransitionId| self.chronicle.running_for_ms(id, now.0).unwrap_or(0);
        self.running().map(|step| (step.transition, taken(step.transition))).collect()
    }

    /// What the registers say of the nodes' hosts.
    #[must_use]
    pub fn hosts(&self) -> BTreeMap<NodeId, HostWords> {
        let registers = self.reading.iter().flat_map(|reading| reading.registers.iter());
        registers.filter_map(|(node, register)| Some((*node, register.as_ref()?.host_words()))).collect()
    }

    /// What this node remembers of a transition, or of the newest one it has seen.
    #[must_use]
    pub fn trace(&self, which: Option<TransitionId>, now: Instant) -> Option<TransitionTrace> {
        self.chronicle.trace(which, now.0)
    }

    /// Whether these changes would change anything.
    ///
    /// # Errors
    /// The refusal that they would meet.
    pub fn try_change(&self, changes: &[NodeChange]) -> Result<bool, ChangeRefusal> {
        let changed = change(&self.configuration, &self.newest, self.settings.nodes_max, changes)?;
        Ok(!same_settings(&changed, &self.configuration))
    }
}
