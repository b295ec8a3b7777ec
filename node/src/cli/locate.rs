//! Which node answers (architecture §5): `--socket`, else `--dir`, else a dev cluster in the default place, else the system's.

use std::path::{Path, PathBuf};

use phalanx_messages::admin::Status;

use super::Exit;
use super::args::Global;
use super::client::{Client, EXIT_PRIVILEGE, EXIT_UNREACHABLE};
use crate::config::NodeConfig;

/// Sockets of nodes that run as services.
const SYSTEM_SOCKETS: &str = "/run/phalanx";
/// Their files.
const SYSTEM_CONFIGS: &str = "/etc/phalanx";
/// Exit code "the node named is not running".
const EXIT_NOT_RUNNING: u8 = 3;

/// Where `dev` puts a cluster if it is not told.
#[must_use]
pub fn default_dev_directory() -> PathBuf {
    match std::env::var_os("XDG_RUNTIME_DIR").filter(|dir| Path::new(dir).is_dir()) {
        Some(runtime) => PathBuf::from(runtime).join("phalanx-dev"),
        None => std::env::temp_dir().join(format!("phalanx-dev-{}", rustix::process::getuid().as_raw())),
    }
}

/// Socket of one node of a dev directory.
#[must_use]
pub fn node_socket(directory: &Path, node: &str) -> PathBuf {
    directory.join(format!("{node}.sock"))
}

/// The directory of the dev cluster that is meant, if one is.
pub(super) fn dev_directory(global: &Global) -> Option<PathBuf> {
    match (&global.dir, socket(global)) {
        (Some(directory), _) => Some(directory.clone()),
        (None, Some(_)) => None,
        (None, None) => Some(default_dev_directory()).filter(|directory| directory.is_dir()),
    }
}

/// The socket that is named, by the flag or, after `--dir`, by the environment.
pub(super) fn socket(global: &Global) -> Option<PathBuf> {
    let environment = || std::env::var_os("PHALANX_SOCKET").filter(|path| !path.is_empty()).map(PathBuf::from);
    global.socket.clone().or_else(|| if global.dir.is_some() { None } else { environment() })
}

/// Connects to whoever answers; in a directory, to the master if it is there.
pub(super) fn connect(global: &Global) -> Result<Client, Exit> {
    if let Some(socket) = socket(global) {
        return Client::connect(&socket);
    }
    let directory = directory(global);
    if let Some(node) = &global.node {
        return Client::connect(&node_socket(&directory, node)).map_err(|exit| match exit.code {
            EXIT_UNREACHABLE => Exit { code: EXIT_NOT_RUNNING, ..exit },
            _ => exit,
        });
    }
    let (mut client, status) = any(&directory)?;
    let master = status.master.filter(|master| *master != status.node);
    if let Some(better) = master.and_then(|master| Client::connect(&node_socket(&directory, &master)).ok()) {
        client = better;
    }
    Ok(client)
}

/// Connects to whoever answers, in a directory rather to somebody else than `node`: that one is about to go.
pub(super) fn connect_beside(global: &Global, node: &str) -> Result<Client, Exit> {
    if socket(global).is_some() || global.node.is_some() {
        return connect(global);
    }
    let directory = dev_directory(global).unwrap_or_else(|| PathBuf::from(SYSTEM_SOCKETS));
    let others = sockets(&directory).into_iter().filter(|socket| socket.file_stem().is_some_and(|name| name != node));
    let answers = |socket: PathBuf| {
        let mut client = Client::connect(&socket).ok()?;
        client.status().ok().map(|_| client)
    };
    others.filter_map(answers).next().map_or_else(|| connect(global), Ok)
}

/// The directory whose nodes are meant if no socket is named.
pub(super) fn directory(global: &Global) -> PathBuf {
    dev_directory(global).unwrap_or_else(|| PathBuf::from(SYSTEM_SOCKETS))
}

/// The shared disk of the nodes that are meant, if it can be found without asking one.
pub(super) fn known_disk(global: &Global) -> Option<PathBuf> {
    let of_socket = || socket(global).and_then(|socket| socket.parent().map(Path::to_owned));
    let directory = of_socket().unwrap_or_else(|| directory(global));
    let dev = directory.join(crate::dev::DISK);
    if dev.exists() {
        return Some(dev);
    }
    let configs = if directory == Path::new(SYSTEM_SOCKETS) { PathBuf::from(SYSTEM_CONFIGS) } else { directory };
    let entries = std::fs::read_dir(configs).into_iter().flatten().flatten();
    let mut files: Vec<PathBuf> =
        entries.map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|end| end == "toml")).collect();
    files.sort();
    let mut disks = files.iter().filter_map(|file| NodeConfig::load(file).ok()).map(|config| config.disk);
    disks.find(|disk| disk.exists())
}

fn any(directory: &Path) -> Result<(Client, Status), Exit> {
    let mut forbidden = None;
    if std::fs::read_dir(directory).is_err_and(|error| error.kind() == std::io::ErrorKind::PermissionDenied) {
        let text = format!("not allowed to look into {}", directory.display());
        forbidden = Some(Exit::code(EXIT_PRIVILEGE, text).hint("run this as the user that runs the nodes"));
    }
    for socket in sockets(directory) {
        match Client::connect(&socket).and_then(|mut client| client.status().map(|status| (client, status))) {
            Ok(found) => return Ok(found),
            Err(exit) if exit.code == EXIT_PRIVILEGE => forbidden = Some(exit),
            Err(_) => {} // another one may answer
        }
    }
    let text = format!("no node answers in {}", directory.display());
    Err(forbidden.unwrap_or_else(|| {
        Exit::code(EXIT_UNREACHABLE, text).hint("`phalanx dev` starts a cluster; `--dir` or `--socket` names another")
    }))
}

/// Sockets of the nodes of a directory, by name.
pub(super) fn sockets(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> = entries
        .map(|entry| entry.path())
        .filter(|path| {
            path.extension().is_some_and(|end| end == "sock") && path.file_stem().is_some_and(|name| name != "dev")
        })
        .collect();
    found.sort();
    found
}
