//! What people read.

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

pub(super) fn say(remark: &Remark) {
    match remark {
        Remark::Leads(term) => tracing::info!(%term, "this node is master"),
        Remark::Deposed { by } => tracing::warn!(%by, "deposed: another node owns a newer term"),
        Remark::MembersLive => tracing::warn!("members of the cluster are alive; the term is handed back"),
        Remark::ForcingOut { victim, reason } => tracing::warn!(%victim, %reason, "forcing out"),
        Remark::KeptForQuorum { victim, reason } => {
            tracing::error!(%victim, %reason, "not forced out: those who would be left have no quorum");
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
