//! What the warden answers to requests: the executor's memory and the order of one owner's commands (protocol RL-4, RL-5).
//!
//! One command or kill at a time for each owner. A newer operation aborts the running one, and starts only after the aborted
//! command's processes are gone; a repeated one gets the first one's result; an older one is refused. What may have to be
//! cleaned after the node's death is recorded before the command starts.
//!
//! A command that fails is run again as often as its request says, each time after what it left has been killed. A stop command
//! that succeeds is not believed: what still lives of its owner is asked to end, then killed, and seen to be gone before the
//! operation succeeds. What a start command left running is watched, and whoever asks is told when it has ended.
//!
//! Pure: no process, no clock. The caller carries out each [`Output`].

mod place;

use std::collections::BTreeMap;

use phalanx_messages::Instant;
use phalanx_messages::launch::{Action, LaunchRequest, LaunchResult, Leaves, Owner, Program, WardenRequest};

use self::place::{Job, Kind, Now, Place, Then, answer, failed};
use crate::containment::owner_text;

/// How long a command that timed out or was aborted may take to vanish after it was killed, in milliseconds.
const CLEAR_MS: u64 = 2_000;
/// How long what a successful stop command left alive may take to end by itself, in milliseconds. With [`CLEAR_MS`] it is less
/// than what whoever decides allows on top of the command's own time-out (`T_kill`, protocol RL-9).
const END_MS: u64 = 3_000;

/// Why nothing is begun.
const NO_LEASE: &str = "this node has lost its lease; nothing is started";

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
    /// What that launch left running has ended, or there was nothing; answer to [`Output::Watch`].
    Emptied {
        /// Whose.
        owner: Owner,
        /// Which.
        cell: CellId,
        /// It left something.
        left: bool,
    },
    /// Nothing of that owner is alive any more; answer to [`Output::EndOwner`] and [`Output::KillOwner`].
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
    /// Ask everything of that owner to end (SIGTERM), and tell when nothing of it is left.
    EndOwner(Owner),
    /// Kill everything of that owner, until it is gone.
    KillOwner(Owner),
    /// Tell once nothing of that launch is alive any more; nothing is killed.
    Watch {
        /// Whose.
        owner: Owner,
        /// Which.
        cell: CellId,
    },
    /// Remove what was kept of the output of that owner, who is no more.
    Forget(Owner),
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
    pub command: Option<Program>,
    /// Variables of its environment.
    pub environment: Vec<(String, String)>,
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
            Input::Ended { owner, cell, result, now } => self.ended(&owner, cell, result, now, &mut out),
            Input::CellGone { owner, cell, now } => self.cell_gone(&owner, cell, now, &mut out),
            Input::Emptied { owner, cell, left } => {
                self.places.get_mut(&owner).into_iter().for_each(|place| place.emptied(cell, left, &mut out));
            }
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
        match request {
            WardenRequest::Launch(launch) => {
                let (owner, operation) = (launch.owner.clone(), launch.operation);
                let deadline = now.plus(launch.timeout_ms);
                let job = Job { operation, deadline, launch: Some(launch), ..Job::new(ticket, Kind::Launch) };
                self.accept(&owner, job, now, out);
            }
            WardenRequest::Kill { owner, operation, timeout_ms } => {
                let deadline = now.plus(timeout_ms);
                self.accept(&owner, Job { operation, deadline, ..Job::new(ticket, Kind::Kill) }, now, out);
            }
            WardenRequest::Watch { owner, operation } => match self.places.get_mut(&owner) {
                Some(place) => place.watch(ticket, operation, out),
                None => out.push(Output::Answer(ticket, LaunchResult::Succeeded)),
            },
            WardenRequest::Forget { owner } => {
                out.push(Output::Forget(owner));
                out.push(Output::Answer(ticket, LaunchResult::Succeeded));
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
            return answer(job, &failed(NO_LEASE.to_owned()), out);
        }
        place.take_over(owner, job, now, out);
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
                place.now = Some(Now::Killing { until: job.deadline, job });
            }
            Some(_) if job.deadline <= now => {
                let text = format!("{}: what ran before could not be killed in time", owner_text(owner));
                place.finish(job, failed(text), out);
            }
            Some(_) => self.start(owner, job, out),
        }
    }

    fn start(&mut self, owner: &Owner, job: Job, out: &mut Vec<Output>) {
        let (Some(place), Some(launch)) = (self.places.get_mut(owner), &job.launch) else { return };
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

    fn ended(&mut self, owner: &Owner, cell: CellId, result: LaunchResult, now: Instant, out: &mut Vec<Output>) {
        let Some(place) = self.places.get_mut(owner) else { return };
        let Some(Now::Running { job, .. }) =
            place.now.take_if(|at| matches!(at, Now::Running { cell: c, .. } if *c == cell))
        else {
            return; // killed or aborted before
        };
        let action = job.launch.as_ref().map(|launch| launch.action);
        match (result, action) {
            (LaunchResult::Failed { text }, _) if job.may_be_tried_again() => {
                out.push(Output::KillCell { owner: owner.clone(), cell });
                place.now = Some(Now::Clearing { cell, until: now.plus(CLEAR_MS), then: Then::Again(job, text) });
            }
            (LaunchResult::Succeeded, Some(Action::Stop)) => {
                out.push(Output::EndOwner(owner.clone()));
                place.now = Some(Now::Ending { job, until: now.plus(END_MS) });
            }
            (result, Some(Action::Watch)) => {
                place.finish(job, result, out);
                out.push(Output::KillCell { owner: owner.clone(), cell }); // nothing of it may stay
                place.now = Some(Now::Clearing { cell, until: now.plus(CLEAR_MS), then: Then::Nothing });
            }
            (result, action) => {
                if let (LaunchResult::Succeeded, Some(Action::Start), Some(operation)) =
                    (&result, action, job.operation)
                {
                    place.left_by(operation, cell);
                    out.push(Output::Watch { owner: owner.clone(), cell });
                }
                place.finish(job, result, out);
            }
        }
        self.go_on(owner, now, out);
    }

    fn cell_gone(&mut self, owner: &Owner, cell: CellId, now: Instant, out: &mut Vec<Output>) {
        let Some(place) = self.places.get_mut(owner) else { return };
        let cleared = place.now.take_if(|at| matches!(at, Now::Clearing { cell: c, .. } if *c == cell));
        match cleared {
            Some(Now::Clearing { then: Then::Fail(job, text), .. }) => place.finish(job, failed(text), out),
            Some(Now::Clearing { then: Then::Again(job, _), .. }) if self.frozen.is_some() => {
                place.finish(job, failed(NO_LEASE.to_owned()), out);
            }
            Some(Now::Clearing { then: Then::Again(job, _), .. }) => self.start(owner, job.again(now), out),
            Some(
                Now::Clearing { then: Then::Nothing, .. }
                | Now::Running { .. }
                | Now::Ending { .. }
                | Now::Killing { .. },
            )
            | None => {}
        }
        self.go_on(owner, now, out);
    }

    fn owner_gone(&mut self, owner: &Owner, now: Instant, out: &mut Vec<Output>) {
        let Some(place) = self.places.get_mut(owner) else { return };
        let gone = place.now.take_if(|at| matches!(at, Now::Killing { .. } | Now::Ending { .. }));
        if let Some(Now::Killing { job, .. } | Now::Ending { job, .. }) = gone {
            if job.kind == Kind::Launch {
                self.clean_ups.remove(owner); // stopped, and nothing of it is left
            }
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
                let text = LaunchResult::timed_out(timeout_ms);
                let then = if job.may_be_tried_again() { Then::Again(job, text) } else { Then::Fail(job, text) };
                place.now = Some(Now::Clearing { cell, until: now.plus(CLEAR_MS), then });
            }
            Some(Now::Clearing { until, then, .. }) if until <= now => match then {
                Then::Fail(job, text) | Then::Again(job, text) => {
                    place.finish(job, failed(format!("{text}, but some of its processes do not end")), out);
                }
                Then::Nothing => {}
            },
            Some(Now::Ending { job, until }) if thawed && until <= now => {
                out.push(Output::KillOwner(owner.clone()));
                place.now = Some(Now::Killing { job, until: now.plus(CLEAR_MS) });
            }
            Some(Now::Killing { job, until }) if until <= now => {
                let text = format!("processes of {} do not end", owner_text(owner));
                let text = if job.kind == Kind::Kill { text } else { format!("it was stopped, but {text}") };
                place.finish(job, failed(text), out);
            }
            other => place.now = other,
        }
        self.go_on(owner, now, out);
    }
}

#[cfg(test)]
#[path = "desk_tests.rs"]
mod tests;
