//! Programs that a test writes and then has run.

use std::path::Path;
use std::process::Command;

/// Writes an executable file, by way of another process: while this one had it open for writing, a command that another thread
/// starts would inherit it for a moment, and the kernel runs no program that somebody has open for writing ("Text file busy").
///
/// # Panics
/// If it cannot be written.
pub fn write_program(file: &Path, text: &str) {
    let draft = file.with_extension("draft");
    std::fs::write(&draft, text).expect("written");
    let installed = Command::new("install").args(["-m", "755"]).args([&draft, file]).status();
    assert!(installed.expect("there is install").success(), "{} is written", file.display());
    std::fs::remove_file(&draft).expect("removed");
}
