//! One decision: events are absorbed, then every group that they concern is settled against the view (protocol §6.1, `decide`).

use std::borrow::Cow;
use std::collections::BTreeSet;

use phalanx_messages::registration::{
    Command, Instance, Presence, RegistrationRecord, RunState, ServiceRecord, ServiceRun, View,
};
use phalanx_messages::service::PlacementPolicy;
use phalanx_messages::{NodeId, Revision};

use super::choose::{NodeLoads, is_allowable};
use super::index::{Index, is_on_all, root_of};
use super::rows::{self, StopReason};
use super::tree::{Around, Issuer, Member, Tree};

/// A state that an instance reached in a decision. Those only passed are reported too, in order (protocol RL-1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The instance.
    pub instance: Instance,
    /// What it became.
    pub run: ServiceRun,
    /// Why it is being stopped, if it is.
    pub reason: Option<StopReason>,
}

/// What came of a decision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decided {
    /// The database to commit; the base itself if nothing changed.
    pub record: RegistrationRecord,
    /// Something is different from the base.
    pub changed: bool,
    /// What is derived from the database.
    pub index: Index,
    /// To be sent once it is committed, never before (protocol I-R7).
    pub commands: Vec<Command>,
    /// What happened, for people.
    pub changes: Vec<Change>,
}

/// What the disk was formatted for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DatabaseRoom {
    /// Bytes of the whole database.
    pub bytes: usize,
    /// Services.
    pub services: usize,
}

impl Default for DatabaseRoom {
    /// There is no limit.
    fn default() -> Self {
        Self { bytes: usize::MAX, services: usize::MAX }
    }
}

/// A decision in the making, over a base that is committed and a view that is not older than the base's.
#[derive(Debug, Clone)]
pub struct Decision<'a> {
    base: &'a RegistrationRecord,
    pub(super) record: RegistrationRecord,
    pub(super) view: &'a View,
    pub(super) loads: Cow<'a, NodeLoads>,
    pub(super) index: Index,
    issuer: Issuer,
    changes: Vec<Change>,
    pub(super) room: DatabaseRoom,
    /// Roots of the groups that something has happened to.
    touched: BTreeSet<String>,
    /// Every group is settled, not only those.
    everything: bool,
    changed: bool,
}

impl<'a> Decision<'a> {
    /// Begins a decision.
    #[must_use]
    pub fn new(base: &'a RegistrationRecord, view: &'a View) -> Self {
        Self::with_index(base, view, Index::of(base))
    }

    /// The same, by somebody who knows what follows from the base ([`Decided::index`]).
    #[must_use]
    pub fn with_index(base: &'a RegistrationRecord, view: &'a View, index: Index) -> Self {
        let next = Revision { term: base.revision.term, seq: base.revision.seq + 1 };
        Self {
            base,
            record: base.clone(),
            view,
            loads: Cow::Owned(NodeLoads::default()),
            index,
            issuer: Issuer::new(next),
            changes: Vec::new(),
            room: DatabaseRoom::default(),
            touched: BTreeSet::new(),
            everything: true,
            changed: false,
        }
    }

    /// Refuses definitions that would not fit the disk.
    #[must_use]
    pub const fn within(mut self, room: DatabaseRoom) -> Self {
        self.room = room;
        self
    }

    /// What is known of the nodes.
    #[must_use]
    pub fn loaded(mut self, loads: &'a NodeLoads) -> Self {
        self.loads = Cow::Borrowed(loads);
        self
    }

    /// The base was settled under its own view and these capacities: only what has changed since is looked at.
    #[must_use]
    pub fn only_what_changes(mut self) -> Self {
        self.everything = !self.loads.capacity.is_empty();
        self
    }

    /// Applies the view and every row until none applies.
    #[must_use]
    pub fn settle(mut self) -> Decided {
        let before = self.base.seen();
        if before != *self.view {
            self.everything = true;
            self.changed = true;
            self.adopt(&before);
        }
        if self.everything {
            // What one group gives up may be room for another.
            while self.settle_all() {}
        } else {
            for root in std::mem::take(&mut self.touched) {
                self.settle_group(&root);
            }
        }
        self.record.formation = self.view.formation;
        self.record.view = self.view.nodes.clone();
        if self.changed {
            self.record.revision = self.issuer.revision;
        }
        let Self { record, changed, index, issuer, changes, .. } = self;
        Decided { record, changed, index, commands: issuer.commands, changes }
    }

    /// Whether another round may find something: only if rooms are limited.
    fn settle_all(&mut self) -> bool {
        let mut changed = false;
        for root in self.roots() {
            changed |= self.settle_group(&root);
        }
        changed && !self.loads.capacity.is_empty()
    }

    fn roots(&self) -> Vec<String> {
        let roots = self.record.services.iter().filter(|(_, service)| service.definition.parent.is_none());
        roots.map(|(name, _)| name.clone()).collect()
    }

    fn adopt(&mut self, before: &View) {
        for root in self.roots() {
            if is_on_all(&self.record.services, &root) {
                self.adopt_common(&root, before);
            }
            for of in self.instances_of(&root) {
                self.in_group(&root, of, |tree| tree.adopt(before));
            }
        }
    }

    /// What all instances of the services of a group share.
    fn adopt_common(&mut self, root: &str, before: &View) {
        let (view, standby) = (self.view, self.record.standby);
        for name in self.group(root) {
            self.change(&name, |service| {
                rows::adopt(&mut service.run, service.definition.auto_register, before, view);
                service.run.matured &= !super::choose::candidates(&service.definition, view, &standby).is_empty();
            });
        }
    }

    /// The service and everything below it.
    pub(super) fn group(&self, root: &str) -> Vec<String> {
        let mut names = vec![root.to_owned()];
        let mut next = 0;
        while next < names.len() {
            names.extend(self.index.children(&names[next]).iter().cloned());
            next += 1;
        }
        names
    }

    /// True if something has changed.
    fn settle_group(&mut self, root: &str) -> bool {
        let mut changed = false;
        for of in self.instances_of(root) {
            changed |= self.in_group(root, of, |tree| tree.settle());
        }
        changed
    }

    /// The machines of the group of a root: one, or one for each node that may run it or has something of it.
    fn instances_of(&self, root: &str) -> Vec<Option<NodeId>> {
        let Some(service) = self.record.services.get(root) else { return Vec::new() };
        match service.definition.placement_policy {
            PlacementPolicy::RegisterOnOne => vec![None],
            PlacementPolicy::RegisterOnAll => {
                let allowable = |node: &NodeId| self.view.is_present(*node) && is_allowable(&service.definition, *node);
                let mut nodes: BTreeSet<NodeId> = self.view.nodes.keys().copied().filter(allowable).collect();
                let group = self.group(root);
                let members = group.iter().filter_map(|name| self.record.services.get(name));
                nodes.extend(members.flat_map(|member| member.instances.keys().copied()));
                nodes.into_iter().map(Some).collect()
            }
        }
    }

    /// Works on the group of one service, and keeps what has changed. True if something has.
    fn in_group(&mut self, root: &str, of: Option<NodeId>, work: impl FnOnce(&mut Tree<'_>)) -> bool {
        let (standby, mut matured) = (self.record.standby, None);
        // Given back before anything is written, so that nothing has to be copied for it.
        let services = self.record.services.clone();
        let around = Around { view: self.view, standby: &standby, loads: &self.loads, index: &self.index };
        let Some(mut tree) = Tree::grow(&services, root, of, around, &mut self.issuer) else { return false };
        work(&mut tree);
        // An instance for a node that is away, of which nothing is known, waits for nothing: that is not worth telling.
        let is_nobody = |member: &Member<'_>| {
            let known = services.get(&member.definition.name).is_some_and(|service| service.run_of(of).is_some());
            !known && of.is_some_and(|node| is_forgotten(&member.run, node, self.view))
        };
        for passed in std::mem::take(&mut tree.passed) {
            if is_nobody(&tree.members[passed.member]) {
                continue;
            }
            let instance = tree.instance(passed.member);
            self.changes.push(Change { instance, run: passed.run, reason: passed.reason });
        }
        if of.is_some() && services.get(root).is_some_and(|service| service.run.matured != tree.root().run.matured) {
            matured = Some(tree.root().run.matured);
        }
        let members = std::mem::take(&mut tree.members).into_iter();
        let runs: Vec<(String, ServiceRun)> =
            members.map(|member| (member.definition.name.clone(), member.run)).collect();
        drop(services);
        let mut changed = matured.is_some();
        for (at, (name, run)) in runs.into_iter().enumerate() {
            changed |= self.keep(&name, of, run, at == 0);
        }
        if let Some(matured) = matured {
            self.change(root, |service| {
                service.run.matured = matured;
                service.instances.values_mut().for_each(|run| run.matured = matured);
            });
        }
        changed
    }

    fn keep(&mut self, name: &str, of: Option<NodeId>, run: ServiceRun, is_root: bool) -> bool {
        let Some(service) = self.record.services.get(name) else { return false };
        let forgotten = of.is_some_and(|node| is_forgotten(&run, node, self.view));
        if service.run_of(of).map_or(forgotten, |known| *known == run && !forgotten) {
            return false;
        }
        if is_root {
            let weight = self.index.weight_of_group(&self.record.services, name);
            let before = service.run_of(of).cloned().unwrap_or_default();
            self.index.moved(&before, &run, weight);
        }
        self.change(name, |service| match of {
            None => service.run = run,
            Some(node) if forgotten => drop(service.instances.remove(&node)),
            Some(node) => drop(service.instances.insert(node, run)),
        });
        true
    }

    /// Changes a service that exists, and notes that something has changed.
    pub(super) fn change(&mut self, name: &str, change: impl FnOnce(&mut ServiceRecord)) {
        self.changed = true;
        if let Some(service) = self.record.services.get_mut(name) {
            change(service);
        }
    }

    /// Something else of the database has changed.
    pub(super) const fn note_change(&mut self) {
        self.changed = true;
    }

    /// Every group may have to do something now.
    pub(super) const fn touch_everything(&mut self) {
        self.everything = true;
        self.changed = true;
    }

    /// Something has happened to a service: its group is settled.
    pub(super) fn touch(&mut self, service: &str) {
        let root = root_of(&self.record.services, service).to_owned();
        self.touched.insert(root);
    }

    /// Works on one instance, if it is known.
    pub(super) fn with(&mut self, instance: &Instance, work: impl FnOnce(&mut Tree<'_>, usize)) {
        let known = self.record.services.get(&instance.service).and_then(|service| service.run_of(instance.of));
        if known.is_none() || is_on_all(&self.record.services, &instance.service) != instance.of.is_some() {
            return;
        }
        let root = root_of(&self.record.services, &instance.service).to_owned();
        self.in_group(&root, instance.of, |tree| {
            if let Some(at) = tree.place(&instance.service) {
                work(tree, at);
            }
        });
        self.touched.insert(root);
    }
}

/// Nothing is known of that instance that its node's next incarnation would have to know.
fn is_forgotten(run: &ServiceRun, node: NodeId, view: &View) -> bool {
    let away = view.nodes.get(&node).is_none_or(|sight| sight.presence > Presence::Leaving);
    away && run.victim.is_none() && run.state.is_idle() && run.state != RunState::FailedRecovery
}

/// The rules: what the database becomes under this view, and what must be done once that is committed.
///
/// Settling the result again changes nothing and commands nothing (protocol I-R15).
#[must_use]
pub fn settle(record: &RegistrationRecord, view: &View) -> (RegistrationRecord, Vec<Command>) {
    let decided = Decision::new(record, view).settle();
    (decided.record, decided.commands)
}
