//! Answers to requests, one function each: asks the actors that know, and turns names into ids.

use std::path::PathBuf;
use std::sync::Arc;

use actix::prelude::*;
use phalanx_messages::NodeId;
use phalanx_messages::admin::{AdminAnswer, AdminRequest};
use phalanx_messages::configuration::ConfigurationRecord;
use phalanx_messages::order::{OrderRefusal, RegistrationOrder, Supposition};
use phalanx_protocol::launcher::OrderFailure;
use phalanx_protocol::registration::tell_refusal;

use super::logs::LogSources;
use super::{LocalApiEdges, report, status};
use crate::ports::{
    CarryOut, ExplainService, GetDefinitions, GetMembership, GetServices, PlanOrder, RequestLeave, Simulate,
};

/// Exit code "the node named is not running" (architecture §5).
pub(super) const EXIT_NOT_RUNNING: u8 = 3;
/// Exit code "configuration".
pub(super) const EXIT_CONFIGURATION: u8 = 78;
/// Exit code "no such node or service".
pub(super) const EXIT_UNKNOWN: u8 = 105;
/// Exit code "no master or no majority".
const EXIT_NO_MASTER: u8 = 106;
/// Exit code "try again".
const EXIT_TRY_AGAIN: u8 = 75;

/// Why a request is not carried out: the code of the contract, and what the administrator reads.
pub(super) struct Refusal(pub u8, pub String);

impl Refusal {
    pub fn ending(closed: MailboxError) -> Self {
        Self(EXIT_TRY_AGAIN, format!("the node is ending: {closed}"))
    }
}

/// What an answer is made from.
pub(super) struct Asked {
    pub edges: LocalApiEdges,
    pub configuration: Arc<ConfigurationRecord>,
    pub logs: LogSources,
    /// Where the cluster keys are.
    pub key_file: Option<PathBuf>,
    /// This node.
    pub own: NodeId,
    /// The user who asks, in words.
    pub by: String,
}

impl Asked {
    pub async fn answer(self, request: AdminRequest) -> AdminAnswer {
        let answer = match request {
            AdminRequest::Status => self.status().await,
            AdminRequest::Leave { node } => self.leave(node).await,
            AdminRequest::Trace { which } => self.trace(which).await,
            AdminRequest::Order(order) => self.order(order).await,
            AdminRequest::Plan(order) => self.plan(order).await,
            AdminRequest::Simulate(supposed) => self.simulate(supposed).await,
            AdminRequest::Definitions => self.definitions().await,
            AdminRequest::Explain { service } => self.explain(service).await,
            AdminRequest::Configuration => self.show_configuration().await,
            AdminRequest::Change { base, changes, dry_run } => self.change(base, changes, dry_run).await,
            AdminRequest::Fence { node, reason } => self.fence(node, reason).await,
            AdminRequest::ConfirmDead { node } => self.confirm_dead(node).await,
            AdminRequest::Logs { service, lines, follow: _ } => self.logs(service, lines).await,
            AdminRequest::Keys => self.keys().await,
            AdminRequest::ReloadKeys => self.reload_keys().await,
            AdminRequest::Events => self.events().await,
            AdminRequest::EventDefinitions => self.event_definitions().await,
            AdminRequest::Occurrences { count, follow: _ } => self.occurrences(count).await,
            AdminRequest::TestEvent { name, out, dry_run } => self.test_event(name, out, dry_run).await,
            AdminRequest::Follow { .. } => Ok(AdminAnswer::Done),
        };
        answer.unwrap_or_else(|Refusal(code, text)| AdminAnswer::Refused { code, text })
    }

    async fn status(self) -> Result<AdminAnswer, Refusal> {
        let (membership, services) = (self.edges.membership.send(GetMembership), self.edges.services.send(GetServices));
        let membership = membership.await.map_err(Refusal::ending)?;
        let services = services.await.map_err(Refusal::ending)?;
        Ok(AdminAnswer::Status(Box::new(status::status(&membership, services))))
    }

    async fn leave(self, node: Option<String>) -> Result<AdminAnswer, Refusal> {
        let id = node.map_or(Ok(self.own), |name| self.id_of(&name))?;
        let accepted = self.edges.leave.send(RequestLeave(id)).await.map_err(Refusal::ending)?;
        accepted.map_err(|text| Refusal(EXIT_NOT_RUNNING, text))?;
        Ok(AdminAnswer::Done)
    }

    async fn order(self, order: RegistrationOrder) -> Result<AdminAnswer, Refusal> {
        let answer = self.edges.services.send(CarryOut(order)).await.map_err(Refusal::ending)?;
        match answer {
            Ok(()) => Ok(AdminAnswer::Done),
            Err(OrderFailure::Refused(refusal)) => Err(self.refused(&refusal)),
            Err(OrderFailure::NoDecision) => {
                let text =
                    "no node decides about services now; the order may still be carried out (`phalanx status` tells)";
                Err(Refusal(EXIT_NO_MASTER, text.to_owned()))
            }
        }
    }

    async fn plan(self, order: RegistrationOrder) -> Result<AdminAnswer, Refusal> {
        let answer = self.edges.services.send(PlanOrder(order)).await.map_err(Refusal::ending)?;
        answer.map(AdminAnswer::Plan).map_err(|refusal| self.refused(&refusal))
    }

    async fn simulate(self, supposed: Supposition) -> Result<AdminAnswer, Refusal> {
        let answer = self.edges.services.send(Simulate(supposed)).await.map_err(Refusal::ending)?;
        answer.map(AdminAnswer::Plan).map_err(|refusal| self.refused(&refusal))
    }

    fn refused(&self, refusal: &OrderRefusal) -> Refusal {
        let (code, text) = tell_refusal(refusal, &self.configuration);
        Refusal(code, text)
    }

    async fn definitions(self) -> Result<AdminAnswer, Refusal> {
        let definitions = self.edges.services.send(GetDefinitions).await.map_err(Refusal::ending)?;
        Ok(AdminAnswer::Definitions(definitions))
    }

    async fn explain(self, service: String) -> Result<AdminAnswer, Refusal> {
        let answer = self.edges.services.send(ExplainService(service.clone())).await.map_err(Refusal::ending)?;
        let explanation = answer.ok_or_else(|| self.refused(&OrderRefusal::UnknownService { service }))?;
        Ok(AdminAnswer::Explanation(Box::new(explanation)))
    }

    async fn logs(self, service: Option<String>, lines: u32) -> Result<AdminAnswer, Refusal> {
        let count = usize::try_from(lines).unwrap_or(usize::MAX);
        let Some(service) = service else { return Ok(AdminAnswer::Logs(self.logs.ring()?.tail(count))) };
        let services = self.edges.services.send(GetServices).await.map_err(Refusal::ending)?.services;
        if !services.iter().any(|known| known.name == service) {
            return Err(self.refused(&OrderRefusal::UnknownService { service }));
        }
        Ok(AdminAnswer::Logs(self.logs.output(&service, count).await?))
    }

    pub(super) fn id_of(&self, name: &str) -> Result<NodeId, Refusal> {
        let known = self.configuration.id_of(name);
        known.ok_or_else(|| Refusal(EXIT_UNKNOWN, report::no_such_node(name, &self.configuration)))
    }
}
