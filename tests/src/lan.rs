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
        lan.nft("add table bridge cuts; add chain bridge cuts forward { type filter hook forward priority 0; }");
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
    }

    /// Rules of the bridge, which no fence agent switches off: one that kills whatever runs on a host would kill `nft` there.
    fn nft(&self, rules: &str) {
        must("nsenter", &[&format!("--net=/run/netns/{}", self.bridge), "nft", rules]);
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

    /// Changes what is cut, in one step. Addresses are still asked for and told (ARP), so a cut one way stays one.
    fn change(&self, change: impl FnOnce(&mut BTreeSet<(usize, usize)>)) {
        let mut cuts = self.cuts.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut cuts);
        let dropped = |(from, to): &(usize, usize)| {
            format!("; add rule bridge cuts forward iifname \"port{from}\" oifname \"port{to}\" ether type ip drop")
        };
        self.nft(&format!("flush chain bridge cuts forward{}", cuts.iter().map(dropped).collect::<String>()));
    }

    /// The namespace of the bridge, which sees every frame on its device `bridge`, with an address of its own there: a client.
    ///
    /// # Panics
    /// If it cannot get the address.
    #[must_use]
    pub fn client(&self) -> &str {
        must("ip", &["-n", &self.bridge, "address", "replace", "10.77.0.1/24", "dev", "bridge"]);
        &self.bridge
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
        let pairs = pairs.filter(|(one, other)| one != other);
        self.change(|cuts| cuts.extend(pairs.flat_map(|(one, other)| [(one, other), (other, one)])));
    }

    /// Everything passes again.
    ///
    /// # Panics
    /// If nftables refuses.
    pub fn heal(&self) {
        self.change(BTreeSet::clear);
    }

    /// Another host takes an address: from now on the bridge brings there what is sent to it. Whoever had it has it no more.
    ///
    /// # Panics
    /// If `ip` refuses.
    pub fn move_address(&self, address: &str, from: usize, to: usize) {
        let address = format!("{address}/24");
        must("ip", &["-n", &self.hosts[from], "address", "delete", &address, "dev", "eth0"]);
        self.add_address(&address, to);
    }

    /// A host has one more address.
    ///
    /// # Panics
    /// If `ip` refuses.
    pub fn add_address(&self, address: &str, to: usize) {
        let address = if address.contains('/') { address.to_owned() } else { format!("{address}/24") };
        must("ip", &["-n", &self.hosts[to], "address", "add", &address, "dev", "eth0"]);
        // The others have seen it at another port.
        for host in &self.hosts {
            must("ip", &["-n", host, "neighbour", "flush", "all"]);
        }
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
