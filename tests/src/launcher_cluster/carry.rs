//! What a step does.

use std::sync::Arc;

use phalanx_messages::NodeIncarnation;
use phalanx_messages::launch::LaunchResult;
use phalanx_messages::registration::{CommandKind, OperationResult, Order, RegistrationMessage};
use phalanx_protocol::launcher::{LauncherInput, LauncherOutput, LauncherRead, LauncherWrite, RegistrationReader};
use phalanx_protocol::moment::Moment;
use phalanx_protocol::registration::{ExecutorInput, ExecutorOutput, outstanding};
use phalanx_storage::{Durability, StorageError};

use super::node::Memory;
use super::step::sent;
use super::{LauncherCluster, PROFILE, Ran, Step};

/// A result that nobody has consumed is told again this often.
const REPEAT_MS: u64 = 1_000;

impl LauncherCluster {
    pub(super) fn perform(&mut self, step: Step) {
        if let Some(waiting) = self.frozen.get_mut(&step.of()) {
            waiting.push_back(step);
            return;
        }
        match step {
            Step::Carry { by, output } => self.carry_out(by, output),
            Step::Give { to, input } => self.give(to, input),
            Step::Ended { at, result } => self.command_ended(at, result),
        }
    }

    /// Nothing is left to do: time passes.
    pub(super) fn pass(&mut self) {
        self.now = self.now.plus(PROFILE.io_timeout_ms);
        let arrivals = self.mail.arrivals();
        self.steps.extend(arrivals);
        let awake = self.nodes.values().map(|node| node.me).filter(|me| !self.frozen.contains_key(me));
        for me in awake.collect::<Vec<_>>() {
            self.give_later(me.node, LauncherInput::Tick);
            if self.now.0.is_multiple_of(REPEAT_MS) {
                let lanes: Vec<String> = self.nodes[&me.node].executors.keys().cloned().collect();
                lanes.into_iter().for_each(|lane| self.execute(me, &lane, ExecutorInput::Repeat));
            }
        }
    }

    fn give(&mut self, to: NodeIncarnation, input: LauncherInput) {
        let moment = Moment { now: self.now, open: true, may_act: true };
        let Some(node) = self.node_mut(to) else { return };
        let outputs = node.launcher.step(moment, input);
        self.look_at_decisions(to);
        for output in outputs.into_iter().rev() {
            self.steps.push_front(Step::Carry { by: to, output });
        }
    }

    /// The machine may hold a newer database for committed.
    fn look_at_decisions(&mut self, who: NodeIncarnation) {
        let Some(node) = self.node_mut(who) else { return };
        let Some(record) = node.launcher.decided().cloned() else { return };
        if std::mem::replace(&mut node.committed, record.revision) == record.revision {
            return;
        }
        let dead = &self.dead;
        let found = self.truth.database_committed(&record, &|who| dead.contains(&who));
        self.judge(&found);
        self.ordered.extend(outstanding(&record).iter().map(Ran::of));
    }

    fn judge(&self, found: &[String]) {
        assert!(found.is_empty(), "{found:?}\n{}", self.text());
    }

    fn carry_out(&mut self, by: NodeIncarnation, output: LauncherOutput) {
        self.sent.extend(sent(&output).into_iter().map(Ran::of));
        match output {
            LauncherOutput::Read(read) => self.read(by, read),
            LauncherOutput::Write(write) => {
                let ended = self.write(by, &write).map_err(|error| error.to_string());
                self.steps.push_back(Step::Give { to: by, input: LauncherInput::Written(ended) });
            }
            LauncherOutput::Send { to, message } => {
                if let RegistrationMessage::Orders { orders, .. } = &message {
                    let found: Vec<String> = orders.iter().flat_map(|order| self.truth.command_told(order)).collect();
                    self.judge(&found);
                }
                if let Some(to) = self.nodes.get(&to).map(|node| node.me) {
                    self.post(Step::Give { to, input: LauncherInput::Received { from: by, message } });
                }
            }
            LauncherOutput::Perform { order, .. } => {
                let found = self.truth.command_told(&order);
                self.judge(&found);
                let lane = order.command.instance.lane();
                self.execute(by, &lane, ExecutorInput::Ordered(order));
            }
            LauncherOutput::DatabaseSeen { instance, revision, awaited, .. } => {
                self.told.push(instance.lane());
                self.execute(by, &instance.lane(), ExecutorInput::Database { revision, awaited });
            }
            LauncherOutput::Adopted(change) => {
                if let Some(node) = self.node_mut(by) {
                    node.adopting.remove(&change);
                }
            }
            LauncherOutput::Answer { counter, answer } => {
                let before = self.answers.insert(counter, answer);
                assert!(before.is_none(), "order {counter} is answered twice");
            }
            LauncherOutput::Force { victim, reason } => {
                panic!("{victim} is to be forced out: {reason}\n{}", self.text())
            }
            LauncherOutput::Registered { .. }
            | LauncherOutput::Happened { .. }
            | LauncherOutput::Committed(_)
            | LauncherOutput::Leader(_)
            | LauncherOutput::DiskFailed(_) => {}
        }
    }

    /// Something that may be lost, repeated, overtaken and late.
    fn post(&mut self, arrival: Step) {
        for arrival in self.mail.send(arrival) {
            self.insert_somewhere(arrival);
        }
    }

    /// What one machine has asked for is carried out in one go.
    fn insert_somewhere(&mut self, step: Step) {
        let busy = self.steps.iter().take_while(|step| matches!(step, Step::Carry { .. })).count();
        let place = self.mail.place(busy, self.steps.len());
        self.steps.insert(place, step);
    }

    fn read(&mut self, by: NodeIncarnation, read: LauncherRead) {
        let input = match read {
            LauncherRead::Decisions => {
                let registers = self.disk.decisions().read_all().map_err(|error| error.to_string());
                LauncherInput::DecisionsRead(registers)
            }
            LauncherRead::Registration(reader) => {
                let newest = self.disk.registrations().newest().map_err(|error| error.to_string());
                if let (RegistrationReader::Decisions, Ok(Some(base))) = (reader, &newest)
                    && let Some(node) = self.node_mut(by)
                {
                    node.base = base.revision;
                }
                LauncherInput::RegistrationRead(reader, newest)
            }
        };
        self.steps.push_back(Step::Give { to: by, input });
    }

    fn write(&mut self, by: NodeIncarnation, write: &LauncherWrite) -> Result<(), StorageError> {
        let Some(node) = self.node_mut(by) else { return Ok(()) };
        match write {
            LauncherWrite::Decision(register) => node.decisions.write(register, Durability::Durable),
            LauncherWrite::Registration { record, durable } => {
                let durability = if *durable { Durability::Durable } else { Durability::Volatile };
                let (ended, base) = (node.registrations.write(record, durability), node.base);
                let found = self.truth.database_written(&Arc::clone(record), base);
                self.judge(&found);
                if ended.is_ok() {
                    self.truth.database_completed(record.revision);
                }
                ended
            }
        }
    }

    /// The node dies in the middle of the write that is its next step: only so many bytes of it are on the disk.
    ///
    /// # Panics
    /// If the next step is no such write.
    pub fn tear(&mut self, bytes: usize) {
        let step = self.steps.pop_front().expect("a step");
        let Step::Carry { by, output: LauncherOutput::Write(write) } = &step else { panic!("no write: {step:?}") };
        self.memory.tear_next_write(bytes);
        assert!(self.write(*by, write).is_err(), "the write is torn");
        self.crash(by.node.0);
    }

    fn execute(&mut self, at: NodeIncarnation, lane: &str, input: ExecutorInput) {
        let Some(node) = self.node_mut(at) else { return };
        for output in node.executors.entry(lane.to_owned()).or_default().step(input) {
            match output {
                ExecutorOutput::Run(order) => self.run_command(at, &order),
                ExecutorOutput::Report(result) => {
                    self.steps.push_back(Step::Give { to: at, input: LauncherInput::Reported(result) });
                }
            }
        }
    }

    /// The warden refuses an operation that is older than one it has run, and repeats the result of the same one.
    fn run_command(&mut self, at: NodeIncarnation, order: &Order) {
        let command = &order.command;
        let lane = command.instance.lane();
        let Some(node) = self.node_mut(at) else { return };
        let known = node.warden.entry((lane.clone(), command.kind == CommandKind::Notify)).or_default();
        if command.operation == known.last {
            if let Some(result) = known.result.clone() {
                self.execute(at, &lane, ExecutorInput::Finished(result));
            }
            return;
        }
        assert!(command.operation > known.last, "I-R8: {at} runs {:?} of {lane} after a newer one", command.kind);
        *known = Memory { last: command.operation, result: None };
        self.ran.push(Ran { lane, kind: command.kind, operation: command.operation, at });
        let found = self.truth.command_begins(command);
        self.judge(&found);
        let result = OperationResult {
            instance: command.instance.clone(),
            operation: command.operation,
            kind: command.kind,
            outcome: LaunchResult::Succeeded,
        };
        self.insert_somewhere(Step::Ended { at, result });
    }

    /// What the command did is done whether its daemon hears of it or not.
    fn command_ended(&mut self, at: NodeIncarnation, result: OperationResult) {
        let lane = result.instance.lane();
        let Some(node) = self.node_mut(at) else { return };
        let known = node.warden.entry((lane.clone(), result.kind == CommandKind::Notify)).or_default();
        if known.last != result.operation {
            return;
        }
        known.result = Some(result.clone());
        self.truth.command_ends(&lane, at, result.kind, true);
        self.execute(at, &lane, ExecutorInput::Finished(result));
    }
}
