//! What the nodes report, each thing said once.

use std::collections::{BTreeSet, VecDeque};
use std::path::Path;
use std::sync::mpsc::Sender;

use phalanx_messages::admin::HappeningReport;

use super::Event;
use crate::cli::client::Client;
use crate::containment::pause;

/// Between two attempts to reach a node that is starting, in milliseconds.
const RETRY_MS: u64 = 10;
/// A node that has not opened its socket by then is not followed.
const ATTEMPTS_MAX: u32 = 6_000;
/// Lines remembered.
const REMEMBERED: usize = 512;

/// Follows one node from its start to its end.
pub(super) fn follow(socket: &Path, events: &Sender<Event>) {
    for _ in 0..ATTEMPTS_MAX {
        let Ok(client) = Client::connect(socket) else {
            pause(RETRY_MS);
            continue;
        };
        if let Ok(happenings) = client.follow(true) {
            for report in happenings {
                if events.send(Event::Happened(report)).is_err() {
                    return;
                }
            }
        }
        return;
    }
}

/// Remembers what was said. Every node reports; the master sees every step, and services are reported where they run.
#[derive(Default)]
pub(super) struct Said {
    lines: BTreeSet<String>,
    order: VecDeque<String>,
}

impl Said {
    pub(super) fn is_news(&mut self, report: &HappeningReport) -> bool {
        if !(report.by_master || report.kind == "service") {
            return false;
        }
        // The same words may come again in another term; a service's come with their generation.
        let key = match report.kind.as_str() {
            "node-state" | "proof" | "missed" => return true,
            _ => format!("{} {}", report.term, report.text),
        };
        if !self.lines.insert(key.clone()) {
            return report.kind == "step"; // a step that is told again was restarted: its words differ only by its transition
        }
        self.order.push_back(key);
        if self.order.len() > REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.lines.remove(&oldest);
        }
        true
    }
}
