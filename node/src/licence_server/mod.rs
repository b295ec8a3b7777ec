//! The demo service of `dev`: a floating licence server, the spec's own example ("provide a floating license server").
//!
//! `start` brings an instance up and returns when it answers; `run` is that instance; `recover` takes back what a dead instance
//! had granted. What is granted stands in a journal that all nodes share, so it is the same before and after a move. Each
//! instance writes one line when it comes up; if another one still lives it writes that too, so that the journal proves that
//! no two ever ran. Nothing here prevents two instances: that is the cluster's task, and the journal tells if it failed.

mod instance;
mod journal;
mod ledger;
mod server;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::Subcommand;

pub use journal::{Entry, Event, JOURNAL, Journal};
pub use ledger::Ledger;

/// Licences that can be out at a time.
const LICENCES: usize = 100;

/// `phalanx licence-server ...`: run by the cluster, not by people.
#[derive(Debug, Clone, Subcommand)]
pub enum LicenceServerCommand {
    /// Start an instance on this node; returns when it answers.
    Start {
        /// Directory of the journal.
        #[arg(long, value_name = "DIR")]
        state: PathBuf,
        /// Port on the loopback address.
        #[arg(long)]
        port: u16,
    },
    /// Be an instance.
    Run {
        /// Name of the node, told in every answer.
        #[arg(long = "on-node")]
        node: String,
        /// Fencing token of the registration, told in every answer.
        #[arg(long)]
        generation: String,
        /// Directory of the journal.
        #[arg(long, value_name = "DIR")]
        state: PathBuf,
        /// Port on the loopback address.
        #[arg(long)]
        port: u16,
    },
    /// Take back what the instance of a dead node had granted.
    Recover {
        /// Directory of the journal.
        #[arg(long, value_name = "DIR")]
        state: PathBuf,
    },
}

/// Carries a command out.
///
/// # Errors
/// What the administrator reads: it ends in the reason why the service is not running.
pub fn run(command: LicenceServerCommand) -> anyhow::Result<ExitCode> {
    match command {
        LicenceServerCommand::Start { state, port } => instance::start(&state, port)?,
        LicenceServerCommand::Run { node, generation, state, port } => {
            server::run(&server::Settings { node, generation, state, port, licences: LICENCES })?;
        }
        LicenceServerCommand::Recover { state } => {
            let dead = Dead { victim: variable("PHALANX_VICTIM")?, generation: variable("PHALANX_GENERATION")? };
            let released = recover(&state, &variable("PHALANX_NODE")?, &dead, &variable("PHALANX_OPERATION")?)?;
            println!("took back {released} licences");
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The instance whose licences are taken back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dead {
    /// Node it ran on.
    pub victim: String,
    /// Registration that was lost; the recovery command of the cluster is given the same.
    pub generation: String,
}

/// Takes back what a dead instance had granted, on behalf of `node`. A repeat of the same operation changes nothing.
///
/// # Errors
/// If the journal cannot be read or written.
pub fn recover(state: &Path, node: &str, dead: &Dead, operation: &str) -> anyhow::Result<usize> {
    let mut journal = Journal::open(state).context("failed to open the journal")?;
    let entries = journal.read().context("failed to read the journal")?;
    if entries.iter().any(|entry| entry.recovered_by(operation)) {
        return Ok(0);
    }
    let licences = Ledger::replay(&entries, LICENCES).granted_by(&dead.generation);
    let released = licences.len();
    let event = Event::Recovered { victim: dead.victim.clone(), operation: operation.to_owned(), licences };
    journal.append(&Entry::now(node, &dead.generation, event)).context("failed to write the journal")?;
    Ok(released)
}

/// A variable that the cluster gives to every command of a service.
fn variable(name: &str) -> anyhow::Result<String> {
    std::env::var(name).with_context(|| format!("{name} is not set; the cluster sets it for the commands of a service"))
}

#[cfg(test)]
mod tests;
