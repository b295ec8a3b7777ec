//! OCF resource agents: where they are, what they say of themselves, and how they are run (Open Cluster Framework, resource
//! agent API 1.1).
//!
//! Agents are used as they are. They are found below `$OCF_ROOT/resource.d`, `/usr/lib/ocf` if the variable is not set.

mod metadata;
pub mod run;

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::channel;
use std::time::Duration;

pub use metadata::{AgentAction, AgentParameter, Metadata};

/// Where agents are if nothing else is said.
const ROOT: &str = "/usr/lib/ocf";
/// An agent that has not described itself within this time is not asked any longer.
const DESCRIBES_WITHIN: Duration = Duration::from_secs(15);
/// Bytes of a description.
const DESCRIPTION_BYTES_MAX: u64 = 1024 * 1024;

/// Directory of everything of OCF on this host.
#[must_use]
pub fn root() -> PathBuf {
    std::env::var_os("OCF_ROOT").filter(|root| !root.is_empty()).map_or_else(|| PathBuf::from(ROOT), PathBuf::from)
}

/// The file of an agent.
#[must_use]
pub fn path(root: &Path, provider: &str, agent: &str) -> PathBuf {
    root.join("resource.d").join(provider).join(agent)
}

/// What an agent of this host says of itself.
///
/// # Errors
/// One sentence: it is not installed, cannot be run, or says something that cannot be understood.
pub fn metadata(provider: &str, agent: &str) -> Result<Metadata, String> {
    let root = root();
    let path = path(&root, provider, agent);
    if !path.is_file() {
        return Err(format!("agent ocf:{provider}:{agent} is not installed here: there is no {}", path.display()));
    }
    let text = describe(&root, &path, provider, agent)
        .map_err(|error| format!("agent ocf:{provider}:{agent} does not describe itself: {error}"))?;
    Metadata::parse(&text).map_err(|error| format!("the description of agent ocf:{provider}:{agent} is wrong: {error}"))
}

fn describe(root: &Path, path: &Path, provider: &str, agent: &str) -> Result<String, String> {
    let mut command = Command::new(path);
    command.arg("meta-data").envs(run::surroundings(root, provider, agent, "meta-data"));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().map_err(|error| error.to_string())?;
    let Some(stdout) = child.stdout.take() else { return Err("it has no output".to_owned()) };
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        let mut text = String::new();
        let read = stdout.take(DESCRIPTION_BYTES_MAX).read_to_string(&mut text);
        sender.send(read.map(|_| text).map_err(|error| error.to_string())).ok(); // nobody waits any longer
    });
    let text = receiver.recv_timeout(DESCRIBES_WITHIN);
    if text.is_err() {
        child.kill().ok();
    }
    let status = child.wait().map_err(|error| error.to_string())?;
    match text {
        Ok(Ok(text)) if status.success() => Ok(text),
        Ok(Ok(_)) => Err(format!("it ended with {status}")),
        Ok(Err(error)) => Err(error),
        Err(_) => Err(format!("it takes longer than {} s", DESCRIBES_WITHIN.as_secs())),
    }
}

/// Every agent of this host, as `ocf:PROVIDER:TYPE`, in order.
#[must_use]
pub fn installed() -> Vec<String> {
    let entries = |directory: &Path| {
        let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
        let named = |entry: std::fs::DirEntry| Some((entry.file_name().into_string().ok()?, entry.path()));
        entries.filter_map(named).filter(|(name, _)| !name.starts_with('.')).collect::<BTreeMap<_, _>>()
    };
    let providers = entries(&root().join("resource.d"));
    let agents = providers.iter().flat_map(|(provider, directory)| {
        let files = entries(directory).into_iter().filter(|(_, path)| is_program(path));
        files.map(move |(agent, _)| format!("ocf:{provider}:{agent}"))
    });
    agents.collect()
}

fn is_program(path: &Path) -> bool {
    path.is_file() && rustix::fs::access(path, rustix::fs::Access::EXEC_OK).is_ok()
}
