//! `phalanx agent-run AGENT ACTION`: becomes the agent. The warden runs it as the command of a service.
//!
//! What is the same on every node (`OCF_RESKEY_*`, the name of the instance) comes in the environment; what is this host's own
//! is added here. An OCF agent takes this process over, so its exit status is the command's. A systemd unit is asked through
//! `systemctl`, or with the feature `systemd-dbus` directly; the answers are turned into the same exit statuses.

use std::collections::BTreeMap;
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use phalanx_messages::service::AgentClass;

/// OCF_NOT_RUNNING: it is not there, and was stopped cleanly.
pub const NOT_RUNNING: u8 = 7;
/// OCF_ERR_INSTALLED: the agent is not on this host.
const NOT_INSTALLED: u8 = 5;
/// OCF_ERR_ARGS.
const WRONG_ARGUMENTS: u8 = 2;
/// OCF_ERR_GENERIC.
const FAILED: u8 = 1;
/// Last lines of a refusing agent that are kept beside its reason.
const REFUSAL_LINES: usize = 3;
/// Where agents keep what must not outlive a boot.
const SCRATCH: &str = "/run/resource-agents";

/// The body of the command. Gives an exit status if nothing took this process over.
#[must_use]
pub fn run(agent: &str, action: &str) -> u8 {
    match agent.parse() {
        Ok(AgentClass::Ocf { provider, agent }) => run_ocf(&provider, &agent, action),
        Ok(AgentClass::Systemd { unit }) => run_unit(&unit, action),
        Ok(AgentClass::Actor { name }) => said(&format!("{name} is an actor of an application"), WRONG_ARGUMENTS),
        Err(error) => said(&format!("the agent {error}"), WRONG_ARGUMENTS),
    }
}

fn said(text: &str, status: u8) -> u8 {
    eprintln!("{text}");
    status
}

fn run_ocf(provider: &str, agent: &str, action: &str) -> u8 {
    let root = super::root();
    let path = super::path(&root, provider, agent);
    if !path.is_file() {
        let text =
            format!("agent ocf:{provider}:{agent} is not installed on this node: there is no {}", path.display());
        return said(&text, NOT_INSTALLED);
    }
    if let Err(error) = make_scratch(&scratch()) {
        eprintln!("failed to make {}: {error}", scratch().display()); // the agent may not need it
    }
    if action == "start"
        && let Some(status) = refused(&root, provider, agent)
    {
        return status;
    }
    let error = Command::new(&path).arg(action).envs(surroundings(&root, provider, agent, action)).exec();
    said(&format!("failed to run {}: {error}", path.display()), FAILED)
}

/// Before a start the agent is asked what it thinks of its parameters on this node (`validate-all`); the environment has them.
fn refused(root: &Path, provider: &str, agent: &str) -> Option<u8> {
    let refusal = super::validate::refusal_in(root, provider, agent, &BTreeMap::new())?;
    // The reason first: of a failure's text the head is kept.
    eprintln!("ocf:{provider}:{agent} refuses to be started like that (validate-all): {}", refusal.words);
    let lines: Vec<&str> = refusal.output.lines().collect();
    lines[lines.len().saturating_sub(REFUSAL_LINES)..].iter().for_each(|line| eprintln!("{line}"));
    Some(u8::try_from(refusal.status).unwrap_or(FAILED))
}

/// What an agent expects in its environment beside its parameters.
pub(super) fn surroundings(root: &Path, provider: &str, agent: &str, action: &str) -> Vec<(&'static str, String)> {
    let path = std::env::var("PATH").unwrap_or_default();
    let mut directories: Vec<&str> = path.split(':').filter(|directory| !directory.is_empty()).collect();
    for needed in ["/usr/sbin", "/sbin", "/usr/bin", "/bin"] {
        if !directories.contains(&needed) {
            directories.push(needed);
        }
    }
    vec![
        ("OCF_ROOT", root.to_string_lossy().into_owned()),
        ("OCF_RA_VERSION_MAJOR", "1".to_owned()),
        ("OCF_RA_VERSION_MINOR", "1".to_owned()),
        ("OCF_RESOURCE_PROVIDER", provider.to_owned()),
        ("OCF_RESOURCE_TYPE", agent.to_owned()),
        ("__OCF_ACTION", action.to_owned()),
        ("HA_RSCTMP", scratch().to_string_lossy().into_owned()),
        ("HA_LOGFACILITY", "none".to_owned()), // to stderr alone, which is the service's output
        ("HA_debug", "0".to_owned()),
        ("LC_ALL", "C".to_owned()),
        ("PATH", directories.join(":")),
    ]
}

fn scratch() -> PathBuf {
    std::env::var_os("HA_RSCTMP").map_or_else(|| PathBuf::from(SCRATCH), PathBuf::from)
}

/// As the package of the agents makes it: anybody may write, nobody removes what others wrote.
fn make_scratch(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    std::fs::DirBuilder::new().recursive(true).mode(0o755).create(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o1777))
}

/// Over D-Bus.
#[cfg(feature = "systemd-dbus")]
fn run_unit(unit: &str, action: &str) -> u8 {
    use super::systemd::{UnitAction, UnitAnswer, ask};
    let action = match action {
        "start" => UnitAction::Start,
        "stop" => UnitAction::Stop,
        "monitor" => UnitAction::Monitor,
        other => return no_such_action(other),
    };
    match ask(unit, action) {
        UnitAnswer::Well => 0,
        UnitAnswer::NotRunning(text) => said(&text, NOT_RUNNING),
        UnitAnswer::Unknown(text) => said(&text, NOT_INSTALLED),
        UnitAnswer::Failed(text) => said(&text, FAILED),
    }
}

fn no_such_action(action: &str) -> u8 {
    said(&format!("a systemd unit has no action {action}"), WRONG_ARGUMENTS)
}

/// By the command of systemd.
#[cfg(not(feature = "systemd-dbus"))]
fn run_unit(unit: &str, action: &str) -> u8 {
    let systemctl = |words: &[&str]| Command::new("systemctl").args(words).arg(unit).status();
    let status = match action {
        "start" | "stop" => systemctl(&[action]),
        "monitor" => systemctl(&["is-active", "--quiet"]),
        other => return no_such_action(other),
    };
    match status {
        Ok(status) if status.success() => 0,
        // `is-active`: 3 = it is not, 4 = there is no such unit.
        Ok(status) if action == "monitor" && status.code() == Some(3) => {
            said(&format!("unit {unit} is not active"), NOT_RUNNING)
        }
        Ok(status) => said(&format!("systemctl {action} {unit}: {status}"), FAILED),
        Err(error) => said(&format!("failed to run systemctl: {error}"), NOT_INSTALLED),
    }
}
