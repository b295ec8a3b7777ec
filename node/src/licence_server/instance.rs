//! Brings an instance up in the background, and tells whether another one still lives.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{ChildStdout, Command, Stdio};

use anyhow::{Context, bail};
use rustix::fs::{FlockOperation, flock};

/// What an instance says on its standard output once it answers.
pub(super) const READY: &str = "ready";
/// Held by an instance as long as it lives. Only looked at, never waited for.
const LIVING: &str = "licences.living";

/// Starts an instance for the registration named by the environment; returns when it answers.
pub(super) fn start(state: &Path, port: u16) -> anyhow::Result<()> {
    let (node, generation) = (super::variable("PHALANX_NODE")?, super::variable("PHALANX_GENERATION")?);
    let log = state.join(format!("licences-{node}.log"));
    let errors = File::options().create(true).append(true).open(&log);
    let errors = errors.with_context(|| format!("failed to open {}", log.display()))?;
    let program = std::env::current_exe().context("this program has no path")?;
    let mut command = Command::new(program);
    command.args(["licence-server", "run", "--on-node", &node, "--generation", &generation, "--state"]).arg(state);
    command.args(["--port", &port.to_string()]);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(errors).process_group(0);
    let mut child = command.spawn().context("failed to start the instance")?;
    if child.stdout.take().is_some_and(|output| is_ready(output).unwrap_or(false)) {
        return Ok(());
    }
    let status = child.wait().context("failed to wait for the instance")?;
    let text = std::fs::read_to_string(&log).unwrap_or_default();
    bail!("the instance ended ({status}): {}", text.lines().last().unwrap_or("it said nothing"))
}

fn is_ready(output: ChildStdout) -> io::Result<bool> {
    let mut line = String::new();
    BufReader::new(output).read_line(&mut line)?;
    Ok(line.trim_end() == READY)
}

/// The mark of a living instance; goes with the process, however it ends.
#[derive(Debug)]
pub(super) struct Living {
    _file: File,
    /// Another instance lives.
    pub overlap: bool,
}

impl Living {
    /// Marks this process as a living instance.
    pub fn mark(state: &Path) -> io::Result<Self> {
        let file = File::options().create(true).truncate(false).write(true).open(state.join(LIVING))?;
        let overlap = match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => false,
            Err(rustix::io::Errno::WOULDBLOCK) => true,
            Err(error) => return Err(error.into()),
        };
        Ok(Self { _file: file, overlap })
    }
}
