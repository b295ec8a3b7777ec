//! What people read.

use phalanx_messages::limits::{BARRIERS_MAX, LEVELS_MAX, NAME_BYTES_MAX};
use phalanx_messages::membership::BarrierCounts;
use phalanx_messages::peer::LevelRefusal;
use phalanx_protocol::manager::Remark;

use super::JoinRefusal;

/// Why the cluster does not take this node, and the key or command to use next.
pub(super) fn refusal_text(refusal: &JoinRefusal) -> String {
    match refusal {
        JoinRefusal::NotMaster
        | JoinRefusal::BusyLeaving
        | JoinRefusal::NotFullyConnected { .. }
        | JoinRefusal::NoQuorum { .. } => {
            "the cluster does not take this node yet".to_owned()
        }
        JoinRefusal::NotConfigured => {
            "this node is not in the membership database; `phalanx node add` adds it, `phalanx config show` lists the nodes"
                .to_owned()
        }
        JoinRefusal::BarrierMismatch { have, want } => format!(
            "level {} is `{}` with barriers {:?} in the cluster, and `{}` with {:?} in this node's file; make \
             `[[subsystem]]` equal on every node",
            have.level, have.name, have.barriers, want.name, want.barriers
        ),
        JoinRefusal::LevelOrder => "`level` of each `[[subsystem]]` must be used once, and below 1000".to_owned(),
        JoinRefusal::DuplicateId => "a newer start of this node, or another host with its id, is a member".to_owned(),
        JoinRefusal::OtherHost => "the members run on another host or boot; an mmap disk serves one host".to_owned(),
        JoinRefusal::KeyMismatch => {
            "the cluster knows another key of this node; restore the key file in its `state_dir`".to_owned()
        }
    }
}

/// Why the cluster does not take a subsystem, and what to do.
pub(super) fn level_refusal_text(refusal: &LevelRefusal) -> String {
    match refusal {
        LevelRefusal::NotMember => "this node is no member any more".to_owned(),
        LevelRefusal::Leaving => "this node is leaving the cluster; register again when it has joined".to_owned(),
        LevelRefusal::BelowJoined { highest } => {
            format!("level {highest} of this node has joined above it; subsystems register from the lowest level up")
        }
        LevelRefusal::BarrierMismatch { have, want } if have.name != want.name => format!(
            "level {} is `{}` in the cluster, not `{}`; a level is the same subsystem on every node",
            have.level, have.name, want.name
        ),
        LevelRefusal::BarrierMismatch { have, want } => format!(
            "level {} `{}` has barriers {} in the cluster, and registers with {}; they are the same on every node",
            have.level,
            have.name,
            barriers_text(have.barriers),
            barriers_text(want.barriers)
        ),
        LevelRefusal::TooMany => format!(
            "a node and a cluster have at most {LEVELS_MAX} levels, a level 1 to {BARRIERS_MAX} barriers of each kind and a \
             name of at most {NAME_BYTES_MAX} bytes"
        ),
    }
}

fn barriers_text(BarrierCounts { joining, leaving, forced_leaving }: BarrierCounts) -> String {
    format!("joining={joining},leaving={leaving},forced_leaving={forced_leaving}")
}

pub(super) fn say(remark: &Remark) {
    match remark {
        Remark::Leads(term) => tracing::info!(%term, "this node is master"),
        Remark::Deposed { by } => tracing::warn!(%by, "deposed: another node owns a newer term"),
        Remark::MembersLive => tracing::warn!("members of the cluster are alive; the term is handed back"),
        Remark::ForcingOut { victim, reason } => tracing::warn!(%victim, %reason, "forcing out"),
        Remark::KeptForQuorum { victim, reason } => {
            tracing::error!(%victim, %reason, "not forced out, asked to end itself: those who would be left have no quorum");
        }
        Remark::DeathConfirmed { victim, by } => tracing::warn!(%victim, %by, "death confirmed by hand"),
        Remark::JoinRefused(refusal) => tracing::info!(?refusal, "join refused"),
        Remark::Quorum { reached: true, votes, needed } => tracing::info!(votes, needed, "quorum is there"),
        Remark::Quorum { reached: false, votes, needed } => {
            tracing::error!(votes, needed, "quorum is lost: nobody is forced out or let in until more nodes are there");
        }
        Remark::Overdue(warning) => tracing::warn!(?warning, "a transition does not advance"),
        Remark::ConfigurationUnreadable(failure) => tracing::warn!(%failure, "the configuration cannot be read"),
    }
}
