//! MC6: the production rules of registration and launch under every interleaving (protocol §6.7, §8.2).
//!
//! Runs [`Decision`](phalanx_protocol::registration::Decision) and `settle`, `outstanding`, `Executor`, `Admission` and `LevelView`
//! as they are; around them stand wardens, membership at the event-manager level, and what is true.
//!
//! Abstractions, as in protocol §6.7: a commit is atomic; every committed command may arrive at any later time or never, also when
//! it is no longer the current one, and in any order; results arrive at any time, also after the node's death; any present node may
//! decide, also a marked one, each with its own, possibly older view; timers fire whenever their guard allows. Depochs are left
//! out: commands of a deposed decision maker are admitted here, which is more than happens.
//!
//! The explorer is our own page and not stateright, for two reasons: "no service moves for ever" needs the graph of steps, and
//! databases and views are interned, so that a state is a few small numbers and no decision is computed twice.

mod checks;
mod commands;
pub mod configurations;
mod decisions;
mod describe;
mod explorer;
mod initial;
mod membership;
mod normal;
mod state;
mod steps;

use phalanx_messages::NodeId;
use phalanx_messages::order::RegistrationOrder;
use phalanx_messages::registration::CommandKind;
use phalanx_messages::service::ServiceDefinition;
use phalanx_protocol::bugs::Bug;
use phalanx_protocol::registration::NodeLoads;

pub use decisions::{Happened, Passage};
pub use explorer::{Explored, explore};

/// Most nodes of a model.
pub const NODES_MAX: usize = 3;
/// Most instance machines of a model.
pub const LANES_MAX: usize = 4;

/// What may still happen.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Budget {
    /// Nodes that start.
    pub boots: u8,
    /// Graceful leaves.
    pub leaves: u8,
    /// Nodes that are marked, and die.
    pub deaths: u8,
    /// Start commands that fail and leave processes.
    pub start_failures: u8,
    /// Stop commands that fail and leave processes.
    pub stop_failures: u8,
    /// Recovery commands that fail and leave processes.
    pub recovery_failures: u8,
    /// Kills after which something is left.
    pub kill_failures: u8,
    /// Operations that are given up though their result is still to come.
    pub timeouts: u8,
    /// Executors that lose their memory; the wardens keep theirs.
    pub restarts: u8,
    /// Orders of administrators.
    pub orders: u8,
    /// Reports that a registered service has failed.
    pub service_failures: u8,
}

/// A rule of the world around the rules, taken out: its production code is not in this model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Variant {
    /// RL-5: the warden forgets operations when the executor does.
    WardenForgets,
    /// RL-2: a change of view is acknowledged while a decision with the older view is undecided.
    AcknowledgedWhileDeciding,
    /// RL-6: a leave ends when nothing runs on the leaver.
    LeaveLooksAtProcesses,
    /// RL-6: the database is read before everybody knows of the leave.
    LeaveWithOneBarrier,
}

/// See the module.
#[derive(Debug, Clone)]
pub struct RegistrationModel {
    /// For people.
    pub name: &'static str,
    /// Nodes.
    pub nodes: u16,
    /// Those that are up at the beginning.
    pub up: &'static [u16],
    /// The services.
    pub definitions: Vec<ServiceDefinition>,
    /// Faults, requests and changes of membership that may happen.
    pub budget: Budget,
    /// What administrators may order.
    pub orders: Vec<RegistrationOrder>,
    /// The start of this service fails always on that node.
    pub broken: Vec<(&'static str, u16)>,
    /// Capacities of the nodes.
    pub loads: NodeLoads,
    /// I-R17 is judged by what really ran, not by what the database knew.
    pub strict_starts: bool,
    /// The graph of steps that must happen is to be acyclic. Needs memory for every step.
    pub look_for_cycles: bool,
    /// A rule of the world that is taken out.
    pub variant: Option<Variant>,
    /// A rule of the production code that is taken out. Needs the feature `deliberate-bugs`.
    pub bug: Option<Bug>,
}

/// One step of the world.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// A node starts and joins the level.
    Boots(NodeId),
    /// It begins to leave.
    Leaves(NodeId),
    /// Its leave ends at the level.
    HasLeft(NodeId),
    /// It is marked.
    Marked(NodeId),
    /// It is marked because it cannot let go of a service (protocol RL-8).
    Forced(NodeId),
    /// Its death is certain.
    Dead(NodeId),
    /// It adopts everything that is true of the level.
    Sees(NodeId),
    /// A command arrives; `late`: it is not the current one any more.
    Arrives {
        /// Where.
        node: NodeId,
        /// For which machine, by its place among the lanes.
        lane: u8,
        /// What.
        kind: CommandKind,
        /// Superseded meanwhile.
        late: bool,
    },
    /// A command ends.
    Ends {
        /// Where.
        node: NodeId,
        /// Of which machine.
        lane: u8,
        /// What.
        kind: CommandKind,
        /// How.
        ok: bool,
    },
    /// The executors of a node lose their memory.
    Restarts(NodeId),
    /// A node decides; `late`: with the view that it had before.
    Decides {
        /// Who.
        node: NodeId,
        /// About what.
        event: Happened,
        /// With an older view than it has acknowledged.
        late: bool,
    },
}

#[cfg(feature = "deliberate-bugs")]
fn with_bug<R>(bug: Option<Bug>, work: impl FnOnce() -> R) -> R {
    phalanx_protocol::bugs::with(bug, work)
}

#[cfg(not(feature = "deliberate-bugs"))]
fn with_bug<R>(_: Option<Bug>, work: impl FnOnce() -> R) -> R {
    work()
}
