//! Suspect rounds: this node's part in finding out which links are cut (protocol §4.1).

use crate::partition::RoundOutput;
use phalanx_messages::membership::NodeState;
use phalanx_messages::register::OwnState;

use super::*;
use crate::lease::Publication;

impl Manager {
    /// A round that another node has begun is seen in its register.
    pub(super) fn look_for_rounds(&mut self) {
        let Some(reading) = &self.reading else { return };
        let announced = reading.registers.values().flatten().map(|register| register.announced_round);
        let newest = announced.max().unwrap_or(0);
        let outputs = self.rounds.saw(newest, self.now());
        self.carry_out_rounds(outputs);
    }

    /// A member that is alive on the disk and not heard any more: is it the node, or the link?
    pub(super) fn tick_rounds(&mut self) {
        let now = self.now();
        let silent: Vec<NodeIncarnation> = (self.newest.nodes.iter())
            .filter(|(node, entry)| {
                matches!(entry.state, NodeState::Joining | NodeState::Joined | NodeState::Leaving)
                    && **node != self.here()
                    && !self.detector.hears(**node)
            })
            .map(|(node, entry)| NodeIncarnation { node: *node, incarnation: entry.incarnation })
            .filter(|who| {
                let sign = self.watch.disk_sign(who.node, now).filter(|sign| sign.incarnation == who.incarnation);
                sign.is_some_and(|sign| matches!(sign.own_state, OwnState::Booting | OwnState::Member))
            })
            .collect();
        self.suspected.retain(|who| silent.contains(who));
        let mut outputs = self.rounds.tick(now);
        for who in silent {
            if self.suspected.insert(who) {
                outputs.extend(self.rounds.lost(now));
            }
        }
        self.carry_out_rounds(outputs);
    }

    fn carry_out_rounds(&mut self, outputs: Vec<RoundOutput>) {
        for output in outputs {
            match output {
                RoundOutput::ProbeAll => {
                    let everybody = self.configuration.nodes.keys().copied().filter(|node| *node != self.here());
                    let everybody = everybody.collect();
                    self.emit(ManagerOutput::HeartbeatTargets(Some(everybody)));
                }
                RoundOutput::ProbeAsUsual => self.emit(ManagerOutput::HeartbeatTargets(None)),
                RoundOutput::Announce { round } => {
                    let publication = Publication { announced_round: Some(round), ..Publication::default() };
                    self.publish(publication); // nobody waits: the others look by themselves
                }
                RoundOutput::Publish { round } => {
                    let (hears, round) = (Some(self.heard()), Some(round));
                    self.publish(Publication { hears, round, ..Publication::default() });
                }
            }
        }
    }
}
