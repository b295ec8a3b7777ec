//! The `phalanx` binary: a thin shell over the library.

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    if let Err(error) = phalanx_node::mapping_guard::install() {
        eprintln!("warning: a fault in the mapping of the shared disk will not be named: {error}");
    }
    ExitCode::from(phalanx_node::cli::run(phalanx_node::cli::Cli::parse()))
}
