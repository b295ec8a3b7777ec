//! Why a node did not start.

use std::io;

use phalanx_messages::NodeId;
use phalanx_storage::StorageError;
use uuid::Uuid;

/// Why a node did not start. Nothing of it runs when this is returned.
#[derive(Debug, thiserror::Error)]
pub enum BootError {
    /// The kernel's boot id cannot be read.
    #[error("failed to read the kernel's boot id")]
    BootId(#[source] io::Error),
    /// The shared disk did not answer.
    #[error("failed to use the shared disk")]
    Disk(#[source] io::Error),
    /// The shared disk holds something unexpected.
    #[error("failed to use the shared disk")]
    Storage(#[source] StorageError),
    /// The disk names no such node.
    #[error("node `{node}` is not in the cluster's configuration; it has: {known}")]
    NotConfigured {
        /// The node.
        node: String,
        /// Those that are.
        known: String,
    },
    /// Both slots of the node's own register are damaged (protocol §3.8).
    #[error("the register of node {node} is unreadable; `phalanx disk show` tells more")]
    UnreadableRegister {
        /// The node.
        node: NodeId,
    },
    /// Two hosts with one node id, or a disk that was moved (protocol §3.7).
    #[error(
        "node {node} was started on another host ({host}) and did not leave; start it there, or let it leave there"
    )]
    OtherHost {
        /// The node.
        node: NodeId,
        /// That host.
        host: Uuid,
    },
    /// No configuration record.
    #[error("the disk holds no configuration; `phalanx disk create` writes one")]
    NoConfiguration,
    /// The local socket could not be made.
    #[error("failed to open the local socket")]
    Socket(#[source] io::Error),
    /// No random bytes.
    #[error("failed to read random bytes")]
    Random(#[source] io::Error),
}
