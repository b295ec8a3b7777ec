//! Checks what a `[[service]]` says of its group and of how it is placed (spec, "3. Grouping", "Placement_Policy"; protocol §6.5).

use phalanx_messages::service::{ChildFailure, PlacementPolicy, TransferCost, WEIGHT_DEFAULT};

use super::check::Mistakes;
use super::raw::RawService;
use super::service::{Checker, at};

/// More than this is a slip of the pen.
const WEIGHT_MAX: i64 = 1_000_000;

impl Checker<'_, '_, '_> {
    pub(super) fn placement_policy(&mut self) -> PlacementPolicy {
        match self.raw.placement_policy.as_deref() {
            None | Some("register_on_one") => PlacementPolicy::RegisterOnOne,
            Some("register_on_all") => {
                self.check_on_all();
                PlacementPolicy::RegisterOnAll
            }
            Some(other) => {
                let hint = "use \"register_on_one\" or \"register_on_all\"";
                self.wrong("placement_policy", format!("placement_policy `{other}` is unknown"), hint);
                PlacementPolicy::RegisterOnOne
            }
        }
    }

    /// Nothing is chosen where every node is taken.
    fn check_on_all(&mut self) {
        let given = [
            ("node_preferences", self.raw.node_preferences.is_some()),
            ("transfer_cost", self.raw.transfer_cost.is_some()),
        ];
        for (key, _) in given.into_iter().filter(|(_, given)| *given) {
            let message = format!("service `{}` is registered on all nodes, and has {key}", self.raw.name);
            self.clash(key, "placement_policy", message, "keep one of the two");
        }
    }

    pub(super) fn transfer_cost(&mut self) -> TransferCost {
        let cost = match self.raw.transfer_cost.as_deref() {
            None | Some("normal") => TransferCost::Normal,
            Some("free") => TransferCost::Free,
            Some(other) => {
                let hint = "use \"normal\" or \"free\"";
                self.wrong("transfer_cost", format!("transfer_cost `{other}` is unknown"), hint);
                TransferCost::Normal
            }
        };
        if cost == TransferCost::Free && self.raw.node_preferences.is_none() {
            let message = format!("transfer_cost of service `{}` is \"free\", and it prefers no node", self.raw.name);
            self.wrong("transfer_cost", message, "add node_preferences: it moves to those by itself");
        } else if cost == TransferCost::Normal && self.raw.stable_time.is_some() {
            let message = format!("stable_time of service `{}` has no effect: it never moves by itself", self.raw.name);
            self.wrong("stable_time", message, "add transfer_cost = \"free\", or remove it");
        }
        cost
    }

    pub(super) fn weight(&mut self) -> u32 {
        let Some(given) = self.raw.weight else { return WEIGHT_DEFAULT };
        u32::try_from(given).ok().filter(|_| given <= WEIGHT_MAX).unwrap_or_else(|| {
            let message = format!("weight of service `{}` is {given}; it must lie in 0..{WEIGHT_MAX}", self.raw.name);
            self.wrong("weight", message, "leave the key out for 1");
            WEIGHT_DEFAULT
        })
    }

    pub(super) fn child_failure(&mut self) -> ChildFailure {
        match self.raw.child_failure.as_deref() {
            None | Some("isolate") => ChildFailure::Isolate,
            Some("fail_group") => ChildFailure::FailGroup,
            Some(other) => {
                let hint = "use \"isolate\" or \"fail_group\"";
                self.wrong("child_failure", format!("child_failure `{other}` is unknown"), hint);
                ChildFailure::Isolate
            }
        }
    }

    /// Spec: "Children services do not have any choosing factors; only the parents' choosing factors are used."
    pub(super) fn check_child(&mut self) {
        let raw = self.raw;
        if raw.parent.is_none() {
            if raw.child_failure.is_some() {
                let message = format!("child_failure of service `{}` has no effect: it has no parent", raw.name);
                self.wrong("child_failure", message, "remove it, or name a parent");
            }
            return;
        }
        let given = [
            ("allowable_nodes", raw.allowable_nodes.is_some()),
            ("disallowable_nodes", !raw.disallowable_nodes.is_empty()),
            ("node_preferences", raw.node_preferences.is_some()),
            ("auto_register", raw.auto_register.is_some()),
            ("placement_policy", raw.placement_policy.is_some()),
            ("maturity_count", raw.maturity_count.is_some()),
            ("maturity_time", raw.maturity_time.is_some()),
            ("transfer_cost", raw.transfer_cost.is_some()),
        ];
        for (key, _) in given.into_iter().filter(|(_, given)| *given) {
            let message = format!("service `{}` has a parent, and {key}: only the root of a group chooses", raw.name);
            self.clash(key, "parent", message, "give it to the root of the group");
        }
    }
}

/// Circles among the services of the file. A parent that is not in the file may be in the cluster.
pub(super) fn check_all(raw: &[RawService], mistakes: &mut Mistakes<'_>) {
    let place = |name: &str| raw.iter().position(|service| service.name == name);
    let parent = |index: usize| raw[index].parent.as_deref().and_then(place);
    for start in 0..raw.len() {
        let mut path = vec![start];
        while let Some(next) = parent(path[path.len() - 1]).filter(|next| !path[1..].contains(next)) {
            path.push(next);
            if next == start {
                break;
            }
        }
        // Told once, at the first of the circle.
        let is_circle = path.len() > 1 && path.last() == Some(&start);
        if is_circle && path.iter().all(|index| *index >= start) {
            let names: Vec<&str> = path.iter().map(|index| raw[*index].name.as_str()).collect();
            let message = format!("parents form a circle: {}", names.join(" -> "));
            mistakes.add(&at(start, "parent"), message, "take one of these parents out");
        }
    }
}

/// Parents that must be in the file, because it defines every service of a new cluster.
pub(super) fn check_parents(raw: &[RawService], mistakes: &mut Mistakes<'_>) {
    for (index, service) in raw.iter().enumerate() {
        let Some(parent) = &service.parent else { continue };
        if !raw.iter().any(|other| other.name == *parent) {
            let message = format!("parent of service `{}` names `{parent}`, which is no service", service.name);
            mistakes.add(&at(index, "parent"), message, "name a service of this file, or add it");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::service_text::service_text;
    use super::super::services_of_text;
    use super::super::tests::nodes;

    /// Every mistake in the services of a text, without the name of the file.
    fn mistakes(text: &str) -> Vec<String> {
        let found = services_of_text("f", text, &nodes(3), true).err();
        let found = found.map(|errors| errors.0.iter().map(ToString::to_string).collect::<Vec<_>>());
        found
            .unwrap_or_default()
            .iter()
            .map(|text| text.split(" (the other").next().unwrap_or(text).to_owned())
            .collect()
    }

    #[test]
    fn a_group_and_a_placement_are_read_as_they_are_written() {
        let root = "name = \"a\"\ninherit_actions = true\ntransfer_cost = \"free\"\nstable_time = \"5s\"\nweight = 7\n\
                    node_preferences = { ordered = [\"n1\"] }\n";
        let child = "name = \"b\"\nparent = \"a\"\nchild_failure = \"fail_group\"\n";
        let all = "name = \"c\"\nplacement_policy = \"register_on_all\"\n";
        let text: String = [root, child, all].map(|keys| format!("[[service]]\n{keys}")).concat();
        let read = services_of_text("f", &text, &nodes(3), true).unwrap();
        let written: String = read.iter().map(|service| service_text(service, &|node| format!("n{node}"))).collect();
        assert_eq!(services_of_text("f", &written, &nodes(3), true).unwrap(), read, "{written}");
        for key in ["fail_group", "register_on_all", "inherit_actions = true", "stable_time = \"5s\"", "weight = 7"] {
            assert!(written.contains(key), "{key}: {written}");
        }
    }

    #[test]
    fn a_child_that_chooses_and_policies_that_clash_are_refused_with_their_place() {
        let found = mistakes("[[service]]\nname = \"a\"\nparent = \"b\"\nallowable_nodes = [\"n0\"]\n");
        assert_eq!(
            found,
            ["f:4:19: service `a` has a parent, and allowable_nodes: only the root of a group chooses"]
                .map(str::to_owned)
        );
        let found = mistakes(
            "[[service]]\nname = \"a\"\nplacement_policy = \"register_on_all\"\nnode_preferences = { ordered = [\"n1\"] }\n",
        );
        assert!(found[0].contains("is registered on all nodes, and has node_preferences"), "{found:?}");
        let found = mistakes("[[service]]\nname = \"a\"\ntransfer_cost = \"free\"\n");
        assert!(found[0].contains("it prefers no node"), "{found:?}");
        let found = mistakes("[[service]]\nname = \"a\"\nweight = -1\nchild_failure = \"isolate\"\n");
        assert_eq!(found.len(), 2, "{found:?}");
    }

    #[test]
    fn a_circle_of_parents_is_refused_once_with_its_path() {
        let of = |name: &str, parent: &str| format!("[[service]]\nname = \"{name}\"\nparent = \"{parent}\"\n");
        let found = mistakes(&[of("x", "a"), of("a", "b"), of("b", "c"), of("c", "a")].concat());
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].ends_with("parents form a circle: a -> b -> c -> a"), "{found:?}");
        assert_eq!(mistakes(&of("x", "x")).len(), 1);
        assert_eq!(mistakes(&of("x", "elsewhere")), Vec::<String>::new(), "the parent may be in the cluster");
    }
}
