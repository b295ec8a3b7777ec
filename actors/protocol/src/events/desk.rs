//! One node's event manager daemon: which events are watched here, and what is done about an occurrence.
//!
//! An event is watched once, whatever number of groups has it; its action function runs once for each service that it is watched
//! for, or once if it is watched for none. One action function at a time for each of them. When a service is registered anew the
//! watching begins anew, so that what a watcher saw of the registration before is not taken for the present one.
//!
//! Pure: no I/O, no clock, no actix. The caller carries out each [`DeskOutput`].

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use phalanx_messages::event::{EventDefinition, Parameters};
use phalanx_messages::launch::LaunchResult;
use phalanx_messages::limits::OCCURRENCES_WAITING_MAX;
use phalanx_messages::registration::RegistrationRecord;
use phalanx_messages::watcher::WatcherSchema;
use phalanx_messages::{Instant, NodeIncarnation};

use super::io::{DeskInput, DeskOutput, Done, Occurrence, Run, RunId, WatchId, Watched};
use super::places::{Purpose, naming, places_of};
use super::reference::{in_words, substitute, variables};
use super::schema::{EXTERNAL, builtin, is_external};
use super::values::{check, complete, out_values};
use crate::bugs::{self, Bug};
use crate::moment::Moment;

/// See the module.
#[derive(Debug)]
pub struct EventDesk {
    me: NodeIncarnation,
    record: Arc<RegistrationRecord>,
    /// Schemas of the external watchers that are connected.
    external: BTreeMap<String, WatcherSchema>,
    watched: BTreeMap<String, Watching>,
    /// Events that should be watched, and why they are not.
    problems: BTreeMap<String, String>,
    counts: BTreeMap<String, Counts>,
    last: u64,
    running: BTreeMap<RunId, Begun>,
    waiting: VecDeque<Begun>,
    moment: Moment,
    outputs: Vec<DeskOutput>,
}

#[derive(Debug, Default)]
struct Counts {
    occurrences: u64,
    acted: u64,
}

#[derive(Debug)]
struct Watching {
    watch: WatchId,
    /// As it is defined.
    definition: EventDefinition,
    schema: WatcherSchema,
    purposes: BTreeSet<Purpose>,
    told: BTreeMap<Purpose, Told>,
}

/// The newest occurrence for one purpose, and when the quiet time began.
#[derive(Debug)]
struct Told {
    occurrence: Occurrence,
    acted_at: Instant,
}

/// An occurrence whose action function runs, or waits to be run.
#[derive(Debug)]
struct Begun {
    /// None = it is a test.
    watch: Option<WatchId>,
    occurrence: Occurrence,
    run: Run,
    /// It was told that it waits.
    told: bool,
}

impl EventDesk {
    /// A desk that knows no database.
    #[must_use]
    pub fn new(me: NodeIncarnation) -> Self {
        Self {
            me,
            record: Arc::default(),
            external: BTreeMap::new(),
            watched: BTreeMap::new(),
            problems: BTreeMap::new(),
            counts: BTreeMap::new(),
            last: 0,
            running: BTreeMap::new(),
            waiting: VecDeque::new(),
            moment: Moment { now: Instant::default(), open: false, may_act: false },
            outputs: Vec::new(),
        }
    }

    /// A desk that takes the place of one that must not be trusted any more: it watches nothing until it is given the database
    /// again, knows which programs are connected, and goes on with the numbers.
    #[must_use]
    pub fn after(lost: &Self) -> Self {
        let (record, external) = (lost.record.clone(), lost.external.clone());
        Self { last: lost.last + 1, record, external, ..Self::new(lost.me) }
    }

    /// Takes one input. The outputs are carried out in order.
    pub fn step(&mut self, moment: Moment, input: DeskInput) -> Vec<DeskOutput> {
        self.moment = moment;
        match input {
            DeskInput::Database(record) if record.revision < self.record.revision => {}
            DeskInput::Database(record) => {
                let before = std::mem::replace(&mut self.record, record);
                self.refresh();
                self.forget_removed(&before);
            }
            DeskInput::External { watcher, schema } => {
                match schema {
                    Some(schema) => drop(self.external.insert(watcher, schema)),
                    None => drop(self.external.remove(&watcher)),
                }
                self.refresh();
            }
            DeskInput::Occurred { event, watch, out } => self.occurred(&event, watch, out),
            DeskInput::WatchFailed { event, watch, text } => {
                if self.watched.get(&event).is_some_and(|watching| watching.watch == watch) {
                    self.problems.insert(event, text);
                }
            }
            DeskInput::ActionEnded { run, result } => self.ended(run, result),
            DeskInput::Test { ticket, name, out, dry_run } => self.test(ticket, &name, &out, dry_run),
            DeskInput::Tick => {}
        }
        self.go_on();
        std::mem::take(&mut self.outputs)
    }

    /// The newest database it was given.
    #[must_use]
    pub const fn record(&self) -> &Arc<RegistrationRecord> {
        &self.record
    }

    /// Something waits for the lease: it wants to be told of time.
    #[must_use]
    pub fn waits(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// What this node does about an event.
    #[must_use]
    pub fn watched(&self, event: &str) -> Watched {
        let problem = self.problems.get(event).cloned();
        let counts = self.counts.get(event);
        Watched {
            watching: problem.is_none() && self.watched.contains_key(event),
            problem,
            occurrences: counts.map_or(0, |counts| counts.occurrences),
            acted: counts.map_or(0, |counts| counts.acted),
        }
    }

    /// What is known of the watcher's parameters.
    pub(super) fn schema_of(&self, watcher: &str) -> Option<WatcherSchema> {
        builtin(watcher).or_else(|| self.external.get(watcher).cloned())
    }

    pub(super) fn next_id(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    pub(super) fn emit(&mut self, output: DeskOutput) {
        self.outputs.push(output);
    }

    /// What is enabled here, by event.
    pub(super) fn purposes_here(&self) -> BTreeMap<String, BTreeSet<Purpose>> {
        let mut found: BTreeMap<String, BTreeSet<Purpose>> = BTreeMap::new();
        if self.record.event_groups.is_empty() {
            return found; // most clusters, each time that a database is committed
        }
        let naming = naming(&self.record);
        for group in self.record.event_groups.values() {
            let here = places_of(&self.record, &naming, group).into_iter().filter(|place| place.on == self.me);
            for purpose in here.map(|place| place.purpose) {
                for event in &group.events {
                    found.entry(event.clone()).or_default().insert(purpose.clone());
                }
            }
        }
        found.values_mut().for_each(once_for_each);
        found
    }

    /// Level-triggered (protocol I-R11): watches what the database says, and nothing else.
    fn refresh(&mut self) {
        let wanted = self.purposes_here();
        let record = self.record.clone();
        self.counts.retain(|event, _| record.events.contains_key(event));
        self.problems.retain(|event, _| wanted.contains_key(event));
        let stays = |event: &String, watching: &Watching, external: &BTreeMap<String, WatcherSchema>| {
            let schema =
                builtin(&watching.definition.watcher).or_else(|| external.get(&watching.definition.watcher).cloned());
            record.events.get(event) == Some(&watching.definition)
                && wanted.get(event) == Some(&watching.purposes)
                && schema.as_ref() == Some(&watching.schema)
        };
        let ended: Vec<String> = (self.watched.iter())
            .filter(|(event, watching)| {
                !stays(event, watching, &self.external) && !bugs::active(Bug::EventsStayEnabled)
            })
            .map(|(event, _)| event.clone())
            .collect();
        for event in ended {
            if let Some(Watching { watch, .. }) = self.watched.remove(&event) {
                self.problems.remove(&event);
                self.emit(DeskOutput::Unwatch { event, watch });
            }
        }
        for (event, purposes) in wanted {
            if let (false, Some(definition)) = (self.watched.contains_key(&event), record.events.get(&event)) {
                self.watch(definition, purposes);
            }
        }
    }

    fn watch(&mut self, definition: &EventDefinition, purposes: BTreeSet<Purpose>) {
        let event = definition.name.clone();
        let schema = match self.schema_of(&definition.watcher) {
            Some(schema) => schema,
            None => {
                self.problems.insert(event, unknown_watcher(&definition.watcher));
                return;
            }
        };
        if let Err(mistake) = check(definition, Some(&schema)) {
            self.problems.insert(event, mistake.to_string());
            return;
        }
        self.problems.remove(&event);
        let watch = WatchId(self.next_id());
        let completed = EventDefinition { parameters: complete(definition, &schema), ..definition.clone() };
        let definition = definition.clone();
        self.watched.insert(event, Watching { watch, definition, schema, purposes, told: BTreeMap::new() });
        self.emit(DeskOutput::Watch { watch, definition: Box::new(completed) });
    }

    fn occurred(&mut self, event: &str, watch: WatchId, out: Parameters) {
        let Some(watching) = self.watched.get(event).filter(|watching| watching.watch == watch) else {
            return; // said by a watching that has ended
        };
        let out = match out_values(&watching.schema, out) {
            Ok(out) => out,
            Err(text) => {
                self.problems.insert(event.to_owned(), format!("its watcher told of it wrongly: {text}"));
                return;
            }
        };
        self.problems.remove(event);
        self.counts.entry(event.to_owned()).or_default().occurrences += 1;
        for purpose in watching.purposes.clone() {
            self.occurs_for(event, purpose, &out);
        }
    }

    /// One occurrence for one purpose: counted, told, or acted on.
    fn occurs_for(&mut self, event: &str, purpose: Purpose, out: &Parameters) {
        let now = self.moment.now;
        let id = RunId(self.next_id());
        let Some(watching) = self.watched.get_mut(event) else { return };
        let quiet_ms = watching.definition.quiet_ms;
        let quiet = |told: &&mut Told| quiet_ms > 0 && now.since(told.acted_at) < quiet_ms;
        if let Some(told) = watching.told.get_mut(&purpose).filter(quiet) {
            if told.occurrence.out == *out {
                told.occurrence.repeats += 1;
            } else {
                told.occurrence = occurrence(id, event.to_owned(), Some(purpose), out.clone(), Done::Quiet);
            }
            let told = Box::new(told.occurrence.clone());
            return self.emit(DeskOutput::Tell(told));
        }
        let watch = watching.watch;
        let occurrence = occurrence(id, event.to_owned(), Some(purpose.clone()), out.clone(), Done::Told);
        watching.told.insert(purpose, Told { occurrence: occurrence.clone(), acted_at: now });
        let (definition, schema) = (watching.definition.clone(), watching.schema.clone());
        self.act(Some(watch), occurrence, &definition, &schema);
    }

    /// Runs the action function, now or when it can be.
    pub(super) fn act(
        &mut self,
        watch: Option<WatchId>,
        mut occurrence: Occurrence,
        definition: &EventDefinition,
        schema: &WatcherSchema,
    ) {
        let Some(action) = &definition.action else { return self.tell(occurrence) };
        let input = complete(definition, schema);
        let run = match substitute(&action.run, &input, &occurrence.out) {
            Ok(run) => run,
            Err(reference) => {
                (occurrence.done, occurrence.text) = (Done::Failed, format!("{reference} has no value"));
                return self.tell(occurrence);
            }
        };
        occurrence.text = in_words(&run);
        let mut command = action.clone();
        command.run = run;
        let run = Run {
            id: occurrence.id,
            event: occurrence.event.clone(),
            purpose: occurrence.purpose.clone(),
            command,
            variables: variables(&input, &occurrence.out),
        };
        if self.running.values().chain(&self.waiting).any(|begun| begun.watch == watch && begun.is_lane_of(&occurrence))
        {
            occurrence.done = Done::Busy;
            return self.tell(occurrence);
        }
        occurrence.done = Done::Waiting;
        self.waiting.push_back(Begun { watch, occurrence, run, told: false });
        if self.waiting.len() > OCCURRENCES_WAITING_MAX
            && let Some(mut oldest) = self.waiting.pop_front()
        {
            oldest.occurrence.done = Done::Dropped;
            self.tell(oldest.occurrence);
        }
    }

    /// Runs what waits and can be run now; gives up what nobody watches for any more.
    fn go_on(&mut self) {
        for mut begun in std::mem::take(&mut self.waiting) {
            let watching = self.watched.get(&begun.occurrence.event).map(|watching| watching.watch);
            if begun.watch.is_some() && begun.watch != watching {
                begun.occurrence.done = Done::Dropped;
                self.tell(begun.occurrence);
            } else if !self.moment.open || self.running.values().any(|other| other.is_lane_of(&begun.occurrence)) {
                if !std::mem::replace(&mut begun.told, true) {
                    self.tell(begun.occurrence.clone());
                }
                self.waiting.push_back(begun);
            } else {
                begun.occurrence.done = Done::Running;
                if !begun.occurrence.test {
                    self.counts.entry(begun.occurrence.event.clone()).or_default().acted += 1;
                }
                self.tell(begun.occurrence.clone());
                self.emit(DeskOutput::Run(Box::new(begun.run.clone())));
                self.running.insert(begun.occurrence.id, begun);
            }
        }
    }

    fn ended(&mut self, run: RunId, result: LaunchResult) {
        let Some(Begun { mut occurrence, .. }) = self.running.remove(&run) else { return };
        match result {
            LaunchResult::Succeeded => occurrence.done = Done::Succeeded,
            LaunchResult::Failed { text } => (occurrence.done, occurrence.text) = (Done::Failed, text),
        }
        let event = occurrence.event.clone();
        self.tell(occurrence);
        if !self.record.events.contains_key(&event) {
            self.forget_unless_running(event);
        }
    }

    /// What is kept of the output of events that are defined no more goes with them.
    fn forget_removed(&mut self, before: &RegistrationRecord) {
        if before.events.ptr_eq(&self.record.events) {
            return; // nearly every time
        }
        let removed = before.events.keys().filter(|event| !self.record.events.contains_key(*event));
        let removed: Vec<String> = removed.cloned().collect();
        removed.into_iter().for_each(|event| self.forget_unless_running(event));
    }

    /// An action function that runs still writes: its end is waited for.
    fn forget_unless_running(&mut self, event: String) {
        if self.running.values().all(|begun| begun.occurrence.event != event) {
            self.emit(DeskOutput::Forget { event });
        }
    }

    /// Tells of an occurrence as it stands now, with what was counted meanwhile.
    pub(super) fn tell(&mut self, mut occurrence: Occurrence) {
        let watching = self.watched.get_mut(&occurrence.event);
        let told = watching.zip(occurrence.purpose.as_ref()).and_then(|(watching, it)| watching.told.get_mut(it));
        if let Some(told) = told.filter(|told| told.occurrence.id == occurrence.id) {
            occurrence.repeats = told.occurrence.repeats;
            told.occurrence = occurrence.clone();
        }
        self.emit(DeskOutput::Tell(Box::new(occurrence)));
    }
}

impl Begun {
    /// Both would run for the same event and instance.
    fn is_lane_of(&self, other: &Occurrence) -> bool {
        let lane = |purpose: &Option<Purpose>| purpose.as_ref().map_or(String::new(), |purpose| purpose.lane.clone());
        self.occurrence.event == other.event && lane(&self.occurrence.purpose) == lane(&other.purpose)
    }
}

pub(super) const fn occurrence(
    id: RunId,
    event: String,
    purpose: Option<Purpose>,
    out: Parameters,
    done: Done,
) -> Occurrence {
    Occurrence { id, event, purpose, out, done, text: String::new(), repeats: 0, test: false }
}

/// Several groups may enable an event for one service: it counts once. For a node alone only if no service has it.
fn once_for_each(purposes: &mut BTreeSet<Purpose>) {
    let all = std::mem::take(purposes);
    let served = all.iter().any(|purpose| purpose.service.is_some());
    let mut lanes = BTreeSet::new();
    purposes.extend(
        all.into_iter().filter(|purpose| (purpose.service.is_some() || !served) && lanes.insert(purpose.lane.clone())),
    );
}

fn unknown_watcher(watcher: &str) -> String {
    match watcher.strip_prefix(EXTERNAL) {
        Some(name) if is_external(watcher) => format!("no program that provides watcher `{name}` is connected"),
        Some(_) | None => format!("watcher `{watcher}` is unknown to this node"),
    }
}
