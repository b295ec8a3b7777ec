//! Heartbeats, probes, and the log lines that are due.

use super::*;

impl Interconnect {
    pub(super) fn silence(&self) -> Silence {
        let probe = beats::probe_period(self.peers.len() + 1);
        Silence { regular: self.net, probed: 2 * probe + self.net }
    }

    pub(super) fn links(&self) -> impl Iterator<Item = &Link> {
        self.peers.values().filter_map(|peer| peer.link.as_ref())
    }

    pub(super) fn beat(&mut self, links: &[Link]) {
        if links.is_empty() {
            return;
        }
        self.beat_seq += 1;
        let silence = self.silence();
        let hears = self.links().filter(|link| link.hears(silence)).map(|link| link.peer().node).collect();
        let heartbeat = Heartbeat { seq: self.beat_seq, seen: self.seen, hears };
        if let Ok(bytes) = codec::encode(&PeerMessage::Heartbeat(heartbeat), PEER_FRAME_BYTES_MAX) {
            links.iter().for_each(|link| link.send(bytes.clone(), true));
        }
    }

    pub(super) fn tick(&mut self) {
        let connected = self.links().map(|link| link.peer().node).collect();
        let nodes = self.peers.len() + 1;
        let targets = self.targets.unwrap_or_else(|| beats::targets(self.me.node, nodes, &connected, self.master));
        let now = Instant::now();
        let probe = self.probed.is_none_or(|last| now.duration_since(last) >= beats::probe_period(nodes));
        if probe {
            self.probed = Some(now);
        }
        let due = |link: &&Link| {
            let regular = targets.contains(link.peer().node);
            // A peer that is no longer beaten hears so at once, before it misses the beats.
            let changed = link.set_beats(regular);
            regular || changed || probe
        };
        let links: Vec<_> = self.links().filter(due).cloned().collect();
        self.beat(&links);
        for line in self.log.due(self.clock.now()) {
            tell(&line);
        }
    }

    pub(super) fn probe_all(&mut self) {
        let links: Vec<_> = self.links().cloned().collect();
        self.beat(&links);
    }
}
