//! From a raw file to settings that cannot be wrong. Every mistake is collected; a clash names both keys and both values.

use std::path::{Path, PathBuf};

use phalanx_messages::NodeId;
use phalanx_messages::configuration::{NodeSettings, PanicPolicy};
use phalanx_messages::limits::NODES_MAX;
use phalanx_messages::service::ServiceDefinition;
use phalanx_storage::Backend;

use super::document::{Documents, Key};
use super::error::{ConfigError, ConfigErrors};
use super::timing::{self, Timing};
use super::{
    ClusterNode, ClusterTemplate, EventDefinitions, NodeConfig, cluster, event, group, guard, names, service, subsystem,
};

/// Longest path of a Unix socket, with its closing zero.
pub(crate) const SOCKET_PATH_BYTES_MAX: usize = 108;
/// Where nodes keep their own files if nothing else is said.
const STATE_DIR: &str = "/var/lib/phalanx";
/// Where local sockets are if nothing else is said.
const SOCKET_DIR: &str = "/run/phalanx";

/// Collects mistakes with their places.
pub(super) struct Mistakes<'a> {
    documents: &'a Documents,
    found: Vec<ConfigError>,
}

impl<'a> Mistakes<'a> {
    pub fn new(documents: &'a Documents) -> Self {
        Self { documents, found: Vec::new() }
    }

    /// A mistake at one key.
    pub fn add(&mut self, path: &[Key<'_>], message: impl Into<String>, hint: impl Into<String>) {
        let error = ConfigError::new(message).at(self.documents.place(path), "here").hint(hint);
        self.found.push(error);
    }

    /// A mistake at one key whose line must not be shown: it holds a secret.
    pub fn add_unseen(&mut self, path: &[Key<'_>], message: impl Into<String>, hint: impl Into<String>) {
        let error = ConfigError::new(message).at(self.documents.place(path), "here").hint(hint);
        self.found.push(error.unseen());
    }

    /// Two keys that clash; the message names both with their values.
    pub fn clash(&mut self, path: &[Key<'_>], other: &[Key<'_>], message: impl Into<String>, hint: impl Into<String>) {
        let other = self.documents.place(other);
        let message = format!("{} (the other is at {other})", message.into());
        let error = ConfigError::new(message).at(self.documents.place(path), "this").at(other, "clashes with this");
        self.found.push(error.hint(hint));
    }

    /// A key of the contract that is not built.
    pub fn not_built(&mut self, path: &[Key<'_>], key: &str) {
        self.add(path, format!("`{key}` is not built yet"), "remove it; CHANGELOG.md lists what this version has");
    }

    /// A key that must be there.
    pub fn missing(&mut self, table: &str, key: &str, example: &str) {
        let message = format!("`{key}` is missing in [{table}]");
        self.add(&[table.into()], message, format!("add `{key} = {example}` under [{table}]"));
    }

    /// Mistakes found so far.
    pub fn count(&self) -> usize {
        self.found.len()
    }

    /// An agent that is not installed here is no mistake.
    pub const fn agents_may_be_absent(&self) -> bool {
        self.documents.agents_may_be_absent
    }

    pub fn ended<T>(self, value: T) -> Result<T, ConfigErrors> {
        if self.found.is_empty() { Ok(value) } else { Err(ConfigErrors(self.found)) }
    }
}

/// The nodes that names in a file may mean.
pub(super) struct KnownNodes<'a> {
    nodes: &'a [ClusterNode],
}

impl<'a> KnownNodes<'a> {
    pub const fn new(nodes: &'a [ClusterNode]) -> Self {
        Self { nodes }
    }

    pub fn id_of(&self, name: &str) -> Option<NodeId> {
        self.nodes.iter().find(|node| node.name == name).map(|node| node.id)
    }

    pub fn ids(&self) -> impl Iterator<Item = NodeId> {
        self.nodes.iter().map(|node| node.id)
    }

    pub fn names(&self) -> String {
        self.nodes.iter().map(|node| node.name.as_str()).collect::<Vec<_>>().join(", ")
    }
}

/// Checks a file for `dev` against the nodes that `dev` will make.
pub(super) fn template(documents: &Documents, nodes: &[String]) -> Result<ClusterTemplate, ConfigErrors> {
    let nodes: Vec<ClusterNode> = nodes.iter().zip(0..).map(|(name, id)| numbered(name, id)).collect();
    let mut mistakes = Mistakes::new(documents);
    if !documents.raw.is_template() || documents.raw.fencing.is_some() {
        for table in ["node", "cluster", "disk", "interconnect", "fencing"] {
            if has_table(documents, table) {
                let message = format!("[{table}] has no place in a file for `dev`, which makes it itself");
                mistakes.add(
                    &[table.into()],
                    message,
                    "leave only [[subsystem]], [[service]], [[event]] and [[event_group]]",
                );
            }
        }
    }
    let template = common(documents, &nodes, true, &mut mistakes);
    mistakes.ended(template)
}

/// Checks just the services, events and event groups of a file.
pub(super) fn definitions(
    documents: &Documents,
    nodes: &[ClusterNode],
    panic_may_exit: bool,
) -> Result<(Vec<ServiceDefinition>, EventDefinitions), ConfigErrors> {
    let mut mistakes = Mistakes::new(documents);
    let nodes = KnownNodes { nodes };
    let services = service::check_all(&documents.raw.service, &nodes, panic_may_exit, &mut mistakes);
    let events = event::check_all(&documents.raw, &nodes, event::Names::InTheCluster, &mut mistakes);
    mistakes.ended((services, events))
}

/// Checks a file for `dev` without knowing the nodes: every name of the form that `dev` gives is taken as one.
pub(super) fn template_of_any_nodes(documents: &Documents) -> Result<ClusterTemplate, ConfigErrors> {
    let names: Vec<String> = (0..NODES_MAX).map(|id| format!("n{id}")).collect();
    template(documents, &names)
}

fn numbered(name: &str, id: u16) -> ClusterNode {
    ClusterNode { name: name.to_owned(), id: NodeId(id), address: String::new(), settings: NodeSettings::default() }
}

fn has_table(documents: &Documents, table: &str) -> bool {
    let raw = &documents.raw;
    match table {
        "node" => raw.node.is_some(),
        "cluster" => raw.cluster.is_some(),
        "disk" => raw.disk.is_some(),
        "fencing" => raw.fencing.is_some(),
        _ => raw.interconnect.is_some(),
    }
}

/// What node files and files for `dev` have in common.
fn common(
    documents: &Documents,
    nodes: &[ClusterNode],
    panic_may_exit: bool,
    mistakes: &mut Mistakes<'_>,
) -> ClusterTemplate {
    let raw = &documents.raw;
    group::check_parents(&raw.service, mistakes);
    let nodes = KnownNodes { nodes };
    ClusterTemplate {
        subsystems: subsystem::check_all(&raw.subsystem, panic_may_exit, mistakes),
        services: service::check_all(&raw.service, &nodes, panic_may_exit, mistakes),
        events: event::check_all(raw, &nodes, event::Names::InTheFile, mistakes),
    }
}

/// Checks the file of one node.
pub(super) fn node(documents: &Documents) -> Result<NodeConfig, ConfigErrors> {
    let mut mistakes = Mistakes::new(documents);
    let raw = &documents.raw;
    let (cluster, cluster_nodes) = cluster::check_nodes(documents, &mut mistakes);
    let disk_votes = cluster::check_disk_votes(documents, &mut mistakes);
    let key_file = raw.cluster.as_ref().map(|raw| cluster::check_key_file(documents, raw, &mut mistakes));
    let key_file = key_file.unwrap_or_default(); // a missing [cluster] is a mistake already
    let name = required(raw.node.as_ref().and_then(|node| node.name.clone()), "node", "name", "\"n0\"", &mut mistakes);
    check_name(&["node".into(), "name".into()], &name, &mut mistakes);
    let me = cluster_nodes.iter().find(|node| node.name == name);
    if me.is_none() && !name.is_empty() && !cluster_nodes.is_empty() {
        let nodes = KnownNodes { nodes: &cluster_nodes };
        let message = format!("node.name is `{name}`, and [[cluster.node]] lists {}", nodes.names());
        let hint = "use a listed name, or add this node under [[cluster.node]]";
        mistakes.clash(&["node".into(), "name".into()], &["cluster".into(), "node".into()], message, hint);
    }
    let (disk, backend, timing) = check_disk(documents, &mut mistakes);
    let (timing, profile) = (timing.name, timing.profile);
    let own_panic = me.and_then(|node| node.settings.panic);
    let panic = check_panic(documents, own_panic, &timing, &mut mistakes);
    let guard = guard::check(documents, panic, &profile, &mut mistakes);
    let bind = check_bind(documents, me, &mut mistakes);
    let state_dir = path_or(documents, raw.node.as_ref().and_then(|node| node.state_dir.as_deref()), STATE_DIR);
    let socket = check_socket(documents, &name, &mut mistakes);
    let socket_group = check_socket_group(documents, &mut mistakes);
    let panic_may_exit = timing == "dev" || panic.unwrap_or_default() != PanicPolicy::Exit;
    let template = common(documents, &cluster_nodes, panic_may_exit, &mut mistakes);
    let config = NodeConfig {
        file: documents.file.clone(),
        cluster,
        id: me.map_or(NodeId(0), |node| node.id),
        disk_votes,
        cluster_nodes,
        key_file,
        node: name,
        state_dir,
        socket,
        socket_group,
        panic,
        guard,
        disk,
        backend,
        timing,
        profile,
        bind,
        subsystems: template.subsystems,
        services: template.services,
        events: template.events,
    };
    mistakes.ended(config)
}

pub(super) fn required(
    value: Option<String>,
    table: &str,
    key: &str,
    example: &str,
    mistakes: &mut Mistakes<'_>,
) -> String {
    value.unwrap_or_else(|| {
        mistakes.missing(table, key, example);
        String::new()
    })
}

pub(super) fn check_name(path: &[Key<'_>], name: &str, mistakes: &mut Mistakes<'_>) {
    if let Some(message) = names::mistake_in_name(name).filter(|_| !name.is_empty()) {
        mistakes.add(path, message, "choose another name");
    }
}

fn check_disk(documents: &Documents, mistakes: &mut Mistakes<'_>) -> (PathBuf, Backend, Timing) {
    let Some(raw) = &documents.raw.disk else {
        mistakes.add(&[], "table [disk] is missing", "see configs/node.toml for a whole file");
        return (PathBuf::new(), Backend::Mmap, timing::check(None, Backend::Mmap, mistakes));
    };
    let at = |key: &'static str| [Key::Name("disk"), Key::Name(key)];
    let backend = raw.backend.as_deref().and_then(Backend::named);
    match raw.backend.as_deref() {
        Some("etcd") => mistakes.not_built(&at("backend"), "disk.backend = \"etcd\""),
        Some(other) if backend.is_none() => {
            let hint = "use `backend = \"mmap\"` or `backend = \"direct\"`";
            mistakes.add(&at("backend"), format!("disk.backend `{other}` is unknown"), hint);
        }
        Some(_) => {}
        None => mistakes.missing("disk", "backend", "\"mmap\""),
    }
    let backend = backend.unwrap_or_default();
    let path = required(raw.path.clone(), "disk", "path", "\"/srv/phalanx/disk\"", mistakes);
    let timing = timing::check(raw.timing.as_ref(), backend, mistakes);
    // "dev" is for nodes on one host, whose direct I/O ends with them.
    if backend == Backend::Direct && timing.profile.late_write_ms == 0 && timing.name != "dev" {
        let message = format!(
            "disk.backend is \"direct\", and disk.timing is `{}` with a `late_write` of 0 ms: a write of a dead host may land later",
            timing.name
        );
        let hint = "use \"san-fast\" or \"san-safe\", or give `late_write`, the longest that the storage keeps a write on its way";
        mistakes.clash(&at("backend"), &at("timing"), message, hint);
    }
    (documents.directory().join(path), backend, timing)
}

/// What the file says of its own node: its `[[cluster.node]]` goes before `[node]`.
fn check_panic(
    documents: &Documents,
    own: Option<PanicPolicy>,
    timing: &str,
    mistakes: &mut Mistakes<'_>,
) -> Option<PanicPolicy> {
    let path = [Key::Name("node"), Key::Name("panic")];
    let given = documents.raw.node.as_ref().and_then(|node| node.panic.as_deref());
    let known = given.and_then(cluster::parse_panic);
    if let Some(other) = given.filter(|_| known.is_none()) {
        let message = format!("node.panic `{other}` is unknown");
        mistakes.add(&path, message, "use one of exit, reboot, crash, watchdog");
    } else if own.or(known).is_none() && timing != "dev" {
        let message = format!("`panic` is missing in [node], and disk.timing is `{timing}`");
        let hint = "a node outside `dev` must choose: add `panic = \"reboot\"`, or \"exit\", \"crash\", \"watchdog\"";
        mistakes.add(&["node".into()], message, hint);
    }
    own.or(known)
}

fn check_bind(documents: &Documents, me: Option<&ClusterNode>, mistakes: &mut Mistakes<'_>) -> String {
    let given = documents.raw.interconnect.as_ref().and_then(|raw| raw.bind.clone());
    if let Some(message) = given.as_deref().and_then(|bind| names::mistake_in_address("interconnect.bind", bind)) {
        mistakes.add(&["interconnect".into(), "bind".into()], message, "as in `0.0.0.0:7600`");
    }
    given.or_else(|| me.map(|node| node.address.clone())).unwrap_or_default()
}

fn path_or(documents: &Documents, given: Option<&str>, default: &str) -> PathBuf {
    documents.directory().join(given.unwrap_or(default))
}

/// A group of this host, by name or number.
fn check_socket_group(documents: &Documents, mistakes: &mut Mistakes<'_>) -> Option<u32> {
    let given = documents.raw.node.as_ref().and_then(|node| node.socket_group.as_deref())?;
    let groups = std::fs::read_to_string("/etc/group").unwrap_or_default();
    let found = given.parse().ok().or_else(|| group_number(&groups, given));
    if found.is_none() {
        let message = format!("node.socket_group is `{given}`, and this host has no such group");
        let hint = format!("make it with `groupadd {given}`, or write another one, by name or number");
        mistakes.add(&["node".into(), "socket_group".into()], message, hint);
    }
    found
}

/// The number of a group in the text of `/etc/group`.
fn group_number(groups: &str, name: &str) -> Option<u32> {
    let fields = |line: &str| {
        let mut fields = line.split(':');
        (fields.next() == Some(name)).then(|| fields.nth(1)?.parse().ok()).flatten()
    };
    groups.lines().find_map(fields)
}

fn check_socket(documents: &Documents, node: &str, mistakes: &mut Mistakes<'_>) -> PathBuf {
    let given = documents.raw.node.as_ref().and_then(|node| node.socket.clone());
    let socket = given.map_or_else(
        || Path::new(SOCKET_DIR).join(format!("{node}.sock")),
        |socket| documents.directory().join(socket),
    );
    let bytes = socket.as_os_str().len();
    if bytes >= SOCKET_PATH_BYTES_MAX {
        let message =
            format!("the path of the local socket has {bytes} bytes; the system allows {}", SOCKET_PATH_BYTES_MAX - 1);
        mistakes.add(&["node".into(), "socket".into()], message, "set node.socket to a shorter path");
    }
    socket
}
