//! Decisions of the production rules, each computed once: databases and views are interned.

use std::collections::{BTreeSet, HashMap};
use std::hash::Hash;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use phalanx_messages::launch::LaunchResult;
use phalanx_messages::order::{RegistrationOrder, RegistrationRequest, ServiceOrder};
use phalanx_messages::registration::{
    Command, CommandKind, Instance, OperationResult, RegistrationRecord, RunState, ServiceRun, View,
};
use phalanx_messages::{Incarnation, NodeId, NodeIncarnation, OperationId};
use phalanx_protocol::registration::{Decided, Decision, Event, outstanding, victims_of_failure};

use super::RegistrationModel;
use super::checks::CommitCheck;
use super::initial::Lane;
use super::normal::normal_form;
use super::state::{RecordId, ViewId};

/// Who orders in the model.
const ADMINISTRATOR: NodeIncarnation = NodeIncarnation { node: NodeId(7), incarnation: Incarnation(1) };

/// What a decision takes in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Happened {
    /// Nothing but the view.
    Nothing,
    /// A command of that lane has ended; of an older operation only if a rule is taken out.
    Result {
        /// The lane.
        lane: u8,
        /// Who says so.
        from: NodeIncarnation,
        /// Of the current operation.
        current: bool,
        /// How it ended.
        ok: bool,
    },
    /// The current commands of several lanes have ended, as bits: one commit takes them all.
    Results {
        /// The lanes.
        lanes: u8,
        /// Those that ended well.
        ok: u8,
    },
    /// The current operation is given up.
    TimedOut(u8),
    /// The notify command of that lane has ended there.
    Notified(u8, NodeId),
    /// The maturity time is over.
    Matured(u8),
    /// A failed machine may be tried again.
    BackoffOver(u8),
    /// The only member cleans again.
    CleanAgain(u8),
    /// It may be restarted where it has failed.
    RestOver(u8),
    /// The failure at that place of its list counts no more.
    FailureAged(u8, u8),
    /// It has run well for long.
    FailuresForgotten(u8),
    /// A node has been up for long, and is preferred.
    Stable(u8, NodeIncarnation),
    /// An administrator's order, by its place in the model.
    Order(u8),
    /// The registered instance has failed.
    Failed(u8),
}

/// What came of a decision.
#[derive(Debug)]
pub struct Outcome {
    pub after: RecordId,
    pub violation: Option<String>,
    /// Lanes whose current operation is another now, as bits.
    pub superseded: u8,
    /// Commands that were the current ones.
    pub withdrawn: Vec<(usize, Command)>,
    /// Start and recovery commands.
    pub begun: Vec<(usize, Command)>,
    /// An administrator gives up what was lost.
    pub forgiven: u8,
}

/// What follows from a database alone.
#[derive(Debug)]
pub struct Facts {
    pub record: RegistrationRecord,
    /// Run states by lane.
    pub runs: Vec<ServiceRun>,
    /// Current commands by lane.
    pub outstanding: Vec<Option<Command>>,
    /// Incarnations that must be forced out.
    pub victims: BTreeSet<NodeIncarnation>,
}

#[derive(Debug, Default)]
struct Interner<T> {
    ids: HashMap<T, u32>,
    all: Vec<Arc<T>>,
}

impl<T: Hash + Eq + Clone> Interner<T> {
    fn id(&mut self, value: T) -> u32 {
        if let Some(id) = self.ids.get(&value) {
            return *id;
        }
        let id = u32::try_from(self.all.len()).unwrap_or(u32::MAX);
        self.ids.insert(value.clone(), id);
        self.all.push(Arc::new(value));
        id
    }
}

/// Everything that is computed once.
pub struct Books<'a> {
    pub model: &'a RegistrationModel,
    pub lanes: &'a [Lane],
    views: Interner<View>,
    records: HashMap<RegistrationRecord, RecordId>,
    facts: Vec<Arc<Facts>>,
    outcomes: HashMap<(RecordId, ViewId, Happened), Arc<Outcome>>,
    merged: HashMap<(ViewId, RecordId), ViewId>,
    /// Which machines went from what to what.
    pub passages: BTreeSet<Passage>,
}

/// A machine of that kin went from one state to another.
pub type Passage = (&'static str, RunState, RunState);

impl<'a> Books<'a> {
    pub fn new(model: &'a RegistrationModel, lanes: &'a [Lane]) -> Self {
        Self {
            model,
            lanes,
            views: Interner { ids: HashMap::new(), all: Vec::new() },
            records: HashMap::new(),
            facts: Vec::new(),
            outcomes: HashMap::new(),
            merged: HashMap::new(),
            passages: BTreeSet::new(),
        }
    }

    pub fn view_id(&mut self, view: View) -> ViewId {
        ViewId(self.views.id(view))
    }

    pub fn view(&self, id: ViewId) -> Arc<View> {
        self.views.all[id.0 as usize].clone()
    }

    pub fn facts(&self, id: RecordId) -> Arc<Facts> {
        self.facts[id.0 as usize].clone()
    }

    pub fn record_id(&mut self, record: RegistrationRecord) -> RecordId {
        let record = normal_form(record);
        if let Some(id) = self.records.get(&record) {
            return *id;
        }
        let id = RecordId(u32::try_from(self.facts.len()).unwrap_or(u32::MAX));
        self.facts.push(Arc::new(self.facts_of(&record)));
        self.records.insert(record, id);
        id
    }

    fn facts_of(&self, record: &RegistrationRecord) -> Facts {
        let runs = self.lanes.iter().map(|lane| run_of(record, &lane.instance)).collect();
        let mut current: Vec<Option<Command>> = vec![None; self.lanes.len()];
        for command in outstanding(record).into_iter().filter(|command| command.kind != CommandKind::Notify) {
            if let Some(lane) = self.lane_of(&command.instance) {
                current[lane] = Some(command);
            }
        }
        let victims = victims_of_failure(record).into_iter().map(|(victim, _)| victim).collect();
        Facts { record: record.clone(), runs, outstanding: current, victims }
    }

    pub fn lane_of(&self, instance: &Instance) -> Option<usize> {
        self.lanes.iter().position(|lane| lane.instance == *instance)
    }

    /// RL-2: a decision is never made with an older view than the database's.
    pub fn merged(&mut self, view: ViewId, database: RecordId) -> ViewId {
        if let Some(id) = self.merged.get(&(view, database)) {
            return *id;
        }
        let facts = self.facts(database);
        let merged = phalanx_protocol::registration::view_of_decision(&facts.record, &self.view(view));
        let id = self.view_id(merged);
        self.merged.insert((view, database), id);
        id
    }

    pub fn decide(&mut self, base: RecordId, view: ViewId, happened: Happened) -> Arc<Outcome> {
        let key = (base, view, happened);
        if let Some(outcome) = self.outcomes.get(&key) {
            return outcome.clone();
        }
        let outcome = Arc::new(self.decided(base, view, happened));
        self.outcomes.insert(key, outcome.clone());
        outcome
    }

    fn decided(&mut self, base: RecordId, view: ViewId, happened: Happened) -> Outcome {
        let (facts, view) = (self.facts(base), self.view(view));
        let events = self.events(&facts, happened);
        let work = |mut decision: Decision<'_>| {
            events.iter().for_each(|event| decision.absorb(event));
            decision.settle()
        };
        let begin = || Decision::new(&facts.record, &view).loaded(&self.model.loads);
        let whole = || work(begin());
        let Ok(decided) = catch_unwind(AssertUnwindSafe(whole)) else {
            let violation = Some(format!("the rules panic: {events:?}"));
            let (withdrawn, begun) = (Vec::new(), Vec::new());
            return Outcome { after: base, violation, superseded: 0, withdrawn, begun, forgiven: 0 };
        };
        let check = CommitCheck { model: self.model, lanes: self.lanes, base: &facts, decided: &decided, view: &view };
        let mut violation = check.violation();
        let partly = || work(begin().only_what_changes());
        violation = violation.or_else(|| told_and_repeated(&decided, &view)).or_else(|| same(&decided, &partly()));
        self.note_passages(&facts, &decided);
        let after = self.record_id(decided.record.clone());
        let new = self.facts(after);
        let lanes = 0..self.lanes.len();
        let raw = |lane: usize| run_of(&decided.record, &self.lanes[lane].instance).operation;
        let changed = |lane: &usize| raw(*lane) != facts.runs[*lane].operation;
        let superseded = lanes.clone().filter(changed).fold(0, |bits, lane| bits | 1 << lane);
        let withdrawn = lanes.clone().filter_map(|lane| {
            let command = facts.outstanding[lane].clone()?;
            let stays = superseded & 1 << lane == 0 && new.outstanding[lane].is_some();
            (!stays).then_some((lane, command))
        });
        let withdrawn: Vec<(usize, Command)> = withdrawn.collect();
        let sent = decided.commands.iter().filter(|command| command.kind != CommandKind::Notify);
        let sent: Vec<(usize, Command)> =
            sent.filter_map(|command| Some((self.lane_of(&command.instance)?, command.clone()))).collect();
        let begins = |kind| matches!(kind, CommandKind::Start | CommandKind::Recovery);
        let begun = sent.into_iter().filter(|(_, command)| begins(command.kind)).collect();
        let forgiven = self.forgiven(happened);
        Outcome { after, violation, superseded, withdrawn, begun, forgiven }
    }

    fn forgiven(&self, happened: Happened) -> u8 {
        let Happened::Order(place) = happened else { return 0 };
        let RegistrationOrder::Service { service, order } = &self.model.orders[usize::from(place)] else { return 0 };
        let forgives = matches!(order, ServiceOrder::Clear { skip_recovery: true });
        let root = |name: &str| self.lanes.iter().find(|lane| lane.instance.service == name).map(|lane| &lane.root);
        let tree = self.lanes.iter().enumerate().filter(|(_, lane)| root(service) == Some(&lane.root));
        tree.filter(|_| forgives).fold(0, |bits, (lane, _)| bits | 1 << lane)
    }

    fn note_passages(&mut self, base: &Facts, decided: &Decided) {
        for (lane, before) in self.lanes.iter().zip(&base.runs) {
            let mut from = before.state;
            let of_lane = decided.changes.iter().filter(|change| change.instance == lane.instance);
            for change in of_lane {
                self.passages.insert((lane.kin(), from, change.run.state));
                from = change.run.state;
            }
            let to = run_of(&decided.record, &lane.instance).state;
            if to != from {
                self.passages.insert((lane.kin(), from, to)); // an order changed it, and it stayed so
            }
        }
    }

    fn events(&self, facts: &Facts, happened: Happened) -> Vec<Event> {
        let Happened::Results { lanes, ok } = happened else {
            return self.event(facts, happened).into_iter().collect();
        };
        let results = (0..self.lanes.len()).filter(|lane| lanes & 1 << lane != 0).filter_map(|lane| {
            let command = facts.outstanding[lane].as_ref()?;
            let result = result(command.instance.clone(), command.operation, command.kind, ok & 1 << lane != 0);
            Some(Event::Finished { from: command.target, result })
        });
        results.collect()
    }

    fn event(&self, facts: &Facts, happened: Happened) -> Option<Event> {
        let instance = |lane: u8| self.lanes[usize::from(lane)].instance.clone();
        let run = |lane: u8| &facts.runs[usize::from(lane)];
        let request = |order: RegistrationOrder| {
            Event::Requested(RegistrationRequest { source: ADMINISTRATOR, counter: 1, order })
        };
        Some(match happened {
            Happened::Nothing | Happened::Results { .. } => return None,
            Happened::Result { lane, from, current, ok } => {
                let older = OperationId::default();
                let operation = if current { run(lane).operation } else { older };
                let result = result(instance(lane), operation, CommandKind::Kill, ok);
                Event::Finished { from, result }
            }
            Happened::TimedOut(lane) => Event::TimedOut { instance: instance(lane), operation: run(lane).operation },
            Happened::Notified(lane, node) => {
                let incarnation = run(lane).notified.get(&node).copied().unwrap_or_default();
                let result = result(instance(lane), run(lane).generation, CommandKind::Notify, true);
                Event::Finished { from: NodeIncarnation { node, incarnation }, result }
            }
            Happened::Matured(lane) => Event::Matured { service: instance(lane).service },
            Happened::BackoffOver(lane) => Event::BackoffOver { instance: instance(lane) },
            Happened::CleanAgain(lane) => Event::CleanAgain { instance: instance(lane) },
            Happened::RestOver(lane) => Event::RestOver { instance: instance(lane), generation: run(lane).generation },
            Happened::FailureAged(lane, place) => {
                let generation = run(lane).restarts.get(usize::from(place)).copied().unwrap_or_default();
                Event::FailureAged { instance: instance(lane), generation }
            }
            Happened::FailuresForgotten(lane) => {
                Event::FailuresForgotten { instance: instance(lane), generation: run(lane).generation }
            }
            Happened::Stable(lane, node) => Event::Stable { service: instance(lane).service, node },
            Happened::Order(place) => request(self.model.orders[usize::from(place)].clone()),
            Happened::Failed(lane) => {
                let generation = run(lane).generation.revision;
                let Instance { service, of } = instance(lane);
                let order = ServiceOrder::Failed { generation, node: of, text: "bad".to_owned() };
                request(RegistrationOrder::Service { service, order })
            }
        })
    }
}

/// What is sent is what would be sent again, or goes to a node that is lost: a decision maker that dies after its commit is no
/// loss (protocol §6.1).
fn told_and_repeated(decided: &Decided, view: &View) -> Option<String> {
    let repeated = outstanding(&decided.record);
    let superfluous = |command: &&Command| !repeated.contains(command) && !view.is_lost(command.target);
    let lost = decided.commands.iter().find(superfluous)?;
    Some(format!("RL-4: {lost:?} is sent, and would not be sent again"))
}

/// A decision that looks only at what has changed decides the same.
fn same(whole: &Decided, partly: &Decided) -> Option<String> {
    let same = whole.record == partly.record && whole.commands == partly.commands && whole.changed == partly.changed;
    (!same).then(|| format!("only what changes is looked at: {:?} and not {:?}", partly.record, whole.record))
}

fn result(instance: Instance, operation: OperationId, kind: CommandKind, ok: bool) -> OperationResult {
    let outcome = if ok { LaunchResult::Succeeded } else { LaunchResult::Failed { text: "failed".to_owned() } };
    OperationResult { instance, operation, kind, outcome }
}

/// The run state of one machine; of one that has not come to be yet, that of an idle one.
pub fn run_of(record: &RegistrationRecord, instance: &Instance) -> ServiceRun {
    let service = record.services.get(&instance.service);
    service.and_then(|service| service.run_of(instance.of)).cloned().unwrap_or_default()
}
