//! Commands that show what the daemons know.

use phalanx_messages::admin::Status;

use super::args::{Global, Output, StatusArguments};
use super::client::EXIT_UNREACHABLE;
use super::{Exit, disk_status, locate, print};

/// Exit code "no such node or service".
pub(super) const EXIT_UNKNOWN: u8 = 105;

pub(super) fn status(arguments: &StatusArguments, global: &Global) -> Result<(), Exit> {
    if arguments.watch {
        return super::watch::watch(arguments.for_ms, global);
    }
    let status = match &arguments.disk {
        Some(disk) => disk_status::read(disk, "`--disk` names it")?,
        None => look(global)?,
    };
    match global.output {
        Output::Json => anstream::println!("{}", print::json(&status)?),
        Output::Text => anstream::print!("{}", print::status(&status)),
    }
    Ok(())
}

/// The status as a daemon knows it; if none answers, what the disk alone says, where there is one that we know of.
pub(super) fn look(global: &Global) -> Result<Status, Exit> {
    let why = match locate::connect(global).and_then(|mut client| client.status()) {
        Ok(status) => return Ok(status),
        Err(exit) if exit.code == EXIT_UNREACHABLE => exit,
        Err(exit) => return Err(exit),
    };
    match locate::known_disk(global) {
        Some(disk) => disk_status::read(&disk, &why.text),
        None => Err(why),
    }
}
