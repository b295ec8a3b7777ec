//! Ctrl-C in a command that waits or follows: the cluster is not touched, only the watching ends.

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use super::Exit;

/// Exit code of a shell for what Ctrl-C ended.
pub(super) const EXIT_INTERRUPTED: u8 = 130;

/// From here on Ctrl-C says `text`, if there is some, and ends this process with `code`.
pub(super) fn ends_with(code: u8, text: String) -> Result<(), Exit> {
    let signals = signal_hook::iterator::Signals::new([SIGINT, SIGTERM, SIGHUP]);
    let mut signals = signals.map_err(|error| Exit::error(format!("failed to watch signals: {error}")))?;
    std::thread::spawn(move || {
        if signals.forever().next().is_some() {
            if !text.is_empty() {
                anstream::eprintln!("{text}");
            }
            std::process::exit(i32::from(code));
        }
    });
    Ok(())
}
