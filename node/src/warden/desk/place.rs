//! What is under way for one owner, and what is remembered of it.

use phalanx_messages::launch::{LaunchRequest, LaunchResult};
use phalanx_messages::{Instant, OperationId};

use super::{CLEAR_MS, CellId, Output, Owner};

/// What an operation does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Launch,
    Kill,
}

/// A request that has not been answered.
#[derive(Debug)]
pub(super) struct Job {
    pub tickets: Vec<u64>,
    pub operation: Option<OperationId>,
    pub kind: Kind,
    pub deadline: Instant,
    pub launch: Option<LaunchRequest>,
    /// How often its command has failed.
    pub failures: u16,
}

impl Job {
    pub fn new(ticket: u64, kind: Kind) -> Self {
        Self { tickets: vec![ticket], operation: None, kind, deadline: Instant(0), launch: None, failures: 0 }
    }

    pub fn may_be_tried_again(&self) -> bool {
        self.launch.as_ref().is_some_and(|launch| self.failures < launch.retries)
    }

    /// The same with the whole time-out before it.
    pub fn again(mut self, now: Instant) -> Self {
        self.failures += 1;
        self.deadline = now.plus(self.launch.as_ref().map_or(0, |launch| launch.timeout_ms));
        self
    }
}

/// What follows when a launch has been cleared.
#[derive(Debug)]
pub(super) enum Then {
    Nothing,
    Fail(Job, String),
    /// It is run again; the text is of the try that failed.
    Again(Job, String),
}

#[derive(Debug)]
pub(super) enum Now {
    /// The command runs.
    Running { cell: CellId, job: Job },
    /// What is left of it is being killed.
    Clearing { cell: CellId, until: Instant, then: Then },
    /// The stop command has succeeded; what still lives of the owner was asked to end.
    Ending { job: Job, until: Instant },
    /// Everything of the owner is being killed.
    Killing { job: Job, until: Instant },
}

/// What the newest start left running.
#[derive(Debug)]
struct Left {
    operation: OperationId,
    cell: CellId,
    gone: bool,
    /// Who waits for its end.
    tickets: Vec<u64>,
}

#[derive(Debug, Default)]
pub(super) struct Place {
    pub newest: Option<(OperationId, Kind)>,
    finished: Option<LaunchResult>,
    pub now: Option<Now>,
    pub next: Option<Job>,
    left: Option<Left>,
}

impl Place {
    /// Frozen commands cannot hurry, so their time stands still.
    pub fn deadline(&self, thawed: bool) -> Option<Instant> {
        match self.now.as_ref()? {
            Now::Running { job, .. } => thawed.then_some(job.deadline),
            Now::Ending { until, .. } => thawed.then_some(*until),
            Now::Killing { until, .. } | Now::Clearing { until, .. } => Some(*until),
        }
    }

    /// What runs was frozen for so long, and gets that time back.
    pub fn postpone(&mut self, ms: u64) {
        match &mut self.now {
            Some(Now::Running { job, .. }) => job.deadline = job.deadline.plus(ms),
            Some(Now::Ending { until, .. }) => *until = until.plus(ms),
            Some(Now::Killing { .. } | Now::Clearing { .. }) | None => {}
        }
    }

    /// A new job takes the place of whatever is under way.
    pub fn take_over(&mut self, owner: &Owner, job: Job, now: Instant, out: &mut Vec<Output>) {
        if let Some(operation) = job.operation {
            self.newest = Some((operation, job.kind));
            self.finished = None;
            self.unwatch(out);
        }
        if let Some(replaced) = self.next.take() {
            answer(replaced, &failed(superseded(&job)), out);
        }
        self.abort(owner, &job, now, out);
        self.next = Some(job);
    }

    /// The same operation again: its result, or wait for it with the first one.
    pub fn repeat(&mut self, job: Job, out: &mut Vec<Output>) {
        if let Some(result) = &self.finished {
            return answer(job, result, out);
        }
        let current = match &mut self.now {
            Some(
                Now::Running { job, .. }
                | Now::Ending { job, .. }
                | Now::Killing { job, .. }
                | Now::Clearing { then: Then::Fail(job, _) | Then::Again(job, _), .. },
            ) => Some(job),
            Some(Now::Clearing { then: Then::Nothing, .. }) | None => None,
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
                self.now = Some(Now::Clearing { cell, until: now.plus(CLEAR_MS), then: Then::Nothing });
            }
            Some(Now::Clearing { cell, until, then }) => {
                match then {
                    Then::Fail(job, text) | Then::Again(job, text) => answer(job, &failed(text), out),
                    Then::Nothing => {}
                }
                self.now = Some(Now::Clearing { cell, until, then: Then::Nothing });
            }
            Some(at @ (Now::Killing { .. } | Now::Ending { .. })) => match (by.kind, at) {
                // The new one kills the same.
                (Kind::Kill, Now::Killing { job, .. } | Now::Ending { job, .. }) => {
                    answer(job, &failed(superseded(by)), out);
                }
                (Kind::Launch | Kind::Kill, at) => self.now = Some(at),
            },
            None => {}
        }
    }

    pub fn finish(&mut self, job: Job, result: LaunchResult, out: &mut Vec<Output>) {
        let result = match result {
            LaunchResult::Failed { text } if job.failures > 0 => {
                failed(format!("failed {} times, at last: {text}", job.failures + 1))
            }
            result @ (LaunchResult::Failed { .. } | LaunchResult::Succeeded) => result,
        };
        if job.operation.is_some() && job.operation == self.newest.map(|(newest, _)| newest) {
            self.finished = Some(result.clone());
        }
        answer(job, &result, out);
    }

    /// The start command of that operation has succeeded.
    pub fn left_by(&mut self, operation: OperationId, cell: CellId) {
        self.left = Some(Left { operation, cell, gone: false, tickets: Vec::new() });
    }

    /// Somebody wants to hear when what that start left has ended.
    pub fn watch(&mut self, ticket: u64, operation: OperationId, out: &mut Vec<Output>) {
        match &mut self.left {
            Some(left) if left.operation == operation && !left.gone => left.tickets.push(ticket),
            Some(left) if left.operation == operation => out.push(Output::Answer(ticket, failed(ENDED.to_owned()))),
            Some(_) | None => out.push(Output::Answer(ticket, LaunchResult::Succeeded)),
        }
    }

    /// What that launch left has ended, or (not `left`) it had left nothing.
    pub fn emptied(&mut self, cell: CellId, something: bool, out: &mut Vec<Output>) {
        let Some(left) = self.left.as_mut().filter(|left| left.cell == cell) else { return };
        let tickets = std::mem::take(&mut left.tickets);
        let result = if something { failed(ENDED.to_owned()) } else { LaunchResult::Succeeded };
        out.extend(tickets.into_iter().map(|ticket| Output::Answer(ticket, result.clone())));
        left.gone = true;
        if !something {
            self.left = None;
        }
    }

    fn unwatch(&mut self, out: &mut Vec<Output>) {
        let tickets = self.left.take().map(|left| left.tickets).unwrap_or_default();
        out.extend(tickets.into_iter().map(|ticket| Output::Answer(ticket, LaunchResult::Succeeded)));
    }
}

/// What whoever watches is told.
const ENDED: &str = "its processes have ended";

pub(super) fn answer(job: Job, result: &LaunchResult, out: &mut Vec<Output>) {
    out.extend(job.tickets.into_iter().map(|ticket| Output::Answer(ticket, result.clone())));
}

pub(super) const fn failed(text: String) -> LaunchResult {
    LaunchResult::Failed { text }
}

fn superseded(by: &Job) -> String {
    by.operation.map_or_else(|| "aborted by a later request".to_owned(), |by| format!("aborted by operation {by}"))
}
