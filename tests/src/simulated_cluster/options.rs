//! What a simulated cluster may have besides its nodes.

use std::collections::BTreeMap;

use phalanx_actors::interconnect::{ClusterKey, StaticKeyPair};
use phalanx_storage::Recorder;

/// What a simulated cluster may have besides.
#[derive(Debug, Clone)]
pub struct Options {
    /// On what the nodes run.
    pub hosts: Hosts,
    /// Boot of the host that all nodes run on.
    pub boot: u128,
    /// Every operation of the disk is recorded there, one [`Operation::Tick`](phalanx_storage::Operation::Tick) for each millisecond,
    /// and what is volatile is flushed once a second, as nodes on an mmap disk do.
    pub recorder: Option<Recorder>,
    /// Those of an earlier cluster on the same disk, which knows them; else new ones.
    pub keys: Option<Keys>,
}

/// On what the nodes run, and how they are fenced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hosts {
    /// One host for all. Whoever is forced out finds its order itself.
    One,
    /// One host for all. Survivors fence whom they force out (F3).
    OneFenced,
    /// One for each, with a hardware watchdog that the administrator vouches for (F4), and with a fence agent that nobody has.
    Guarded,
}

/// What nodes keep on their own disks.
#[derive(Debug, Clone)]
pub struct Keys {
    /// Of all of them.
    pub cluster: ClusterKey,
    /// Of each.
    pub pairs: BTreeMap<u16, StaticKeyPair>,
}

impl Keys {
    /// New ones for so many nodes.
    pub(super) fn generate(count: u16) -> Self {
        let pairs = (0..count).map(|id| (id, StaticKeyPair::generate().expect("random bytes"))).collect();
        Self { cluster: ClusterKey::generate().expect("random bytes"), pairs }
    }
}

impl Default for Options {
    fn default() -> Self {
        Self { hosts: Hosts::One, boot: 2, recorder: None, keys: None }
    }
}
