//! Drives the Fenced Register Machine of membership: carries its outputs out one at a time, in order (protocol §3.4).

use phalanx_messages::membership::MembershipRecord;
use phalanx_messages::peer::MembershipMessage;
use phalanx_messages::register::{Claim, NodeRegister, OwnState};
use phalanx_messages::{Incarnation, Instant, NodeId, Revision};
use phalanx_protocol::frm::{ClaimView, FrmInput, FrmOutput};
use phalanx_protocol::mastership::{self, Course};
use phalanx_storage::Durability;

use super::configuration::ConfigurationDraft;
use super::*;
use crate::disk::{DiskFailure, ReadConfiguration, ReadMembership, ReadRegisters, WriteConfiguration, WriteMembership};
use crate::lease_thread::Publication;
use crate::ports::RegistersReading;

impl MembershipManager {
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
            return Some(self.me());
        }
        let candidates = self.watch.candidates(self.now());
        let lives = |node: &NodeId| candidates.get(node).is_some_and(|candidate| candidate.live);
        let newest = candidates.values().filter(|candidate| candidate.live).map(|candidate| candidate.claim.term).max();
        let told = self.told_by.filter(|(term, node)| Some(*term) >= newest && *node != self.me() && lives(node));
        match (told, self.course()) {
            (Some((_, node)), _) | (None, Course::Follow(node)) => Some(node),
            (None, Course::Lead | Course::Elect { .. } | Course::Wait) => None,
        }
    }

    /// Stands for election when it is this node's turn.
    pub(super) fn tick_election(&mut self, ctx: &mut Context<Self>) {
        self.poll_frm(ctx);
        if self.reading.is_none() || self.frm_busy || !self.frm_queue.is_empty() || self.frm_poll_since.is_some() {
            return;
        }
        if !self.edges.gate.is_open_for(self.settings.profile.guard_ms) || !self.frm.is_idle() {
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
            self.drive(FrmInput::Elect, ctx);
        }
    }

    fn poll_frm(&mut self, ctx: &mut Context<Self>) {
        let now = self.now();
        if self.frm_poll_since.is_some_and(|since| now.since(since) >= self.settings.profile.io_timeout_ms) {
            self.frm_poll_since = None;
            self.drive(FrmInput::Poll, ctx);
        }
    }

    /// Gives the register machine an input and goes on with what it wants.
    pub(super) fn drive(&mut self, input: FrmInput, ctx: &mut Context<Self>) {
        self.frm_queue.extend(self.frm.step(input));
        self.go_on(ctx);
    }

    fn go_on(&mut self, ctx: &mut Context<Self>) {
        while !self.frm_busy {
            let Some(output) = self.frm_queue.pop_front() else { return };
            self.perform(output, ctx);
        }
    }

    fn perform(&mut self, output: FrmOutput, ctx: &mut Context<Self>) {
        match output {
            FrmOutput::ReadRegisters => self.read_registers(ctx),
            FrmOutput::Publish(claim) => self.publish_claim(claim, ctx),
            FrmOutput::Load => self.load(ctx),
            FrmOutput::Write(revision) => self.write(revision, ctx),
            FrmOutput::Owned(revision) => self.owned(revision, ctx),
            FrmOutput::Committed(revision) => self.committed(revision, ctx),
            FrmOutput::Suspended | FrmOutput::Waiting => self.frm_poll_since = Some(self.now()),
            FrmOutput::Resumed => {}
            FrmOutput::Withdrawn => {}
            FrmOutput::Deposed { by } => {
                tracing::warn!(%by, "deposed: another node owns a newer term");
                self.step_down();
            }
            FrmOutput::Resigned => {
                self.step_down();
                self.resigned(ctx);
            }
        }
    }

    fn step_down(&mut self) {
        self.coordinator = None;
        self.committing = None;
        self.draft = ConfigurationDraft::default(); // what this node wrote and did not commit may be the next master's
    }

    /// Waits for `work`, then gives its result to `then` as the answer to the output being carried out.
    fn await_frm<F, T>(
        &mut self,
        work: F,
        ctx: &mut Context<Self>,
        then: impl FnOnce(&mut Self, T, &mut Context<Self>) -> FrmInput + 'static,
    ) where
        F: Future<Output = Result<T, DiskFailure>> + 'static,
        T: 'static,
    {
        self.frm_busy = true;
        ctx.spawn(work.into_actor(self).map(move |result, actor, ctx| {
            let guard = actor.edges.guard.clone();
            guard.run(|| match result {
                Ok(value) => {
                    actor.frm_busy = false;
                    let input = then(actor, value, ctx);
                    actor.drive(input, ctx);
                }
                // it may have happened. Without its answer this node never owns or commits anything again.
                Err(failure) => actor.edges.guard.node_panic(&format!("shared disk: {failure}")),
            });
        }));
    }

    fn read_registers(&mut self, ctx: &mut Context<Self>) {
        let request = self.edges.disk.send(ReadRegisters);
        let work = async move { request.await.map_err(DiskFailure::gone)? };
        self.await_frm(work, ctx, |actor, reading: RegistersReading, ctx| {
            actor.observe(Arc::new(reading), ctx);
            FrmInput::Registers(actor.claims())
        });
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

    fn publish_claim(&mut self, claim: Claim, ctx: &mut Context<Self>) {
        let written = self.edges.lease.publish(Publication { claim: Some(claim), ..Publication::default() });
        let work = async move { written.await.map_err(|_| DiskFailure::gone("the lease thread has ended")) };
        self.await_frm(work, ctx, |_, _, _| FrmInput::Published);
    }

    fn load(&mut self, ctx: &mut Context<Self>) {
        let (disk, known) = (self.edges.disk.clone(), self.configuration.revision);
        let work = async move {
            let record = disk.send(ReadMembership).await.map_err(DiskFailure::gone)??;
            let Some(named) = record.as_ref().map(|record| record.configuration).filter(|named| *named != known) else {
                return Ok((record, None));
            };
            let request = disk.send(ReadConfiguration { revision: Some(named) });
            let configuration = request.await.map_err(DiskFailure::gone)??;
            // Without it nobody may decide about nodes; it is written before the record that names it.
            let configuration = configuration.ok_or_else(|| {
                let text = format!("configuration {named}, which the membership record names, is not on the disk");
                DiskFailure(format!("{text}; `phalanx disk show` tells more"))
            })?;
            Ok((record, Some(configuration)))
        };
        self.await_frm(work, ctx, |actor, (record, configuration): (Option<MembershipRecord>, _), _| {
            let revision = record.as_ref().map(|record| record.revision);
            actor.loaded = record.unwrap_or_default();
            actor.loaded_configuration = configuration;
            FrmInput::Loaded(revision)
        });
    }

    /// Writes the record being committed, or the loaded one as the base of a new term. A changed configuration goes first: the
    /// membership record that names it is the only linearisation point (protocol §2, "MA and CF together").
    fn write(&mut self, revision: Revision, ctx: &mut Context<Self>) {
        let base = &mut self.loaded;
        let record = self.committing.as_deref_mut().unwrap_or(base);
        record.revision = revision;
        let configuration = self.draft.committing.clone().filter(|configuration| configuration.revision == revision);
        let record = Arc::new(record.clone());
        let durability = self.durability_of(&record);
        let disk = self.edges.disk.clone();
        let keep = self.newest.configuration;
        let work = async move {
            if let Some(record) = configuration {
                let write = WriteConfiguration { record, keep, durability: Durability::Durable };
                disk.send(write).await.map_err(DiskFailure::gone)??;
            }
            disk.send(WriteMembership { record, durability }).await.map_err(DiskFailure::gone)?
        };
        self.await_frm(work, ctx, move |_, (), _| FrmInput::Written);
    }

    /// Protocol §1.3, "What is durable, and when": a claim's first record, and a node's entry Inactive to Joining.
    fn durability_of(&self, record: &MembershipRecord) -> Durability {
        let incarnation =
            |record: &MembershipRecord, node| record.nodes.get(&node).map_or(Incarnation(0), |entry| entry.incarnation);
        let started = |node: &NodeId| incarnation(record, *node) > incarnation(&self.newest, *node);
        if record.revision.seq == 0 || record.nodes.keys().any(started) {
            Durability::Durable
        } else {
            Durability::Volatile
        }
    }

    fn owned(&mut self, revision: Revision, ctx: &mut Context<Self>) {
        tracing::info!(term = %revision.term, "this node is master");
        self.followed(revision.term, self.me());
        let (base, configuration) = (self.loaded.clone(), self.loaded_configuration.take());
        self.adopt_loaded_configuration(configuration);
        self.lead(base, ctx);
    }

    /// The claim is given up after this node's own leave: say so on the disk and end.
    fn resigned(&mut self, ctx: &mut Context<Self>) {
        if self.handing_over {
            self.leave_disk(ctx);
        }
    }

    pub(super) fn leave_disk(&mut self, ctx: &mut Context<Self>) {
        // From here on nothing may be claimed or probed any more: the lease thread ends.
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        let stopped = self.edges.lease.stop(Some(OwnState::CleanDown));
        // T-24: a joiner whose own subsystem failed has left without having asked for it.
        let reason = self.newest.nodes.get(&self.me()).map(|entry| entry.reason.clone());
        let how = match reason.filter(|reason| !reason.is_empty() && !self.leave_wanted) {
            Some(reason) => MembershipEnded::Refused(reason),
            None => MembershipEnded::Left,
        };
        let last_word = async move { stopped.await.ok() };
        ctx.spawn(last_word.into_actor(self).map(|_, actor, _| actor.edges.ended.do_send(how)));
    }

    /// A record or answer of an older term than this node has promised to follow is refused (protocol M-4).
    pub(super) fn refuse_stale(&self, to: NodeId) {
        self.send(to, MembershipMessage::Stale { seen: self.newest.revision });
    }

    pub(super) fn last_renewal(&self) -> Instant {
        self.edges.lease.last_renewal()
    }
}
