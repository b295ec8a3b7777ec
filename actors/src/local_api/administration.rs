//! Requests that only the master can carry out: changes of the membership configuration, and fencing by hand.

use phalanx_messages::admin::{AdminAnswer, Configuration};
use phalanx_messages::configuration::{ChangeRefusal, NodeChange};
use phalanx_messages::limits::REASON_BYTES_MAX;
use phalanx_messages::membership::{NodeState, Victim};
use phalanx_messages::peer::{MasterAnswer, MasterRequest};
use phalanx_messages::service::{AllowableNodes, NodePreferences, ServiceDefinition};
use phalanx_messages::{Incarnation, NodeId, NodeIncarnation, Revision};
use phalanx_protocol::coordinator::cut;

use super::answer::{Asked, EXIT_NOT_RUNNING, Refusal};
use crate::ports::{AskMaster, GetDefinitions, GetMembership, MembershipStatus, TryChange};

/// Exit code "error".
const EXIT_ERROR: u8 = 1;
/// Exit code "refused"; nothing overrides this one.
const EXIT_REFUSED: u8 = 107;

impl From<ChangeRefusal> for Refusal {
    fn from(refusal: ChangeRefusal) -> Self {
        Self(refusal.code(), refusal.to_string())
    }
}

impl Asked {
    pub(super) async fn show_configuration(self) -> Result<AdminAnswer, Refusal> {
        let membership = self.membership().await?;
        let (record, nodes_max) = ((*membership.configuration).clone(), membership.nodes_max);
        Ok(AdminAnswer::Configuration(Box::new(Configuration { record, nodes_max })))
    }

    pub(super) async fn change(
        self,
        base: Option<Revision>,
        changes: Vec<NodeChange>,
        dry_run: bool,
    ) -> Result<AdminAnswer, Refusal> {
        self.removed_nodes_are_not_named(&changes).await?;
        if dry_run {
            let now = self.configuration.revision;
            if let Some(base) = base.filter(|base| *base != now) {
                return Err(ChangeRefusal::Stale { base, now }.into());
            }
            let tried = self.edges.try_change.send(TryChange(changes)).await.map_err(Refusal::ending)?;
            tried?;
            return Ok(AdminAnswer::Changed { committed: false, revision: now });
        }
        self.ask_master(MasterRequest::Change { base, changes }).await
    }

    pub(super) async fn fence(self, name: String, reason: String) -> Result<AdminAnswer, Refusal> {
        let node = self.id_of(&name)?;
        let membership = self.membership().await?;
        let entry = membership.record.nodes.get(&node);
        let active = entry.filter(|entry| entry.state != NodeState::Inactive);
        let Some(active) = active else {
            return Err(Refusal(EXIT_NOT_RUNNING, format!("node {name} is not a member")));
        };
        let others = membership.record.nodes.iter().any(|(other, entry)| {
            let member = matches!(entry.state, NodeState::Joining | NodeState::Joined | NodeState::Leaving);
            *other != node && member
        });
        if node == self.own && others {
            let text = format!(
                "{name} is the node that answers; ask another one (`--node NAME` or `--socket PATH`), or use `phalanx node \
                 leave {name}`"
            );
            return Err(Refusal(EXIT_ERROR, text));
        }
        let victim = NodeIncarnation { node, incarnation: active.incarnation };
        let reason = match reason.as_str() {
            "" => "forced out by the administrator".to_owned(),
            reason => cut(&format!("forced out by the administrator: {reason}"), REASON_BYTES_MAX),
        };
        self.ask_master(MasterRequest::Fence { victim, reason }).await
    }

    pub(super) async fn confirm_dead(self, name: String) -> Result<AdminAnswer, Refusal> {
        let node = self.id_of(&name)?;
        let membership = self.membership().await?;
        let Some(incarnation) = victim_of(&membership, node) else {
            let text = format!("node {name} is not being forced out; `phalanx fence {name}` forces it out first");
            return Err(Refusal(EXIT_REFUSED, text));
        };
        let through = self.configuration.name_of(self.own);
        let by = format!("{} through {through}", self.by);
        let victim = NodeIncarnation { node, incarnation };
        self.ask_master(MasterRequest::ConfirmDead { victim, by }).await
    }

    async fn membership(&self) -> Result<MembershipStatus, Refusal> {
        self.edges.membership.send(GetMembership).await.map_err(Refusal::ending)
    }

    async fn ask_master(&self, request: MasterRequest) -> Result<AdminAnswer, Refusal> {
        let answer = self.edges.master.send(AskMaster(request)).await.map_err(Refusal::ending)?;
        match answer {
            MasterAnswer::Changed { revision } => Ok(AdminAnswer::Changed { committed: true, revision }),
            MasterAnswer::Unchanged { revision } => Ok(AdminAnswer::Changed { committed: false, revision }),
            MasterAnswer::Accepted => Ok(AdminAnswer::Done),
            MasterAnswer::ChangeRefused(refusal) => Err(refusal.into()),
            MasterAnswer::Refused { code, text } => Err(Refusal(code, text)),
        }
    }

    /// A service that names a node keeps it: the id could be given to another node later.
    async fn removed_nodes_are_not_named(&self, changes: &[NodeChange]) -> Result<(), Refusal> {
        let removed = changes.iter().filter_map(|change| match change {
            NodeChange::Remove { name } => self.configuration.id_of(name).map(|id| (id, name)),
            NodeChange::Add { .. } | NodeChange::Set { .. } | NodeChange::DiskVotes { .. } => None,
        });
        let removed: Vec<(NodeId, &String)> = removed.collect();
        if removed.is_empty() {
            return Ok(());
        }
        let services = self.edges.services.send(GetDefinitions).await.map_err(Refusal::ending)?;
        for (id, name) in removed {
            let naming: Vec<String> = services.iter().flat_map(|service| keys_naming(service, id)).collect();
            if !naming.is_empty() {
                let text = format!("node {name} is named by {}; take it out of these lists first", naming.join(", "));
                return Err(Refusal(EXIT_ERROR, text));
            }
        }
        Ok(())
    }
}

/// The incarnation that still needs a proof of death: the entry's, else the ghost's.
fn victim_of(membership: &MembershipStatus, node: NodeId) -> Option<Incarnation> {
    let record = &membership.record;
    let entry = record.nodes.get(&node).filter(|entry| entry.state == NodeState::ForcedLeaving);
    let entry = entry.filter(|entry| !entry.fence.death_certain).map(|entry| entry.incarnation);
    let ghost = record.ghosts.get(&node).map(|ghost: &Victim| ghost.incarnation);
    entry.or(ghost).or_else(|| {
        let marked = record.nodes.get(&node).filter(|entry| entry.state == NodeState::ForcedLeaving);
        marked.map(|entry| entry.incarnation)
    })
}

/// The lists of a service that name a node, as `key of service`.
fn keys_naming(service: &ServiceDefinition, node: NodeId) -> Vec<String> {
    let allowable = match &service.allowable_nodes {
        AllowableNodes::Any => false,
        AllowableNodes::Listed(nodes) => nodes.contains(&node),
    };
    let preferred = match &service.node_preferences {
        NodePreferences::None => false,
        NodePreferences::Unordered(nodes) | NodePreferences::Ordered(nodes) => nodes.contains(&node),
    };
    let disallowed = service.disallowable_nodes.contains(&node);
    let keys = [("allowable_nodes", allowable), ("disallowable_nodes", disallowed), ("node_preferences", preferred)];
    let naming = keys.into_iter().filter(|(_, names)| *names);
    naming.map(|(key, _)| format!("`{key}` of service {}", service.name)).collect()
}

/// A user for people: login name, where the system knows one, and id.
pub(super) fn user(uid: u32) -> String {
    let accounts = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let login = accounts.lines().find_map(|line| {
        let mut fields = line.split(':');
        let login = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then(|| login.to_owned())
    });
    login.map_or_else(|| format!("uid {uid}"), |login| format!("{login} (uid {uid})"))
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_user_has_its_login_name_where_the_system_knows_it() {
        assert_eq!(super::user(0), "root (uid 0)");
        assert_eq!(super::user(4_000_000_000), "uid 4000000000");
    }
}
