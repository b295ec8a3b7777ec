//! Refusals in words, with the command to use next, and their exit codes (architecture §5).

use phalanx_messages::configuration::ConfigurationRecord;
use phalanx_messages::order::{OrderRefusal, Unfit};
use phalanx_messages::registration::{RunState, ServiceRun};

use super::status::state_word;

/// Exit codes of the contract.
const ERROR: u8 = 1;
const TRY_AGAIN: u8 = 75;
const UNKNOWN: u8 = 105;
const NEEDS_FORCE: u8 = 107;

/// Exit code of a refusal, and what the administrator reads.
#[must_use]
pub fn tell_refusal(refusal: &OrderRefusal, configuration: &ConfigurationRecord) -> (u8, String) {
    let name = |node| configuration.name_of(node);
    match refusal {
        OrderRefusal::UnknownService { service } => {
            (UNKNOWN, format!("there is no service `{service}`; `phalanx service list` lists them"))
        }
        OrderRefusal::NotSettled { service, state } => {
            (TRY_AGAIN, format!("service `{service}` is {}; it can be transferred once it is registered", word(*state)))
        }
        OrderRefusal::Held { service } => {
            (ERROR, format!("service `{service}` is held; `phalanx service clear {service}` ends that"))
        }
        OrderRefusal::Moving { service } => (TRY_AGAIN, format!("service `{service}` is being moved already")),
        OrderRefusal::AlreadyThere { service, node } => {
            (ERROR, format!("service `{service}` runs on {} already", name(*node)))
        }
        OrderRefusal::Unfit { service, node, why } => {
            (ERROR, format!("service `{service}` cannot go to {}: {}", name(*node), unfit_text(*why)))
        }
        OrderRefusal::NowhereElse { service } => {
            (ERROR, format!("no other node can take service `{service}`; `phalanx explain {service}` tells why"))
        }
        OrderRefusal::NotIdle { service, state } => (
            ERROR,
            format!(
                "service `{service}` is {}; `phalanx service deregister {service}` first, then remove it",
                word(*state)
            ),
        ),
        OrderRefusal::Unrecovered { service, victim } => (
            NEEDS_FORCE,
            format!("what service `{service}` left on {} is not recovered; `--force` forgets that", name(victim.node)),
        ),
        OrderRefusal::ChangedMeanwhile { service } => {
            (TRY_AGAIN, format!("somebody else has changed service `{service}`; look at it and try again"))
        }
        OrderRefusal::CommandRuns { service, state } => (
            TRY_AGAIN,
            format!("service `{service}` is {}, and the change takes away the command that runs", word(*state)),
        ),
        OrderRefusal::Child { service, parent } => (
            ERROR,
            format!("service `{service}` is wherever its parent is; `phalanx service transfer {parent}` moves both"),
        ),
        OrderRefusal::OnAllNodes { service } => {
            (ERROR, format!("service `{service}` is registered on all nodes; there is nowhere to move it to"))
        }
        OrderRefusal::StaleGeneration { service, current: Some(current) } => (
            ERROR,
            format!("that is not the registration of service `{service}` that runs; the present one is {current}"),
        ),
        OrderRefusal::StaleGeneration { service, current: None } => (
            ERROR,
            format!("service `{service}` is not registered; `phalanx service show {service}` tells what it does"),
        ),
        OrderRefusal::UnknownParent { service, parent } => {
            (ERROR, format!("parent of service `{service}` names `{parent}`, which is no service"))
        }
        OrderRefusal::Circle { path } => {
            (ERROR, format!("parents form a circle: {}; take one of these keys out", path.join(" -> ")))
        }
        OrderRefusal::NotInGroup { service, key } => (
            ERROR,
            format!("{key} of service `{service}` has no place in its group: only the root of a group chooses a node"),
        ),
        OrderRefusal::HasChild { service, child } => (
            ERROR,
            format!("service `{child}` has service `{service}` as its parent; `phalanx service remove {child}` first"),
        ),
        OrderRefusal::Regrouped { service, state } => (
            ERROR,
            format!(
                "service `{service}` is {}; parent and placement_policy change only while nothing of the group runs: \
                 `phalanx service deregister {service}` first",
                word(*state)
            ),
        ),
        OrderRefusal::UnknownEvent { event } => {
            (UNKNOWN, format!("there is no event `{event}`; `phalanx event list` lists them"))
        }
        OrderRefusal::UnknownEventGroup { group } => {
            (UNKNOWN, format!("there is no event group `{group}`; `phalanx event list` lists them"))
        }
        OrderRefusal::EventChangedMeanwhile { name } => {
            (TRY_AGAIN, format!("somebody else has changed event or event group `{name}`; look at it and try again"))
        }
        OrderRefusal::EventInUse { name, by } => (ERROR, format!("`{by}` still names `{name}`; change `{by}` first")),
        OrderRefusal::DatabaseFull { services, services_max, bytes, bytes_max } => (
            ERROR,
            format!(
                "{services} services would need {bytes} bytes, and the disk was formatted for {services_max} services and \
                 {bytes_max} bytes; remove services, shorten commands, or format a disk with a larger `--services-max`"
            ),
        ),
    }
}

fn word(state: RunState) -> &'static str {
    state_word(&ServiceRun { state, ..ServiceRun::default() })
}

/// Why a node does not take a service, in words.
#[must_use]
pub const fn unfit_text(why: Unfit) -> &'static str {
    match why {
        Unfit::NotAllowable => "it is not in allowable_nodes",
        Unfit::Disallowed => "it is in disallowable_nodes",
        Unfit::Down => "it is not a member; start it",
        Unfit::Leaving => "it is leaving, or has just left",
        Unfit::Standby => "it is on standby; `phalanx node unstandby` ends that",
    }
}
