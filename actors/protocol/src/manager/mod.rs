//! The membership manager's decisions: what one node does about membership, put together from the machines of this crate (spec,
//! "A. Membership manager").
//!
//! The machine owns what the disk and the interconnect say of the others ([`crate::expiry`], [`crate::detector`],
//! [`crate::partition`]), mastership ([`crate::mastership`], [`crate::frm`]), the coordinator while this node is master, and the
//! agent always. It turns what happens to the node into inputs of these machines and their outputs into reads, writes,
//! messages and notifications. The actor carries those out; so do the simulator's nodes.
//!
//! Always holds: nothing is sent that depends on a record before that record is committed (protocol T-1); nothing is committed
//! without a lease that is valid for another `guard` (protocol §3.4); after [`ManagerOutput::Panic`] or
//! [`ManagerOutput::Ended`] nothing is said any more.
//!
//! Pure: time and the state of the gate are inputs.

mod agency;
mod configuration;
mod coordination;
mod detection;
mod election;
mod io;
mod machine;
mod peers;
mod proofs;
mod quiet;
mod requests;
mod suspicion;
mod view;

use std::collections::BTreeMap;
use std::sync::Arc;

use phalanx_messages::configuration::{ConfigurationRecord, FenceAgent, PublicKey};
use phalanx_messages::membership::{LevelRegistration, MembershipRecord};
use phalanx_messages::profile::TimingProfile;
use phalanx_messages::{NodeId, NodeIncarnation};
use uuid::Uuid;

pub use io::{DiskAnswer, DiskRequest, DiskResult, End, ManagerInput, ManagerOutput, Reader, RecordReader, Remark};
pub use machine::Manager;
pub use proofs::{FenceTarget, GHOST_GRACE_MS};

pub use crate::moment::Moment;

/// How often time is looked at, in milliseconds: re-sends, detection, join requests.
pub const TICK_MS: u64 = 25;

/// How often time is looked at on a node on which only something that arrives can change anything, in milliseconds. Less than two
/// renewal periods, or its lease would not be renewed.
pub const QUIET_TICK_MS: u64 = 250;

/// How long after one look at the register of a node whose connection has closed the next look is due, in milliseconds
/// (protocol §4.6 step 0).
pub const PROBE_MS: u64 = 5;

/// What a membership manager is told about its node.
#[derive(Debug, Clone)]
pub struct ManagerSettings {
    /// This node and its incarnation.
    pub me: NodeIncarnation,
    /// Boot of the kernel it runs in.
    pub boot: Uuid,
    /// Its disk serves nodes of one host only, so whoever ran in another boot has ended.
    pub one_host: bool,
    /// Timing of the disk.
    pub profile: TimingProfile,
    /// Levels this node registers, ascending.
    pub levels: Vec<LevelRegistration>,
    /// Public half of its interconnect key.
    pub public_key: PublicKey,
    /// Node ids lie below this.
    pub nodes_max: u16,
    /// The configuration as read at boot.
    pub configuration: Arc<ConfigurationRecord>,
    /// The newest membership record on the disk at boot: tells whose lease must have ended before a node that is no member
    /// may form the cluster anew (protocol T-18). Nothing else depends on it, since it may never have been committed.
    pub record: Arc<MembershipRecord>,
}
