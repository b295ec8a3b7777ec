//! OCF resource agents: where they are, what they say of themselves, and how they are run (Open Cluster Framework, resource
//! agent API 1.1).
//!
//! Agents are used as they are. They are found below `$OCF_ROOT/resource.d`, `/usr/lib/ocf` if the variable is not set.

mod metadata;
pub mod run;
#[cfg(feature = "systemd-dbus")]
mod systemd;
mod validate;

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc::channel;
use std::time::Duration;

pub use metadata::{AgentAction, AgentParameter, Metadata};
pub use validate::{Refusal, refusal};

/// Where agents are if nothing else is said.
const ROOT: &str = "/usr/lib/ocf";
/// An agent that has not described itself, or judged its parameters, within this time is not asked any longer.
const ANSWERS_WITHIN: Duration = Duration::from_secs(15);
/// Bytes of what it says.
const ANSWER_BYTES_MAX: u64 = 1024 * 1024;

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
    let (output, end) = std::io::pipe().map_err(|error| error.to_string())?;
    let mut command = Command::new(path);
    command.arg("meta-data").envs(run::surroundings(root, provider, agent, "meta-data"));
    command.stdout(end).stderr(Stdio::null());
    match heard(command, output)? {
        (status, text) if status.success() => Ok(text),
        (status, _) => Err(format!("it ended with {status}")),
    }
}

/// Runs a command that says something into the other end of `output`, until nobody can say more. It may take no longer than
/// [`ANSWERS_WITHIN`].
fn heard(mut command: Command, output: impl Read + Send + 'static) -> Result<(ExitStatus, String), String> {
    let mut child = command.stdin(Stdio::null()).spawn().map_err(|error| error.to_string())?;
    drop(command); // it holds the writing end
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        let mut text = Vec::new();
        let read = output.take(ANSWER_BYTES_MAX).read_to_end(&mut text);
        sender.send(read.map(|_| text).map_err(|error| error.to_string())).ok(); // nobody waits any longer
    });
    let text = receiver.recv_timeout(ANSWERS_WITHIN);
    if text.is_err() {
        child.kill().ok();
    }
    let status = child.wait().map_err(|error| error.to_string())?;
    match text {
        Ok(text) => Ok((status, String::from_utf8_lossy(&text?).into_owned())),
        Err(_) => Err(format!("it takes longer than {} s", ANSWERS_WITHIN.as_secs())),
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
