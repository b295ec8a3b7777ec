//! The command line (architecture §5).
//!
//! Results on stdout, talk on stderr, `--output text|json` on every command that prints state, exit codes of the contract.
//! Nothing is listed that is not built.

mod agent;
mod apply;
mod apply_events;
mod args;
pub mod client;
mod config_text;
mod configuration;
pub(crate) mod disk;
mod disk_status;
mod event;
mod exit;
mod fence;
mod follow;
mod init;
mod interrupt;
mod key;
mod locate;
mod logs;
mod manual;
mod membership;
pub(crate) mod node;
mod order;
mod play;
pub mod print;
pub mod report;
pub mod schema;
mod service;
mod show;
mod simulate;
mod subsystem;
mod timing;
mod trace;
mod watch;

pub use args::{Cli, DevArguments, Output};
pub use exit::Exit;
pub use locate::{default_dev_directory, node_socket};

use args::Command;
pub use membership::parse_panic;

/// Runs one command line and gives its exit code.
#[must_use]
pub fn run(cli: Cli) -> u8 {
    end_quietly_without_a_reader();
    match dispatch(cli) {
        Ok(code) => code,
        Err(exit) => exit.report(),
    }
}

/// `phalanx ... | head` is no mistake: a print that nobody reads any more ends the command, without a word.
fn end_quietly_without_a_reader() {
    let default = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let text = panic.payload().downcast_ref::<String>().map(String::as_str).unwrap_or_default();
        if text.starts_with("failed printing to std") && text.contains("Broken pipe") {
            std::process::exit(0);
        }
        default(panic);
    }));
}

fn dispatch(cli: Cli) -> Result<u8, Exit> {
    let Cli { global, command } = cli;
    match command {
        Command::Dev(arguments) => crate::dev::run(arguments, global.dir),
        Command::Node(command) => node::run(command, &global),
        Command::Service(command) => service::run(command, &global).map(|()| 0),
        Command::Event(command) => event::run(command, &global).map(|()| 0),
        Command::Simulate(arguments) => simulate::simulate(&arguments, &global).map(|()| 0),
        Command::Explain { service } => service::explain(&service, &global).map(|()| 0),
        Command::Init(arguments) => init::run(&arguments).map(|()| 0),
        Command::Status(arguments) => show::status(&arguments, &global).map(|()| 0),
        Command::Logs(arguments) => logs::logs(&arguments, &global).map(|()| 0),
        Command::Completions { shell } => {
            manual::completions(shell);
            Ok(0)
        }
        Command::Man { out } => manual::man(out.as_deref()).map(|()| 0),
        Command::Schemas { out } => manual::schemas(&out).map(|()| 0),
        Command::Trace { which, format } => trace::run(&which, format, &global).map(|()| 0),
        Command::Kill { node, what, for_ms } => play::kill(&node, what, for_ms, &global).map(|()| 0),
        Command::Start { node, for_ms } => play::start(&node, for_ms, &global).map(|()| 0),
        Command::Subsystem(command) => subsystem::run(command, &global).map(|()| 0),
        Command::Disk(command) => disk::run(command, &global).map(|()| 0),
        Command::Timing(arguments) => timing::run(&arguments, &global).map(|()| 0),
        Command::Config(command) => config(command, &global).map(|()| 0),
        Command::Key(command) => key::run(command, &global).map(|()| 0),
        Command::Fence(arguments) => fence_command(arguments, &global).map(|()| 0),
        Command::LicenceServer(command) => crate::licence_server::run(command).map(|_| 0).map_err(Exit::from),
        Command::Agent(command) => agent::run(command, &global).map(|()| 0),
        Command::AgentRun { agent, action } => Ok(crate::ocf::run::run(&agent, &action)),
        Command::Keeper { arguments } => Ok(crate::warden::keeper_main(&arguments)),
    }
}

fn config(command: args::ConfigCommand, global: &args::Global) -> Result<(), Exit> {
    match command {
        args::ConfigCommand::Check { file } => node::check(&file),
        args::ConfigCommand::Show { disk } => configuration::show(disk.as_deref(), global),
        args::ConfigCommand::Apply { file, dry_run, prune } => configuration::apply(&file, dry_run, prune, global),
    }
}

fn fence_command(arguments: args::FenceArguments, global: &args::Global) -> Result<(), Exit> {
    let args::FenceArguments { command, node, reason, force, limit_ms } = arguments;
    match (command, node) {
        (Some(args::FenceCommand::Confirm { node, force, limit_ms }), _) => {
            fence::confirm(&node, force, limit_ms, global)
        }
        (None, Some(node)) => fence::fence(&node, &reason, force, limit_ms, global),
        (None, None) => Err(Exit::code(2, "which node?").hint("`phalanx fence NODE`")),
    }
}
