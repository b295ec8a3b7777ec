//! What proves a death: what the disk says by itself, and what the fence is asked to find out (protocol §4.5, §4.6 step 0 and 3).

use std::collections::BTreeMap;

use phalanx_messages::membership::{FenceMethod, NodeState};
use phalanx_messages::register::{FenceHandle, NodeRegister, OwnState};
use phalanx_messages::{Instant, NodeIncarnation};

use super::*;

/// A ghost's host is left alone by fence agents for this long after it was first looked for, in milliseconds. A cluster that is
/// switched on again finds ghosts of everybody (protocol T-18): whose host is still booting proves its end by starting, and
/// must not be switched off for what it was.
pub const GHOST_GRACE_MS: u64 = 30_000;

/// By which methods a victim's death may be proved.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct FenceTarget {
    /// Name of the node.
    pub name: String,
    /// F3: it ran on this host.
    pub local: Option<FenceHandle>,
    /// F2: it runs on another host. Tried in this order.
    pub agents: Vec<FenceAgent>,
    /// A write of the host may take effect until so long after it was switched off, in milliseconds (`T_late`).
    pub late_ms: u64,
}

/// Since when ghosts wait for a proof.
#[derive(Debug, Default)]
pub(super) struct GhostsSought(BTreeMap<NodeIncarnation, Instant>);

impl Manager {
    /// Marked victims, ghosts included, whose death is not certain yet.
    fn uncertain(&self) -> Vec<NodeIncarnation> {
        let entries = self.newest.nodes.iter();
        let entries = entries
            .filter(|(_, entry)| entry.state == NodeState::ForcedLeaving && !entry.fence.death_certain)
            .map(|(node, entry)| NodeIncarnation { node: *node, incarnation: entry.incarnation });
        entries.chain(self.uncertain_ghosts()).collect()
    }

    fn uncertain_ghosts(&self) -> impl Iterator<Item = NodeIncarnation> {
        let ghosts = self.newest.ghosts.iter().filter(|(_, ghost)| !ghost.fence.death_certain);
        ghosts.map(|(node, ghost)| NodeIncarnation { node: *node, incarnation: ghost.incarnation })
    }

    /// The victim's own word, or its successor's start, which came after its processes were counted (protocol §3.7, T-13).
    pub(super) fn proofs_on_disk(&self) -> Vec<(NodeIncarnation, FenceMethod)> {
        let proof = |victim: NodeIncarnation| {
            let sign = self.watch.disk_sign(victim.node, self.now())?;
            if sign.incarnation > victim.incarnation {
                return Some((victim, FenceMethod::NewIncarnation));
            }
            let own_word = sign.incarnation == victim.incarnation && sign.own_state == OwnState::DeadDrained;
            own_word.then_some((victim, FenceMethod::OwnWord))
        };
        self.uncertain().into_iter().filter_map(proof).collect()
    }

    pub(super) fn seek_proofs(&mut self) {
        let now = self.now();
        let ghosts: Vec<NodeIncarnation> = self.uncertain_ghosts().collect();
        self.ghosts_sought.0.retain(|ghost, _| ghosts.contains(ghost));
        for ghost in ghosts {
            self.ghosts_sought.0.entry(ghost).or_insert(now);
        }
        let wanted = self.uncertain().into_iter();
        let wanted = wanted.filter_map(|victim| Some((victim, self.target(victim)?))).collect();
        self.emit(ManagerOutput::SeekProofs(wanted));
    }

    /// None while nothing is known of where the victim ran.
    fn target(&self, victim: NodeIncarnation) -> Option<FenceTarget> {
        let register = self.reading.as_ref()?.registers.get(&victim.node)?.as_ref();
        // Only the register of the victim's own incarnation tells how to kill it: a newer start must not be hit.
        if register.is_some_and(|register| register.incarnation != victim.incarnation) {
            return None;
        }
        let is_here = |register: &&NodeRegister| self.settings.one_host || register.boot == self.settings.boot;
        let local = register.filter(is_here).map(|register| register.fence.clone());
        let configured = self.configuration.nodes.get(&victim.node);
        let waits = |since: &Instant| self.now().since(*since) < GHOST_GRACE_MS;
        // To switch off the own host would prove nothing to anybody here.
        let is_elsewhere = !self.settings.one_host && local.is_none();
        let may_use_agents = is_elsewhere && !self.ghosts_sought.0.get(&victim).is_some_and(waits);
        let agents = configured.filter(|_| may_use_agents).map(|node| node.fence.clone());
        Some(FenceTarget {
            name: self.configuration.name_of(victim.node),
            local,
            agents: agents.unwrap_or_default(),
            late_ms: self.settings.profile.late_write_ms,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use phalanx_messages::configuration::{ConfigurationRecord, NodeConfiguration};
    use phalanx_messages::membership::{
        FenceState, MemberEntry, MembershipRecord, Step, StepPhase, TransitionKind, Victim,
    };
    use phalanx_messages::register::{Claim, ProcessIdentity};
    use phalanx_messages::set::NodeSet;
    use phalanx_messages::{Incarnation, Level, NodeId, TransitionId};
    use uuid::Uuid;

    use crate::expiry::RegistersReading;

    const VICTIM: NodeIncarnation = NodeIncarnation { node: NodeId(1), incarnation: Incarnation(4) };
    const HERE: Uuid = Uuid::from_u128(1);
    const ELSEWHERE: Uuid = Uuid::from_u128(2);

    /// A master whose victim wrote `register`, with a fence agent configured for it.
    fn manager(one_host: bool, register: Option<NodeRegister>) -> Manager {
        let agent = FenceAgent { agent: "fence_ipmilan".to_owned(), parameters: BTreeMap::new() };
        let node = NodeConfiguration { fence: vec![agent], ..NodeConfiguration::new("n1", "h:1") };
        let nodes = [(NodeId(0), NodeConfiguration::new("n0", "h:0")), (NodeId(1), node)].into();
        let settings = ManagerSettings {
            me: NodeIncarnation { node: NodeId(0), incarnation: Incarnation(1) },
            boot: HERE,
            one_host,
            profile: TimingProfile::SAN_FAST,
            levels: Vec::new(),
            public_key: [0; 32],
            nodes_max: 4,
            configuration: Arc::new(ConfigurationRecord { nodes, ..ConfigurationRecord::default() }),
            record: Arc::default(),
        };
        let mut manager = Manager::new(settings, Claim::default());
        let registers = [(NodeId(1), register)].into();
        manager.reading = Some(Arc::new(RegistersReading { begun: Instant(0), ended: Instant(0), registers }));
        manager
    }

    fn register(incarnation: u64, boot: Uuid) -> Option<NodeRegister> {
        let daemon = ProcessIdentity { pid: 7, start_ticks: 7 };
        let fence = FenceHandle { daemon, ..FenceHandle::default() };
        Some(NodeRegister { incarnation: Incarnation(incarnation), boot, fence, ..NodeRegister::default() })
    }

    /// Whether the victim is reached locally, and by how many agents; none if nothing may be tried.
    fn methods(manager: &Manager) -> Option<(bool, usize)> {
        manager.target(VICTIM).map(|target| (target.local.is_some(), target.agents.len()))
    }

    #[test]
    fn local_in_this_boot_and_agents_on_other_hosts_never_both() {
        /// One host, incarnation and boot of the register, methods.
        type Row = (bool, Option<(u64, Uuid)>, Option<(bool, usize)>);
        let rows: [Row; 7] = [
            (false, Some((4, HERE)), Some((true, 0))),
            (false, Some((4, ELSEWHERE)), Some((false, 1))),
            (false, None, Some((false, 1))), // unreadable: it may be anywhere
            (true, Some((4, HERE)), Some((true, 0))),
            (true, Some((4, ELSEWHERE)), Some((true, 0))), // an earlier boot of this host
            (true, None, Some((false, 0))),                // the only host there is must not be switched off
            (false, Some((5, ELSEWHERE)), None),           // a newer start must not be hit
        ];
        for (one_host, seen, expected) in rows {
            let register = seen.and_then(|(incarnation, boot)| register(incarnation, boot));
            assert_eq!(methods(&manager(one_host, register)), expected, "{one_host} {seen:?}");
        }
    }

    #[test]
    fn the_host_of_a_ghost_is_left_alone_until_it_could_have_booted() {
        let mut manager = manager(false, register(4, ELSEWHERE));
        let ghost = Victim {
            incarnation: VICTIM.incarnation,
            top: None,
            fence: FenceState::default(),
            reason: String::new(),
            step: Step {
                transition: TransitionId::default(),
                kind: TransitionKind::ForcedLeaving,
                level: Level::DLM,
                barrier: 0,
                restart: 0,
                phase: StepPhase::Between,
                participants: NodeSet::default(),
            },
        };
        let record = MembershipRecord { ghosts: [(NodeId(1), ghost)].into(), ..MembershipRecord::default() };
        manager.newest = Arc::new(record);
        let mut agents_at = |ms| {
            manager.moment.now = Instant(ms);
            manager.seek_proofs();
            methods(&manager)
        };
        assert_eq!(agents_at(1_000), Some((false, 0)));
        assert_eq!(agents_at(1_000 + GHOST_GRACE_MS - 1), Some((false, 0)));
        assert_eq!(agents_at(1_000 + GHOST_GRACE_MS), Some((false, 1)));
        // A member that is forced out is another matter.
        let entry =
            MemberEntry { incarnation: VICTIM.incarnation, state: NodeState::ForcedLeaving, ..MemberEntry::default() };
        let record = MembershipRecord { nodes: [(NodeId(1), entry)].into(), ..MembershipRecord::default() };
        manager.newest = Arc::new(record);
        manager.moment.now = Instant(100_000);
        manager.seek_proofs();
        assert_eq!(methods(&manager), Some((false, 1)));
    }
}
