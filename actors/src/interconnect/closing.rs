//! Why a connection ends, and how often that is worth a line in the log.
//!
//! Whatever comes in from outside can make a connection end, so it can also make log lines: each pair of origin and reason is
//! told at once and then only counted, with one line for each [`PERIOD_MS`]. Pure: time is an input.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use phalanx_messages::{Instant, NodeId};
use serde::{Deserialize, Serialize};

/// What was counted is told this often.
pub(super) const PERIOD_MS: u64 = 10_000;
/// Pairs of origin and reason that are told apart; the rest is counted together.
const ENTRIES_MAX: usize = 1024;

/// Why an authenticated peer is not taken in. Travels to that peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Refusal {
    /// No protocol version in common.
    Version,
    /// It belongs to another cluster.
    OtherCluster,
    /// Its node id is not in the configuration.
    NotConfigured,
    /// Another static key is configured for its node id.
    KeyMismatch,
    /// A later start of this node is known.
    OldIncarnation,
    /// It has the node id of the refuser: an address leads back, or two hosts run one node id.
    SameNode,
    /// Another node was expected at this address.
    WrongNode,
    /// Not a fault: the higher node id keeps the connection, so it dials back at once.
    DialBack,
}

/// Why a connection ended, or never stood.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CloseReason {
    /// Nobody answers at the address.
    Unreachable,
    /// The peer closed it, or its process ended.
    Ended,
    /// Nothing was heard for longer than the link allows (T_net on links that beat).
    Silent,
    /// No handshake within the time for it.
    HandshakeTimeout,
    /// So many connections wait for their handshake that the oldest went.
    HandshakesFull,
    /// The peer does not know the cluster key, or the bytes of the handshake were damaged.
    NotAuthentic,
    /// A frame or message over its limit.
    Oversized,
    /// A frame that is not what the peer sent.
    Garbled,
    /// An authentic message that means nothing to this version.
    Undecodable,
    /// More waits for this peer than its queue may hold.
    QueueFull,
    /// A newer connection of the same node took its place.
    Replaced,
    /// The configuration no longer has this node, or not with this key.
    Reconfigured,
    /// The cluster key that it stood on is taken no longer.
    KeyDropped,
    /// This node refused the peer.
    Refused(Refusal),
    /// The peer refused this node.
    RefusedByPeer(Refusal),
    /// A connection ended before the handshake did; the peer may not know our cluster key.
    HandshakeCut,
}

impl CloseReason {
    /// Part of ordinary life: nodes come, go and restart.
    #[must_use]
    pub const fn is_ordinary(self) -> bool {
        match self {
            Self::Unreachable
            | Self::Ended
            | Self::Replaced
            | Self::Reconfigured
            | Self::KeyDropped
            | Self::Refused(Refusal::DialBack)
            | Self::RefusedByPeer(Refusal::DialBack) => true,
            Self::Silent
            | Self::HandshakeTimeout
            | Self::HandshakesFull
            | Self::HandshakeCut
            | Self::NotAuthentic
            | Self::Oversized
            | Self::Garbled
            | Self::Undecodable
            | Self::QueueFull
            | Self::Refused(_)
            | Self::RefusedByPeer(_) => false,
        }
    }
}

/// Where the bytes came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Origin {
    /// A node that was dialled or has proved who it is.
    Peer(NodeId),
    /// Somebody at this address.
    Address(IpAddr),
    /// Too many to tell apart.
    Others,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Peer(node) => write!(f, "node {node}"),
            Self::Address(address) => address.fmt(f),
            Self::Others => f.write_str("others"),
        }
    }
}

/// Decides which closings get a line.
#[derive(Debug, Default)]
pub(super) struct ClosingLog {
    entries: BTreeMap<(Origin, CloseReason), Entry>,
}

#[derive(Debug)]
struct Entry {
    told: Instant,
    untold: u64,
}

/// One line for the log.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Line {
    pub origin: Origin,
    pub reason: CloseReason,
    /// Closings it stands for.
    pub count: u64,
}

impl ClosingLog {
    /// A connection closed: the line to write now, if any.
    pub fn closed(&mut self, origin: Origin, reason: CloseReason, now: Instant) -> Option<Line> {
        let key = (origin, reason);
        let origin =
            if self.entries.contains_key(&key) || self.entries.len() < ENTRIES_MAX { origin } else { Origin::Others };
        if let Some(entry) = self.entries.get_mut(&(origin, reason)) {
            entry.untold += 1;
            return None;
        }
        self.entries.insert((origin, reason), Entry { told: now, untold: 0 });
        Some(Line { origin, reason, count: 1 })
    }

    /// The counts that are due. Call it now and then; what stayed quiet for a period is forgotten.
    pub fn due(&mut self, now: Instant) -> Vec<Line> {
        let mut lines = Vec::new();
        self.entries.retain(|(origin, reason), entry| {
            if now.since(entry.told) < PERIOD_MS {
                return true;
            }
            if entry.untold == 0 {
                return false;
            }
            lines.push(Line { origin: *origin, reason: *reason, count: entry.untold });
            *entry = Entry { told: now, untold: 0 };
            true
        });
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const N1: Origin = Origin::Peer(NodeId(1));

    fn line(count: u64) -> Line {
        Line { origin: N1, reason: CloseReason::Garbled, count }
    }

    #[test]
    fn the_first_is_told_at_once_and_the_rest_as_a_count() {
        let mut log = ClosingLog::default();
        let at = |ms| Instant(1_000_000 + ms);
        assert_eq!(log.closed(N1, CloseReason::Garbled, at(0)), Some(line(1)));
        for ms in 1..=500 {
            assert_eq!(log.closed(N1, CloseReason::Garbled, at(ms)), None);
        }
        assert_eq!(log.due(at(PERIOD_MS - 1)), []);
        assert_eq!(log.due(at(PERIOD_MS)), [line(500)]);
        assert_eq!(log.due(at(2 * PERIOD_MS)), [], "quiet: forgotten");
        assert_eq!(log.closed(N1, CloseReason::Garbled, at(2 * PERIOD_MS)), Some(line(1)));
    }

    #[test]
    fn origins_and_reasons_are_told_apart_up_to_a_limit() {
        let mut log = ClosingLog::default();
        assert!(log.closed(N1, CloseReason::Garbled, Instant(5)).is_some());
        assert!(log.closed(N1, CloseReason::Oversized, Instant(5)).is_some());
        let mut told = 0;
        for number in 0..100_000_u32 {
            let origin = Origin::Address(IpAddr::from(number.to_be_bytes()));
            told += u32::from(log.closed(origin, CloseReason::Garbled, Instant(6)).is_some());
        }
        assert_eq!(usize::try_from(told).unwrap(), ENTRIES_MAX - 2 + 1, "the last line stands for all others");
        assert!(log.entries.len() <= ENTRIES_MAX + 1);
    }
}
