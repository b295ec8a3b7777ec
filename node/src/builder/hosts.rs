//! May this host start this node on this disk now? (protocol §1.3, §3.7 steps 3a to 3c)
//!
//! An mmap disk is the same for processes of one kernel only: a register that another boot still writes means that two kernels
//! map the file, and nothing that a node reads there may be believed. A disk of several hosts has other dangers: a write of the
//! host before may still be under way, so a new start waits until it has landed or never will.
//!
//! Asked under the lock of the node id, before anything is written. Only reads.

use std::collections::BTreeMap;

use phalanx_messages::NodeId;
use phalanx_messages::register::{NodeRegister, OwnState};
use phalanx_storage::ClusterDisk;

use super::HostIdentity;
use crate::containment::now;
use crate::waiting::{Patience, Unmet, wait_for};

type Registers = BTreeMap<NodeId, Option<NodeRegister>>;

/// What must be seen before the node may start.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Watch {
    /// These registers rest ...
    nodes: Vec<NodeId>,
    /// ... for so long.
    ms: u64,
    /// What a register that moves means; the node and the host that wrote it come before it.
    else_refused: &'static str,
    /// What it is for.
    why: &'static str,
}

/// Waits for what the start of `node` on this host must wait for.
///
/// # Errors
/// A host on which the cluster must not run, named; what the disk says; or the administrator's wish to end.
pub(crate) fn admit(
    disk: &ClusterDisk,
    node: NodeId,
    host: HostIdentity,
    ended: &dyn Fn() -> bool,
) -> Result<(), Unmet> {
    let read = || {
        disk.registers().read_all().map_err(|error| Unmet::Never(format!("failed to read the shared disk: {error}")))
    };
    let first = read()?;
    let Some(watch) = needed(disk, node, host, &first) else { return Ok(()) };
    let begun = now();
    let patience = Patience { no_wait: false, ended };
    wait_for(watch.why, patience, || {
        let later = disk.registers().read_all().map_err(|error| format!("failed to read the shared disk: {error}"))?;
        if let Some((node, register)) = moved(&watch.nodes, &first, &later) {
            let NodeRegister { host, boot, .. } = register;
            return Err(format!("node {node} runs on another host ({host}, boot {boot}): {}", watch.else_refused));
        }
        let left = watch.ms.saturating_sub(now().since(begun));
        Ok(if left == 0 { Ok(()) } else { Err(format!("for {} ms", watch.ms)) })
    })
}

fn needed(disk: &ClusterDisk, node: NodeId, host: HostIdentity, registers: &Registers) -> Option<Watch> {
    let profile = disk.superblock().profile;
    if !disk.geometry().capabilities.several_hosts {
        let foreign = |(_, register): &(&NodeId, &Option<NodeRegister>)| {
            register.as_ref().is_some_and(|register| register.boot != host.boot && may_live(register))
        };
        let nodes: Vec<NodeId> = registers.iter().filter(foreign).map(|(node, _)| *node).collect();
        return (!nodes.is_empty()).then_some(Watch {
            nodes,
            ms: 2 * profile.renewal_ms + profile.io_timeout_ms,
            else_refused: "an mmap disk serves the nodes of one kernel; use `backend = \"direct\"` for several hosts",
            why: "the registers that an earlier boot of this host, or another host, has written",
        });
    }
    let own = registers.get(&node)?.as_ref().filter(|own| own.own_state != OwnState::Never)?;
    let else_refused = "two hosts are configured as one node";
    if own.host != host.host {
        let why = "the register of this node, which another host has written last";
        return Some(Watch { nodes: vec![node], ms: profile.fence_ms(), else_refused, why });
    }
    // Direct I/O of this boot ended with the process that held the lock; that of an earlier boot may still be on its way.
    let why = "writes of the boot before this one, which may still land (T_late)";
    (own.boot != host.boot && profile.late_write_ms > 0).then(|| Watch {
        nodes: vec![node],
        ms: profile.late_write_ms,
        else_refused,
        why,
    })
}

/// By its own word it is not down.
const fn may_live(register: &NodeRegister) -> bool {
    match register.own_state {
        OwnState::Booting | OwnState::Member | OwnState::Suspended | OwnState::Panicking => true,
        OwnState::Never | OwnState::DeadDrained | OwnState::CleanDown => false,
    }
}

/// The first of those registers that is another now.
fn moved<'a>(nodes: &[NodeId], first: &Registers, later: &'a Registers) -> Option<(NodeId, &'a NodeRegister)> {
    let changed = |node: &NodeId| later.get(node) != first.get(node);
    let node = nodes.iter().copied().find(changed)?;
    later.get(&node)?.as_ref().map(|register| (node, register))
}

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::Arc;

    use phalanx_messages::Incarnation;
    use phalanx_messages::configuration::ConfigurationRecord;
    use phalanx_messages::profile::TimingProfile;
    use phalanx_messages::registration::RegistrationRecord;
    use phalanx_storage::{
        Capabilities, Durability, Fault, FaultyDisk, Geometry, MemoryDisk, SharedDisk, Superblock, Target, format,
    };
    use uuid::Uuid;

    use super::*;

    const N0: NodeId = NodeId(0);
    pub(crate) const N1: NodeId = NodeId(1);
    pub(crate) const HERE: HostIdentity = HostIdentity { host: Uuid::from_u128(1), boot: Uuid::from_u128(10) };
    const THERE: HostIdentity = HostIdentity { host: Uuid::from_u128(2), boot: Uuid::from_u128(20) };
    pub(crate) const REBOOTED: HostIdentity = HostIdentity { boot: Uuid::from_u128(11), ..HERE };
    /// Short enough for a test that waits it out.
    const PROFILE: TimingProfile = TimingProfile { late_write_ms: 30, ..TimingProfile::DEV };

    struct Shared(MemoryDisk, bool);

    impl SharedDisk for Shared {
        fn geometry(&self) -> Geometry {
            let geometry = self.0.geometry();
            let capabilities = Capabilities { several_hosts: self.1, ..geometry.capabilities };
            Geometry { capabilities, ..geometry }
        }

        fn read_blocks(
            &self,
            first: phalanx_storage::BlockIndex,
            blocks: &mut [phalanx_storage::Block],
        ) -> std::io::Result<()> {
            self.0.read_blocks(first, blocks)
        }

        fn write_blocks(
            &self,
            first: phalanx_storage::BlockIndex,
            blocks: &[phalanx_storage::Block],
            durability: Durability,
        ) -> std::io::Result<()> {
            self.0.write_blocks(first, blocks, durability)
        }
    }

    pub(crate) fn disk(several_hosts: bool) -> ClusterDisk {
        ClusterDisk::open(Arc::new(formatted(several_hosts))).unwrap()
    }

    fn formatted(several_hosts: bool) -> Shared {
        let superblock = Superblock {
            cluster: Uuid::from_u128(7),
            name: "alpha".to_owned(),
            nodes_max: 2,
            services_max: 4,
            profile: PROFILE,
            created_at_ms: 0,
        };
        let shared = Shared(MemoryDisk::new(1_024), several_hosts);
        format(&shared, &superblock, &ConfigurationRecord::default(), &RegistrationRecord::default()).unwrap();
        shared
    }

    pub(crate) fn write(disk: &ClusterDisk, node: NodeId, host: HostIdentity, own_state: OwnState, heartbeat: u64) {
        write_as(disk, node, Incarnation(1), host, own_state, heartbeat).unwrap();
    }

    fn write_as(
        disk: &ClusterDisk,
        node: NodeId,
        incarnation: Incarnation,
        HostIdentity { host, boot }: HostIdentity,
        own_state: OwnState,
        heartbeat: u64,
    ) -> Result<(), phalanx_storage::StorageError> {
        let register = NodeRegister { incarnation, host, boot, own_state, heartbeat, ..NodeRegister::default() };
        disk.registers().writer(node, incarnation).unwrap().write(&register, Durability::Volatile)
    }

    fn wait_of(disk: &ClusterDisk, host: HostIdentity) -> Option<(Vec<NodeId>, u64)> {
        needed(disk, N0, host, &disk.registers().read_all().unwrap()).map(|watch| (watch.nodes, watch.ms))
    }

    /// Architecture §7: "nodes that find another boot id in the cluster refuse to join over an mmap disk".
    #[test]
    fn a_register_of_another_boot_is_watched_on_an_mmap_disk_and_refuses_the_start_if_it_moves() {
        let disk = disk(false);
        write(&disk, N1, HERE, OwnState::Member, 1);
        assert_eq!(wait_of(&disk, HERE), None, "nodes of this boot are what an mmap disk is for");
        assert_eq!(wait_of(&disk, REBOOTED), Some((vec![N1], 1_250)));
        write(&disk, N1, THERE, OwnState::CleanDown, 2);
        assert_eq!(wait_of(&disk, HERE), None, "it has left");
        write(&disk, N1, THERE, OwnState::Member, 3);
        assert_eq!(wait_of(&disk, HERE), Some((vec![N1], 1_250)));
        // It goes on while it is watched: seen by the first look after that.
        let looks = std::cell::Cell::new(3);
        let refused = admit(&disk, N0, HERE, &|| {
            looks.set(looks.get() + 1);
            write(&disk, N1, THERE, OwnState::Member, looks.get());
            false
        });
        let Err(Unmet::Never(text)) = refused else { panic!("{refused:?}") };
        assert!(
            text.contains("node 1 runs on another host") && text.contains("serves the nodes of one kernel"),
            "{text}"
        );
    }

    #[test]
    fn a_disk_of_several_hosts_holds_a_start_until_late_writes_have_landed() {
        let disk = disk(true);
        assert_eq!(wait_of(&disk, HERE), None, "never started");
        write(&disk, N1, THERE, OwnState::Member, 1);
        write(&disk, N0, HERE, OwnState::Member, 1);
        assert_eq!(wait_of(&disk, HERE), None, "3b: the old process is dead, and its direct I/O ended with it");
        assert_eq!(wait_of(&disk, REBOOTED), Some((vec![N0], 30)), "3a: T_late");
        assert_eq!(wait_of(&disk, THERE), Some((vec![N0], PROFILE.fence_ms())), "3c: T_fence");
        let begun = now();
        admit(&disk, N0, REBOOTED, &|| false).unwrap();
        assert!(now().since(begun) >= 30);
        assert_eq!(
            admit(&disk, N0, THERE, &|| true).map_err(Unmet::text).unwrap_err(),
            "ended while waiting for the register of this node, which another host has written last"
        );
    }

    /// Row 33: "old incarnation's write lands after the new one started: prevented by hold". The last write of the start before the reboot is
    /// still on its way. With the hold it lands before anything new is written; without it, it lands on the first word of the new start,
    /// and the register is that of the old one again. MC1 shows what that breaks:
    /// `a_new_incarnation_that_does_not_wait_for_old_writes_breaks_i_m1`.
    #[test]
    fn fault_33_the_hold_lets_a_write_of_the_old_start_land_before_the_new_one_writes() {
        for hold in [true, false] {
            let path = FaultyDisk::around(Arc::new(formatted(true)));
            let disk = ClusterDisk::open(Arc::new(path.clone())).unwrap();
            let seen = || disk.registers().read(N0).unwrap().map(|register| register.incarnation);
            write(&disk, N0, HERE, OwnState::Member, 1);
            path.inject(Fault::Late(Target::WRITES));
            write_as(&disk, N0, Incarnation(1), HERE, OwnState::Member, 2).unwrap_err();
            path.mend();
            if hold {
                // It lands while the start is held: something moves, so this start is refused, and the next one finds rest.
                let landed = std::cell::Cell::new(false);
                let refused = admit(&disk, N0, REBOOTED, &|| {
                    landed.set(landed.get() || path.land().unwrap());
                    false
                });
                let Err(Unmet::Never(text)) = refused else { panic!("{refused:?}") };
                assert!(landed.get() && text.contains("node 0 runs on another host"), "{text}");
                admit(&disk, N0, REBOOTED, &|| false).unwrap();
            }
            write_as(&disk, N0, Incarnation(2), REBOOTED, OwnState::Booting, 3).unwrap();
            assert_eq!(seen(), Some(Incarnation(2)));
            assert_eq!(path.land().unwrap(), !hold);
            assert_eq!(seen(), Some(Incarnation(if hold { 2 } else { 1 })));
        }
    }
}
