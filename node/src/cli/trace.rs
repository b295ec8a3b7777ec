//! `phalanx trace`: one transition as all nodes saw it, and who was late.

mod perfetto;
mod text;

use phalanx_messages::{Term, TransitionId};

use super::args::{Global, Output, TraceFormat};
use super::{Exit, locate, print};

/// Exit code "usage".
const EXIT_USAGE: u8 = 2;

pub(super) fn run(which: &str, format: Option<TraceFormat>, global: &Global) -> Result<(), Exit> {
    let which = parse(which)?;
    let hint = "`phalanx trace last` shows the newest";
    let trace = locate::connect(global)?.trace(which).map_err(|exit| match exit.code {
        super::show::EXIT_UNKNOWN => exit.hint(hint),
        _ => exit,
    })?;
    let format = format.unwrap_or(match global.output {
        Output::Text => TraceFormat::Text,
        Output::Json => TraceFormat::Json,
    });
    match format {
        TraceFormat::Text => anstream::print!("{}", text::text(&trace)),
        TraceFormat::Json => anstream::println!("{}", print::json(&trace)?),
        TraceFormat::Perfetto => anstream::println!("{}", print::json(&perfetto::events(&trace))?),
    }
    Ok(())
}

/// `None` = the newest.
fn parse(which: &str) -> Result<Option<TransitionId>, Exit> {
    if which == "last" {
        return Ok(None);
    }
    let id = || {
        let (term, counter) = which.split_once('.')?;
        Some(TransitionId { term: Term(term.parse().ok()?), counter: counter.parse().ok()? })
    };
    let text = || format!("`{which}` is no transition: `last`, or an id such as 3.17");
    id().map(Some).ok_or_else(|| Exit::code(EXIT_USAGE, text()).hint("`phalanx status` shows those that run"))
}

/// Whose part in a step is shown where: a level and barrier for people, who count barriers from 1.
fn stop(level: u16, name: &str, barrier: u8) -> String {
    let name = if name.is_empty() { String::new() } else { format!(" ({name})") };
    format!("level {level}{name} barrier {}", barrier + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transition_is_named_as_status_shows_it() {
        assert_eq!(parse("last").unwrap(), None);
        assert_eq!(parse("3.17").unwrap(), Some(TransitionId { term: Term(3), counter: 17 }));
        for wrong in ["", "3", "3.", ".17", "3.x", "newest"] {
            assert_eq!(parse(wrong).unwrap_err().code, EXIT_USAGE, "{wrong}");
        }
    }
}
