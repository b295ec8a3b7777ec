//! Names, addresses and static keys: the configuration record that the membership record names.

use phalanx_messages::Revision;
use phalanx_messages::configuration::PublicKey;
use phalanx_messages::membership::LevelRegistration;
use phalanx_messages::set::NodeSet;
use phalanx_protocol::coordinator::CoordinatorInput;

use super::*;
use crate::disk::ReadConfiguration;

impl MembershipManager {
    /// A node asks the master to let it in.
    pub(super) fn join_requested(
        &mut self,
        from: NodeIncarnation,
        levels: Vec<LevelRegistration>,
        boot: Uuid,
        hears: NodeSet,
        public_key: PublicKey,
        ctx: &mut Context<Self>,
    ) {
        let known = self.configuration.nodes.get(&from.node);
        let configured = known.is_some();
        let known_key = known.and_then(|node| node.public_key);
        let key_matches = known_key.is_none_or(|known| known == public_key);
        if configured && known_key.is_none() {
            self.learn_key(from, public_key);
        }
        let (same_boot, heard) = (boot == self.settings.boot, self.heard());
        let request = CoordinatorInput::JoinRequest { from, levels, same_boot, hears, heard, configured, key_matches };
        self.coordinate(request, ctx);
    }

    /// The first join fixes a node's key; the next commit writes it (architecture §4, "Interconnect").
    fn learn_key(&mut self, node: NodeIncarnation, public_key: PublicKey) {
        let mut configuration = (*self.configuration).clone();
        if let Some(node) = configuration.nodes.get_mut(&node.node) {
            node.public_key = Some(public_key);
        }
        self.configuration = Arc::new(configuration);
        self.configuration_changed = true;
    }

    /// Reads the configuration that a newer record names, if it is another one.
    pub(super) fn follow_configuration(&mut self, revision: Revision, ctx: &mut Context<Self>) {
        if revision == self.configuration.revision || self.coordinator.is_some() {
            return;
        }
        let request = self.edges.disk.send(ReadConfiguration { revision: Some(revision) });
        ctx.spawn(request.into_actor(self).map(|result, actor, _| match result {
            Ok(Ok(Some(configuration))) if configuration.revision > actor.configuration.revision => {
                actor.configuration = Arc::new(configuration);
                actor.tell_configuration();
            }
            Ok(Ok(_)) => {}
            Ok(Err(failure)) => tracing::warn!(%failure, "the configuration cannot be read"),
            Err(closed) => tracing::warn!(%closed, "the configuration cannot be read"),
        }));
    }

    pub(super) fn tell_configuration(&self) {
        for interested in &self.edges.configuration {
            interested.do_send(ConfigurationChanged(self.configuration.clone()));
        }
    }
}
