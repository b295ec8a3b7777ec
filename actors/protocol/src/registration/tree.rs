//! One group while a decision is made about it: the root, everything below it, and what the rows look at besides
//! (protocol §6.5). A service without parent and children is a group of one.
//!
//! Of a group that is registered on all nodes, one tree for each node's instance.

use std::borrow::Cow;

use phalanx_messages::registration::{Command, CommandKind, Instance, ServiceRun, View};
use phalanx_messages::service::{PlacementPolicy, ServiceDefinition};
use phalanx_messages::set::NodeSet;
use phalanx_messages::{NodeId, NodeIncarnation, OperationId, Revision};

use super::choose::{NodeLoads, candidates};
use super::index::{Index, Services};
use super::rows::StopReason;

/// Passes over a group in which something still changes; more is a fault of the rules.
const PASSES_MAX: usize = 64;

/// Hands out the operation ids of one commit.
#[derive(Debug, Clone)]
pub(super) struct Issuer {
    pub revision: Revision,
    pub next: u32,
    pub commands: Vec<Command>,
}

impl Issuer {
    pub fn new(revision: Revision) -> Self {
        Self { revision, next: 0, commands: Vec::new() }
    }

    pub fn peek(&self) -> OperationId {
        OperationId { revision: self.revision, index: self.next }
    }

    pub fn take(&mut self) -> OperationId {
        let operation = self.peek();
        self.next += 1;
        operation
    }
}

/// A state that an instance went through, and why, if it is a stop.
#[derive(Debug, Clone)]
pub(super) struct Passed {
    pub member: usize,
    pub run: ServiceRun,
    pub reason: Option<StopReason>,
}

/// What a decision looks at beside the group.
#[derive(Debug, Clone, Copy)]
pub(super) struct Around<'a> {
    pub view: &'a View,
    pub standby: &'a NodeSet,
    pub loads: &'a NodeLoads,
    pub index: &'a Index,
}

/// One service of the group.
#[derive(Debug, Clone)]
pub(super) struct Member<'a> {
    /// With the actions that it inherits.
    pub definition: Cow<'a, ServiceDefinition>,
    pub run: ServiceRun,
    /// Place of its parent in the tree; none = it is the root.
    pub parent: Option<usize>,
    pub children: Vec<usize>,
}

/// See the module.
pub(super) struct Tree<'a> {
    /// The root first, then generation by generation.
    pub members: Vec<Member<'a>>,
    /// Whose instance, if the group is registered on all nodes.
    pub of: Option<NodeId>,
    pub around: Around<'a>,
    pub issuer: &'a mut Issuer,
    /// States gone through, in order.
    pub passed: Vec<Passed>,
    /// Of the stop that a member's next state is.
    pub stop_reason: Option<StopReason>,
}

impl<'a> Tree<'a> {
    /// The group of `root`, as the database has it.
    pub fn grow(
        services: &'a Services,
        root: &str,
        of: Option<NodeId>,
        around: Around<'a>,
        issuer: &'a mut Issuer,
    ) -> Option<Self> {
        let mut members = vec![member(services, root, of, None, None)?];
        let mut at = 0;
        while at < members.len() {
            let name = members[at].definition.name.clone();
            for child in around.index.children(&name) {
                let below = member(services, child, of, Some(at), Some(&members[at].definition))?;
                let place = members.len();
                members[at].children.push(place);
                members.push(below);
            }
            at += 1;
        }
        Some(Self { members, of, around, issuer, passed: Vec::new(), stop_reason: None })
    }

    /// Place of a service in the tree.
    pub fn place(&self, service: &str) -> Option<usize> {
        self.members.iter().position(|member| member.definition.name == service)
    }

    /// Applies rows to every member until none applies.
    ///
    /// # Panics
    /// If they do not come to an end: the rules are at fault, and this node must not decide.
    pub fn settle(&mut self) {
        for _ in 0..PASSES_MAX * self.members.len() {
            let mut changed = false;
            for at in 0..self.members.len() {
                // The flags of the root change with the rows of every member.
                let (before, root) = (self.members[at].run.clone(), self.members[0].run.clone());
                self.row(at);
                changed |= self.members[at].run != before || self.members[0].run != root;
                self.pass(at, &before);
            }
            if !changed {
                return;
            }
        }
        let stuck: Vec<&ServiceRun> = self.members.iter().map(|member| &member.run).collect();
        panic!("the rules do not come to an end for the group of {}: {stuck:?}", self.root().definition.name);
    }

    /// Notes a state that a member has reached.
    pub fn pass(&mut self, at: usize, before: &ServiceRun) {
        let run = &self.members[at].run;
        if (before.state, before.node) != (run.state, run.node) {
            let (run, reason) = (run.clone(), self.stop_reason.take());
            self.passed.push(Passed { member: at, run, reason });
        }
    }

    /// Notes the present state, which is left at once again.
    pub fn pass_through(&mut self, at: usize) {
        let (run, reason) = (self.members[at].run.clone(), self.stop_reason.take());
        self.passed.push(Passed { member: at, run, reason });
    }

    pub fn root(&self) -> &Member<'a> {
        &self.members[0]
    }

    pub fn run(&mut self, at: usize) -> &mut ServiceRun {
        &mut self.members[at].run
    }

    /// Allowable nodes that take services; of an instance for one node only that.
    pub fn candidates(&self) -> NodeSet {
        let all = self.recovery_candidates();
        match self.of {
            None => all,
            Some(node) => all.iter().filter(|candidate| *candidate == node).collect(),
        }
    }

    /// Allowable nodes that take services: an instance for one node may be recovered on any (protocol §6.5).
    pub fn recovery_candidates(&self) -> NodeSet {
        candidates(&self.root().definition, self.around.view, self.around.standby)
    }

    /// It is registered on one node, so it can be moved.
    pub fn is_movable(&self) -> bool {
        self.root().definition.placement_policy == PlacementPolicy::RegisterOnOne
    }

    /// The place and everything below it, not the place itself.
    pub fn below(&self, at: usize) -> Vec<usize> {
        let mut below = self.members[at].children.clone();
        let mut next = 0;
        while next < below.len() {
            below.extend(self.members[below[next]].children.iter().copied());
            next += 1;
        }
        below
    }

    /// The most preferred of `among` that has room, the target of a transfer first.
    pub fn choose(&self, among: &NodeSet) -> Option<NodeId> {
        let root = self.root();
        let weight = self.members.iter().map(|member| u64::from(member.definition.weight)).sum();
        let Around { loads, index, .. } = self.around;
        let fit: NodeSet = among.iter().filter(|node| loads.fits(index, *node, weight)).collect();
        let target = root.run.target.filter(|node| fit.contains(*node));
        target.or_else(|| super::choose::best(&root.definition, &fit, |node| loads.score(index, node)))
    }

    pub fn instance(&self, at: usize) -> Instance {
        Instance { service: self.members[at].definition.name.clone(), of: self.of }
    }

    /// Commits an operation of that kind for a member, on the node where it is.
    pub fn issue(&mut self, at: usize, kind: CommandKind) {
        self.members[at].run.operation = self.issuer.take();
        let command = command(self.instance(at), &self.members[at].run, kind);
        self.issuer.commands.push(command);
    }
}

fn member<'a>(
    services: &'a Services,
    name: &str,
    of: Option<NodeId>,
    parent: Option<usize>,
    above: Option<&ServiceDefinition>,
) -> Option<Member<'a>> {
    let service = services.get(name)?;
    let mut run = service.run_of(of).cloned().unwrap_or_default();
    if of.is_some() {
        // What is said of the service counts for each instance; one that could not be recovered is held by itself.
        run.want = service.run.want;
        run.matured = service.run.matured;
        run.held |= service.run.held;
    }
    let definition = match above.filter(|above| above.inherit_actions) {
        Some(above) => Cow::Owned(with_actions_of(&service.definition, above)),
        None => Cow::Borrowed(&service.definition),
    };
    Some(Member { definition, run, parent, children: Vec::new() })
}

/// Spec, claims 14 and 29: launched "according to an action parameter included with the parent client service".
pub(super) fn with_actions_of(child: &ServiceDefinition, parent: &ServiceDefinition) -> ServiceDefinition {
    let mut child = child.clone();
    if child.start_command.is_none() && child.stop_command.is_none() {
        child.leaves = parent.leaves;
    }
    let inherited = [
        (&mut child.start_command, &parent.start_command),
        (&mut child.stop_command, &parent.stop_command),
        (&mut child.notify_command, &parent.notify_command),
        (&mut child.recovery_command, &parent.recovery_command),
    ];
    for (own, above) in inherited {
        *own = own.take().or_else(|| above.clone());
    }
    child.agent = child.agent.or_else(|| parent.agent.clone());
    child.monitor = child.monitor.or_else(|| parent.monitor.clone());
    child
}

/// The command of the current operation of an instance.
pub(super) fn command(instance: Instance, run: &ServiceRun, kind: CommandKind) -> Command {
    Command {
        instance,
        operation: run.operation,
        kind,
        target: run.node,
        victim: if kind == CommandKind::Recovery { run.victim } else { None },
        generation: run.generation,
    }
}

/// The notify command for one node; its operation is the registration it tells of.
pub(super) fn notification(instance: Instance, run: &ServiceRun, target: NodeIncarnation) -> Command {
    Command {
        instance,
        operation: run.generation,
        kind: CommandKind::Notify,
        target,
        victim: None,
        generation: run.generation,
    }
}
