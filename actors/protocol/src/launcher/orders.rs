//! Administrators' orders: put forward to whoever decides, one after the other, until a committed database has consumed them
//! (protocol RL-10); and what can be said about services without changing anything.

use std::sync::Arc;

use phalanx_messages::Instant;
use phalanx_messages::NodeId;
use phalanx_messages::admin::ServiceStatus;
use phalanx_messages::order::{OrderRefusal, RegistrationOrder, RegistrationRequest, Supposition};
use phalanx_messages::registration::{RegistrationMessage, RegistrationRecord, View};
use phalanx_messages::service_report::{PlannedStep, ServiceExplanation};

use super::Launcher;
use super::io::{LauncherOutput, OrderFailure};
use crate::registration::{
    DeciderInput, Event, Planning, Waits, explain, plan, service_statuses, simulate, tell_plan, view_of_decision,
};

/// An order that nobody has decided about for so long is given up.
const DECIDED_WITHIN_MS: u64 = 10_000;

/// An order that is not answered.
#[derive(Debug)]
pub(super) struct Asked {
    request: RegistrationRequest,
    since: Instant,
}

impl Launcher {
    pub(super) fn ask(&mut self, counter: u64, order: RegistrationOrder) {
        let request = RegistrationRequest { source: self.settings.me, counter, order };
        self.asked.push_back(Asked { request, since: self.now() });
        if self.asked.len() == 1 {
            self.put_forward();
        }
    }

    /// The database remembers one request of each node, so the next goes only when this one is answered.
    fn put_forward(&mut self) {
        let Some(request) = self.asked.front().map(|asked| asked.request.clone()) else { return };
        match self.decider.leader() {
            Some(leader) if leader == self.settings.me.node => {
                self.drive(DeciderInput::Happened(vec![Event::Requested(request)]));
            }
            Some(leader) => self.say(leader, RegistrationMessage::Requests(vec![request])),
            None => {} // put forward again at the next tick
        }
    }

    pub(super) fn put_forward_again(&mut self) {
        let now = self.now();
        let late = self.asked.pop_front_if(|asked| now.since(asked.since) >= DECIDED_WITHIN_MS);
        if let Some(Asked { request, .. }) = late {
            let answer = Err(OrderFailure::NoDecision);
            self.emit(LauncherOutput::Answer { counter: request.counter, answer });
        }
        self.put_forward();
    }

    /// Only what is committed counts: the next owner of the decisions may load the database before it.
    pub(super) fn answer_orders(&mut self) {
        if !self.is_known_committed() {
            return;
        }
        let me = self.settings.me;
        let consumed = self.known.requests.get(&me.node).filter(|consumed| consumed.incarnation == me.incarnation);
        let Some(consumed) = consumed.cloned() else { return };
        let answered = self.asked.pop_front_if(|asked| asked.request.counter == consumed.counter);
        if let Some(Asked { request, .. }) = answered {
            let answer = consumed.answer.map_err(OrderFailure::Refused);
            self.emit(LauncherOutput::Answer { counter: request.counter, answer });
            self.put_forward();
        }
    }

    /// The newest database this node has seen. It may not be committed.
    #[must_use]
    pub fn record(&self) -> &RegistrationRecord {
        &self.known
    }

    /// The newest committed database, while this node owns the decisions.
    #[must_use]
    pub fn decided(&self) -> Option<&Arc<RegistrationRecord>> {
        self.decider.committed()
    }

    /// Who decides, as far as this node knows.
    #[must_use]
    pub fn leader(&self) -> Option<NodeId> {
        self.decider.leader()
    }

    /// The level as this node sees it, and not older than the newest decision.
    fn present_view(&self) -> View {
        view_of_decision(&self.known, self.level.view())
    }

    fn maturity_ms(&self, service: &str, now: Instant) -> Option<u64> {
        let definition = &self.known.services.get(service)?.definition;
        self.timers.maturity_left_ms(definition, now)
    }

    /// State of every service.
    #[must_use]
    pub fn services(&self, now: Instant) -> Vec<ServiceStatus> {
        let maturity_ms = |service: &str| self.maturity_ms(service, now);
        service_statuses(&self.known, &self.present_view(), &self.configuration, maturity_ms)
    }

    /// Why a service is where it is. None = there is no such service.
    #[must_use]
    pub fn explain(&self, service: &str, now: Instant) -> Option<ServiceExplanation> {
        let waits = Waits { maturity_ms: self.maturity_ms(service, now), flaps: self.timers.flaps() };
        explain(&self.known, service, &self.present_view(), &self.configuration, &self.loads, waits)
    }

    /// What an order would do.
    ///
    /// # Errors
    /// The refusal that it would meet.
    pub fn plan(&self, order: &RegistrationOrder) -> Result<Vec<PlannedStep>, OrderRefusal> {
        let view = self.present_view();
        let planning = Planning { view: &view, loads: &self.loads, room: self.settings.room };
        let planned = plan(&self.known, planning, order)?;
        Ok(tell_plan(&planned, planning, &self.configuration))
    }

    /// Everything that would follow from something.
    ///
    /// # Errors
    /// The refusal that an order would meet.
    pub fn simulate(&self, supposed: &Supposition) -> Result<Vec<PlannedStep>, OrderRefusal> {
        let view = self.present_view();
        let planning = Planning { view: &view, loads: &self.loads, room: self.settings.room };
        simulate(&self.known, planning, supposed, &self.configuration)
    }
}
