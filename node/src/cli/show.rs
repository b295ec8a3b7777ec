//! Commands that show what the daemons know.

use phalanx_messages::admin::Trace;

use super::args::{Global, Output};
use super::{Exit, locate, print};

/// Exit code "no such node or service".
pub(super) const EXIT_UNKNOWN: u8 = 105;

pub(super) fn status(global: &Global) -> Result<(), Exit> {
    let status = locate::connect(global)?.status()?;
    match global.output {
        Output::Json => anstream::println!("{}", print::json(&status)?),
        Output::Text => anstream::print!("{}", print::status(&status)),
    }
    Ok(())
}

pub(super) fn trace(which: &str, format: Option<Output>, global: &Global) -> Result<(), Exit> {
    let traces: Vec<Trace> = locate::connect(global)?.traces()?;
    let found = match which {
        "last" => traces.last(),
        id => traces.iter().rev().find(|trace| trace.id == id),
    };
    let Some(found) = found else {
        let text = format!("the answering node keeps no transition `{which}`");
        return Err(Exit::code(EXIT_UNKNOWN, text).hint("`phalanx trace last` shows the newest"));
    };
    match format.unwrap_or(global.output) {
        Output::Json => anstream::println!("{}", print::json(found)?),
        Output::Text => anstream::print!("{}", print::trace(found)),
    }
    Ok(())
}
