//! A disk that nobody uses meanwhile: not on this host, by its lock, and not on another one, by its heartbeats.

use std::path::Path;

use phalanx_storage::opening::{self, OpenError};
use phalanx_storage::{Access, ClusterDisk};

use super::EXIT_REFUSED;
use super::open::cannot_open;
use super::watch::{Sight, Until, watch};
use crate::cli::Exit;

/// Opens a disk that no node runs on.
pub(super) fn open_alone(path: &Path, access: Access) -> Result<ClusterDisk, Exit> {
    let disk = opening::open(path, access).map_err(|error| {
        if !matches!(error, OpenError::Busy { .. }) {
            return cannot_open(&error);
        }
        let text = format!("{} is in use: another process has locked it", path.display());
        Exit::code(EXIT_REFUSED, text).hint("`phalanx node leave` takes a node out; every node must be down")
    })?;
    // Only nodes of other hosts are not kept away by the lock.
    if disk.geometry().capabilities.several_hosts {
        let alive = watch(&disk, &Sight::take(&disk)?, Until::First)?;
        if !alive.is_empty() {
            let text = format!("{} is alive: {} wrote a heartbeat", path.display(), alive.join(", "));
            return Err(Exit::code(EXIT_REFUSED, text).hint("every node must be down"));
        }
    }
    Ok(disk)
}
