//! Drives the Fenced Register Machine of membership: carries its outputs out one at a time, in order (protocol §3.4).

use phalanx_messages::membership::MembershipRecord;
use phalanx_messages::peer::MembershipMessage;
use phalanx_messages::register::{NodeRegister, OwnState};
use phalanx_messages::{Incarnation, NodeId, Revision};

use super::configuration::ConfigurationDraft;
use super::proofs::MarkedSince;
use super::*;
use crate::expiry::RegistersReading;
use crate::frm::{ClaimView, FrmInput, FrmOutput};
use crate::lease::Publication;
use crate::mastership::{self, Course};

impl Manager {
    /// Who should be master, by the newest reading.
    pub(super) fn course(&self) -> Course {
        let boot = &self.settings.record;
        let record = if self.newest.revision < boot.revision { boot } else { &self.newest };
        mastership::course(self.settings.me, &self.watch.candidates(self.now()), Some(record))
    }

    /// The node to which requests and acknowledgements go: whoever told the newest term, or owns the highest live claim. A new
    /// master's first words may arrive before this node has looked at the registers again.
    pub(super) fn master(&self) -> Option<NodeId> {
        if self.coordinator.is_some() {
            return Some(self.here());
        }
        let candidates = self.watch.candidates(self.now());
        let lives = |node: &NodeId| candidates.get(node).is_some_and(|candidate| candidate.live);
        let newest =
            || candidates.values().filter(|candidate| candidate.live).map(|candidate| candidate.claim.term).max();
        if let Some((_, node)) =
            self.told_by.filter(|(term, node)| *node != self.here() && lives(node) && Some(*term) >= newest())
        {
            return Some(node);
        }
        match self.course() {
            Course::Follow(node) => Some(node),
            Course::Lead | Course::Elect { .. } | Course::Wait => None,
        }
    }

    /// Stands for election when it is this node's turn.
    pub(super) fn tick_election(&mut self) {
        self.poll_frm();
        if self.reading.is_none() || self.frm_busy || !self.frm_queue.is_empty() || self.frm_poll_since.is_some() {
            return;
        }
        if !self.moment.may_act || !self.frm.is_idle() {
            return;
        }
        let Course::Elect { rank } = self.course() else {
            self.standing = None;
            return;
        };
        let now = self.now();
        let since = match self.standing {
            Some((known, since)) if known == rank => since,
            Some(_) | None => {
                self.standing = Some((rank, now));
                now
            }
        };
        // 3.4 step 3: liveness only; a proof of death moves this node up at once.
        if now.since(since) >= u64::from(rank) * 2 * self.settings.profile.io_timeout_ms {
            self.standing = None;
            self.drive(FrmInput::Elect);
        }
    }

    fn poll_frm(&mut self) {
        let now = self.now();
        if self.frm_poll_since.is_some_and(|since| now.since(since) >= self.settings.profile.io_timeout_ms) {
            self.frm_poll_since = None;
            self.drive(FrmInput::Poll);
        }
    }

    /// Gives the register machine an input and goes on with what it wants.
    pub(super) fn drive(&mut self, input: FrmInput) {
        self.frm_queue.extend(self.frm.step(input));
        self.go_on();
    }

    fn go_on(&mut self) {
        while !self.frm_busy {
            let Some(output) = self.frm_queue.pop_front() else { return };
            self.perform(output);
        }
    }

    fn perform(&mut self, output: FrmOutput) {
        match output {
            FrmOutput::ReadRegisters => self.ask_disk(DiskRequest::ReadRegisters(Reader::RegisterMachine)),
            FrmOutput::Publish(claim) => {
                let publication = Publication { claim: Some(claim), ..Publication::default() };
                self.frm_busy = true;
                self.emit(ManagerOutput::PublishClaim(publication));
            }
            FrmOutput::Load => self.ask_disk(DiskRequest::ReadMembership(RecordReader::Base)),
            FrmOutput::Write(revision) => self.write(revision),
            FrmOutput::Owned(revision) => self.owned(revision),
            FrmOutput::Committed(revision) => self.committed(revision),
            FrmOutput::Suspended | FrmOutput::Waiting => self.frm_poll_since = Some(self.now()),
            FrmOutput::Resumed => {}
            FrmOutput::Withdrawn => {}
            FrmOutput::Deposed { by } => {
                self.remark(Remark::Deposed { by });
                self.step_down();
            }
            FrmOutput::Resigned => {
                self.step_down();
                self.resigned();
            }
        }
    }

    fn step_down(&mut self) {
        self.coordinator = None;
        self.marked_since = MarkedSince::default(); // the next master counts for itself
        self.committing = None;
        self.commit_due = false; // else the next term would begin with a commit of nothing, and number its records wrongly
        self.draft = ConfigurationDraft::default(); // what this node wrote and did not commit may be the next master's
    }

    /// Asks for what the register machine waits for; nothing else of it is carried out before the answer.
    fn ask_disk(&mut self, request: DiskRequest) {
        self.frm_busy = true;
        self.emit(ManagerOutput::Disk(request));
    }

    /// What was asked for is there. An error ends this node: the operation may have happened, and without its answer this node
    /// never owns or commits anything again.
    fn disk_answer<T>(&mut self, result: DiskResult<T>) -> Option<T> {
        result.map_err(|failure| self.panic(format!("shared disk: {failure}"))).ok()
    }

    fn answer_machine(&mut self, input: FrmInput) {
        self.frm_busy = false;
        self.drive(input);
    }

    pub(super) fn machine_registers(&mut self, result: DiskResult<Arc<RegistersReading>>) {
        let Some(reading) = self.disk_answer(result) else { return };
        self.observe(reading);
        let claims = self.claims();
        self.answer_machine(FrmInput::Registers(claims));
    }

    /// What every register says to the machine, with `expired` judged now.
    pub(super) fn claims(&self) -> BTreeMap<NodeId, Option<ClaimView>> {
        let now = self.now();
        let candidates = self.watch.candidates(now);
        let view = |node: &NodeId, register: &NodeRegister| ClaimView {
            claim: register.claim,
            expired: candidates.get(node).is_none_or(|candidate| !candidate.live),
            incarnation: register.incarnation,
            heartbeat: register.heartbeat,
        };
        let Some(reading) = &self.reading else { return BTreeMap::new() };
        reading
            .registers
            .iter()
            .map(|(node, register)| (*node, register.as_ref().map(|register| view(node, register))))
            .collect()
    }

    pub(super) fn claim_published(&mut self, result: DiskResult<()>) {
        if self.disk_answer(result).is_some() {
            self.answer_machine(FrmInput::Published);
        }
    }

    /// The base of this term. Nobody may decide about nodes without the configuration that it names.
    pub(super) fn base_read(&mut self, result: DiskResult<Option<MembershipRecord>>) {
        let Some(record) = self.disk_answer(result) else { return };
        let named = record.as_ref().map(|record| record.configuration);
        let revision = record.as_ref().map(|record| record.revision);
        (self.loaded, self.loaded_configuration) = (record.unwrap_or_default(), None);
        match named.filter(|named| *named != self.configuration.revision) {
            Some(named) => self.emit(ManagerOutput::Disk(DiskRequest::ReadConfiguration(RecordReader::Base, named))),
            None => self.answer_machine(FrmInput::Loaded(revision)),
        }
    }

    pub(super) fn base_configuration_read(&mut self, result: DiskResult<Option<ConfigurationRecord>>) {
        let Some(configuration) = self.disk_answer(result) else { return };
        if configuration.is_none() {
            // It is written before the record that names it.
            let named = self.loaded.configuration;
            let text = format!("configuration {named}, which the membership record names, is not on the disk");
            return self.panic(format!("shared disk: {text}; `phalanx disk show` tells more"));
        }
        self.loaded_configuration = configuration;
        self.answer_machine(FrmInput::Loaded(Some(self.loaded.revision)));
    }

    /// Writes the record being committed, or the loaded one as the base of a new term. A changed configuration goes first: the
    /// membership record that names it is the only linearisation point (protocol §2, "MA and CF together").
    fn write(&mut self, revision: Revision) {
        match &self.committing {
            Some(record) if record.revision != revision => {
                let text = format!("the coordinator commits {} and the register machine {revision}", record.revision);
                return self.panic(text);
            }
            Some(_) => {}
            None if revision.seq > 0 => return self.panic(format!("there is nothing to commit as {revision}")),
            None => self.loaded.revision = revision,
        }
        let configuration = self.draft.committing.clone().filter(|configuration| configuration.revision == revision);
        let write = self.record_to_write();
        match configuration {
            Some(record) => {
                let keep = self.newest.configuration;
                self.ask_disk(DiskRequest::WriteConfiguration { record, keep });
            }
            None => self.ask_disk(write),
        }
    }

    fn record_to_write(&self) -> DiskRequest {
        let record = self.committing.clone().unwrap_or_else(|| Arc::new(self.loaded.clone()));
        DiskRequest::WriteMembership { durable: self.is_durable(&record), record }
    }

    pub(super) fn configuration_written(&mut self, result: DiskResult<()>) {
        if self.disk_answer(result).is_some() {
            let write = self.record_to_write();
            self.emit(ManagerOutput::Disk(write));
        }
    }

    pub(super) fn membership_written(&mut self, result: DiskResult<()>) {
        if self.disk_answer(result).is_some() {
            self.answer_machine(FrmInput::Written);
        }
    }

    /// Protocol §1.3, "What is durable, and when": a claim's first record, and a node's entry Inactive to Joining.
    fn is_durable(&self, record: &MembershipRecord) -> bool {
        let incarnation =
            |record: &MembershipRecord, node| record.nodes.get(&node).map_or(Incarnation(0), |entry| entry.incarnation);
        let started = |node: &NodeId| incarnation(record, *node) > incarnation(&self.newest, *node);
        record.revision.seq == 0 || record.nodes.keys().any(started)
    }

    fn owned(&mut self, revision: Revision) {
        self.remark(Remark::Leads(revision.term));
        self.followed(revision.term, self.here());
        let (base, configuration) = (self.loaded.clone(), self.loaded_configuration.take());
        self.adopt_loaded_configuration(configuration);
        self.lead(base);
    }

    /// The claim is given up after this node's own leave: say so on the disk and end.
    fn resigned(&mut self) {
        if self.handing_over {
            self.leave_disk();
        }
    }

    pub(super) fn leave_disk(&mut self) {
        // From here on nothing may be claimed or probed any more: the lease thread ends.
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        self.emit(ManagerOutput::StopLease(OwnState::CleanDown));
        // T-24: a joiner whose own subsystem failed has left without having asked for it.
        let reason = self.newest.nodes.get(&self.here()).map(|entry| entry.reason.clone());
        let reason = reason.filter(|reason| !reason.is_empty() && !self.leave_wanted);
        self.ending = Some(reason.map_or(End::Left, End::JoinFailed));
    }

    pub(super) fn lease_stopped(&mut self) {
        if let Some(how) = self.ending.take() {
            self.emit(ManagerOutput::Ended(how));
        }
    }

    /// A record or answer of an older term than this node has promised to follow is refused (protocol M-4).
    pub(super) fn refuse_stale(&mut self, to: NodeId) {
        let seen = self.newest.revision;
        self.send(to, MembershipMessage::Stale { seen });
    }
}
