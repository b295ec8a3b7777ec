//! Which notifications a registered subsystem may receive for one transitional node (spec, Table 1 and Fig. 2; protocol §5.3).
//!
//! Every pair of state and notification is named here; [`render`] prints the whole table, which a test compares with the
//! stored text. What is not a row is a protocol error, and the node panics.

use phalanx_messages::membership::TransitionKind;

/// What a subsystem was last told, or has last acknowledged, about one incarnation of one node.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Standing {
    /// It knows nothing of the node, or is through with its leave.
    #[default]
    Inactive,
    /// It is processing a barrier of its join.
    Joining,
    /// It has acknowledged a barrier of its join that is not the last.
    JoiningAcknowledged,
    /// It has acknowledged the last barrier of its join.
    Joined,
    /// It is processing a barrier of its leave.
    Leaving,
    /// It has acknowledged a barrier of its leave that is not the last.
    LeavingAcknowledged,
    /// The state vector of its own join told it of a victim that is not recovered yet.
    Lost,
    /// It is processing a barrier of its forced leave.
    ForcedLeaving,
    /// It has acknowledged a barrier of its forced leave that is not the last.
    ForcedLeavingAcknowledged,
}

/// How a notification stands to the last one of the same node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Arrival {
    /// Barrier 0 at a level where this transition was not before.
    First,
    /// The barrier after the one acknowledged.
    Next,
    /// The same transition from barrier 0 again (protocol T-9).
    Restart,
}

/// A row of the table: a legal notification.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Row {
    /// Spec, Table 1, row 1.
    Join,
    /// Spec, barrier synchronization: the next barrier of a join.
    JoinBarrier,
    /// Protocol T-9: a join begins again.
    JoinAgain,
    /// Spec, Table 1, row 2.
    Leave,
    /// The next barrier of a leave.
    LeaveBarrier,
    /// Protocol T-9: a leave begins again.
    LeaveAgain,
    /// Spec, Table 1, row 5, "Allowed Re-notifications": a joined node is lost.
    Recover,
    /// Spec, Table 1, row 1, "Allowed Re-notifications": the join is aborted.
    AbortJoin,
    /// Spec, Table 1, row 2, "Allowed Re-notifications": the leave is aborted.
    AbortLeave,
    /// Protocol §5.3: there is nothing here, or no longer; recover what there is.
    RecoverNothing,
    /// The next barrier of a forced leave.
    RecoverBarrier,
    /// Protocol T-9: a recovery begins again.
    RecoverAgain,
}

impl Row {
    /// This notification replaces one that the subsystem may still be processing.
    #[must_use]
    pub const fn is_renotification(self, standing: Standing) -> bool {
        let processing = matches!(standing, Standing::Joining | Standing::Leaving | Standing::ForcedLeaving);
        let aborts = matches!(
            self,
            Self::AbortJoin | Self::AbortLeave | Self::JoinAgain | Self::LeaveAgain | Self::RecoverAgain
        );
        aborts && (processing || matches!(self, Self::AbortJoin | Self::AbortLeave))
    }
}

/// The row for a notification, or `None` if it is a protocol error.
#[must_use]
pub const fn row(standing: Standing, kind: TransitionKind, arrival: Arrival) -> Option<Row> {
    match kind {
        TransitionKind::Joining | TransitionKind::JoinExtending => joining(standing, arrival),
        TransitionKind::Leaving => leaving(standing, arrival),
        TransitionKind::ForcedLeaving => forced_leaving(standing, arrival),
    }
}

const fn joining(standing: Standing, arrival: Arrival) -> Option<Row> {
    use Standing as S;
    match (arrival, standing) {
        (Arrival::First, S::Inactive) => Some(Row::Join),
        (Arrival::Next, S::JoiningAcknowledged) => Some(Row::JoinBarrier),
        // Inactive: this subsystem's own join was restarted with it and took the state vector anew.
        (Arrival::Restart, S::Inactive | S::Joining | S::JoiningAcknowledged | S::Joined) => Some(Row::JoinAgain),
        (
            Arrival::First,
            S::Joining
            | S::JoiningAcknowledged
            | S::Joined
            | S::Leaving
            | S::LeavingAcknowledged
            | S::Lost
            | S::ForcedLeaving
            | S::ForcedLeavingAcknowledged,
        )
        | (
            Arrival::Next,
            S::Inactive
            | S::Joining
            | S::Joined
            | S::Leaving
            | S::LeavingAcknowledged
            | S::Lost
            | S::ForcedLeaving
            | S::ForcedLeavingAcknowledged,
        )
        | (
            Arrival::Restart,
            S::Leaving | S::LeavingAcknowledged | S::Lost | S::ForcedLeaving | S::ForcedLeavingAcknowledged,
        ) => None,
    }
}

const fn leaving(standing: Standing, arrival: Arrival) -> Option<Row> {
    use Standing as S;
    match (arrival, standing) {
        (Arrival::First, S::Joined) => Some(Row::Leave),
        (Arrival::Next, S::LeavingAcknowledged) => Some(Row::LeaveBarrier),
        // Joined: this subsystem's own join was restarted with it and took the state vector anew.
        (Arrival::Restart, S::Joined | S::Leaving | S::LeavingAcknowledged | S::Inactive) => Some(Row::LeaveAgain),
        (
            Arrival::First,
            S::Inactive
            | S::Joining
            | S::JoiningAcknowledged
            | S::Leaving
            | S::LeavingAcknowledged
            | S::Lost
            | S::ForcedLeaving
            | S::ForcedLeavingAcknowledged,
        )
        | (
            Arrival::Next,
            S::Inactive
            | S::Joining
            | S::JoiningAcknowledged
            | S::Joined
            | S::Leaving
            | S::Lost
            | S::ForcedLeaving
            | S::ForcedLeavingAcknowledged,
        )
        | (
            Arrival::Restart,
            S::Joining | S::JoiningAcknowledged | S::Lost | S::ForcedLeaving | S::ForcedLeavingAcknowledged,
        ) => None,
    }
}

const fn forced_leaving(standing: Standing, arrival: Arrival) -> Option<Row> {
    use Standing as S;
    match (arrival, standing) {
        (Arrival::First, S::Joined | S::Lost) => Some(Row::Recover),
        (Arrival::First, S::Joining | S::JoiningAcknowledged) => Some(Row::AbortJoin),
        (Arrival::First, S::Leaving | S::LeavingAcknowledged) => Some(Row::AbortLeave),
        (Arrival::First, S::Inactive) => Some(Row::RecoverNothing),
        (Arrival::Next, S::ForcedLeavingAcknowledged) => Some(Row::RecoverBarrier),
        (Arrival::Restart, S::Inactive | S::Lost | S::ForcedLeaving | S::ForcedLeavingAcknowledged) => {
            Some(Row::RecoverAgain)
        }
        (Arrival::First, S::ForcedLeaving | S::ForcedLeavingAcknowledged)
        | (
            Arrival::Next,
            S::Inactive
            | S::Joining
            | S::JoiningAcknowledged
            | S::Joined
            | S::Leaving
            | S::LeavingAcknowledged
            | S::Lost
            | S::ForcedLeaving,
        )
        | (Arrival::Restart, S::Joining | S::JoiningAcknowledged | S::Joined | S::Leaving | S::LeavingAcknowledged) => {
            None
        }
    }
}

/// Where a notification of that kind leads while it is processed.
#[must_use]
pub const fn processing(kind: TransitionKind) -> Standing {
    match kind {
        TransitionKind::Joining | TransitionKind::JoinExtending => Standing::Joining,
        TransitionKind::Leaving => Standing::Leaving,
        TransitionKind::ForcedLeaving => Standing::ForcedLeaving,
    }
}

/// Where the acknowledgement leads (spec, Table 1, "New State After All Nodes Have Acknowledged").
#[must_use]
pub const fn acknowledged(kind: TransitionKind, last_barrier: bool) -> Standing {
    match (kind, last_barrier) {
        (TransitionKind::Joining | TransitionKind::JoinExtending, true) => Standing::Joined,
        (TransitionKind::Joining | TransitionKind::JoinExtending, false) => Standing::JoiningAcknowledged,
        (TransitionKind::Leaving | TransitionKind::ForcedLeaving, true) => Standing::Inactive,
        (TransitionKind::Leaving, false) => Standing::LeavingAcknowledged,
        (TransitionKind::ForcedLeaving, false) => Standing::ForcedLeavingAcknowledged,
    }
}

const STANDINGS: [Standing; 9] = [
    Standing::Inactive,
    Standing::Joining,
    Standing::JoiningAcknowledged,
    Standing::Joined,
    Standing::Leaving,
    Standing::LeavingAcknowledged,
    Standing::Lost,
    Standing::ForcedLeaving,
    Standing::ForcedLeavingAcknowledged,
];

/// The whole table as text: one block a kind, one line a state, one column an arrival.
#[must_use]
pub fn render() -> String {
    let mut text = String::new();
    for (kind, name, ended) in [
        (TransitionKind::Joining, "Joining", "Joined"),
        (TransitionKind::Leaving, "Leaving", "Inactive"),
        (TransitionKind::ForcedLeaving, "Forced-Leaving", "Inactive"),
    ] {
        text += &format!("{name}: new state after all nodes have acknowledged: {ended}\n");
        text += &format!("allowed re-notifications: {}\n", renotifications(kind).join(", "));
        text += &format!("  {:<26}{:<28}{:<28}{}\n", "state", "first barrier", "next barrier", "restart");
        for standing in STANDINGS {
            let cell = |arrival| {
                row(standing, kind, arrival).map_or_else(
                    || "-".to_owned(),
                    |row| format!("{row:?}{}", if row.is_renotification(standing) { " (re-notify)" } else { "" }),
                )
            };
            let line = format!(
                "  {:<26}{:<28}{:<28}{}",
                format!("{standing:?}"),
                cell(Arrival::First),
                cell(Arrival::Next),
                cell(Arrival::Restart)
            );
            text += line.trim_end();
            text.push('\n');
        }
        text.push('\n');
    }
    text.truncate(text.trim_end().len());
    text + "\n"
}

/// Kinds of a new transition that may replace one being processed (spec, Table 1, "Allowed Re-notifications").
fn renotifications(kind: TransitionKind) -> Vec<&'static str> {
    let kinds = [
        (TransitionKind::Joining, "Joining"),
        (TransitionKind::Leaving, "Leaving"),
        (TransitionKind::ForcedLeaving, "Forced-Leaving"),
    ];
    let allowed: Vec<_> = kinds
        .into_iter()
        .filter(|(new, _)| row(processing(kind), *new, Arrival::First).is_some())
        .map(|(_, name)| name)
        .collect();
    if allowed.is_empty() { vec!["None"] } else { allowed }
}
