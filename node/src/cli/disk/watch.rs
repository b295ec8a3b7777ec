//! Does anybody live on this disk? A live node renews, so its register must move within a time that the disk's profile gives.
//!
//! Only reads. The registers carry no wall clock, so the age of a heartbeat is what was watched, and which boot wrote it.

use std::collections::BTreeMap;

use phalanx_messages::NodeId;
use phalanx_messages::configuration::ConfigurationRecord;
use phalanx_messages::profile::TimingProfile;
use phalanx_messages::register::{NodeRegister, OwnState};
use phalanx_storage::{Backend, ClusterDisk};

use super::open::unreadable;
use crate::builder::HostIdentity;
use crate::cli::{Exit, print};
use crate::containment::{now, pause};

/// Between two looks, in milliseconds.
const LOOK_MS: u64 = 50;

/// Every register at one moment; an unreadable one is none.
pub(super) type Registers = BTreeMap<NodeId, Option<NodeRegister>>;

/// What the disk says of a cluster at first sight.
pub(super) struct Sight {
    pub registers: Registers,
    pub configuration: ConfigurationRecord,
}

impl Sight {
    pub fn take(disk: &ClusterDisk) -> Result<Self, Exit> {
        let registers = disk.registers().read_all().map_err(unreadable)?;
        // A disk may be shown although its configuration is damaged: the nodes have numbers then.
        let configuration = disk.configurations().newest().ok().flatten().unwrap_or_default();
        Ok(Self { registers, configuration })
    }

    /// The nodes with incarnation, what each says, and its heartbeat.
    pub fn table(&self) -> String {
        let boot = HostIdentity::read().ok().map(|host| host.boot);
        let mut rows = vec![["NODE", "INCARNATION", "SAYS", "HEARTBEAT", "WRITTEN"].map(str::to_owned).to_vec()];
        let shown = |node: &NodeId, register: Option<&NodeRegister>| {
            self.configuration.nodes.contains_key(node)
                || register.is_none_or(|register| register.own_state != OwnState::Never)
        };
        for (node, register) in self.registers.iter().filter(|(node, register)| shown(node, register.as_ref())) {
            let name = self.configuration.name_of(*node);
            let Some(register) = register else {
                rows.push(vec![name, "unreadable".to_owned()]);
                continue;
            };
            let written = match register.own_state {
                OwnState::Never => "never",
                _ if Some(register.boot) == boot => "since this host booted",
                OwnState::Booting
                | OwnState::Member
                | OwnState::Suspended
                | OwnState::Panicking
                | OwnState::DeadDrained
                | OwnState::CleanDown => "before this host booted",
            };
            rows.push(vec![
                name,
                register.incarnation.to_string(),
                format!("{:?}", register.own_state),
                register.heartbeat.to_string(),
                written.to_owned(),
            ]);
        }
        print::table(&rows)
    }

    /// Names of the nodes whose register is another in `later`.
    pub fn moved(&self, later: &Registers) -> Vec<String> {
        let moved = later.iter().filter(|(node, register)| self.registers.get(node) != Some(register));
        moved.map(|(node, _)| self.configuration.name_of(*node)).collect()
    }
}

/// How long a register of a live node can stay as it is: two renewals and one slow I/O. On a disk of several hosts no lock keeps
/// a node that is frozen meanwhile, so its lease must be over.
pub(super) const fn watch_ms(profile: &TimingProfile, backend: Backend) -> u64 {
    match backend {
        Backend::Mmap => 2 * profile.renewal_ms + profile.io_timeout_ms,
        Backend::Direct => profile.takeover_ms() + profile.io_timeout_ms,
    }
}

/// What a watch is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Until {
    /// One sign of life is enough.
    First,
    /// Everybody who lives is to be named.
    Over,
}

/// Looks at the registers for as long as a live one can rest. Gives the nodes that moved.
pub(super) fn watch(disk: &ClusterDisk, sight: &Sight, until: Until) -> Result<Vec<String>, Exit> {
    let backend = disk.backend();
    let watch_ms = watch_ms(&disk.superblock().profile, backend);
    let what = match backend {
        Backend::Mmap => "2 renewals",
        Backend::Direct => "a lease",
    };
    anstream::eprintln!("watching the heartbeats for {watch_ms} ms ({what} and one I/O time-out of this disk) ...");
    let begun = now();
    let mut moved = Vec::new();
    while now().since(begun) < watch_ms && (until == Until::Over || moved.is_empty()) {
        pause(LOOK_MS);
        // A register that has moved never goes back, so the last look names them all.
        moved = sight.moved(&disk.registers().read_all().map_err(unreadable)?);
    }
    if moved.is_empty() {
        anstream::eprintln!("no heartbeat has moved for {} ms", now().since(begun));
    }
    Ok(moved)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_watch_is_longer_than_two_renewals_of_the_profile_on_the_disk() {
        assert_eq!(watch_ms(&TimingProfile::DEV, Backend::Mmap), 1_250);
        assert_eq!(watch_ms(&TimingProfile::SAN_SAFE, Backend::Mmap), 25_000);
        let direct = watch_ms(&TimingProfile::SAN_SAFE, Backend::Direct);
        assert!(direct > TimingProfile::SAN_SAFE.lease_ms + TimingProfile::SAN_SAFE.io_timeout_ms, "{direct}");
    }

    #[test]
    fn any_change_of_a_register_is_a_sign_of_life() {
        let registers: Registers = [(NodeId(0), Some(NodeRegister::default())), (NodeId(1), None)].into();
        let sight = Sight { registers: registers.clone(), configuration: ConfigurationRecord::default() };
        assert!(sight.moved(&registers).is_empty());
        let mut later = registers;
        later.insert(NodeId(0), Some(NodeRegister { heartbeat: 1, ..NodeRegister::default() }));
        later.insert(NodeId(1), Some(NodeRegister::default()));
        assert_eq!(sight.moved(&later), ["#0", "#1"]);
    }
}
