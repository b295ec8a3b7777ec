//! `phalanx completions` and `phalanx man`: made from the commands themselves, so that they are never behind.

use std::path::Path;

use clap::CommandFactory;

use super::args::Cli;
use super::{Exit, schema};

pub(super) fn completions(shell: clap_complete::Shell) {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "phalanx", &mut text);
    anstream::print!("{}", String::from_utf8_lossy(&text));
}

fn failed(path: &Path, error: &std::io::Error) -> Exit {
    Exit::error(format!("failed to write to {}: {error}", path.display()))
}

pub(super) fn man(out: Option<&Path>) -> Result<(), Exit> {
    let Some(out) = out else {
        let mut page = Vec::new();
        let made = clap_mangen::Man::new(Cli::command()).render(&mut page);
        made.map_err(|error| Exit::error(format!("failed to make the page: {error}")))?;
        anstream::print!("{}", String::from_utf8_lossy(&page));
        return Ok(());
    };
    std::fs::create_dir_all(out).map_err(|error| failed(out, &error))?;
    clap_mangen::generate_to(Cli::command(), out).map_err(|error| failed(out, &error))?;
    anstream::println!("wrote the pages to {}", out.display());
    Ok(())
}

pub(super) fn schemas(out: &Path) -> Result<(), Exit> {
    std::fs::create_dir_all(out).map_err(|error| failed(out, &error))?;
    for (command, text) in schema::all()? {
        let path = out.join(schema::file_name(command));
        std::fs::write(&path, text).map_err(|error| failed(&path, &error))?;
    }
    Ok(())
}
