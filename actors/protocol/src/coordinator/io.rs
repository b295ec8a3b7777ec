//! What goes into the coordinator and what comes out of it.

use std::sync::Arc;

use phalanx_messages::membership::{FenceMethod, LevelRegistration, MembershipRecord};
use phalanx_messages::notification::SubsystemAcknowledged;
use phalanx_messages::peer::{JoinRefusal, LevelRefusal};
use phalanx_messages::set::NodeSet;
use phalanx_messages::{Instant, Level, NodeId, NodeIncarnation, NotificationId, Revision};

#[cfg(doc)]
use super::Coordinator;
use crate::detector::Verdict;
use crate::quorum::Quorum;

/// What happens to the coordinator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CoordinatorInput {
    /// The record given out by the last [`CoordinatorOutput::Commit`] is committed.
    Committed,
    /// A node asks to join (protocol T-14).
    JoinRequest {
        /// Who.
        from: NodeIncarnation,
        /// The levels it registers, ascending.
        levels: Vec<LevelRegistration>,
        /// It runs in the same boot of the kernel as this node.
        same_boot: bool,
        /// Nodes that the joiner hears.
        hears: NodeSet,
        /// Nodes that this node hears.
        heard: NodeSet,
        /// The configuration has it.
        configured: bool,
        /// Its static key is the configured one, or the first one.
        key_matches: bool,
        /// The configuration has no key for it yet: the commit that admits it also changes the configuration.
        key_learnt: bool,
    },
    /// The caller has changed the configuration: the next commit names the new one (protocol §2, "MA and CF together").
    Configured {
        /// The nodes that it has; what is known of others that are inactive is forgotten.
        nodes: NodeSet,
        /// The votes before and after.
        quorum: Quorum,
    },
    /// A node is to leave gracefully.
    LeaveRequest {
        /// Who.
        node: NodeIncarnation,
    },
    /// A subsystem of a joined node registers at run time (protocol T-15). One that must wait is not remembered: it is
    /// repeated until a record has it, or it is refused.
    Register {
        /// Whose subsystem.
        from: NodeIncarnation,
        /// What it registers.
        registration: LevelRegistration,
        /// The record that its node had processed when it asked; a copy from before its levels last changed is void.
        seen: Revision,
    },
    /// One level of a joined node leaves, the others stay (protocol T-17, `DropLevel`). Repeated until a record shows it.
    Withdraw {
        /// Whose level.
        from: NodeIncarnation,
        /// Which; never a built-in one.
        level: Level,
        /// As of [`CoordinatorInput::Register`].
        seen: Revision,
    },
    /// Who is there, and what votes they have. Until it is first told, the disk decides alone (protocol §4.4).
    Present {
        /// The votes.
        quorum: Quorum,
        /// Live members, and nodes that are heard and want in.
        present: NodeSet,
    },
    /// These nodes must be forced out, in one commit. Without quorum among those who are left it does nothing.
    Force {
        /// Who, why, and whether death is already proved.
        victims: Vec<Verdict>,
    },
    /// A death is proved.
    Certain {
        /// Who is dead.
        victim: NodeIncarnation,
        /// How it is known.
        method: FenceMethod,
    },
    /// An administrator confirms a death (protocol §4.5, F5).
    Confirmed {
        /// Who is dead.
        victim: NodeIncarnation,
        /// Who says so, in words.
        by: String,
    },
    /// Subsystems of a node ended steps.
    Acknowledged {
        /// Whose subsystems.
        from: NodeIncarnation,
        /// What they answered.
        answers: Vec<SubsystemAcknowledged>,
    },
    /// Answer to [`CoordinatorOutput::NewMaster`].
    Report {
        /// Who reports.
        from: NodeIncarnation,
        /// Its promise: it no longer listens to smaller terms.
        seen: Revision,
        /// The newest step of each transitional node it knows.
        steps: Vec<(NotificationId, Option<SubsystemAcknowledged>)>,
    },
    /// A sign of life tells which record a node has processed; one that is behind is told again.
    Seen {
        /// Who.
        from: NodeIncarnation,
        /// Newest record it has processed.
        revision: Revision,
    },
    /// Time passes.
    Tick(Instant),
}

/// What the caller must do next, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CoordinatorOutput {
    /// Commit this record. Its revision is the next one of this term; the caller's Fenced Register Machine must agree. If it
    /// names its own revision as that of the configuration, the changed configuration is committed with it.
    Commit(Arc<MembershipRecord>),
    /// Send the committed record, to this node's own agent too if it is in `to`.
    Notify {
        /// Receivers.
        to: NodeSet,
        /// The newest committed record.
        record: Arc<MembershipRecord>,
    },
    /// Not (yet).
    Refuse {
        /// The joiner.
        to: NodeIncarnation,
        /// Why.
        refusal: JoinRefusal,
    },
    /// The subsystem may not register (protocol T-15).
    RefuseLevel {
        /// Whose subsystem.
        to: NodeIncarnation,
        /// What it wanted to register.
        registration: LevelRegistration,
        /// Why.
        refusal: LevelRefusal,
    },
    /// Tell a victim that it is out.
    Expel {
        /// Who.
        victim: NodeIncarnation,
    },
    /// Ask members where they stand (protocol §3.6).
    NewMaster {
        /// Receivers, this node included if it is a member.
        to: NodeSet,
    },
    /// This node's own leave is committed: resign, then stop with `CleanDown` (protocol T-12).
    HandOver,
    /// Quorum was lost or is there again. Without it nobody is marked or let in: the cluster waits (protocol §4.4).
    Quorum {
        /// It is there.
        reached: bool,
        /// Votes present, the disk's included.
        votes: u32,
        /// Votes needed.
        needed: u32,
    },
    /// For the log and the administrator (protocol T-20, T-24).
    Warn(Warning),
    /// An invariant is broken: the node must panic.
    Panic {
        /// Which.
        reason: String,
    },
}

/// Something that keeps a transition from ending.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Warning {
    /// A step takes long (protocol T-20: `warn`, and `hung` if `hung`).
    Slow {
        /// The step.
        id: NotificationId,
        /// The node in transition.
        node: NodeId,
        /// Whose subsystems have not acknowledged.
        missing: NodeSet,
        /// Milliseconds since the step began.
        running_ms: u64,
        /// It counts as hung.
        hung: bool,
    },
    /// A subsystem could not process a step (protocol T-24).
    Failed {
        /// The step.
        id: NotificationId,
        /// The node in transition.
        node: NodeId,
        /// Whose subsystem.
        by: NodeId,
        /// What it said.
        text: String,
    },
}
