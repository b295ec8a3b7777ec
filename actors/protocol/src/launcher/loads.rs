//! What is known of the nodes when one is chosen: every node tells the others how hard it is pressed (spec, "2. Choosing": "recent
//! performance statistics of particular nodes").

use std::sync::Arc;

use phalanx_messages::NodeId;
use phalanx_messages::configuration::ConfigurationRecord;
use phalanx_messages::registration::RegistrationMessage;

use super::Launcher;

impl Launcher {
    pub(super) fn configured(&mut self, configuration: Arc<ConfigurationRecord>) {
        let capacity = configuration
            .nodes
            .iter()
            .filter_map(|(node, entry)| (entry.capacity > 0).then_some((*node, entry.capacity)));
        self.loads.capacity = capacity.collect();
        self.configuration = configuration;
        self.decider.set_loads(self.loads.clone());
    }

    /// This node's own word, which also goes to whoever may decide next.
    pub(super) fn pressed(&mut self, pressure: u8) {
        self.hears_load(self.settings.me.node, pressure);
        for peer in self.peers() {
            self.say(peer, RegistrationMessage::Load { pressure });
        }
    }

    pub(super) fn hears_load(&mut self, node: NodeId, pressure: u8) {
        if self.loads.pressure.insert(node, pressure) != Some(pressure) {
            self.decider.set_loads(self.loads.clone());
        }
    }
}
