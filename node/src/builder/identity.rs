//! Which incarnation of which node starts here (protocol §3.7).

use phalanx_messages::configuration::ConfigurationRecord;
use phalanx_messages::register::{FenceHandle, NodeRegister, OwnState};
use phalanx_messages::{Incarnation, NodeIncarnation};
use phalanx_protocol::frm::Frm;
use phalanx_storage::ClusterDisk;
use uuid::Uuid;

use super::BootError;

/// The host and this boot of its kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HostIdentity {
    /// Stable over reboots where the host has a machine id, else equal to `boot`.
    pub host: Uuid,
    /// This boot.
    pub boot: Uuid,
}

/// Names a host of a test: processes that have it in their environment take themselves for a host of its own, although they share
/// the kernel with others. What stands after a colon names the boot, so that such a host can be switched off and on again.
/// `status` shows `identity: test`.
pub const TEST_HOST_VARIABLE: &str = "PHALANX_TEST_HOST";

impl HostIdentity {
    /// Reads what this host says of itself. The one place that everybody asks.
    ///
    /// # Errors
    /// If the kernel's boot id cannot be read.
    pub fn read() -> Result<Self, BootError> {
        if let Ok(name) = std::env::var(TEST_HOST_VARIABLE) {
            let host = name.split_once(':').map_or(name.as_str(), |(host, _)| host);
            return Ok(Self { host: test_uuid(host, "host"), boot: test_uuid(&name, "boot") });
        }
        let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").map_err(BootError::BootId)?;
        let boot = Uuid::parse_str(text.trim()).map_err(|source| BootError::BootId(std::io::Error::other(source)))?;
        let machine = std::fs::read_to_string("/etc/machine-id").ok();
        let host = machine.and_then(|text| Uuid::parse_str(text.trim()).ok()).unwrap_or(boot);
        Ok(Self { host, boot })
    }
}

/// The same for the same name in every process.
fn test_uuid(name: &str, what: &str) -> Uuid {
    use std::hash::{DefaultHasher, Hash as _, Hasher as _};
    let half = |index: u8| {
        let mut hasher = DefaultHasher::new();
        (name, what, index).hash(&mut hasher);
        u128::from(hasher.finish())
    };
    let uuid = uuid::Builder::from_u128(half(0) << 64 | half(1));
    uuid.with_version(uuid::Version::Custom).with_variant(uuid::Variant::RFC4122).into_uuid()
}

/// A start of a node: who it is, its first register, and its claims as the earlier starts left them.
pub(super) struct Start {
    pub me: NodeIncarnation,
    pub register: NodeRegister,
}

/// Finds out which incarnation starts now. The caller holds the lock of this node id, so no earlier start can still write.
pub(super) fn start(
    disk: &ClusterDisk,
    name: &str,
    configuration: &ConfigurationRecord,
    host: HostIdentity,
    fence: FenceHandle,
    nonce: u64,
) -> Result<Start, BootError> {
    let node = configuration.id_of(name).ok_or_else(|| BootError::NotConfigured {
        node: name.to_owned(),
        known: configuration.nodes.values().map(|node| node.name.clone()).collect::<Vec<_>>().join(", "),
    })?;
    let before = disk.registers().read(node).map_err(BootError::Disk)?.ok_or(BootError::UnreadableRegister { node })?;
    let used = before.host != Uuid::nil() && before.host != host.host;
    // 3.7 (3c): a second host with this id.
    if used && before.own_state != OwnState::CleanDown {
        return Err(BootError::OtherHost { node, host: before.host });
    }
    let entry =
        disk.memberships().newest().map_err(BootError::Storage)?.and_then(|record| record.nodes.get(&node).cloned());
    let known = entry.map_or(Incarnation(0), |entry| entry.incarnation).max(before.incarnation);
    let me = NodeIncarnation { node, incarnation: known.next() };
    // 3.4 `restart`: what the earlier start left undecided counts as owned.
    let claim = Frm::new(node, me.incarnation, before.claim).claim();
    let register = NodeRegister {
        incarnation: me.incarnation,
        host: host.host,
        boot: host.boot,
        nonce,
        own_state: OwnState::Booting,
        claim,
        fence,
        ..NodeRegister::default()
    };
    Ok(Start { me, register })
}
