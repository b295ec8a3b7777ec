//! `phalanx key ...`: another cluster key, without stopping the cluster (docs/operations.md, "Another cluster key").
//!
//! Each step changes the key file of one node, whole or not at all, and then tells the daemon, if it runs, to read it again.

use std::path::Path;

use phalanx_actors::interconnect::{ClusterKey, ClusterKeys, Fingerprint};
use phalanx_messages::admin::{AdminAnswer, AdminRequest, KeyStatus};

use super::args::{Global, KeyCommand, Output};
use super::client::{Client, EXIT_UNREACHABLE};
use super::node::load;
use super::{Exit, locate, print};
use crate::config::NodeConfig;
use crate::daemon::load_keys;

/// Exit code "refused without --force".
const EXIT_REFUSED: u8 = 107;

pub(super) fn run(command: KeyCommand, global: &Global) -> Result<(), Exit> {
    match command {
        KeyCommand::New { out } => make(&out),
        KeyCommand::Add { key, node } => add(&key, &load(&node.config)?),
        KeyCommand::Use { node } => speak(&load(&node.config)?),
        KeyCommand::Drop { node, force } => forget(&load(&node.config)?, force),
        KeyCommand::Status => status(global),
    }
}

fn make(out: &Path) -> Result<(), Exit> {
    let key = ClusterKey::generate().map_err(failed)?;
    key.save(out).map_err(failed)?;
    anstream::println!("{}: key {}", out.display(), Fingerprint::of(&key));
    anstream::println!(
        "next: copy it to every host, mode 0600; then `phalanx key add {} --config ..` there",
        out.display()
    );
    Ok(())
}

fn add(key: &Path, config: &NodeConfig) -> Result<(), Exit> {
    let key = ClusterKey::load(key).map_err(failed)?;
    let keys = load_keys(config)?.with(key).ok_or_else(|| {
        Exit::code(EXIT_REFUSED, format!("{} holds two keys already", config.key_file.display()))
            .hint("`phalanx key use` and `phalanx key drop` end the change that was begun")
    })?;
    replace(config, &keys)?;
    anstream::println!("next: the same on every other node, then `phalanx key use --config ..` on each");
    Ok(())
}

fn speak(config: &NodeConfig) -> Result<(), Exit> {
    let keys = load_keys(config)?;
    let newest = keys.newest_spoken();
    if newest == keys {
        return Err(nothing_new(config));
    }
    replace(config, &newest)?;
    anstream::println!("next: the same on every other node, then `phalanx key drop --config ..` on each");
    Ok(())
}

fn forget(config: &NodeConfig, force: bool) -> Result<(), Exit> {
    let keys = load_keys(config)?;
    let alone = keys.spoken_alone();
    if alone == keys {
        return Err(nothing_new(config));
    }
    let kept = Fingerprint::of(alone.spoken()).to_string();
    if !force && let Some(status) = asked(config, &AdminRequest::Keys)? {
        let on_old: Vec<&str> =
            status.links.iter().filter(|(_, key)| **key != kept).map(|(node, _)| node.as_str()).collect();
        if !on_old.is_empty() {
            let text = format!("the links to {} stand on the old key", on_old.join(", "));
            return Err(Exit::code(EXIT_REFUSED, text)
                .hint("`phalanx key use` on every node first; `--force` closes these links"));
        }
    }
    replace(config, &alone)
}

fn nothing_new(config: &NodeConfig) -> Exit {
    Exit::error(format!("{} holds one key only", config.key_file.display()))
        .hint("`phalanx key new` makes another one, `phalanx key add` accepts it")
}

fn failed(error: impl Into<anyhow::Error>) -> Exit {
    Exit::from(error.into())
}

/// Writes the key file, and lets the daemon read it again.
fn replace(config: &NodeConfig, keys: &ClusterKeys) -> Result<(), Exit> {
    keys.replace(&config.key_file).map_err(failed)?;
    match asked(config, &AdminRequest::ReloadKeys)? {
        Some(status) => anstream::print!("{}", text(&status)),
        None => {
            let spoken = Fingerprint::of(keys.spoken());
            anstream::println!("{} does not run: it speaks key {spoken} from its next start on", config.node);
        }
    }
    Ok(())
}

/// What the daemon answers, if it runs.
fn asked(config: &NodeConfig, request: &AdminRequest) -> Result<Option<KeyStatus>, Exit> {
    let mut client = match Client::connect(&config.socket) {
        Ok(client) => client,
        Err(exit) if exit.code == EXIT_UNREACHABLE => return Ok(None),
        Err(exit) => return Err(exit),
    };
    key_status(&client.ask(request)?).map(Some)
}

fn key_status(answer: &AdminAnswer) -> Result<KeyStatus, Exit> {
    if let AdminAnswer::Keys(status) = answer { Ok(status.clone()) } else { Err(super::client::unexpected(answer)) }
}

fn status(global: &Global) -> Result<(), Exit> {
    let answer = locate::connect(global)?.ask(&AdminRequest::Keys)?;
    let status = key_status(&answer)?;
    match global.output {
        Output::Json => anstream::println!("{}", print::json(&status)?),
        Output::Text => anstream::print!("{}", text(&status)),
    }
    Ok(())
}

fn text(status: &KeyStatus) -> String {
    let KeyStatus { node, spoken, accepted, links } = status;
    let also: Vec<&str> = accepted.iter().filter(|key| *key != spoken).map(String::as_str).collect();
    let also = if also.is_empty() { String::new() } else { format!(", accepts {} too", also.join(", ")) };
    let link = |(peer, key): (&String, &String)| {
        let old = if key == spoken { "" } else { "   not the spoken key" };
        format!("  link to {peer}: {key}{old}\n")
    };
    format!("{node} speaks key {spoken}{also}\n") + &links.iter().map(link).collect::<String>()
}
