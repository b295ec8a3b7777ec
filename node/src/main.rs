//! The `phalanx` binary: a thin shell over the library.

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    ExitCode::from(phalanx_node::cli::run(phalanx_node::cli::Cli::parse()))
}
