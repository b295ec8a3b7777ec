//! What would happen: the decisions that would follow if every command succeeded, made on a copy of the database.

use phalanx_messages::configuration::ConfigurationRecord;
use phalanx_messages::launch::LaunchResult;
use phalanx_messages::order::{OrderRefusal, Supposition};
use phalanx_messages::registration::{OperationResult, Presence, RegistrationRecord, Sight, View};
use phalanx_messages::service_report::PlannedStep;
use phalanx_messages::{Instant, NodeId};

use super::commands::outstanding;
use super::decision::{Decided, Decision};
use super::events::Event;
use super::plan::{Planning, plan, tell_plan};
use super::timers::{TimerLimits, Timers};

/// Rounds of commands that follow from one another; deeper groups do not exist.
const ROUNDS_MAX: usize = 1_000;

/// Every step that would follow, in order, until all is at rest: stops, recoveries, starts and free transfers.
///
/// # Errors
/// The refusal that an order would get.
pub fn simulate(
    record: &RegistrationRecord,
    planning: Planning<'_>,
    supposed: &Supposition,
    configuration: &ConfigurationRecord,
) -> Result<Vec<PlannedStep>, OrderRefusal> {
    let settled = Decision::new(record, planning.view).loaded(planning.loads).settle().record;
    let mut view = planning.view.clone();
    let mut steps = Vec::new();
    let first = match supposed {
        Supposition::Ordered(order) => plan(&settled, planning, order)?,
        Supposition::Leaves(node) => decide(&settled, seen(&mut view, *node, Presence::Leaving), planning, &[]),
        Supposition::Fails(node) => decide(&settled, seen(&mut view, *node, Presence::Forced), planning, &[]),
        Supposition::Joins(node) => decide(&settled, seen(&mut view, *node, Presence::Joined), planning, &[]),
    };
    let mut decided = first;
    for _ in 0..ROUNDS_MAX {
        let now = Planning { view: &view, ..planning };
        steps.extend(tell_plan(&decided, now, configuration));
        let mut events = successes(&decided.record);
        if events.is_empty() {
            events = free_transfers(&decided.record);
        }
        if events.is_empty() {
            break;
        }
        decided = decide(&decided.record, &view, planning, &events);
        if !decided.changed {
            break; // a free transfer for which there is no room
        }
    }
    Ok(without_passing(&steps))
}

/// Rests and waits that something follows of the same service are only passed on the way.
fn without_passing(steps: &[PlannedStep]) -> Vec<PlannedStep> {
    let passes = |at: usize, step: &PlannedStep| {
        let idle = matches!(step.action.as_str(), "rest" | "wait");
        idle && steps[at + 1..].iter().any(|later| later.service == step.service)
    };
    let kept = steps.iter().enumerate().filter(|(at, step)| !passes(*at, step));
    kept.map(|(_, step)| step.clone()).collect()
}

/// The view in which `node` stands so; one that comes, comes anew.
fn seen(view: &mut View, node: NodeId, presence: Presence) -> &View {
    let known = view.incarnation(node);
    let incarnation = if presence == Presence::Joined { known.next() } else { known };
    if presence != Presence::Joined || !view.is_up(node) {
        view.nodes.insert(node, Sight { incarnation, presence });
    }
    view
}

fn decide(record: &RegistrationRecord, view: &View, planning: Planning<'_>, events: &[Event]) -> Decided {
    let mut decision = Decision::new(record, view).within(planning.room).loaded(planning.loads);
    events.iter().for_each(|event| decision.absorb(event));
    decision.settle()
}

fn successes(record: &RegistrationRecord) -> Vec<Event> {
    let success = |command: phalanx_messages::registration::Command| Event::Finished {
        from: command.target,
        result: OperationResult {
            instance: command.instance,
            operation: command.operation,
            kind: command.kind,
            outcome: LaunchResult::Succeeded,
        },
    };
    outstanding(record).into_iter().map(success).collect()
}

/// Those that would be made once every node has been up for long enough.
fn free_transfers(record: &RegistrationRecord) -> Vec<Event> {
    let mut timers = Timers::new(TimerLimits { kill_ms: 0, margin_ms: 0, backoff_ms: u64::MAX });
    timers.observe(record, Instant(0));
    let expired = timers.observe(record, Instant(u64::MAX));
    expired.into_iter().filter(|event| matches!(event, Event::Stable { .. })).collect()
}
