//! The membership manager: carries the outputs of its machine out, in order (`phalanx_actors::membership_manager`).

use std::collections::BTreeSet;

use phalanx_messages::membership::MembershipRecord;
use phalanx_messages::peer::MembershipMessage;
use phalanx_messages::register::OwnState;
use phalanx_messages::{NodeId, NodeIncarnation, Revision};
use phalanx_protocol::launcher::LauncherInput;
use phalanx_protocol::lease::Publication;
use phalanx_protocol::manager::{End, Manager, ManagerInput, ManagerOutput, Moment, PROBE_MS, Remark, TICK_MS};
use phalanx_protocol::registration::LeaseSigns;

use super::World;
use crate::invariants;
use crate::simulation::clock::MS;
use crate::simulation::invariants::f6_no_minority_decides;
use crate::simulation::process::{Job, LeaseCommand, ProcessEvent};
use crate::simulation::watched::Before;

impl World {
    pub(super) fn tick(&mut self, node: NodeId) {
        let now = self.clock(node);
        if let Some(actors) = self.actors_mut(node) {
            actors.ticked = now;
        }
        self.plan_in_ms(node, TICK_MS, ProcessEvent::Tick);
        self.manage(node, ManagerInput::Tick);
        // The machine asserts that a tick has no output then.
        let rests = |manager: &Manager| manager.next_tick(now) > now.plus(TICK_MS);
        if self.actors_mut(node).is_some_and(|actors| rests(&actors.manager)) {
            self.coverage.reach("a node rests");
        }
    }

    /// Gives the machine an input and carries out what follows.
    pub(super) fn manage(&mut self, node: NodeId, input: ManagerInput) {
        let now = self.clock(node);
        let guard_ms = self.setup.profile.guard_ms;
        let shown = self.log.shows_machines();
        let Some(process) = self.process_mut(node) else { return };
        let gate = &process.gate;
        let moment = Moment { now, open: gate.is_open_for(0, now), may_act: gate.is_open_for(guard_ms, now) };
        let Some(actors) = &mut process.actors else { return };
        let before = shown.then(|| Before::of(&input, &actors.manager));
        let outputs = actors.manager.step(moment, input);
        let seen = before.map(|before| before.after("manager", &outputs, &actors.manager));
        self.log.machine_step(self.now, node, seen.unwrap_or_default());
        for output in outputs {
            if !self.is_up(node) {
                return; // it has ended by what came before
            }
            self.carry_out(node, output);
        }
    }

    fn carry_out(&mut self, node: NodeId, output: ManagerOutput) {
        match output {
            ManagerOutput::Disk(request) => self.ask_disk_for(node, Job::Membership(request)),
            ManagerOutput::Publish(publication) => self.publish(node, publication, false),
            ManagerOutput::PublishClaim(publication) => self.publish(node, publication, true),
            ManagerOutput::RenewLease => self.ask_lease(node, LeaseCommand::RenewNow),
            ManagerOutput::StopLease(state) => self.ask_lease(node, LeaseCommand::Stop(state)),
            ManagerOutput::Send { to, message } => self.say(node, to, message),
            ManagerOutput::Tell { to, record } => {
                to.iter().for_each(|to| self.say(node, to, MembershipMessage::Notify(record.clone())));
            }
            ManagerOutput::Notify(notification) => self.notified(node, notification),
            ManagerOutput::Seen(revision) => self.saw(node, revision),
            ManagerOutput::SeekProofs(wanted) => self.seek_proofs(node, wanted),
            ManagerOutput::ConfigurationChanged(configuration) => {
                self.coverage.reach("configuration changed");
                self.tell_launcher(node, LauncherInput::Configuration(configuration));
            }
            ManagerOutput::Leases { expired, dead, gone } => {
                let signs = LeaseSigns { expired, dead: dead.into_iter().collect(), gone };
                self.tell_launcher(node, LauncherInput::Leases(signs));
            }
            ManagerOutput::ProbeLater => {
                self.plan_in_ms(node, PROBE_MS, ProcessEvent::Manager(Box::new(ManagerInput::Probe)))
            }
            ManagerOutput::Remark(remark) => self.remarked(node, &remark),
            ManagerOutput::Ended(end) => self.membership_ended(node, &end),
            ManagerOutput::Panic { reason } => self.panic(node, &reason),
            ManagerOutput::Answer { answer, .. } => {
                self.log.event(self.now, Some(node), "request answered", &[], || format!("{answer:?}"));
            }
            ManagerOutput::MasterIs(_)
            | ManagerOutput::HeartbeatTargets(_)
            | ManagerOutput::Happened { .. }
            | ManagerOutput::LeaveBegun
            | ManagerOutput::Resume { .. }
            | ManagerOutput::LevelRefused { .. }
            | ManagerOutput::Deregistered(_)
            | ManagerOutput::LeaveTaken(_) => {}
        }
    }

    fn publish(&mut self, node: NodeId, publication: Publication, answered: bool) {
        for pill in publication.pills.iter().flatten() {
            let found = self.truth.pill_published(node, pill);
            self.broken_all(found);
        }
        self.ask_lease(node, LeaseCommand::Publish(publication, answered));
    }

    fn say(&mut self, node: NodeId, to: NodeId, message: MembershipMessage) {
        if let MembershipMessage::Notify(record) = &message {
            let found = self.truth.record_told(node, record);
            self.broken_all(found);
        }
        if let MembershipMessage::Acknowledged(answers) = &message
            && let Some(me) = self.process(node).map(|process| process.me)
        {
            let found = self.truth.answers_sent(me, answers);
            self.broken_all(found);
        }
        self.send_message(node, to, message);
    }

    /// The node has learnt a record that it holds for committed.
    fn saw(&mut self, node: NodeId, revision: phalanx_messages::Revision) {
        let Some(process) = self.process_mut(node) else { return };
        let me = process.me;
        let Some(actors) = &mut process.actors else { return };
        let before = std::mem::replace(&mut actors.seen, revision);
        if revision <= before {
            self.broken(format!("I-M4: {me} goes back from record {before} to {revision}"));
        }
        let record = std::sync::Arc::clone(
            self.process(node)
                .and_then(|process| process.actors.as_ref())
                .map_or_else(|| unreachable!("it was there above"), |actors| actors.manager.record()),
        );
        let newest = self.truth.newest();
        let found = self.truth.record_seen(&record, self.now);
        self.broken_all(found.broken);
        if found.is_new && record.revision > newest.revision {
            self.check_forgotten(&newest, &record);
            self.check_votes(&newest, &record);
        }
        if found.is_new {
            self.log.event(self.now, Some(node), "committed", &[revision.term.0, revision.seq], || describe(&record));
            self.coverage.committed(&record);
            self.note_unlinked();
        }
    }

    /// I-T19, on the tables of the subsystems of every member that lives.
    fn check_forgotten(&mut self, before: &MembershipRecord, record: &MembershipRecord) {
        let lives = |who: &NodeIncarnation| self.running(who.node) == Some(*who);
        let members: Vec<NodeIncarnation> = self.truth.members().into_iter().filter(lives).collect();
        for member in members {
            let views = self.views(member.node);
            self.broken_all(invariants::t19_the_inactive_are_forgotten(before, record, member.node, &views));
        }
    }

    /// I-F6. A decision takes a while to be committed, and until a node's end is noticed its vote counts: none of this takes longer
    /// than the leases of master and node.
    fn check_votes(&mut self, before: &MembershipRecord, record: &MembershipRecord) {
        let since = self.now.saturating_sub(2 * self.setup.profile.takeover_ms() * MS);
        let ended = self.hosts.values().filter_map(|host| host.ended).filter(|(_, at)| *at >= since);
        let runs = self.hosts.values().filter_map(|host| host.process.as_ref()).map(|process| process.me);
        let there: Vec<NodeIncarnation> = ended.map(|(who, _)| who).chain(runs).collect();
        // By the votes of then, and by those that the same commit brings.
        let named: BTreeSet<Revision> = [before.configuration, record.configuration].into();
        for configuration in
            named.into_iter().filter_map(|named| self.disk.find_configuration(named)).collect::<Vec<_>>()
        {
            self.broken_all(f6_no_minority_decides::check(before, record, &configuration, &there));
        }
    }

    fn remarked(&mut self, node: NodeId, remark: &Remark) {
        self.log.event(self.now, Some(node), "remark", &[], || format!("{remark:?}"));
        match remark {
            Remark::Leads(term) => {
                let Some(me) = self.process(node).map(|process| process.me) else { return };
                self.coverage.reach("a node leads");
                let found = self.truth.leads(me, *term);
                self.broken_all(found);
                self.master_changed();
            }
            Remark::Deposed { .. } => self.coverage.reach("deposed"),
            Remark::MembersLive => self.coverage.reach("members live, term handed back"),
            Remark::ForcingOut { victim, reason } => {
                self.coverage.forced(reason);
                if reason.contains("links are cut") {
                    self.check_links_of(*victim);
                }
            }
            Remark::KeptForQuorum { .. } => self.coverage.reach("not forced out: no quorum without it"),
            Remark::DeathConfirmed { .. } => self.coverage.reach("death confirmed by hand"),
            Remark::Quorum { reached, .. } => {
                self.coverage.reach(if *reached { "quorum is there" } else { "quorum is lost" });
            }
            Remark::JoinRefused(refusal) => self.coverage.refused(refusal),
            Remark::Overdue(_) => self.coverage.reach("a step is overdue"),
            Remark::ConfigurationUnreadable(_) => self.coverage.reach("configuration unreadable"),
        }
    }

    fn membership_ended(&mut self, node: NodeId, end: &End) {
        self.log.event(self.now, Some(node), "membership ended", &[], || format!("{end:?}"));
        match end {
            End::Left => self.coverage.reach("left"),
            End::JoinFailed(_) => self.coverage.reach("own subsystem refused the join"),
            End::Refused(refusal) => self.coverage.refused(refusal),
        }
        let said = self.disk.registers[&node].settled().own_state;
        if *end == End::Left && said == OwnState::CleanDown {
            self.coverage.reach("clean down");
        }
        self.leave_cleanly(node);
    }
}

/// One line about a record.
fn describe(record: &MembershipRecord) -> String {
    use std::fmt::Write as _;
    let mut text = record.revision.to_string();
    for (node, entry) in &record.nodes {
        write!(text, " {node}/{}:{}", entry.incarnation, entry.state.text()).ok();
        if let Some(step) = &entry.step {
            write!(text, "@{}.{}r{}{:?}", step.level, step.barrier, step.restart, step.phase).ok();
        }
        if entry.fence.marked {
            write!(text, "({})", if entry.fence.death_certain { "dead" } else { "unproved" }).ok();
        }
    }
    for (node, ghost) in &record.ghosts {
        write!(text, " ghost {node}/{}@{}{:?}", ghost.incarnation, ghost.step.level, ghost.step.phase).ok();
    }
    text
}
