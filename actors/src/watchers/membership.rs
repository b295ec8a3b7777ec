//! `membership`: a node begins to join, leave or be forced out at the event-manager level.

use std::collections::VecDeque;
use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;
use phalanx_messages::NodeId;
use phalanx_messages::configuration::ConfigurationRecord;
use phalanx_messages::event::Parameters;
use phalanx_messages::ids::TransitionId;
use phalanx_messages::membership::TransitionKind;
use phalanx_messages::notification::SubsystemNotification;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{broadcast, watch};

use super::{Input, NoWatch, Surroundings, Watch, out, text};

/// Transitions remembered, so that each is told once, whatever number of barriers it has and however often it is notified.
const REMEMBERED_MAX: usize = 256;

pub(super) struct Membership {
    node: Option<String>,
    kind: Option<String>,
    levels: broadcast::Receiver<Arc<SubsystemNotification>>,
    names: watch::Receiver<Arc<ConfigurationRecord>>,
    told: VecDeque<(TransitionId, NodeId)>,
    found: VecDeque<Parameters>,
}

impl Membership {
    pub fn new(input: Input<'_>, surroundings: &Surroundings) -> Self {
        Self {
            node: input.text("node"),
            kind: input.text("kind"),
            levels: surroundings.levels.subscribe(),
            names: surroundings.names.clone(),
            told: VecDeque::new(),
            found: VecDeque::new(),
        }
    }

    fn heard(&mut self, notification: &SubsystemNotification) {
        for notice in &notification.batch {
            let transition = (notice.id.transition, notice.node);
            if self.told.contains(&transition) {
                continue;
            }
            self.told.push_back(transition);
            if self.told.len() > REMEMBERED_MAX {
                self.told.pop_front();
            }
            let (node, kind) = (self.names.borrow().name_of(notice.node), word(notice.kind));
            let wanted = self.node.as_ref().is_none_or(|wanted| *wanted == node)
                && self.kind.as_ref().is_none_or(|wanted| wanted == kind);
            if wanted {
                let transition = text(notice.id.transition.to_string());
                self.found.push_back(out([("node", text(node)), ("kind", text(kind)), ("transition", transition)]));
            }
        }
    }
}

const fn word(kind: TransitionKind) -> &'static str {
    match kind {
        TransitionKind::Joining => "joining",
        TransitionKind::JoinExtending => "join-extending",
        TransitionKind::Leaving => "leaving",
        TransitionKind::ForcedLeaving => "forced-leaving",
    }
}

impl Watch for Membership {
    fn next(&mut self) -> LocalBoxFuture<'_, Result<Parameters, NoWatch>> {
        async move {
            loop {
                if let Some(found) = self.found.pop_front() {
                    return Ok(found);
                }
                match self.levels.recv().await {
                    Ok(notification) => self.heard(&notification),
                    Err(RecvError::Lagged(lost)) => tracing::warn!(lost, "a membership watcher was too slow"),
                    Err(RecvError::Closed) => return Err(NoWatch("the event manager is gone".to_owned())),
                }
            }
        }
        .boxed_local()
    }
}
