//! What is known of the nodes when one is chosen: every node tells the others how hard it is pressed (spec, "2. Choosing": "recent
//! performance statistics of particular nodes").

use std::collections::BTreeMap;
use std::sync::Arc;

use phalanx_messages::NodeId;
use phalanx_messages::configuration::ConfigurationRecord;
use phalanx_messages::order::RegistrationOrder;
use phalanx_messages::registration::RegistrationMessage;

use super::Launcher;
use crate::registration::Event;

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

    /// An administrator takes a node off standby: whoever decides forgives it at once, and everybody when it is committed.
    pub(super) fn forgive_nodes(&mut self, events: &[Event]) {
        for event in events {
            if let Event::Requested(request) = event
                && let RegistrationOrder::Standby { node, standby: false } = request.order
            {
                self.timers.forgive(node);
            }
        }
    }

    /// How often nodes have died of late, as this node has counted.
    #[must_use]
    pub fn deaths(&self) -> BTreeMap<NodeId, u32> {
        self.timers.flaps().deaths()
    }

    pub(super) fn hears_load(&mut self, node: NodeId, pressure: u8) {
        if self.loads.pressure.insert(node, pressure) != Some(pressure) {
            self.decider.set_loads(self.loads.clone());
        }
    }
}
