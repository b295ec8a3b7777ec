//! Requests of the daemon that have come in and are not taken yet.
//!
//! Beginning a command takes this process as long as the kernel needs to make another one. A node that is told to start its services
//! all at once would otherwise kill nothing, and see no kill through, before the last of them has begun. So launches are taken a few
//! at a time, and nothing else waits for those of other owners. Requests of one owner are taken in the order in which they came.
//!
//! Pure: the caller takes as often as something waits, and does everything else between.

use std::collections::{BTreeSet, VecDeque};

use phalanx_messages::launch::{Owner, WardenRequest};

use super::frames::Ask;

/// Launches that are taken at once.
const LAUNCHES_MAX: usize = 4;

/// See the module.
#[derive(Debug, Default)]
pub struct Inbox {
    waiting: VecDeque<Ask>,
}

impl Inbox {
    /// These have come in, in this order.
    pub fn add(&mut self, asks: impl IntoIterator<Item = Ask>) {
        self.waiting.extend(asks);
    }

    /// Nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// What is to be done now, in this order: the first launches, and of every owner that asks for anything else, everything.
    pub fn take(&mut self) -> Vec<Ask> {
        let mut launches = 0;
        let urgent: BTreeSet<Owner> = self.waiting.iter().filter_map(|ask| urgent(&ask.request)).collect();
        let (mut taken, mut left) = (Vec::new(), VecDeque::new());
        for ask in self.waiting.drain(..) {
            let waits = match &ask.request {
                WardenRequest::Launch(launch) if !urgent.contains(&launch.owner) => {
                    launches += 1;
                    launches > LAUNCHES_MAX
                }
                WardenRequest::Launch(_)
                | WardenRequest::Kill { .. }
                | WardenRequest::Watch { .. }
                | WardenRequest::Forget { .. } => false,
            };
            if waits {
                left.push_back(ask);
            } else {
                taken.push(ask);
            }
        }
        self.waiting = left;
        taken
    }
}

/// The owner of a request that begins nothing.
fn urgent(request: &WardenRequest) -> Option<Owner> {
    match request {
        WardenRequest::Launch(_) => None,
        WardenRequest::Kill { owner, .. } | WardenRequest::Watch { owner, .. } | WardenRequest::Forget { owner } => {
            Some(owner.clone())
        }
    }
}

#[cfg(test)]
mod tests {
    use phalanx_messages::launch::{Action, LaunchRequest, Leaves, Program};

    use super::*;

    fn owner(name: &str) -> Owner {
        Owner::Service(name.to_owned())
    }

    fn launch(ticket: u64, name: &str) -> Ask {
        let launch = LaunchRequest {
            owner: owner(name),
            operation: None,
            action: Action::Start,
            command: Program::shell("true"),
            environment: Vec::new(),
            timeout_ms: 1_000,
            leaves: Leaves::Processes,
            clean_up: None,
            retries: 0,
        };
        Ask { ticket, request: WardenRequest::Launch(launch) }
    }

    fn kill(ticket: u64, name: &str) -> Ask {
        Ask { ticket, request: WardenRequest::Kill { owner: owner(name), operation: None, timeout_ms: 1_000 } }
    }

    fn tickets(taken: &[Ask]) -> Vec<u64> {
        taken.iter().map(|ask| ask.ticket).collect()
    }

    #[test]
    fn a_kill_waits_for_no_launch_of_another_owner() {
        let mut inbox = Inbox::default();
        inbox.add((0..10).map(|ticket| launch(ticket, &format!("s{ticket}"))));
        inbox.add([kill(10, "old")]);
        assert_eq!(tickets(&inbox.take()), [0, 1, 2, 3, 10]);
        inbox.add([kill(11, "old")]);
        assert_eq!(tickets(&inbox.take()), [4, 5, 6, 7, 11]);
        assert_eq!(tickets(&inbox.take()), [8, 9]);
        assert!(inbox.is_empty() && inbox.take().is_empty());
    }

    /// Else a launch would follow the kill that was to end it.
    #[test]
    fn requests_of_one_owner_are_taken_in_the_order_in_which_they_came() {
        let mut inbox = Inbox::default();
        inbox.add((0..6).map(|ticket| launch(ticket, &format!("s{ticket}"))));
        inbox.add([launch(6, "s5"), kill(7, "s5"), launch(8, "s5"), launch(9, "s0")]);
        assert_eq!(tickets(&inbox.take()), [0, 1, 2, 3, 5, 6, 7, 8], "s5 as it came, whatever waits");
        assert_eq!(tickets(&inbox.take()), [4, 9]);
    }
}
