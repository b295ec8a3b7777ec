//! Checks `[[service]]`: the choosing parameters and action functions of a client service (spec, "2. Choosing Parameters").

mod actions;

use phalanx_messages::NodeId;
use phalanx_messages::launch::Leaves;
use phalanx_messages::service::{
    AllowableNodes, AutoRegister, NodePreferences, STABLE_MS_DEFAULT, ServiceDefinition, StopFailure,
};

use super::check::{KnownNodes, Mistakes};
use super::document::Key;
use super::raw::{RawNodes, RawService};
use super::{group, names, subsystem};

use self::actions::Actions;
pub(super) use self::actions::{MONITOR_INTERVAL_MS, MONITOR_TIMEOUT_MS, TOLERANCE};

/// An action function may take this long if nothing else is said.
pub(super) const TIMEOUT_MS: u64 = 60_000;
/// Rounds over all nodes after every one has failed to start a service, if nothing else is said.
pub(super) const START_RETRIES: u32 = 3;

/// Checks every service.
pub(super) fn check_all(
    raw: &[RawService],
    nodes: &KnownNodes<'_>,
    panic_may_exit: bool,
    mistakes: &mut Mistakes<'_>,
) -> Vec<ServiceDefinition> {
    let check_one = |(index, one): (usize, &RawService)| {
        for (before, other) in raw[..index].iter().enumerate() {
            if one.name == other.name {
                let message = format!("two services have the name `{}`", one.name);
                mistakes.clash(&at(index, "name"), &at(before, "name"), message, "give each service its own name");
            }
        }
        Checker { raw: one, index, nodes, mistakes }.check(panic_may_exit)
    };
    let services = raw.iter().enumerate().map(check_one).collect();
    group::check_all(raw, mistakes);
    services
}

pub(super) fn at<'a>(index: usize, key: &'a str) -> [Key<'a>; 3] {
    [Key::Name("service"), Key::Index(index), Key::Name(key)]
}

/// Checks one service.
pub(super) struct Checker<'a, 'b, 'c> {
    pub raw: &'a RawService,
    pub index: usize,
    pub nodes: &'a KnownNodes<'b>,
    pub mistakes: &'a mut Mistakes<'c>,
}

impl Checker<'_, '_, '_> {
    fn check(mut self, panic_may_exit: bool) -> ServiceDefinition {
        let raw = self.raw;
        if let Some(message) = names::mistake_in_name(&raw.name) {
            self.wrong("name", message, "choose another name");
        }
        self.check_child();
        let allowable_nodes = self.allowable_nodes();
        let disallowable_nodes = self.node_list("disallowable_nodes", &raw.disallowable_nodes);
        self.check_somewhere_to_run(&allowable_nodes, &disallowable_nodes);
        let actions = self.actions();
        let leaves = self.leaves(&actions, panic_may_exit);
        actions.into_definition(ServiceDefinition {
            name: raw.name.clone(),
            node_preferences: self.preferences(),
            auto_register: self.auto_register(),
            maturity_count: self.maturity_count(&allowable_nodes, &disallowable_nodes),
            maturity_time_ms: raw
                .maturity_time
                .as_ref()
                .map(|text| subsystem::timeout_ms(&at(self.index, "maturity_time"), Some(text), 0, self.mistakes)),
            allowable_nodes,
            disallowable_nodes,
            leaves,
            start_retries: self.start_retries(),
            stop_failure: self.stop_failure(),
            recover_lost_start: raw.recover_lost_start.unwrap_or(false),
            event_group: raw.event_group.clone(),
            parent: raw.parent.clone(),
            placement_policy: self.placement_policy(),
            transfer_cost: self.transfer_cost(),
            stable_ms: subsystem::timeout_ms(
                &at(self.index, "stable_time"),
                raw.stable_time.as_deref(),
                STABLE_MS_DEFAULT,
                self.mistakes,
            ),
            weight: self.weight(),
            inherit_actions: raw.inherit_actions.unwrap_or(false),
            child_failure: self.child_failure(),
            ..ServiceDefinition::new("")
        })
    }

    pub fn wrong(&mut self, key: &str, message: impl Into<String>, hint: &str) {
        self.mistakes.add(&at(self.index, key), message, hint);
    }

    pub fn clash(&mut self, key: &str, other: &str, message: String, hint: &str) {
        self.mistakes.clash(&at(self.index, key), &at(self.index, other), message, hint);
    }

    fn node_list(&mut self, key: &str, names: &[String]) -> Vec<NodeId> {
        let mut ids = Vec::new();
        for name in names {
            match self.nodes.id_of(name) {
                Some(id) if ids.contains(&id) => {
                    let message = format!("{key} of service `{}` names `{name}` twice", self.raw.name);
                    self.wrong(key, message, "name each node once");
                }
                Some(id) => ids.push(id),
                None => {
                    let (service, known) = (&self.raw.name, self.nodes.names());
                    let message = format!("{key} of service `{service}` names `{name}`, which is no node");
                    let known = if known.len() > 200 { "n0, n1, ...".to_owned() } else { known };
                    self.wrong(key, message, &format!("the nodes are {known}"));
                }
            }
        }
        ids
    }

    fn allowable_nodes(&mut self) -> AllowableNodes {
        match &self.raw.allowable_nodes {
            None => AllowableNodes::Any,
            Some(RawNodes::Any(text)) if text == "*" => AllowableNodes::Any,
            Some(RawNodes::Any(text)) => {
                let message = format!("allowable_nodes of service `{}` is `{text}`", self.raw.name);
                self.wrong("allowable_nodes", message, "use \"*\" for every node, or a list of names");
                AllowableNodes::Any
            }
            Some(RawNodes::Listed(names)) => AllowableNodes::Listed(self.node_list("allowable_nodes", names)),
        }
    }

    fn usable(&self, allowable: &AllowableNodes, disallowable: &[NodeId]) -> usize {
        let usable = |id: &NodeId| !disallowable.contains(id);
        match allowable {
            AllowableNodes::Any => self.nodes.ids().filter(usable).count(),
            AllowableNodes::Listed(ids) => ids.iter().filter(|id| usable(id)).count(),
        }
    }

    fn check_somewhere_to_run(&mut self, allowable: &AllowableNodes, disallowable: &[NodeId]) {
        if self.usable(allowable, disallowable) > 0 || self.nodes.ids().next().is_none() {
            return;
        }
        if disallowable.is_empty() {
            if matches!(&self.raw.allowable_nodes, Some(RawNodes::Listed(names)) if names.is_empty()) {
                let message = format!("allowable_nodes of service `{}` is empty", self.raw.name);
                self.wrong("allowable_nodes", message, "name at least one node, or use \"*\"");
            }
            return;
        }
        let message = format!("disallowable_nodes of service `{}` leave none of its allowable_nodes", self.raw.name);
        self.clash("disallowable_nodes", "allowable_nodes", message, "leave at least one node to run on");
    }

    fn preferences(&mut self) -> NodePreferences {
        let Some(raw) = &self.raw.node_preferences else { return NodePreferences::None };
        match (&raw.ordered, &raw.unordered) {
            (Some(_), Some(_)) => {
                let message = format!("node_preferences of service `{}` has both ordered and unordered", self.raw.name);
                self.wrong("node_preferences", message, "keep one of the two");
                NodePreferences::None
            }
            (Some(names), None) => NodePreferences::Ordered(self.node_list("node_preferences", names)),
            (None, Some(names)) => NodePreferences::Unordered(self.node_list("node_preferences", names)),
            (None, None) => NodePreferences::None,
        }
    }

    fn auto_register(&mut self) -> AutoRegister {
        match self.raw.auto_register.as_deref() {
            None | Some("always") => AutoRegister::Always,
            Some("manual") => AutoRegister::Manual,
            Some("power-up") => AutoRegister::PowerUp,
            Some(other) => {
                let message = format!("auto_register `{other}` is unknown");
                self.wrong("auto_register", message, "use \"manual\", \"power-up\" or \"always\"");
                AutoRegister::Always
            }
        }
    }

    fn maturity_count(&mut self, allowable: &AllowableNodes, disallowable: &[NodeId]) -> Option<u16> {
        let given = self.raw.maturity_count?;
        let count = u16::try_from(given).ok().filter(|count| *count > 0);
        let usable = self.usable(allowable, disallowable);
        if count.is_none() {
            let message = format!("maturity_count of service `{}` is {given}; it must be above 0", self.raw.name);
            self.wrong("maturity_count", message, "leave the key out if the first node is enough");
        } else if usize::from(count.unwrap_or(0)) > usable && usable > 0 && self.raw.maturity_time.is_none() {
            let message = format!(
                "maturity_count ({given}) of service `{}` is more than its usable allowable_nodes ({usable}), and there is no \
                 maturity_time",
                self.raw.name
            );
            self.clash("maturity_count", "allowable_nodes", message, "lower it, or add maturity_time");
        }
        count
    }

    /// Architecture §4, "What outlives a process".
    fn leaves(&mut self, actions: &Actions, panic_may_exit: bool) -> Leaves {
        let raw = self.raw;
        let leaves = match raw.leaves.as_deref() {
            Some("processes") => Leaves::Processes,
            Some("state") => Leaves::State,
            None if actions.has_stop() && !actions.is_actor() => Leaves::State,
            None => Leaves::Processes,
            Some(other) => {
                self.wrong("leaves", format!("leaves `{other}` is unknown"), "use \"processes\" or \"state\"");
                Leaves::State
            }
        };
        if leaves == Leaves::State && !actions.has_stop() && !panic_may_exit {
            let message = format!(
                "leaves of service `{}` is \"state\" without a stop_command, and node.panic is \"exit\"",
                raw.name
            );
            let hint = "add a stop_command that removes what remains, or choose another node.panic";
            self.mistakes.clash(&at(self.index, "leaves"), &["node".into(), "panic".into()], message, hint);
        }
        leaves
    }

    fn start_retries(&mut self) -> u32 {
        let given = self.raw.start_retries.unwrap_or_else(|| START_RETRIES.into());
        u32::try_from(given).ok().filter(|retries| *retries <= 1_000).unwrap_or_else(|| {
            let message = format!("start_retries of service `{}` is {given}; it must lie in 0..1000", self.raw.name);
            self.wrong("start_retries", message, "leave the key out for 3");
            START_RETRIES
        })
    }

    fn stop_failure(&mut self) -> StopFailure {
        match self.raw.stop_failure.as_deref() {
            None | Some("fence") => StopFailure::Fence,
            Some("ignore") => StopFailure::Ignore,
            Some(other) => {
                self.wrong("stop_failure", format!("stop_failure `{other}` is unknown"), "use \"fence\" or \"ignore\"");
                StopFailure::Fence
            }
        }
    }
}
