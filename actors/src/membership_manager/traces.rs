//! What the nodes keep of one transition, asked for by whoever shows it. Nothing depends on the answers.

use std::collections::BTreeMap;
use std::time::Duration;

use actix::prelude::*;
use phalanx_messages::limits::TRACE_ANSWER_MS;
use phalanx_messages::membership::NodeState;
use phalanx_messages::peer::PeerMessage;
use phalanx_messages::set::NodeSet;
use phalanx_messages::trace::{TraceMessage, TransitionTrace};
use phalanx_messages::{NodeId, TransitionId};
use tokio::sync::mpsc;

use super::MembershipManager;
use crate::ports::{AskTraces, SendToPeer, TracesKept};

/// Peers' answers to one question.
type Answers = (NodeId, Option<TransitionTrace>);

/// Questions that are being asked, by number.
#[derive(Debug, Default)]
pub(super) struct TraceQuestions {
    asked: u64,
    open: BTreeMap<u64, mpsc::UnboundedSender<Answers>>,
}

impl MembershipManager {
    /// A peer asks, or has answered.
    pub(super) fn trace_message(&mut self, from: NodeId, message: TraceMessage) {
        match message {
            TraceMessage::Ask { counter, which } => {
                let trace = self.own_trace(which).map(Box::new);
                self.tell(from, TraceMessage::Answer { counter, trace });
            }
            TraceMessage::Answer { counter, trace } => {
                if let Some(question) = self.traces.open.get(&counter) {
                    question.send((from, trace.map(|trace| *trace))).ok(); // whoever asked may have gone
                }
            }
        }
    }

    fn own_trace(&self, which: Option<TransitionId>) -> Option<TransitionTrace> {
        self.machine.trace(which, self.edges.clock.now())
    }

    fn tell(&self, to: NodeId, message: TraceMessage) {
        self.edges.peers.do_send(SendToPeer { to, message: PeerMessage::Trace(message) });
    }

    /// Everybody else who may know something.
    fn other_members(&self) -> NodeSet {
        let me = self.machine.me().node;
        let members = self.machine.record().nodes.iter().filter(|(_, entry)| entry.state != NodeState::Inactive);
        members.map(|(node, _)| *node).filter(|node| *node != me).collect()
    }
}

impl Handler<AskTraces> for MembershipManager {
    type Result = ResponseFuture<TracesKept>;

    fn handle(&mut self, AskTraces(which): AskTraces, _: &mut Self::Context) -> Self::Result {
        let own = self.own_trace(which);
        let which = which.or_else(|| own.as_ref().map(|trace| trace.id));
        let silent = self.other_members();
        let (answer, mut answers) = mpsc::unbounded_channel();
        self.traces.open.retain(|_, question| !question.is_closed());
        self.traces.asked += 1;
        let counter = self.traces.asked;
        self.traces.open.insert(counter, answer);
        silent.iter().for_each(|node| self.tell(node, TraceMessage::Ask { counter, which }));
        let kept = BTreeMap::from([(self.machine.me().node, own)]);
        Box::pin(async move {
            let mut traces = TracesKept { kept, silent };
            let all = async {
                while !traces.silent.is_empty() {
                    let Some((node, trace)) = answers.recv().await else { return };
                    if traces.silent.remove(node) {
                        traces.kept.insert(node, trace);
                    }
                }
            };
            tokio::time::timeout(Duration::from_millis(TRACE_ANSWER_MS), all).await.ok(); // who is silent then stays in the set
            traces
        })
    }
}
