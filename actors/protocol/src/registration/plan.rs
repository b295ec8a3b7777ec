//! What an order would do at once: the same decision, made without committing it.

use phalanx_messages::configuration::ConfigurationRecord;
use phalanx_messages::order::{OrderRefusal, RegistrationOrder, RegistrationRequest};
use phalanx_messages::registration::{RegistrationRecord, RunState, View};
use phalanx_messages::service_report::PlannedStep;
use phalanx_messages::{Incarnation, NodeId, NodeIncarnation};

use super::choose::{NodeLoads, candidates};
use super::decision::{Change, DatabaseRoom, Decided, Decision};
use super::events::Event;
use super::explain::Choice;
use super::index::root_of;
use super::rows::StopReason;

/// Nobody: a plan is not remembered as anybody's request.
const NOBODY: NodeIncarnation = NodeIncarnation { node: NodeId(u16::MAX), incarnation: Incarnation(0) };

/// What a plan is made with.
#[derive(Debug, Clone, Copy)]
pub struct Planning<'a> {
    /// The level.
    pub view: &'a View,
    /// What is known of the nodes.
    pub loads: &'a NodeLoads,
    /// What the disk was formatted for.
    pub room: DatabaseRoom,
}

/// The database and the states that services would reach at once if `order` was carried out. What follows from results of
/// commands is not foreseen.
///
/// # Errors
/// The refusal that the order would get.
pub fn plan(
    record: &RegistrationRecord,
    planning: Planning<'_>,
    order: &RegistrationOrder,
) -> Result<Decided, OrderRefusal> {
    let Planning { view, loads, room } = planning;
    // What is due anyway is not the order's doing.
    let settled = Decision::new(record, view).loaded(loads).settle().record;
    let mut decision = Decision::new(&settled, view).within(room).loaded(loads);
    decision.absorb(&Event::Requested(RegistrationRequest { source: NOBODY, counter: 1, order: order.clone() }));
    let answer = decision.record.requests.get(&NOBODY.node).map_or(Ok(()), |consumed| consumed.answer.clone());
    answer.map(|()| decision.settle())
}

/// A plan in words.
#[must_use]
pub fn tell_plan(planned: &Decided, planning: Planning<'_>, configuration: &ConfigurationRecord) -> Vec<PlannedStep> {
    let step = |change: &Change| step(change, planned, planning, configuration);
    planned.changes.iter().filter_map(step).collect()
}

fn step(
    change: &Change,
    planned: &Decided,
    planning: Planning<'_>,
    configuration: &ConfigurationRecord,
) -> Option<PlannedStep> {
    let (run, service) = (&change.run, &change.instance.service);
    let node = || Some(configuration.name_of(run.node.node));
    let (action, node, reason) = match run.state {
        RunState::Starting => ("start", node(), why_here(change, planned, planning).unwrap_or_default()),
        RunState::Stopping => {
            ("stop", node(), change.reason.map_or_else(String::new, |reason| stop_text(reason).to_owned()))
        }
        RunState::Recovering => ("recover", node(), "its last instance was lost".to_owned()),
        RunState::AwaitMaturity => ("wait", None, "maturity_count or maturity_time is not reached".to_owned()),
        RunState::PendRecovery => ("wait", None, "its last instance is to be recovered first".to_owned()),
        RunState::AwaitParent => ("wait", None, "its parent is not registered".to_owned()),
        RunState::DeRegistered => ("rest", None, "nothing is to be run".to_owned()),
        RunState::Failed => ("rest", None, "every node that it could be started on has failed".to_owned()),
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
    Some(PlannedStep { service: service.clone(), action: action.to_owned(), node, reason })
}

/// Which factor put a service where it is to start.
fn why_here(change: &Change, planned: &Decided, planning: Planning<'_>) -> Option<String> {
    let (services, service) = (&planned.record.services, &change.instance.service);
    if change.instance.of.is_some() {
        return Some("placement_policy is register_on_all".to_owned());
    }
    if let Some(parent) = &services.get(service)?.definition.parent {
        return Some(format!("it is placed with its parent {parent}"));
    }
    let definition = &services.get(root_of(services, service))?.definition;
    let choice = Choice::of(definition, services, &planned.index, planning.loads);
    Some(choice.factor(&change.run, &candidates(definition, planning.view, &planned.record.standby)).1)
}

/// Why a service is stopped, in words.
#[must_use]
pub const fn stop_text(reason: StopReason) -> &'static str {
    match reason {
        StopReason::Deregister => "it is deregistered",
        StopReason::Leave => "its node leaves",
        StopReason::Standby => "its node is put on standby",
        StopReason::Failure => "it has failed",
        StopReason::Move => "it is transferred",
    }
}
