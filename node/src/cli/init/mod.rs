//! `phalanx init`: the files of a new cluster. Everything is checked before anything is written.

mod plan;

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use phalanx_actors::interconnect::{ClusterKey, ClusterKeys};
use phalanx_messages::limits::NODES_DEFAULT;

use super::Exit;
use super::args::InitArguments;
use plan::Plan;

/// Exit code "refused without --force".
const EXIT_REFUSED: u8 = 107;

pub(super) fn run(arguments: &InitArguments) -> Result<(), Exit> {
    let plan = Plan::new(arguments)?;
    let files = plan.files()?;
    let key = plan.key_file();
    let there: Vec<String> = files
        .iter()
        .map(|(path, _)| path)
        .chain([&key])
        .filter(|path| path.exists())
        .map(|path| path.display().to_string())
        .collect();
    if !there.is_empty() && !arguments.force {
        return Err(Exit::code(EXIT_REFUSED, format!("already there: {}", there.join(", ")))
            .hint("`--out` names another directory; `--force` overwrites the configs and keeps the key"));
    }
    write(&plan, &files, &key)?;
    print_next(&plan, &files, &key);
    Ok(())
}

fn failed(path: &Path, error: &dyn std::fmt::Display) -> Exit {
    Exit::error(format!("failed to write {}: {error}", path.display()))
}

/// Writes everything beside its place, then moves it there: a full disk leaves no half of a cluster.
fn write(plan: &Plan, files: &[(PathBuf, String)], key: &Path) -> Result<(), Exit> {
    fs::create_dir_all(&plan.out).map_err(|error| failed(&plan.out, &error))?;
    let mut written = Written(Vec::new());
    // Hosts have copies of a key, so one that is good stays.
    if ClusterKeys::load(key).is_err() {
        let beside = beside(key);
        fs::remove_file(&beside).ok(); // left by an attempt that was killed
        written.0.push((beside.clone(), key.to_owned()));
        let saved = ClusterKey::generate().and_then(|fresh| fresh.save(&beside));
        saved.map_err(|error| Exit::from(anyhow::Error::from(error)))?;
    }
    for (path, text) in files {
        let beside = beside(path);
        written.0.push((beside.clone(), path.clone()));
        let file = File::options().write(true).create(true).truncate(true).mode(0o644).open(&beside);
        let done = file.and_then(|mut file| file.write_all(text.as_bytes()).and_then(|()| file.sync_all()));
        done.map_err(|error| failed(path, &error))?;
    }
    for (beside, path) in std::mem::take(&mut written.0) {
        fs::rename(&beside, &path).map_err(|error| failed(&path, &error))?;
    }
    Ok(())
}

/// Removes what was written beside its place unless it was moved there.
struct Written(Vec<(PathBuf, PathBuf)>);

impl Drop for Written {
    fn drop(&mut self) {
        for (beside, _) in &self.0 {
            fs::remove_file(beside).ok();
        }
    }
}

fn beside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    PathBuf::from(name)
}

fn print_next(plan: &Plan, files: &[(PathBuf, String)], key: &Path) {
    for (path, _) in files {
        anstream::println!("{}", path.display());
    }
    anstream::println!("{}   (secret: copy it by hand to every host, mode 0600)\n", key.display());
    let shown = |path: &Path| quoted(&path.display().to_string());
    let first = files.first().map(|(path, _)| shown(path)).unwrap_or_default();
    let room = if files.len() > NODES_DEFAULT { format!(" --nodes-max {}", files.len()) } else { String::new() };
    anstream::println!("next, on this machine:");
    anstream::println!("  phalanx disk create --config {first}{room}");
    for (path, _) in files {
        anstream::println!("  phalanx node run --config {}   # in a shell of its own", shown(path));
    }
    anstream::println!("  phalanx --dir {} status", shown(&plan.out));
    anstream::println!("the files say what to change for production");
}

/// As a shell takes it for one word.
fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:@%".contains(c);
    if text.chars().all(plain) { text.to_owned() } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

#[cfg(test)]
mod tests;
