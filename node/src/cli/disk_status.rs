//! The status that the shared disk alone gives: read-only, and marked so.
//!
//! What only a running node knows is left out: who leads now, what a transition waits for, whether a heartbeat moves.

use std::path::Path;
use std::sync::Arc;

use phalanx_actors::local_api;
use phalanx_actors::ports::{MembershipStatus, ServicesKnown};
use phalanx_messages::admin::{DiskStatus, Status};
use phalanx_messages::register::NodeRegister;
use phalanx_messages::registration::View;
use phalanx_messages::{Incarnation, NodeId, NodeIncarnation, Term};
use phalanx_protocol::registration::service_statuses;
use phalanx_storage::Access;

use super::Exit;
use super::disk::open::open;
use super::disk::{self, EXIT_DISK};

/// No node of any disk has this id.
const NOBODY: NodeId = NodeId(u16::MAX);

/// Reads the status from the disk at `path`; `reason` says why no daemon was asked.
pub(super) fn read(path: &Path, reason: &str) -> Result<Status, Exit> {
    let failed = |error: &dyn std::fmt::Display| {
        Exit::code(EXIT_DISK, format!("failed to read {}: {error}", path.display()))
            .hint("`phalanx disk show PATH` tells what it is")
    };
    let disk = open(path, Access::ReadOnly)?;
    let record = disk.memberships().newest().map_err(|error| failed(&error))?.unwrap_or_default();
    let configuration = disk::configuration(&disk)?;
    let registrations = disk.registrations().newest().map_err(|error| failed(&error))?.unwrap_or_default();
    let registers = disk.registers().read_all().map_err(|error| failed(&error))?;
    let services = service_statuses(&registrations, &View::default(), &configuration, |_| None);
    let known: Vec<(NodeId, NodeRegister)> =
        registers.into_iter().filter_map(|(node, register)| Some((node, register?))).collect();
    let owned = known.iter().map(|(_, register)| register.claim.owned).max().unwrap_or(Term(0));
    let membership = MembershipStatus {
        me: NodeIncarnation { node: NOBODY, incarnation: Incarnation(0) },
        term: owned.max(record.revision.term),
        record: Arc::new(record),
        configuration: Arc::new(configuration),
        master: None,
        awaiting: [].into(),
        running_ms: [].into(),
        proofs_awaited: [].into(),
        hosts: known.iter().map(|(node, register)| (*node, register.host_words())).collect(),
        heartbeat_age_ms: 0,
        lease_valid: false,
        nodes_max: disk.superblock().nodes_max,
        quorum: None,
    };
    Ok(Status {
        node: String::new(),
        disk: DiskStatus { state: "unknown".to_owned(), heartbeat_age_ms: 0 },
        source: "disk".to_owned(),
        source_reason: Some(reason.to_owned()),
        ..local_api::status(
            &membership,
            ServicesKnown { services, standby: registrations.standby, ..ServicesKnown::default() },
        )
    })
}
