//! Waiting for what a start needs: disk, bind address, id lock (architecture §4, "Start and stop").

use crate::containment::{now, pause};

/// Between two attempts, in milliseconds.
const RETRY_MS: u64 = 50;
/// Between two lines while waiting, in milliseconds.
const LINE_MS: u64 = 30_000;

/// Whether there is time, and what ends the waiting.
#[derive(Clone, Copy)]
pub struct Patience<'a> {
    /// Fail instead of waiting.
    pub no_wait: bool,
    /// True once the administrator has asked for the end.
    pub ended: &'a dyn Fn() -> bool,
}

impl Patience<'static> {
    /// Waits until it is killed, or not at all.
    #[must_use]
    pub const fn endless(no_wait: bool) -> Self {
        Self { no_wait, ended: &|| false }
    }
}

/// Why what was needed was not had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unmet {
    /// Time does not help.
    Never(String),
    /// It would have been waited for.
    NotNow(String),
    /// The administrator asked for the end meanwhile.
    Ended(String),
}

impl Unmet {
    /// For the administrator.
    #[must_use]
    pub fn text(self) -> String {
        match self {
            Self::Never(text) | Self::NotNow(text) | Self::Ended(text) => text,
        }
    }
}

/// Asks `probe` until it gives something, with one line when waiting starts, every 30 s, and when it ends.
///
/// # Errors
/// What `probe` fails with, what would have been waited for, or the administrator's wish. `Ok(Err(why))` of `probe` means:
/// not yet.
pub fn wait_for<T>(
    what: &str,
    patience: Patience<'_>,
    mut probe: impl FnMut() -> Result<Result<T, String>, String>,
) -> Result<T, Unmet> {
    let begun = now();
    let mut lines = 0;
    loop {
        let why = match probe().map_err(Unmet::Never)? {
            Ok(value) => {
                if lines > 0 {
                    eprintln!("{what}: here after {} ms", now().since(begun));
                }
                return Ok(value);
            }
            Err(why) if patience.no_wait => return Err(Unmet::NotNow(format!("{what}: {why}"))),
            Err(why) => why,
        };
        if now().since(begun) >= lines * LINE_MS {
            lines += 1;
            eprintln!("waiting for {what}: {why}");
        }
        if (patience.ended)() {
            return Err(Unmet::Ended(format!("ended while waiting for {what}")));
        }
        pause(RETRY_MS);
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn it_waits_until_it_is_there_and_not_longer_than_it_may() {
        let left = Cell::new(2);
        let probe = || {
            left.set(left.get() - 1);
            Ok(if left.get() == 0 { Ok("here") } else { Err("busy".to_owned()) })
        };
        assert_eq!(wait_for("it", Patience::endless(false), probe), Ok("here"));

        let busy = || Ok(Err::<(), _>("busy".to_owned()));
        assert_eq!(wait_for("it", Patience::endless(true), busy), Err(Unmet::NotNow("it: busy".to_owned())));
        let ended = Patience { no_wait: false, ended: &|| true };
        assert_eq!(wait_for("it", ended, busy), Err(Unmet::Ended("ended while waiting for it".to_owned())));
        let wrong = || Err::<Result<(), String>, _>("no format".to_owned());
        assert_eq!(wait_for("it", Patience::endless(false), wrong), Err(Unmet::Never("no format".to_owned())));
    }
}
