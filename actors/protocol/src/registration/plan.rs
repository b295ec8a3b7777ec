//! What an order would do at once: the same decision, made without committing it.

use phalanx_messages::configuration::ConfigurationRecord;
use phalanx_messages::order::{OrderRefusal, RegistrationOrder, RegistrationRequest};
use phalanx_messages::registration::{RegistrationRecord, RunState, View};
use phalanx_messages::service_report::PlannedStep;
use phalanx_messages::{Incarnation, NodeId, NodeIncarnation};

use super::decision::{Change, DatabaseRoom, Decided, Decision};
use super::events::Event;
use super::explain::factor_of;
use super::rows::StopReason;

/// Nobody: a plan is not remembered as anybody's request.
const NOBODY: NodeIncarnation = NodeIncarnation { node: NodeId(u16::MAX), incarnation: Incarnation(0) };

/// The database and the states that services would reach at once if `order` was carried out. What follows from results of
/// commands is not foreseen.
///
/// # Errors
/// The refusal that the order would get.
pub fn plan(
    record: &RegistrationRecord,
    view: &View,
    order: &RegistrationOrder,
    room: DatabaseRoom,
) -> Result<Decided, OrderRefusal> {
    // What is due anyway is not the order's doing.
    let settled = Decision::new(record, view).settle().record;
    let mut decision = Decision::new(&settled, view).within(room);
    decision.absorb(&Event::Requested(RegistrationRequest { source: NOBODY, counter: 1, order: order.clone() }));
    let answer = decision.record.requests.get(&NOBODY.node).map_or(Ok(()), |consumed| consumed.answer.clone());
    answer.map(|()| decision.settle())
}

/// A plan in words.
#[must_use]
pub fn tell_plan(planned: &Decided, view: &View, configuration: &ConfigurationRecord) -> Vec<PlannedStep> {
    planned.changes.iter().filter_map(|change| step(change, &planned.record, view, configuration)).collect()
}

fn step(
    change: &Change,
    record: &RegistrationRecord,
    view: &View,
    configuration: &ConfigurationRecord,
) -> Option<PlannedStep> {
    let run = &change.run;
    let node = || Some(configuration.name_of(run.node.node));
    let (action, node, reason) = match run.state {
        RunState::Starting => {
            let definition = record.services.get(&change.service).map(|record| &record.definition);
            let factor = definition.map(|definition| factor_of(definition, run, view, &record.standby).1);
            ("start", node(), factor.unwrap_or_default())
        }
        RunState::Stopping => {
            ("stop", node(), change.reason.map_or_else(String::new, |reason| stop_text(reason).to_owned()))
        }
        RunState::Recovering => ("recover", node(), "its last instance was lost".to_owned()),
        RunState::AwaitMaturity => ("wait", None, "maturity_count or maturity_time is not reached".to_owned()),
        RunState::PendRecovery => ("wait", None, "its last instance is to be recovered first".to_owned()),
        RunState::AwaitParent => ("wait", None, "its parent is not registered".to_owned()),
        RunState::DeRegistered => ("rest", None, "nothing is to be run".to_owned()),
        RunState::Failed => ("rest", None, "every allowable node has failed to start it".to_owned()),
        RunState::FailedRecovery => ("rest", None, "no allowable node could recover it".to_owned()),
        // Only passed on the way, or consequences of what is listed.
        RunState::Registered
        | RunState::StartCleanup
        | RunState::StopKill
        | RunState::RecoveryCleanup
        | RunState::FenceStart
        | RunState::FenceStop
        | RunState::FenceRecovery => return None,
    };
    Some(PlannedStep { service: change.service.clone(), action: action.to_owned(), node, reason })
}

/// Why a service is stopped, in words.
#[must_use]
pub const fn stop_text(reason: StopReason) -> &'static str {
    match reason {
        StopReason::Deregister => "it is deregistered",
        StopReason::Leave => "its node leaves",
        StopReason::Standby => "its node is put on standby",
        StopReason::Move => "it is transferred",
    }
}
