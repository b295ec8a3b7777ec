//! The directory of a dev cluster: made, found again, cleaned.

use std::fs::{self, File};
use std::net::TcpListener;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use phalanx_actors::interconnect::ClusterKey;
use phalanx_messages::limits::{NODES_DEFAULT, SERVICES_DEFAULT};

use super::{Arguments, default_dev_directory, node_socket};
use crate::cli::Exit;
use crate::config::{ClusterTemplate, NodeConfig};
use crate::containment::{cgroup, containment_key, now};

/// The shared disk in it.
pub const DISK: &str = "cluster.disk";
/// The socket of `dev` itself.
pub const CONTROL: &str = "dev.sock";
/// Held while a `dev` runs; stays if it was killed.
pub const LOCK: &str = "dev.lock";
/// Cluster key.
const KEY: &str = "cluster.key";
/// The port of the demo service, for the next start.
const PORT: &str = "licences.port";
/// What runs if nothing else is said.
const TEMPLATE: &str = include_str!("../../../configs/dev.toml");
/// How long leftovers may take to die, in milliseconds.
const LEFTOVERS_MS: u64 = 5_000;
/// Ports tried after the one that was asked for.
const PORTS_TRIED: u16 = 100;

/// A locked directory, ready to run nodes in.
#[derive(Clone)]
pub(super) struct Directory {
    pub path: PathBuf,
    pub nodes: Vec<String>,
    pub port: Option<u16>,
    pub is_default: bool,
    lock: Arc<File>,
}

impl Directory {
    /// Makes the directory and everything in it, or takes over one that was used before.
    pub(super) fn prepare(arguments: &Arguments, dir: Option<PathBuf>) -> Result<Self, Exit> {
        let is_default = dir.is_none();
        let path = dir.unwrap_or_else(default_dev_directory);
        let failed = |what: &str, error: std::io::Error| Exit::error(format!("failed to {what}: {error}"));
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&path)
            .map_err(|error| failed(&format!("make {}", path.display()), error))?;
        let path = path.canonicalize().map_err(|error| failed("find the directory", error))?;
        if let Some(odd) = path.to_string_lossy().chars().find(|odd| "\"$`\\'\n".contains(*odd)) {
            let text = format!("{} contains {odd:?}, which the commands of dev.toml cannot take", path.display());
            return Err(Exit::error(text).hint("`--dir` names another directory"));
        }
        let lock = lock(&path)?;
        if is_default && path.join(DISK).exists() {
            clear(&path); // left by a `dev` that was killed
        }
        let mut directory = Self { path, nodes: Vec::new(), port: None, is_default, lock: Arc::new(lock) };
        if directory.path.join(DISK).exists() {
            directory.find_nodes(arguments)?;
        } else {
            directory.create(arguments)?;
        }
        Ok(directory)
    }

    pub(super) fn config(&self, node: &str) -> PathBuf {
        self.path.join(format!("{node}.toml"))
    }

    pub(super) fn socket(&self, node: &str) -> PathBuf {
        node_socket(&self.path, node)
    }

    /// A cluster that ran here before: its nodes and services are on its disk.
    fn find_nodes(&mut self, arguments: &Arguments) -> Result<(), Exit> {
        let entries = fs::read_dir(&self.path).into_iter().flatten().flatten();
        let names = entries.filter_map(|entry| Some(entry.file_name().to_str()?.strip_suffix(".toml")?.to_owned()));
        self.nodes = names.collect();
        self.nodes.sort_by_key(|name| (name.len(), name.clone()));
        self.port = fs::read_to_string(self.path.join(PORT)).ok().and_then(|text| text.trim().parse().ok());
        if arguments.config.is_some() {
            let text = format!("{} holds a cluster already, with services of its own", self.path.display());
            return Err(Exit::code(107, text).hint("leave `--config` out, or use another `--dir`"));
        }
        Ok(())
    }

    fn create(&mut self, arguments: &Arguments) -> Result<(), Exit> {
        let failed = |error: std::io::Error| Exit::error(format!("failed to write {}: {error}", self.path.display()));
        self.nodes = (0..arguments.nodes).map(|index| format!("n{index}")).collect();
        let (name, template) = match &arguments.config {
            Some(file) => {
                let text = fs::read_to_string(file)
                    .map_err(|error| Exit::code(78, format!("failed to read {}: {error}", file.display())))?;
                (file.display().to_string(), text)
            }
            None => ("configs/dev.toml".to_owned(), TEMPLATE.to_owned()),
        };
        let port = if arguments.no_demo_service { None } else { Some(free_port(arguments.port)?) };
        let template = self.fill_in(&template, port)?;
        let template = if arguments.no_demo_service { without_demo_service(&template) } else { template };
        let checked = ClusterTemplate::of_text(&name, &template, &self.nodes);
        let checked = checked.map_err(|errors| crate::cli::node::configuration_errors(&errors))?;
        self.port = port.filter(|_| checked.services.iter().any(|service| service.name == "licences"));
        if let Some(port) = self.port {
            fs::write(self.path.join(PORT), port.to_string()).map_err(failed)?;
        }
        let key = ClusterKey::generate().and_then(|key| key.save(&self.path.join(KEY)));
        key.map_err(|error| Exit::error(error.to_string()))?;
        let addresses = self.addresses()?;
        for node in &self.nodes {
            let text = self.node_file(node, &addresses, &template);
            let mut file = File::options();
            let file = file.write(true).create(true).truncate(true).mode(0o600).open(self.config(node));
            file.and_then(|mut file| std::io::Write::write_all(&mut file, text.as_bytes())).map_err(failed)?;
        }
        let first = self.nodes.first().map(|node| self.config(node)).unwrap_or_default();
        let config = NodeConfig::load(&first).map_err(|errors| crate::cli::node::configuration_errors(&errors))?;
        let nodes_max = arguments.nodes.max(u16::try_from(NODES_DEFAULT).unwrap_or(u16::MAX));
        let services_max = u32::try_from(SERVICES_DEFAULT).unwrap_or(u32::MAX);
        crate::cli::disk::create(&config, nodes_max, services_max)
    }

    fn fill_in(&self, template: &str, port: Option<u16>) -> Result<String, Exit> {
        let program =
            std::env::current_exe().map_err(|error| Exit::error(format!("failed to find this program: {error}")))?;
        Ok(template
            .replace("@PHALANX@", &program.display().to_string())
            .replace("@DIR@", &self.path.display().to_string())
            .replace("@PORT@", &port.unwrap_or(0).to_string()))
    }

    /// A loopback address for each node. Each cluster has a block of its own, so that nobody's outgoing connection takes a port.
    fn addresses(&self) -> Result<Vec<String>, Exit> {
        let seed = std::process::id();
        let host = format!("127.77.{}.{}", (seed >> 8) & 0x7f, (seed & 0xff).clamp(1, 254));
        let mut listeners = Vec::new();
        for _ in &self.nodes {
            let listener = TcpListener::bind((host.as_str(), 0))
                .map_err(|error| Exit::error(format!("no free port on {host}: {error}")))?;
            listeners.push(listener);
        }
        let address = |listener: &TcpListener| listener.local_addr().map(|address| address.to_string());
        listeners.iter().map(address).collect::<Result<_, _>>().map_err(|error| Exit::error(error.to_string()))
    }

    fn node_file(&self, node: &str, addresses: &[String], template: &str) -> String {
        let at = |name: &str| self.path.join(name).display().to_string();
        let own = self.nodes.iter().position(|known| known == node).and_then(|index| addresses.get(index));
        let nodes: String = self
            .nodes
            .iter()
            .zip(addresses)
            .enumerate()
            .map(|(id, (name, address))| {
                format!("\n[[cluster.node]]\nname = {name:?}\nid = {id}\naddress = {address:?}\n")
            })
            .collect();
        format!(
            "# Made by `phalanx dev`.\n[node]\nname = {node:?}\nstate_dir = {:?}\nsocket = {:?}\npanic = \"exit\"\n\n\
             [cluster]\nname = \"dev\"\nkey_file = {:?}\n{nodes}\n\
             [disk]\nbackend = \"mmap\"\npath = {:?}\ntiming = \"dev\"\n\n[interconnect]\nbind = {:?}\n\n{template}",
            at(&format!("state-{node}")),
            self.socket(node).display().to_string(),
            at(KEY),
            at(DISK),
            own.cloned().unwrap_or_default(),
        )
    }

    /// Sockets never stay; the default directory goes unless a node failed.
    pub(super) fn clean(&self, failed: bool) {
        for node in &self.nodes {
            fs::remove_file(self.socket(node)).ok();
        }
        remove_containments(&self.path);
        fs::remove_file(self.path.join(LOCK)).ok();
        if self.is_default && failed {
            super::print_line(&format!("kept {} because a node failed", self.path.display()));
        } else if self.is_default {
            fs::remove_dir_all(&self.path).ok();
        }
        let _ = &self.lock; // held until here
    }
}

/// What nodes whose warden was killed have left: an empty cgroup, or processes that nobody else would end. No node of the
/// cluster in `directory` runs.
pub fn remove_containments(directory: &Path) {
    remove_containments_of(&directory.join(DISK));
}

/// The same for the cluster on a disk, which is named as the files of its nodes name it.
pub fn remove_containments_of(path: &Path) {
    let Ok(disk) = crate::daemon::open_disk(path) else { return };
    let Ok(Some(configuration)) = disk.configurations().newest() else { return };
    for node in configuration.nodes.keys() {
        let key = containment_key(disk.superblock().cluster, path, *node);
        if let Err(error) = cgroup::kill_leftovers(&key, now().plus(LEFTOVERS_MS)) {
            anstream::eprintln!("{error}");
        }
    }
}

fn lock(path: &Path) -> Result<File, Exit> {
    let file = File::options().create(true).truncate(false).write(true).open(path.join(LOCK));
    let file = file.map_err(|error| Exit::error(format!("failed to lock {}: {error}", path.display())))?;
    rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive).map_err(|_| {
        Exit::error(format!("another `phalanx dev` runs in {}", path.display())).hint("`--dir DIR` makes a second one")
    })?;
    Ok(file)
}

fn clear(path: &Path) {
    for entry in fs::read_dir(path).into_iter().flatten().flatten().filter(|entry| entry.file_name() != LOCK) {
        let path = entry.path();
        if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) }.ok();
    }
}

/// The port that was asked for, or the next free one.
fn free_port(wanted: u16) -> Result<u16, Exit> {
    let mut ports =
        (wanted..=wanted.saturating_add(PORTS_TRIED)).filter(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok());
    let found = ports.next();
    if let Some(port) = found.filter(|port| *port != wanted) {
        anstream::eprintln!("port {wanted} is taken; the licence server uses {port}");
    }
    found.ok_or_else(|| Exit::error(format!("no free port from {wanted} on")).hint("`--port P` names another"))
}

/// The text without its `[[service]]` tables named `licences`.
fn without_demo_service(template: &str) -> String {
    let mut kept = String::new();
    for (index, table) in template.split("[[service]]").enumerate() {
        let demo = index > 0 && table.lines().any(|line| line.trim() == "name = \"licences\"");
        if !demo {
            kept += if index > 0 { "[[service]]" } else { "" };
            kept += table;
        }
    }
    kept
}
