//! What the fence protects: writes of data to the shared disk, given to it by every node whose gate is open (protocol §3.3, I-F2,
//! I-F4).

use phalanx_messages::{Instant, NodeId};

use super::World;
use crate::simulation::clock::MS;
use crate::simulation::process::ProcessEvent;

impl World {
    pub(super) fn data_asks(&mut self, node: NodeId) {
        let now = self.clock(node);
        let Some(process) = self.process(node) else { return };
        let (open, stops, expiry) = (process.gate.is_open_for(0, now), process.stops, process.gate.expiry);
        if open && !process.data_in_flight {
            // Whatever happens between the question and the act happens here.
            let at = self.now + self.random.below(2 * MS);
            self.plan(node, at, ProcessEvent::DataSubmits { stops, expiry });
        } else {
            let at = self.now + self.random.between(10 * MS, 100 * MS);
            self.plan(node, at, ProcessEvent::DataAsks);
        }
    }

    pub(super) fn data_submits(&mut self, node: NodeId, stops: u64, expiry: Instant) {
        let now = self.clock(node);
        let Some(process) = self.process_mut(node) else { return };
        // The two milliseconds between check and act may be the last ones of the lease.
        let late = now.since(expiry) > 5;
        let stopped = process.stops != stops;
        process.data_in_flight = true;
        let me = process.me;
        if late && !stopped {
            self.broken(format!("I-F4: {me} submits a write with an expired lease and was not stopped"));
        }
        if late {
            self.coverage.reach("a write is submitted after a stop, with an expired lease");
        }
        let takes = self.io_time();
        self.plan(node, self.now + takes, ProcessEvent::DataLands);
    }

    pub(super) fn data_lands(&mut self, node: NodeId) {
        let Some(process) = self.process_mut(node) else { return };
        process.data_in_flight = false;
        let me = process.me;
        let found = self.truth.data_landed(me);
        self.broken_all(found);
        let at = self.now + self.random.between(5 * MS, 60 * MS);
        self.plan(node, at, ProcessEvent::DataAsks);
    }
}
