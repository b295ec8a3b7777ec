//! Changes what is registered while faults happen, and knows what the cluster has confirmed: that is never lost.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::Value;

use crate::draw::Draw;
use crate::lan::Lan;
use crate::process_cluster::{find, phalanx};

/// Services that are defined and changed.
const DEFINED: usize = 6;
/// Between two changes: the cluster has other things to do.
const APART_MS: u64 = 20;
/// Settings of nodes are told by their time-outs, which begin here, in seconds.
const SECONDS: u64 = 1_000;

/// What was confirmed: the number of the newest confirmed definition of each service, and that of each node's settings.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Confirmed {
    services: BTreeMap<String, u64>,
    nodes: BTreeMap<String, u64>,
    /// Changes that were confirmed.
    pub changes: usize,
    /// Changes that were refused, or not answered.
    pub refused: usize,
}

impl Confirmed {
    /// Changes one thing after the other in the cluster of that directory until told to stop.
    ///
    /// # Panics
    /// If its files cannot be written.
    #[must_use]
    pub fn gather(directory: &PathBuf, nodes: usize, seed: u64, stop: &AtomicBool) -> Self {
        let mut draw = Draw::new(!seed);
        let mut confirmed = Self::default();
        for number in 1.. {
            if stop.load(Ordering::Acquire) {
                break;
            }
            confirmed.change(directory, number, draw.below(nodes), draw.below(DEFINED), draw.below(4));
            super::pass(APART_MS);
        }
        confirmed
    }

    fn change(&mut self, directory: &PathBuf, number: u64, node: usize, service: usize, way: usize) {
        let file = directory.join("defined.txt").display().to_string();
        let name = format!("d{service}");
        let definition = format!(
            "[[service]]\nname = \"{name}\"\nauto_register = \"manual\"\nstart_command = [\"true\", \"{number}\"]\n"
        );
        let (setting, seconds) = (format!("n{node}"), SECONDS + number);
        let run = |text: &str, arguments: &[&str]| {
            std::fs::write(&file, text).expect("written");
            let mut command = Command::new(phalanx());
            command.args(arguments).arg("--dir").arg(directory).stdin(Stdio::null()).env_remove("PHALANX_SOCKET");
            command.output().expect("phalanx can be started").status.success()
        };
        let done = match way {
            0 => run("", &["node", "set", &setting, &format!("shutdown_timeout={seconds}s")]),
            1 => {
                let address = Lan::ip(node);
                let whole = format!(
                    "[cluster]\nname = \"alpha\"\n\n[[cluster.node]]\nname = \"{setting}\"\nid = {node}\n\
                     address = \"{address}:7600\"\nshutdown_timeout = \"{seconds}s\"\n\n{definition}"
                );
                run(&whole, &["config", "apply", &file])
            }
            _ => run(&definition, &["service", "apply", &file, "--no-wait"]),
        };
        if !done {
            self.refused += 1;
            return;
        }
        self.changes += 1;
        if way < 2 {
            self.nodes.insert(setting, number);
        }
        if way > 0 {
            self.services.insert(name, number);
        }
    }

    /// What was confirmed and is neither there now nor replaced by something newer. `config` is what `config show` prints as JSON.
    #[must_use]
    pub fn lost(&self, config: &Value) -> Vec<String> {
        let service = |name: &str| {
            let command = find(config, "services", name)?["start_command"].as_array()?;
            command.get(1)?.as_str()?.parse::<u64>().ok()
        };
        let node = |name: &str| (find(config, "nodes", name)?["shutdown_ms"].as_u64()? / 1_000).checked_sub(SECONDS);
        let lost = |(name, number): &(&String, &u64), there: Option<u64>| {
            there
                .is_none_or(|there| there < **number)
                .then(|| format!("{name}: confirmed {number}, there is {there:?}"))
        };
        let services = self.services.iter().filter_map(|it| lost(&it, service(it.0)));
        services.chain(self.nodes.iter().filter_map(|it| lost(&it, node(it.0)))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_older_than_what_was_confirmed_or_is_not_there_is_lost() {
        let config = serde_json::json!({
            "services": [{"name": "d0", "start_command": ["true", "7"]}],
            "nodes": [{"name": "n1", "shutdown_ms": 1_009_000}, {"name": "n2", "shutdown_ms": 300_000}],
        });
        let confirmed = |services: &[(&str, u64)], nodes: &[(&str, u64)]| {
            let map = |of: &[(&str, u64)]| of.iter().map(|(name, number)| ((*name).to_owned(), *number)).collect();
            Confirmed { services: map(services), nodes: map(nodes), ..Confirmed::default() }
        };
        assert_eq!(confirmed(&[("d0", 7)], &[("n1", 8)]).lost(&config), Vec::<String>::new(), "a newer one may follow");
        let lost = confirmed(&[("d0", 8), ("d1", 1)], &[("n1", 10), ("n2", 2)]).lost(&config);
        let expected = [
            "d0: confirmed 8, there is Some(7)",
            "d1: confirmed 1, there is None",
            "n1: confirmed 10, there is Some(9)",
            "n2: confirmed 2, there is None",
        ];
        assert_eq!(lost, expected);
    }
}
