//! Hosts of their own on one machine: network namespaces on a bridge, made by a test and gone with it.
//!
//! Everything lies in namespaces, the bridge too, so nothing of the machine's own network is touched.

use std::process::Command;

/// A bridge with hosts on it.
#[derive(Debug)]
pub struct Lan {
    bridge: String,
    hosts: Vec<String>,
}

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
        let prefix = format!("phx{}", std::process::id());
        let mut lan = Self { bridge: format!("{prefix}-lan"), hosts: Vec::new() };
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

    /// Nothing of `from` arrives at `to` any more. The other way stays open.
    ///
    /// # Panics
    /// If nftables refuses.
    pub fn cut_one_way(&self, from: usize, to: usize) {
        self.nft(to, &format!("add rule inet cuts input ip saddr {} drop", Self::ip(from)));
    }

    /// Nothing passes between the two any more.
    ///
    /// # Panics
    /// If nftables refuses.
    pub fn cut(&self, one: usize, other: usize) {
        self.cut_one_way(one, other);
        self.cut_one_way(other, one);
    }

    /// Everything passes again.
    ///
    /// # Panics
    /// If nftables refuses.
    pub fn heal(&self) {
        (0..self.hosts.len()).for_each(|index| self.nft(index, "flush chain inet cuts input"));
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
