//! What the warden answers to requests: the executor's memory and the order of one owner's commands (protocol RL-4, RL-5).
//!
//! One command or kill at a time for each owner. A newer operation aborts the running one, and starts only after the aborted
//! command's processes are gone; a repeated one gets the first one's result; an older one is refused. What may have to be
//! cleaned after the node's death is recorded before the command starts.
//!
//! Pure: no process, no clock. The caller carries out each [`Output`].

use std::collections::BTreeMap;

use phalanx_messages::launch::{Action, LaunchRequest, LaunchResult, Leaves, Owner, WardenRequest};
use phalanx_messages::{Instant, OperationId};

use crate::containment::owner_text;

/// How long a command that timed out or was aborted may take to vanish after it was killed, in milliseconds.
const CLEAR_MS: u64 = 2_000;

/// One launch and everything it leaves running.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CellId(pub u64);

/// What happened.
#[derive(Debug, Clone)]
pub enum Input {
    /// The daemon asks.
    Asked {
        /// Names the answer.
        ticket: u64,
        /// What it asks.
        request: WardenRequest,
        /// When.
        now: Instant,
    },
    /// The command of that launch has ended by itself, or could not be started.
    Ended {
        /// Whose.
        owner: Owner,
        /// Which.
        cell: CellId,
        /// How.
        result: LaunchResult,
        /// When.
        now: Instant,
    },
    /// Nothing of that launch is alive any more; answer to [`Output::KillCell`].
    CellGone {
        /// Whose.
        owner: Owner,
        /// Which.
        cell: CellId,
        /// When.
        now: Instant,
    },
    /// Nothing of that owner is alive any more; answer to [`Output::KillOwner`].
    OwnerGone {
        /// Whose.
        owner: Owner,
        /// When.
        now: Instant,
    },
    /// The node's lease is lost, or valid for the first time or again (protocol §4.7).
    Lease {
        /// Which of both.
        valid: bool,
        /// When.
        now: Instant,
    },
    /// Time passes.
    Tick(Instant),
}

/// What the caller must do, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Start this command.
    Start {
        /// Name it so.
        cell: CellId,
        /// The command.
        request: LaunchRequest,
    },
    /// Kill what is left of that launch, until it is gone.
    KillCell {
        /// Whose.
        owner: Owner,
        /// Which.
        cell: CellId,
    },
    /// Kill everything of that owner, until it is gone.
    KillOwner(Owner),
    /// Freeze or thaw every owner.
    Freeze(bool),
    /// Answer the daemon.
    Answer(u64, LaunchResult),
}

/// What must be cleaned if the node dies now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CleanUp {
    /// Whose.
    pub owner: Owner,
    /// Command; without one nothing can be cleaned.
    pub command: Option<String>,
    /// Variables of its environment.
    pub environment: Vec<(String, String)>,
}

/// What an operation did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Launch,
    Kill,
}

/// A request that has not been answered.
#[derive(Debug)]
struct Job {
    tickets: Vec<u64>,
    operation: Option<OperationId>,
    kind: Kind,
    deadline: Instant,
    launch: Option<LaunchRequest>,
}

#[derive(Debug)]
enum Now {
    /// The command runs.
    Running { cell: CellId, job: Job },
    /// It was killed; `verdict` goes to the job once its processes are gone.
    Clearing { cell: CellId, until: Instant, job: Option<(Job, String)> },
    /// Everything of the owner is being killed.
    Killing { job: Job },
}

#[derive(Debug, Default)]
struct Place {
    newest: Option<(OperationId, Kind)>,
    finished: Option<LaunchResult>,
    now: Option<Now>,
    next: Option<Job>,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Desk {
    places: BTreeMap<Owner, Place>,
    clean_ups: BTreeMap<Owner, CleanUp>,
    cells: u64,
    /// The lease is lost since then, and everything is frozen.
    frozen: Option<Instant>,
}

impl Desk {
    /// Everything that must be cleaned if the node dies now.
    #[must_use]
    pub fn clean_ups(&self) -> Vec<CleanUp> {
        self.clean_ups.values().cloned().collect()
    }

    /// When [`Input::Tick`] is needed next.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        self.places.values().filter_map(|place| place.deadline(self.frozen.is_none())).min()
    }

    /// Takes one input.
    pub fn step(&mut self, input: Input) -> Vec<Output> {
        let mut out = Vec::new();
        match input {
            Input::Asked { ticket, request, now } => self.asked(ticket, request, now, &mut out),
            Input::Ended { owner, cell, result, now } => self.ended(&owner, cell, &result, now, &mut out),
            Input::CellGone { owner, cell, now } => self.cell_gone(&owner, cell, now, &mut out),
            Input::OwnerGone { owner, now } => self.owner_gone(&owner, now, &mut out),
            Input::Lease { valid, now } => self.lease(valid, now, &mut out),
            Input::Tick(now) => {
                for owner in self.places.keys().cloned().collect::<Vec<_>>() {
                    self.tick(&owner, now, &mut out);
                }
            }
        }
        out
    }

    fn asked(&mut self, ticket: u64, request: WardenRequest, now: Instant, out: &mut Vec<Output>) {
        let tickets = vec![ticket];
        match request {
            WardenRequest::Launch(launch) => {
                let (owner, operation, kind) = (launch.owner.clone(), launch.operation, Kind::Launch);
                let deadline = now.plus(launch.timeout_ms);
                self.accept(&owner, Job { tickets, operation, kind, deadline, launch: Some(launch) }, now, out);
            }
            WardenRequest::Kill { owner, operation, timeout_ms } => {
                let deadline = now.plus(timeout_ms);
                self.accept(&owner, Job { tickets, operation, kind: Kind::Kill, deadline, launch: None }, now, out);
            }
        }
    }

    fn lease(&mut self, valid: bool, now: Instant, out: &mut Vec<Output>) {
        match (valid, self.frozen) {
            (false, None) => {
                self.frozen = Some(now);
                out.push(Output::Freeze(true));
            }
            (true, Some(since)) => {
                self.frozen = None;
                out.push(Output::Freeze(false));
                self.places.values_mut().for_each(|place| place.postpone(now.since(since)));
            }
            (false, Some(_)) | (true, None) => {}
        }
    }

    fn accept(&mut self, owner: &Owner, job: Job, now: Instant, out: &mut Vec<Output>) {
        let place = self.places.entry(owner.clone()).or_default();
        if let (Some(operation), Some((newest, kind))) = (job.operation, place.newest) {
            if operation < newest {
                return answer(job, &failed(format!("operation {operation} is older than {newest}")), out);
            }
            if operation == newest && kind == job.kind {
                return place.repeat(job, out);
            }
        }
        if self.frozen.is_some() && job.kind == Kind::Launch {
            return answer(job, &failed("this node has lost its lease; nothing is started".to_owned()), out);
        }
        if let Some(operation) = job.operation {
            place.newest = Some((operation, job.kind));
            place.finished = None;
        }
        if let Some(replaced) = place.next.take() {
            answer(replaced, &failed(superseded(&job)), out);
        }
        place.abort(owner, &job, now, out);
        place.next = Some(job);
        self.go_on(owner, now, out);
    }

    /// Starts what waits, if nothing stands before it.
    fn go_on(&mut self, owner: &Owner, now: Instant, out: &mut Vec<Output>) {
        let Some(place) = self.places.get_mut(owner) else { return };
        if place.next.as_ref().is_some_and(|job| job.kind == Kind::Kill) {
            // A kill of the whole owner also ends whatever is still being cleared.
            if !matches!(place.now, Some(Now::Killing { .. })) {
                place.now = None;
            }
        }
        if place.now.is_some() {
            return;
        }
        let Some(job) = place.next.take() else { return };
        match &job.launch {
            None => {
                out.push(Output::KillOwner(owner.clone()));
                place.now = Some(Now::Killing { job });
            }
            Some(_) if job.deadline <= now => {
                let text = format!("{}: what ran before could not be killed in time", owner_text(owner));
                place.finish(job, failed(text), out);
            }
            Some(launch) => {
                self.cells += 1;
                let cell = CellId(self.cells);
                // Recorded before it starts: from here on it may leave something behind.
                match launch.leaves {
                    Leaves::Processes => {}
                    Leaves::State => {
                        let (command, environment) = (launch.clean_up.clone(), launch.environment.clone());
                        self.clean_ups.insert(owner.clone(), CleanUp { owner: owner.clone(), command, environment });
                    }
                }
                out.push(Output::Start { cell, request: launch.clone() });
                place.now = Some(Now::Running { cell, job });
            }
        }
    }

    fn ended(&mut self, owner: &Owner, cell: CellId, result: &LaunchResult, now: Instant, out: &mut Vec<Output>) {
        let Some(place) = self.places.get_mut(owner) else { return };
        let Some(Now::Running { job, .. }) =
            place.now.take_if(|at| matches!(at, Now::Running { cell: c, .. } if *c == cell))
        else {
            return; // killed or aborted before
        };
        let stopped = job.launch.as_ref().is_some_and(|launch| launch.action == Action::Stop);
        if stopped && *result == LaunchResult::Succeeded {
            self.clean_ups.remove(owner);
        }
        place.finish(job, result.clone(), out);
        self.go_on(owner, now, out);
    }

    fn cell_gone(&mut self, owner: &Owner, cell: CellId, now: Instant, out: &mut Vec<Output>) {
        let Some(place) = self.places.get_mut(owner) else { return };
        let cleared = place.now.take_if(|at| matches!(at, Now::Clearing { cell: c, .. } if *c == cell));
        if let Some(Now::Clearing { job: Some((job, text)), .. }) = cleared {
            place.finish(job, failed(text), out);
        }
        self.go_on(owner, now, out);
    }

    fn owner_gone(&mut self, owner: &Owner, now: Instant, out: &mut Vec<Output>) {
        let Some(place) = self.places.get_mut(owner) else { return };
        if let Some(Now::Killing { job }) = place.now.take_if(|at| matches!(at, Now::Killing { .. })) {
            place.finish(job, LaunchResult::Succeeded, out);
        }
        self.go_on(owner, now, out);
    }

    fn tick(&mut self, owner: &Owner, now: Instant, out: &mut Vec<Output>) {
        let Some(place) = self.places.get_mut(owner) else { return };
        let thawed = self.frozen.is_none();
        match place.now.take() {
            Some(Now::Running { cell, job }) if thawed && job.deadline <= now => {
                let timeout_ms = job.launch.as_ref().map_or(0, |launch| launch.timeout_ms);
                out.push(Output::KillCell { owner: owner.clone(), cell });
                let job = Some((job, format!("timed out after {timeout_ms} ms and was killed")));
                place.now = Some(Now::Clearing { cell, until: now.plus(CLEAR_MS), job });
            }
            Some(Now::Clearing { until, job, .. }) if until <= now => {
                if let Some((job, text)) = job {
                    place.finish(job, failed(format!("{text}, but some of its processes do not end")), out);
                }
            }
            Some(Now::Killing { job }) if job.deadline <= now => {
                place.finish(job, failed(format!("processes of {} do not end", owner_text(owner))), out);
            }
            other => place.now = other,
        }
        self.go_on(owner, now, out);
    }
}

impl Place {
    /// Frozen commands cannot hurry, so their time stands still.
    fn deadline(&self, thawed: bool) -> Option<Instant> {
        match self.now.as_ref()? {
            Now::Running { job, .. } => thawed.then_some(job.deadline),
            Now::Killing { job } => Some(job.deadline),
            Now::Clearing { until, .. } => Some(*until),
        }
    }

    /// The command that runs was frozen for so long, and gets that time back.
    fn postpone(&mut self, ms: u64) {
        if let Some(Now::Running { job, .. }) = &mut self.now {
            job.deadline = job.deadline.plus(ms);
        }
    }

    /// The same operation again: its result, or wait for it with the first one.
    fn repeat(&mut self, job: Job, out: &mut Vec<Output>) {
        if let Some(result) = &self.finished {
            return answer(job, result, out);
        }
        let current = match &mut self.now {
            Some(Now::Running { job, .. } | Now::Killing { job } | Now::Clearing { job: Some((job, _)), .. }) => {
                Some(job)
            }
            Some(Now::Clearing { job: None, .. }) | None => None,
        };
        let same = |waiting: &&mut Job| waiting.operation == job.operation;
        match current.filter(same).or_else(|| self.next.as_mut().filter(same)) {
            Some(waiting) => waiting.tickets.extend(job.tickets),
            None => answer(job, &failed("this operation was aborted".to_owned()), out),
        }
    }

    /// The running job ends without a result of its own, because `by` was accepted.
    fn abort(&mut self, owner: &Owner, by: &Job, now: Instant, out: &mut Vec<Output>) {
        match self.now.take() {
            Some(Now::Running { cell, job }) => {
                answer(job, &failed(superseded(by)), out);
                match by.kind {
                    Kind::Kill => {}
                    Kind::Launch => out.push(Output::KillCell { owner: owner.clone(), cell }),
                }
                self.now = Some(Now::Clearing { cell, until: now.plus(CLEAR_MS), job: None });
            }
            Some(Now::Clearing { cell, until, job }) => {
                if let Some((job, text)) = job {
                    answer(job, &failed(text), out);
                }
                self.now = Some(Now::Clearing { cell, until, job: None });
            }
            Some(Now::Killing { job }) => match by.kind {
                Kind::Kill => answer(job, &failed(superseded(by)), out), // the new one kills the same
                Kind::Launch => self.now = Some(Now::Killing { job }),
            },
            None => {}
        }
    }

    fn finish(&mut self, job: Job, result: LaunchResult, out: &mut Vec<Output>) {
        if job.operation.is_some() && job.operation == self.newest.map(|(newest, _)| newest) {
            self.finished = Some(result.clone());
        }
        answer(job, &result, out);
    }
}

fn answer(job: Job, result: &LaunchResult, out: &mut Vec<Output>) {
    out.extend(job.tickets.into_iter().map(|ticket| Output::Answer(ticket, result.clone())));
}

const fn failed(text: String) -> LaunchResult {
    LaunchResult::Failed { text }
}

fn superseded(by: &Job) -> String {
    by.operation.map_or_else(|| "aborted by a later request".to_owned(), |by| format!("aborted by operation {by}"))
}

#[cfg(test)]
#[path = "desk_tests.rs"]
mod tests;
