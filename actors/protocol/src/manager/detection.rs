//! What the shared disk says of the other nodes: readings, probes after a closed connection, and verdicts (protocol
//! §4.1, §4.6 step 0).

use crate::coordinator::CoordinatorInput;
use crate::coordinator::level_states::gone_from;
use crate::detector::Judgement;
use crate::frm::FrmInput;
use phalanx_messages::register::OwnState;
use phalanx_messages::set::NodeSet;
use phalanx_messages::{Level, NodeId};

use super::machine::certain_deaths;
use super::*;
use crate::expiry::RegistersReading;

impl Manager {
    /// A reading made by the lease thread or by a probe.
    pub(super) fn registers_read(&mut self, reading: Arc<RegistersReading>) {
        self.observe(reading);
        if self.frm.is_owner() && !self.frm_busy && self.frm_queue.is_empty() {
            let claims = self.claims();
            self.drive(FrmInput::Observed(claims)); // a newer claim deposes or suspends this master
        }
        self.look_around();
        self.tick_election();
    }

    /// Takes a reading into account.
    pub(super) fn observe(&mut self, reading: Arc<RegistersReading>) {
        if self.reading.as_ref().is_some_and(|known| known.begun > reading.begun) {
            return; // made by another thread, and older
        }
        self.watch.observe(reading.begun, reading.ended, &reading.registers);
        self.watch.judge(self.now());
        self.reading = Some(reading);
        self.look_for_rounds();
        self.view_changed();
    }

    /// Tells registration-and-launch whose lease has ended (protocol §6.1, "Without the semaphore").
    pub(super) fn view_changed(&mut self) {
        let candidates = self.watch.candidates(self.now());
        let expired = candidates.iter().filter(|(_, candidate)| !candidate.live).map(|(node, _)| *node).collect();
        let dead = self.certainly_dead();
        let gone = gone_from(&self.newest, Level::EVENT_MANAGER).collect();
        self.emit(ManagerOutput::Leases { expired, dead, gone });
    }

    fn certainly_dead(&self) -> Vec<NodeIncarnation> {
        let marked = certain_deaths(&self.newest);
        let registers = self.reading.iter().flat_map(|reading| reading.registers.iter());
        let own_word = registers.filter_map(|(node, register)| {
            let register = register.as_ref().filter(|register| register.own_state == OwnState::DeadDrained)?;
            Some(NodeIncarnation { node: *node, incarnation: register.incarnation })
        });
        marked.chain(own_word).collect()
    }

    /// Verdicts, proofs and searches for proofs, while this node is master.
    pub(super) fn look_around(&mut self) {
        if !self.is_master() {
            return;
        }
        let now = self.now();
        let signs = self.watch.disk_signs(now);
        let quorum = self.quorum();
        let judgement = self.detector.judge(now, self.here(), &self.newest, &signs, &quorum);
        let Judgement { victims, abdicate, present } = judgement;
        self.coordinate(CoordinatorInput::Present { quorum, present });
        if abdicate && victims.is_empty() {
            // Protocol §4.3: everybody else on this side is marked by now; those who stay elect one of theirs.
            return self.panic("links are cut, and the survivor rule chose others");
        }
        if !victims.is_empty() {
            for verdict in &victims {
                let (victim, reason) = (verdict.victim, verdict.reason.clone());
                self.remark(Remark::ForcingOut { victim, reason });
            }
            self.coordinate(CoordinatorInput::Force { victims });
        }
        for (victim, method) in self.proofs_on_disk() {
            self.coordinate(CoordinatorInput::Certain { victim, method });
        }
        self.seek_proofs();
    }

    /// A connection has closed: the process may be dead, and its warden may say so any moment.
    pub(super) fn probe(&mut self, peer: NodeId) {
        let until = self.now().plus(2 * self.settings.profile.watchdog_ms);
        self.probes.insert(peer, until);
        if !self.probing {
            self.probing = true;
            self.probe_once();
        }
    }

    pub(super) fn probe_once(&mut self) {
        let now = self.now();
        self.probes.retain(|_, until| now < *until);
        self.probing = !self.probes.is_empty();
        if self.probing {
            self.emit(ManagerOutput::Disk(DiskRequest::ReadRegisters(Reader::Probe)));
        }
    }

    /// A failed probe says nothing: the next one is due as usual.
    pub(super) fn probed(&mut self, result: DiskResult<Arc<RegistersReading>>) {
        if let Ok(reading) = result {
            let word = |node: &NodeId| {
                let register = reading.registers.get(node).and_then(Option::as_ref);
                register
                    .is_some_and(|register| matches!(register.own_state, OwnState::DeadDrained | OwnState::CleanDown))
            };
            self.probes.retain(|node, _| !word(node));
            self.registers_read(reading);
        }
        self.emit(ManagerOutput::ProbeLater);
    }

    /// Nobody leads as far as this node knows: whoever does by now is in the registers, which renewals read too rarely.
    pub(super) fn look_for_master(&mut self) {
        if !self.looking && !self.probing && !self.frm_busy && self.master().is_none() {
            self.looking = true;
            self.emit(ManagerOutput::Disk(DiskRequest::ReadRegisters(Reader::Look)));
        }
    }

    pub(super) fn looked(&mut self, result: DiskResult<Arc<RegistersReading>>) {
        self.looking = false;
        if let Ok(reading) = result {
            self.registers_read(reading);
        }
    }

    /// Nodes this one hears over the interconnect, itself included.
    pub(super) fn heard(&self) -> NodeSet {
        let peers = self.configuration.nodes.keys().copied().filter(|node| self.detector.hears(*node));
        peers.chain([self.here()]).collect()
    }
}
