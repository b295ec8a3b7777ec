//! What `phalanx init` would write, checked.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use phalanx_messages::limits::NODES_MAX;
use phalanx_messages::profile::TimingProfile;

use crate::cli::Exit;
use crate::cli::args::InitArguments;
use crate::config::{NodeConfig, SOCKET_PATH_BYTES_MAX, mistake_in_address, mistake_in_name};

/// The file of a node, before its values are filled in.
const TEMPLATE: &str = include_str!("node.toml");
/// Exit code "usage".
const EXIT_USAGE: u8 = 2;
/// The socket of `phalanx dev` in a directory has this name, so no node can.
const RESERVED: &str = "dev";

/// See the module.
pub(super) struct Plan {
    /// Where the files go, absolute.
    pub out: PathBuf,
    cluster: String,
    nodes: Vec<(String, String)>,
    disk: PathBuf,
    timing: String,
    panic: &'static str,
}

fn wrong(text: impl Into<String>, hint: &str) -> Exit {
    Exit::code(EXIT_USAGE, text).hint(hint)
}

impl Plan {
    pub fn new(arguments: &InitArguments) -> Result<Self, Exit> {
        let InitArguments { name, nodes, disk, out, force: _, timing, panic } = arguments;
        if let Some(message) = mistake_in_name(name) {
            return Err(wrong(format!("`--name`: {message}"), "choose another name"));
        }
        if TimingProfile::named(timing).is_none() {
            let hint = "use \"local-mmap\", or \"dev\" for nodes that are played with";
            return Err(wrong(format!("`--timing`: there is no profile `{timing}`"), hint));
        }
        let absolute = |path: &Path| {
            std::path::absolute(path).map_err(|error| Exit::error(format!("{}: {error}", path.display())))
        };
        let (out, disk) = (absolute(out)?, absolute(disk)?);
        if disk.is_dir() {
            let text = format!("`--disk`: {} is a directory", disk.display());
            return Err(wrong(text, "name a file in it; `phalanx disk create` makes it"));
        }
        if out.exists() && !out.is_dir() {
            return Err(wrong(format!("`--out`: {} is no directory", out.display()), "name another one"));
        }
        let nodes = check_nodes(nodes)?;
        check_sockets(&out, &nodes)?;
        let (cluster, timing) = (name.clone(), timing.clone());
        Ok(Self { out, cluster, nodes, disk, timing, panic: panic.word() })
    }

    pub fn key_file(&self) -> PathBuf {
        self.out.join("cluster.key")
    }

    /// Every node's file with its text. What a node would refuse is never written.
    pub fn files(&self) -> Result<Vec<(PathBuf, String)>, Exit> {
        let file = |(name, address): &(String, String)| {
            let path = self.out.join(format!("{name}.toml"));
            let text = self.fill_in(name, address)?;
            NodeConfig::of_text(&path, &text).map_err(|errors| crate::cli::node::configuration_errors(&errors))?;
            Ok((path, text))
        };
        self.nodes.iter().map(file).collect()
    }

    fn fill_in(&self, name: &str, address: &str) -> Result<String, Exit> {
        let disk = self.disk.to_str().ok_or_else(|| {
            wrong(format!("`--disk`: {} is not UTF-8", self.disk.display()), "choose another name for the disk")
        })?;
        let nodes: String =
            (0..).zip(&self.nodes).map(|(id, (name, address))| cluster_node(id, name, address)).collect();
        let port = address.rsplit_once(':').map_or("7600", |(_, port)| port);
        let values = [
            ("@NODE_TOML@", toml_string(name)),
            ("@STATE_TOML@", toml_string(&format!("state/{name}"))),
            ("@SOCKET_TOML@", toml_string(&format!("{name}.sock"))),
            ("@PANIC_TOML@", toml_string(self.panic)),
            // Off, but for the one policy that is nothing without it.
            ("@WATCHDOG@", if self.panic == "watchdog" { "" } else { "#" }.to_owned()),
            ("@CLUSTER_TOML@", toml_string(&self.cluster)),
            ("@TIMING_TOML@", toml_string(&self.timing)),
            ("@BIND_TOML@", toml_string(&format!("0.0.0.0:{port}"))),
            ("@NODE@", name.to_owned()),
            ("@CLUSTER@", self.cluster.clone()),
            ("@NODES@\n", nodes),
            ("@DISK_TOML@", toml_string(disk)), // last: whatever is in it stays as it is
        ];
        Ok(values.iter().fold(TEMPLATE.to_owned(), |text, (place, value)| text.replace(place, value)))
    }
}

fn toml_string(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

fn cluster_node(id: usize, name: &str, address: &str) -> String {
    let (name, address) = (toml_string(name), toml_string(address));
    format!("[[cluster.node]]\nname = {name}\nid = {id}\naddress = {address}\n\n")
}

fn check_nodes(given: &[String]) -> Result<Vec<(String, String)>, Exit> {
    let mut nodes: Vec<(String, String)> = Vec::new();
    for word in given {
        let Some((name, address)) = word.split_once('=') else {
            return Err(wrong(format!("`--nodes`: `{word}` is not NAME=HOST:PORT"), "as in n0=127.0.0.1:7600"));
        };
        if let Some(message) = mistake_in_name(name) {
            return Err(wrong(format!("`--nodes`: {message}"), "choose another name"));
        }
        if name == RESERVED {
            let text = format!(
                "`--nodes`: no node can have the name `{RESERVED}`: {RESERVED}.sock is the socket of `phalanx dev`"
            );
            return Err(wrong(text, "choose another name"));
        }
        if let Some(message) = mistake_in_address(&format!("address of {name}"), address) {
            return Err(wrong(format!("`--nodes`: {message}"), "as in n0=127.0.0.1:7600"));
        }
        if let Some((other, _)) = nodes.iter().find(|(_, known)| known == address) {
            let text = format!("`--nodes`: {other} and {name} both have the address {address}");
            return Err(wrong(text, "give each node its own; on one host the ports differ"));
        }
        nodes.push((name.to_owned(), address.to_owned()));
    }
    let names: BTreeSet<&String> = nodes.iter().map(|(name, _)| name).collect();
    if names.len() < nodes.len() {
        let twice =
            nodes.iter().enumerate().find(|(index, (name, _))| nodes[..*index].iter().any(|(known, _)| known == name));
        let name = twice.map(|(_, (name, _))| name.as_str()).unwrap_or_default();
        return Err(wrong(format!("`--nodes`: the name `{name}` is given twice"), "give each node its own name"));
    }
    if nodes.len() > NODES_MAX {
        return Err(wrong(
            format!("`--nodes`: {} nodes; a cluster has at most {NODES_MAX}", nodes.len()),
            "name fewer",
        ));
    }
    Ok(nodes)
}

fn check_sockets(out: &Path, nodes: &[(String, String)]) -> Result<(), Exit> {
    let bytes = nodes.iter().map(|(name, _)| out.join(format!("{name}.sock")).as_os_str().len()).max().unwrap_or(0);
    if bytes < SOCKET_PATH_BYTES_MAX {
        return Ok(());
    }
    let most = SOCKET_PATH_BYTES_MAX - 1;
    let text = format!(
        "`--out`: the path of a local socket in {} would have {bytes} bytes; the system takes {most}",
        out.display()
    );
    Err(wrong(text, "choose a directory with a shorter path"))
}
