//! Follows a stream of answers of a daemon, and prints one line for each.

use std::io::Write;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use phalanx_messages::admin::{AdminAnswer, AdminRequest};
use serde::Serialize;

use super::args::Output;
use super::client::{Client, EXIT_UNREACHABLE};
use super::{Exit, interrupt};
use crate::containment::now;

/// The clock is looked at this often at least, in milliseconds.
const LOOK_MS: u64 = 60_000;

/// Gives every answer to `each` until `for_ms` milliseconds have passed, or until it is interrupted, which is no failure.
///
/// # Errors
/// What `each` says, what the daemon refuses, and 69 if the daemon ends.
pub(super) fn follow(
    client: Client,
    request: &AdminRequest,
    for_ms: Option<u64>,
    each: impl Fn(AdminAnswer) -> Result<(), Exit>,
) -> Result<(), Exit> {
    interrupt::ends_with(0, String::new())?;
    let until = for_ms.map(|ms| now().plus(ms));
    let answers = client.stream(request)?;
    let (sender, received) = channel();
    std::thread::spawn(move || answers.take_while(|answer| sender.send(answer.clone()).is_ok()).count());
    loop {
        let left_ms = until.map_or(LOOK_MS, |until| until.since(now()).min(LOOK_MS));
        match received.recv_timeout(Duration::from_millis(left_ms)) {
            Ok(AdminAnswer::Refused { code, text }) => return Err(Exit::code(code, text)),
            Ok(answer) => each(answer)?,
            Err(RecvTimeoutError::Timeout) if until.is_some_and(|until| now() >= until) => return Ok(()),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => {
                return Err(Exit::code(EXIT_UNREACHABLE, "the node that answered has ended")
                    .hint("`phalanx status` shows who runs"));
            }
        }
    }
}

/// Prints one line at once: one JSON value, so that a program can follow, or `text`. Ends the process if nobody reads any more.
///
/// # Errors
/// If there is no JSON for it.
pub(super) fn print_line(value: &impl Serialize, text: impl FnOnce() -> String, output: Output) -> Result<(), Exit> {
    let line = match output {
        Output::Json => serde_json::to_string(value).map_err(|error| Exit::error(error.to_string()))?,
        Output::Text => text(),
    };
    let mut stdout = anstream::stdout();
    if writeln!(stdout, "{line}").and_then(|()| stdout.flush()).is_err() {
        std::process::exit(0);
    }
    Ok(())
}
