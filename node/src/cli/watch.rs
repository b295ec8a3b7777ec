//! `phalanx status --watch`: the status again whenever something changes, from whichever node answers.
//!
//! On a terminal it is drawn in place; on a pipe each changed status follows the last, as text or as a line of JSON. What the
//! answering node reports makes it look at once; a slow poll sees the rest. When that node ends, another one is asked.

use std::io::{IsTerminal, Write};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use phalanx_messages::Instant;
use phalanx_messages::admin::Status;

use super::args::{Global, Output};
use super::client::EXIT_UNREACHABLE;
use super::{Exit, interrupt, locate, print, show};
use crate::containment::{now, pause};

/// Between two looks when nothing is reported, in milliseconds.
const POLL_MS: u64 = 1_000;
/// Between two looks while no daemon answers, in milliseconds.
const RETRY_MS: u64 = 200;
/// What is reported within this time is shown at once, in milliseconds: a transition says many things in a moment.
const GATHER_MS: u64 = 20;

/// Watches until Ctrl-C, or for `for_ms`.
pub(super) fn watch(for_ms: Option<u64>, global: &Global) -> Result<(), Exit> {
    interrupt::ends_with(0, String::new())?;
    let until = for_ms.map(|ms| now().plus(ms));
    let mut screen = Screen::new(global.output);
    let mut happenings = None;
    screen.show(&show::look(global)?)?; // nobody at all is an error only here
    while until.is_none_or(|until| now() < until) {
        if happenings.is_none() {
            happenings = follow(global);
        }
        wait(&mut happenings, until);
        match show::look(global) {
            Ok(status) => screen.show(&status)?,
            Err(exit) if exit.code == EXIT_UNREACHABLE => screen.nobody(&exit),
            Err(exit) => return Err(exit),
        }
    }
    Ok(())
}

/// Hears of everything that some node reports; its end closes the channel.
fn follow(global: &Global) -> Option<Receiver<()>> {
    let reports = locate::connect(global).ok()?.follow(false).ok()?;
    let (sender, received) = channel();
    std::thread::spawn(move || reports.take_while(|_| sender.send(()).is_ok()).count());
    Some(received)
}

fn wait(happenings: &mut Option<Receiver<()>>, until: Option<Instant>) {
    let left = until.map_or(u64::MAX, |until| until.since(now()));
    let Some(received) = happenings else { return pause(RETRY_MS.min(left)) };
    match received.recv_timeout(Duration::from_millis(POLL_MS.min(left))) {
        Ok(()) => {
            pause(GATHER_MS);
            received.try_iter().count();
        }
        Err(RecvTimeoutError::Timeout) => {}
        Err(RecvTimeoutError::Disconnected) => {
            *happenings = None;
            pause(GATHER_MS); // its socket goes just after
        }
    }
}

/// Where it is shown, and what was shown last.
struct Screen {
    output: Output,
    in_place: bool,
    shown: Option<Status>,
    alone: bool,
}

impl Screen {
    fn new(output: Output) -> Self {
        let in_place = output == Output::Text && std::io::stdout().is_terminal();
        Self { output, in_place, shown: None, alone: false }
    }

    fn show(&mut self, status: &Status) -> Result<(), Exit> {
        self.alone = false;
        let steady = Some(without_ages(status));
        if self.in_place || self.shown != steady {
            self.shown = steady;
            self.print(status)?;
        }
        Ok(())
    }

    fn print(&self, status: &Status) -> Result<(), Exit> {
        let text = match self.output {
            Output::Json => serde_json::to_string(status).map_err(|error| Exit::error(error.to_string()))? + "\n",
            Output::Text if self.in_place => in_place(&print::status(status)),
            Output::Text => print::status(status) + "\n",
        };
        let mut stdout = anstream::stdout();
        if stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()).is_err() {
            std::process::exit(0); // whoever read it has gone
        }
        Ok(())
    }

    fn nobody(&mut self, exit: &Exit) {
        if !self.alone {
            self.alone = true;
            self.shown = None;
            anstream::eprintln!("{}; still looking", exit.text);
        }
    }
}

/// Without what changes though nothing happens.
fn without_ages(status: &Status) -> Status {
    let mut status = status.clone();
    status.disk.heartbeat_age_ms = 0;
    status.transitions.iter_mut().for_each(|transition| transition.elapsed_ms = 0);
    status
}

/// From the top of the terminal, over what stood there.
fn in_place(text: &str) -> String {
    let lines: String = text.lines().map(|line| format!("{line}\x1b[K\n")).collect();
    format!("\x1b[H{lines}\x1b[J")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_no_change_and_every_line_is_cleared_to_its_end() {
        let mut status = Status::default();
        status.disk.heartbeat_age_ms = 7;
        assert_eq!(without_ages(&status), Status::default());
        status.term = 1;
        assert_ne!(without_ages(&status), Status::default());
        assert_eq!(in_place("a\nb\n"), "\x1b[Ha\x1b[K\nb\x1b[K\n\x1b[J");
    }
}
