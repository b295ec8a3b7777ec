//! Answers to requests, one function each: asks the actors that know, and turns names into ids.

use std::sync::Arc;

use actix::prelude::*;
use phalanx_messages::NodeId;
use phalanx_messages::admin::{AdminAnswer, AdminRequest};
use phalanx_messages::configuration::ConfigurationRecord;

use super::logs::LogSources;
use super::{LocalApiEdges, report, status};
use crate::ports::{GetMembership, GetServices, GetTraces, RequestLeave};

/// Exit code "the node named is not running" (architecture §5).
const EXIT_NOT_RUNNING: u8 = 3;
/// Exit code "no such node or service".
const EXIT_UNKNOWN: u8 = 105;
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
    /// This node.
    pub own: NodeId,
}

impl Asked {
    pub async fn answer(self, request: AdminRequest) -> AdminAnswer {
        let answer = match request {
            AdminRequest::Status => self.status().await,
            AdminRequest::Leave { node } => self.leave(node).await,
            AdminRequest::Traces => self.traces().await,
            AdminRequest::Logs { service, lines, follow: _ } => self.logs(service, lines).await,
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

    async fn traces(self) -> Result<AdminAnswer, Refusal> {
        let (membership, traces) = (self.edges.membership.send(GetMembership), self.edges.traces.send(GetTraces));
        let membership = membership.await.map_err(Refusal::ending)?;
        let traces = traces.await.map_err(Refusal::ending)?;
        Ok(AdminAnswer::Traces(traces.iter().map(|trace| report::trace(trace, &membership)).collect()))
    }

    async fn logs(self, service: Option<String>, lines: u32) -> Result<AdminAnswer, Refusal> {
        let count = usize::try_from(lines).unwrap_or(usize::MAX);
        let Some(service) = service else { return Ok(AdminAnswer::Logs(self.logs.ring()?.tail(count))) };
        let services = self.edges.services.send(GetServices).await.map_err(Refusal::ending)?;
        if !services.iter().any(|known| known.name == service) {
            let known: Vec<&str> = services.iter().map(|service| service.name.as_str()).collect();
            let text = format!("there is no service `{service}`; the cluster has: {}", known.join(", "));
            return Err(Refusal(EXIT_UNKNOWN, text));
        }
        Ok(AdminAnswer::Logs(self.logs.output(&service, count).await?))
    }

    fn id_of(&self, name: &str) -> Result<NodeId, Refusal> {
        let known = self.configuration.id_of(name);
        known.ok_or_else(|| Refusal(EXIT_UNKNOWN, report::no_such_node(name, &self.configuration)))
    }
}
