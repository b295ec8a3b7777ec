//! What administrators ask.

use actix::prelude::*;
use phalanx_messages::admin::MonitorStatus;
use phalanx_messages::order::OrderRefusal;
use phalanx_messages::registration::Instance;
use phalanx_messages::service::ServiceDefinition;
use phalanx_messages::service_report::{PlannedStep, ServiceExplanation};
use phalanx_protocol::launcher::{LauncherInput, OrderFailure};
use tokio::sync::oneshot;

use super::RegistrationAndLaunch;
use crate::ports::{
    CarryOut, ExplainService, GetDefinitions, GetEventDefinitions, GetServices, PlanOrder, ServicesKnown, Simulate,
};

impl RegistrationAndLaunch {
    /// Runs a look at the machine as a kernel-level handler.
    fn look<R>(&self, look: impl FnOnce(&Self) -> R) -> R {
        self.settings.guard.run(|| look(self))
    }

    /// Of the service, or of this node's instance of it.
    fn monitor_of(&self, service: &str) -> Option<MonitorStatus> {
        let instance = |of| Instance { service: service.to_owned(), of };
        let own = self.monitors.get(&instance(Some(self.settings.me.node)));
        own.or_else(|| self.monitors.get(&instance(None))).copied()
    }
}

impl Handler<CarryOut> for RegistrationAndLaunch {
    type Result = ResponseFuture<Result<(), OrderFailure>>;

    fn handle(&mut self, CarryOut(order): CarryOut, ctx: &mut Self::Context) -> Self::Result {
        let (answer, answered) = oneshot::channel();
        self.last_order += 1;
        let counter = self.last_order;
        self.orders.insert(counter, answer);
        self.give(LauncherInput::Ask { counter, order }, ctx);
        Box::pin(async move { answered.await.unwrap_or(Err(OrderFailure::NoDecision)) })
    }
}

impl Handler<PlanOrder> for RegistrationAndLaunch {
    type Result = Result<Vec<PlannedStep>, OrderRefusal>;

    fn handle(&mut self, PlanOrder(order): PlanOrder, _: &mut Self::Context) -> Self::Result {
        self.look(|actor| actor.machine.plan(&order))
    }
}

impl Handler<Simulate> for RegistrationAndLaunch {
    type Result = Result<Vec<PlannedStep>, OrderRefusal>;

    fn handle(&mut self, Simulate(supposed): Simulate, _: &mut Self::Context) -> Self::Result {
        self.look(|actor| actor.machine.simulate(&supposed))
    }
}

impl Handler<GetServices> for RegistrationAndLaunch {
    type Result = MessageResult<GetServices>;

    fn handle(&mut self, _: GetServices, _: &mut Self::Context) -> Self::Result {
        MessageResult(self.look(|actor| {
            let mut services = actor.machine.services(actor.settings.clock.now());
            for service in &mut services {
                service.monitor = actor.monitor_of(&service.name);
            }
            ServicesKnown { services, standby: actor.machine.record().standby, deaths: actor.machine.deaths() }
        }))
    }
}

impl Handler<GetDefinitions> for RegistrationAndLaunch {
    type Result = Vec<ServiceDefinition>;

    fn handle(&mut self, _: GetDefinitions, _: &mut Self::Context) -> Self::Result {
        self.look(|actor| {
            let services = actor.machine.record().services.values();
            services.map(|service| service.definition.clone()).collect()
        })
    }
}

impl Handler<GetEventDefinitions> for RegistrationAndLaunch {
    type Result = MessageResult<GetEventDefinitions>;

    fn handle(&mut self, _: GetEventDefinitions, _: &mut Self::Context) -> Self::Result {
        MessageResult(self.look(|actor| {
            let record = actor.machine.record();
            (record.events.values().cloned().collect(), record.event_groups.values().cloned().collect())
        }))
    }
}

impl Handler<ExplainService> for RegistrationAndLaunch {
    type Result = Option<ServiceExplanation>;

    fn handle(&mut self, ExplainService(service): ExplainService, _: &mut Self::Context) -> Self::Result {
        self.look(|actor| actor.machine.explain(&service, actor.settings.clock.now()))
    }
}
