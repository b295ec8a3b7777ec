//! Hosts of their own on one machine: network namespaces on a bridge, made by a test and gone with it.
//!
//! Everything lies in namespaces, the bridge too, so nothing of the machine's own network is touched.

use std::collections::BTreeSet;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};

/// A bridge with hosts on it.
#[derive(Debug)]
pub struct Lan {
    bridge: String,
    hosts: Vec<String>,
    /// From whom nothing arrives at whom.
    cuts: Mutex<BTreeSet<(usize, usize)>>,
}

/// Bridges that this process has made: several of them may stand beside each other.
static MADE: AtomicU32 = AtomicU32::new(0);

/// Runs a program of the system.
///
/// # Panics
/// If it fails.
fn must(program: &str, arguments: &[&str]) {
    let output = Command::new(program).args(arguments).output().expect("the program is installed");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {said}");
}

impl Lan {
    /// A bridge with so many hosts.
    ///
    /// # Panics
    /// If a namespace cannot be made.
    #[must_use]
    pub fn with_hosts(count: usize) -> Self {
        let prefix = format!("phx{}-{}", std::process::id(), MADE.fetch_add(1, Ordering::Relaxed));
        let mut lan = Self { bridge: format!("{prefix}-lan"), hosts: Vec::new(), cuts: Mutex::default() };
        must("ip", &["netns", "add", &lan.bridge]);
        must("ip", &["-n", &lan.bridge, "link", "add", "bridge", "type", "bridge"]);
        must("ip", &["-n", &lan.bridge, "link", "set", "bridge", "up"]);
        for index in 0..count {
            lan.add_host(&format!("{prefix}-h{index}"), index);
        }
        lan
    }

    fn add_host(&mut self, host: &str, index: usize) {
        must("ip", &["netns", "add", host]);
        self.hosts.push(host.to_owned());
        let (bridge, port) = (self.bridge.clone(), format!("port{index}"));
        must("ip", &["-n", &bridge, "link", "add", &port, "type", "veth", "peer", "name", "eth0", "netns", host]);
        must("ip", &["-n", &bridge, "link", "set", &port, "master", "bridge", "up"]);
        must("ip", &["-n", host, "link", "set", "lo", "up"]);
        must("ip", &["-n", host, "address", "add", &format!("{}/24", Self::ip(index)), "dev", "eth0"]);
        must("ip", &["-n", host, "link", "set", "eth0", "up"]);
        self.nft(index, "add table inet cuts");
        self.nft(index, "add chain inet cuts input { type filter hook input priority 0; }");
    }

    fn nft(&self, index: usize, rule: &str) {
        must("nsenter", &[&format!("--net=/run/netns/{}", self.hosts[index]), "nft", rule]);
    }

    /// Address of a host.
    #[must_use]
    pub fn ip(index: usize) -> String {
        format!("10.77.0.{}", 10 + index)
    }

    /// Namespace of a host, which is also its name.
    #[must_use]
    pub fn host(&self, index: usize) -> &str {
        &self.hosts[index]
    }

    /// Changes what is cut, each host in one step.
    fn change(&self, change: impl FnOnce(&mut BTreeSet<(usize, usize)>)) {
        let mut cuts = self.cuts.lock().unwrap_or_else(PoisonError::into_inner);
        let before = cuts.clone();
        change(&mut cuts);
        let changed: BTreeSet<usize> = before.symmetric_difference(&cuts).map(|(_, to)| *to).collect();
        for host in changed {
            let dropped = |&(from, to): &(usize, usize)| {
                (to == host).then(|| format!("; add rule inet cuts input ip saddr {} drop", Self::ip(from)))
            };
            self.nft(
                host,
                &format!("flush chain inet cuts input{}", cuts.iter().filter_map(dropped).collect::<String>()),
            );
        }
    }

    /// Nothing of `from` arrives at `to` any more. The other way stays as it is.
    ///
    /// # Panics
    /// If nftables refuses.
    pub fn cut_one_way(&self, from: usize, to: usize) {
        self.change(|cuts| {
            cuts.insert((from, to));
        });
    }

    /// Nothing passes between the two any more.
    ///
    /// # Panics
    /// If nftables refuses.
    pub fn cut(&self, one: usize, other: usize) {
        self.change(|cuts| cuts.extend([(one, other), (other, one)]));
    }

    /// Everything passes between the two again.
    ///
    /// # Panics
    /// If nftables refuses.
    pub fn mend(&self, one: usize, other: usize) {
        self.change(|cuts| cuts.retain(|cut| ![(one, other), (other, one)].contains(cut)));
    }

    /// Nothing passes between hosts of two groups any more.
    ///
    /// # Panics
    /// If nftables refuses.
    pub fn part(&self, some: &[usize], others: &[usize]) {
        let pairs = some.iter().flat_map(|one| others.iter().map(move |other| (*one, *other)));
        self.change(|cuts| cuts.extend(pairs.flat_map(|(one, other)| [(one, other), (other, one)])));
    }

    /// Everything passes again.
    ///
    /// # Panics
    /// If nftables refuses.
    pub fn heal(&self) {
        self.change(BTreeSet::clear);
    }

    /// Processes that run on a host.
    ///
    /// # Panics
    /// If `ip` cannot be run.
    #[must_use]
    pub fn processes(&self, index: usize) -> Vec<u32> {
        let output = Command::new("ip").args(["netns", "pids", &self.hosts[index]]).output().expect("ip is installed");
        String::from_utf8_lossy(&output.stdout).split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
    }
}

impl Drop for Lan {
    fn drop(&mut self) {
        for host in self.hosts.iter().chain([&self.bridge]) {
            Command::new("ip").args(["netns", "delete", host]).output().ok(); // whoever started its processes ends them
        }
    }
}
