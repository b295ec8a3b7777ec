//! The warden's access to its node's register on the shared disk.

use phalanx_messages::NodeId;
use phalanx_messages::register::{FenceHandle, NodeRegister, OwnState};
use phalanx_storage::{ClusterDisk, Durability};

use super::DeathNotice;
use crate::builder::HostIdentity;

/// The register of one node.
pub struct RegisterNotice {
    disk: ClusterDisk,
    node: NodeId,
}

impl RegisterNotice {
    /// The register of `node`.
    #[must_use]
    pub const fn new(disk: ClusterDisk, node: NodeId) -> Self {
        Self { disk, node }
    }

    fn read(&self) -> Result<NodeRegister, String> {
        let registers = self.disk.registers();
        // A file that was cut would kill the warden as well; what is left of it may hold the register.
        registers.verify(self.node).map_err(|error| format!("its register is lost: {error}"))?;
        let register = registers.read(self.node).map_err(|error| format!("failed to read it: {error}"))?;
        register.ok_or_else(|| "its register is unreadable; `phalanx disk show` tells more".to_owned())
    }
}

impl DeathNotice for RegisterNotice {
    fn last_start(&self) -> Result<Option<FenceHandle>, String> {
        let register = self.read()?;
        let boot = HostIdentity::read().map_err(|error| error.to_string())?.boot;
        Ok((register.boot == boot).then_some(register.fence))
    }

    fn dead_drained(&self, handle: &FenceHandle) -> Result<bool, String> {
        let mut register = self.read()?;
        let boot = HostIdentity::read().map_err(|error| error.to_string())?.boot;
        if register.boot != boot || register.fence != *handle || register.own_state == OwnState::CleanDown {
            return Ok(false); // this start never wrote, or has left
        }
        register.own_state = OwnState::DeadDrained;
        register.heartbeat += 1;
        let writer = self.disk.registers().writer(self.node, register.incarnation);
        let mut writer = writer.map_err(|error| format!("failed to write its register: {error}"))?;
        let written = writer.write(&register, Durability::Volatile);
        written.map_err(|error| format!("failed to write its register: {error}"))?;
        Ok(true)
    }
}
