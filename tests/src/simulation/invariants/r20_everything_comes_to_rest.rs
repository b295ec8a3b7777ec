//! I-R20: without new faults and requests every service comes to rest; one that is wanted, not held and has a candidate rests only
//! in Registered, Failed (every candidate has failed) or FailedRecovery. A transfer intent always ends (I-R10).

use phalanx_messages::registration::{Instance, RegistrationRecord, RunState, ServiceRecord, ServiceRun};
use phalanx_messages::service::{PlacementPolicy, TransferCost};

use super::r19_stopped_for_a_reason::place_of;
use super::{candidates_of, chain, group_of, is_in_recovery, root_of};
use crate::simulation::service_truth::ServiceTruth;

/// The faults have ended a while ago: what is not at rest, if something is not.
#[must_use]
pub fn unrest(truth: &ServiceTruth) -> Option<String> {
    let record = truth.newest();
    let undefined = truth.lanes().find(|lane| {
        let service = lane.split('@').next().unwrap_or_default();
        !record.services.contains_key(service)
    });
    if let Some(lane) = undefined {
        return Some(format!("I-R20: something of {lane} may run, which is not defined"));
    }
    record.services.iter().find_map(|(name, service)| {
        service.runs().find_map(|(of, run)| {
            let instance = Instance { service: name.clone(), of };
            let machine = Machine { truth, record: &record, instance: &instance, service, run };
            (!machine.rests()).then(|| machine.describe())
        })
    })
}

struct Machine<'a> {
    truth: &'a ServiceTruth,
    record: &'a RegistrationRecord,
    instance: &'a Instance,
    service: &'a ServiceRecord,
    run: &'a ServiceRun,
}

impl Machine<'_> {
    fn describe(&self) -> String {
        let (lane, on) = (self.instance.lane(), self.truth.runs_on(&self.instance.lane()));
        format!("I-R20: service {lane} is {:?} on {}, and it may run on {on:?}", self.run.state, self.run.node)
    }

    /// It waits for nothing that could still come by itself.
    fn rests(&self) -> bool {
        let Self { run, truth, .. } = self;
        let lane = self.instance.lane();
        let on = truth.runs_on(&lane);
        if run.state == RunState::Registered {
            return on == [run.node] && truth.instance(&lane, run.node).started && self.stays();
        }
        on.is_empty() && !run.transfer_intent && self.waits_for_somebody()
    }

    /// Registered, and nothing asks it to stop, move or tell anybody.
    fn stays(&self) -> bool {
        let run = self.run;
        let view = self.record.seen();
        let reasons = chain(self.record, &self.instance.service).any(|(_, above)| {
            let machine = above.run_of(self.instance.of);
            !above.run.want || machine.is_some_and(|it| it.failing && !self.is_held(above, it))
        });
        let is_root = self.service.definition.parent.is_none();
        let standby = is_root && self.record.standby.contains(run.node.node) && !self.is_held(self.service, run);
        let moves = run.transfer_intent || run.moving || self.free_transfer_is_due();
        view.is_joined(run.node) && !reasons && !standby && !moves && run.notifying.is_empty()
    }

    fn is_held(&self, service: &ServiceRecord, run: &ServiceRun) -> bool {
        run.held || service.run.held
    }

    fn free_transfer_is_due(&self) -> bool {
        let (definition, run) = (&self.service.definition, self.run);
        let free = definition.parent.is_none() && definition.transfer_cost == TransferCost::Free && !run.held;
        let here = place_of(definition, run.node.node);
        let better = |node| place_of(definition, node) < here && !run.avoid.contains(node);
        free && candidates_of(self.record, self.instance).iter().any(better)
            && group_of(self.record, &self.instance.service).all(|(_, member)| self.is_settled(member))
    }

    /// Protocol §6.3, "Settled member", of one that rests.
    fn is_settled(&self, member: &ServiceRecord) -> bool {
        let run = &member.run;
        match run.state {
            RunState::Registered | RunState::Failed | RunState::FailedRecovery => true,
            RunState::DeRegistered => !run.want || run.held,
            RunState::AwaitParent => {
                let parent = member.definition.parent.as_ref().and_then(|parent| self.record.services.get(parent));
                parent.is_some_and(|parent| parent.run.state != RunState::Registered && self.is_settled(parent))
            }
            RunState::AwaitMaturity
            | RunState::Starting
            | RunState::StartCleanup
            | RunState::Stopping
            | RunState::StopKill
            | RunState::PendRecovery
            | RunState::Recovering
            | RunState::RecoveryCleanup
            | RunState::FenceStart
            | RunState::FenceStop
            | RunState::FenceRecovery => false,
        }
    }

    /// Idle, and an order, a node or a member that rests itself is what it waits for.
    fn waits_for_somebody(&self) -> bool {
        let Self { record, instance, service, run, .. } = self;
        let wanted = chain(record, &instance.service).all(|(_, above)| above.run.want);
        let held = self.is_held(service, run);
        let candidates = candidates_of(record, instance);
        let exhausted = run.retries >= service.definition.start_retries;
        match run.state {
            RunState::Failed => {
                let tried = run.tried.union(&run.exhausted);
                exhausted && (held || service.definition.parent.is_some() || candidates.is_subset(&tried))
            }
            RunState::FailedRecovery => true,
            RunState::AwaitParent => self.parent().is_some_and(|parent| parent.state != RunState::Registered),
            RunState::DeRegistered if !wanted || held => true,
            RunState::DeRegistered if self.is_common() => candidates.is_empty(),
            RunState::DeRegistered => {
                let is_root = service.definition.parent.is_none();
                !run.resting && is_root && (candidates.is_empty() || self.recovers_below())
            }
            RunState::PendRecovery => {
                let any = root_of(record, &instance.service).map(|root| Instance::only(root.definition.name.clone()));
                held || self.recovers_below() || any.is_none_or(|any| candidates_of(record, &any).is_empty())
            }
            RunState::AwaitMaturity => {
                let count = service.definition.maturity_count.map_or(usize::MAX, usize::from);
                let all = candidates_of(record, &Instance::only(instance.service.clone()));
                service.definition.maturity_time_ms.is_none() && all.len() < count
            }
            RunState::Registered
            | RunState::Starting
            | RunState::StartCleanup
            | RunState::Stopping
            | RunState::StopKill
            | RunState::Recovering
            | RunState::RecoveryCleanup
            | RunState::FenceStart
            | RunState::FenceStop
            | RunState::FenceRecovery => false,
        }
    }

    /// What all instances of a service have in common, shown while there is none.
    fn is_common(&self) -> bool {
        let root = root_of(self.record, &self.instance.service);
        let on_all = root.is_some_and(|root| root.definition.placement_policy == PlacementPolicy::RegisterOnAll);
        on_all && self.instance.of.is_none()
    }

    fn parent(&self) -> Option<&ServiceRun> {
        let parent = self.service.definition.parent.as_deref()?;
        self.record.services.get(parent)?.run_of(self.instance.of)
    }

    /// Something below it is to be recovered first (protocol RL-14).
    fn recovers_below(&self) -> bool {
        let is_below = |name: &String| {
            *name != self.instance.service && chain(self.record, name).any(|(above, _)| above == self.instance.service)
        };
        let below = self.record.services.iter().filter(|(name, _)| is_below(name));
        let mut runs = below.filter_map(|(_, service)| service.run_of(self.instance.of));
        runs.any(|run| is_in_recovery(run.state))
    }
}
