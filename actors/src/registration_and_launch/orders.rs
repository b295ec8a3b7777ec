//! Administrators' orders: put forward to whoever decides, one after the other, until a committed database has consumed them
//! (protocol RL-10); and what can be said about services without changing anything.

use actix::prelude::*;
use phalanx_messages::Instant;
use phalanx_messages::order::{OrderRefusal, RegistrationOrder, RegistrationRequest};
use phalanx_messages::registration::{RegistrationMessage, View};
use phalanx_messages::service::ServiceDefinition;
use phalanx_messages::service_report::{PlannedStep, ServiceExplanation};
use phalanx_protocol::registration::{DeciderInput, Event, explain, plan, service_statuses, tell_plan};
use tokio::sync::oneshot;

use super::RegistrationAndLaunch;
use crate::ports::{CarryOut, ExplainService, GetDefinitions, GetServices, OrderFailure, PlanOrder, ServicesKnown};

/// An order that nobody has decided about for so long is given up.
const DECIDED_WITHIN_MS: u64 = 10_000;

/// An order that is not answered.
pub(super) struct Asked {
    request: RegistrationRequest,
    since: Instant,
    answer: oneshot::Sender<Result<(), OrderFailure>>,
}

impl RegistrationAndLaunch {
    fn ask(
        &mut self,
        order: RegistrationOrder,
        ctx: &mut Context<Self>,
    ) -> oneshot::Receiver<Result<(), OrderFailure>> {
        let (answer, answered) = oneshot::channel();
        self.order_counter += 1;
        let request = RegistrationRequest { source: self.settings.me, counter: self.order_counter, order };
        self.asked.push_back(Asked { request, since: self.settings.clock.now(), answer });
        if self.asked.len() == 1 {
            self.put_forward(ctx);
        }
        answered
    }

    /// The database remembers one request of each node, so the next goes only when this one is answered.
    fn put_forward(&mut self, ctx: &mut Context<Self>) {
        let Some(request) = self.asked.front().map(|asked| asked.request.clone()) else { return };
        match self.decider.leader() {
            Some(leader) if leader == self.settings.me.node => {
                self.drive(DeciderInput::Happened(vec![Event::Requested(request)]), ctx);
            }
            Some(leader) => self.say(leader, RegistrationMessage::Requests(vec![request])),
            None => {} // put forward again at the next tick
        }
    }

    pub(super) fn put_forward_again(&mut self, ctx: &mut Context<Self>) {
        let now = self.settings.clock.now();
        if self.asked.front().is_some_and(|asked| now.since(asked.since) >= DECIDED_WITHIN_MS)
            && let Some(Asked { answer, .. }) = self.asked.pop_front()
        {
            answer.send(Err(OrderFailure::NoDecision)).ok(); // whoever asked may have gone
        }
        self.put_forward(ctx);
    }

    /// Only what somebody has called committed counts: the next owner of the decisions may load the database before it.
    pub(super) fn answer_orders(&mut self, ctx: &mut Context<Self>) {
        if self.known.revision > self.announced {
            return;
        }
        let me = self.settings.me;
        let consumed = self.known.requests.get(&me.node).filter(|consumed| consumed.incarnation == me.incarnation);
        let Some(consumed) = consumed.cloned() else { return };
        if self.asked.front().is_none_or(|asked| asked.request.counter != consumed.counter) {
            return;
        }
        let Some(Asked { answer, .. }) = self.asked.pop_front() else { return };
        answer.send(consumed.answer.map_err(OrderFailure::Refused)).ok(); // whoever asked may have gone
        self.put_forward(ctx);
    }

    /// The level as this node sees it, and not older than the newest decision.
    fn present_view(&self) -> View {
        let mut view = self.level.view().clone();
        view.merge(&self.known.seen());
        view
    }

    fn maturity_ms(&self, service: &str) -> Option<u64> {
        let definition = &self.known.services.get(service)?.definition;
        self.timers.maturity_left_ms(definition, self.settings.clock.now())
    }

    fn services_known(&self) -> ServicesKnown {
        let maturity_ms = |service: &str| self.maturity_ms(service);
        let services = service_statuses(&self.known, &self.present_view(), &self.configuration, maturity_ms);
        ServicesKnown { services, standby: self.known.standby }
    }

    fn plan(&self, order: &RegistrationOrder) -> Result<Vec<PlannedStep>, OrderRefusal> {
        let view = self.present_view();
        let planned = plan(&self.known, &view, order, self.settings.room)?;
        Ok(tell_plan(&planned, &view, &self.configuration))
    }
}

impl Handler<CarryOut> for RegistrationAndLaunch {
    type Result = ResponseFuture<Result<(), OrderFailure>>;

    fn handle(&mut self, CarryOut(order): CarryOut, ctx: &mut Self::Context) -> Self::Result {
        let answered = self.guarded(|actor| actor.ask(order, ctx));
        Box::pin(async move { answered.await.unwrap_or(Err(OrderFailure::NoDecision)) })
    }
}

impl Handler<PlanOrder> for RegistrationAndLaunch {
    type Result = Result<Vec<PlannedStep>, OrderRefusal>;

    fn handle(&mut self, PlanOrder(order): PlanOrder, _: &mut Self::Context) -> Self::Result {
        self.guarded(|actor| actor.plan(&order))
    }
}

impl Handler<GetServices> for RegistrationAndLaunch {
    type Result = MessageResult<GetServices>;

    fn handle(&mut self, _: GetServices, _: &mut Self::Context) -> Self::Result {
        MessageResult(self.guarded(|actor| actor.services_known()))
    }
}

impl Handler<GetDefinitions> for RegistrationAndLaunch {
    type Result = Vec<ServiceDefinition>;

    fn handle(&mut self, _: GetDefinitions, _: &mut Self::Context) -> Self::Result {
        self.guarded(|actor| actor.known.services.values().map(|service| service.definition.clone()).collect())
    }
}

impl Handler<ExplainService> for RegistrationAndLaunch {
    type Result = Option<ServiceExplanation>;

    fn handle(&mut self, ExplainService(service): ExplainService, _: &mut Self::Context) -> Self::Result {
        self.guarded(|actor| {
            let (view, maturity_ms) = (actor.present_view(), actor.maturity_ms(&service));
            explain(&actor.known, &service, &view, &actor.configuration, maturity_ms)
        })
    }
}
