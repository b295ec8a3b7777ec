//! `phalanx node add`, `node remove` and `node set`: the membership configuration while the cluster runs.

use phalanx_messages::NodeId;
use phalanx_messages::configuration::{NodeChange, NodeSettings, PanicPolicy};

use super::args::{AddArguments, Global};
use super::{Exit, locate};
use crate::config::parse_duration_ms;

/// Keys of `node set`, and when a change of each takes effect.
const KEYS: [(&str, &str); 6] = [
    ("address", "the others use it at once; the node itself listens there from its next start, if its `bind` says so"),
    ("votes", "counts from now on, when links are cut and some nodes must go"),
    ("panic", "from the node's next start"),
    ("shutdown_timeout", "from the node's next start"),
    ("capacity", "counts from now on, when a node is chosen for a service"),
    ("watchdog_attested", "used on a disk of several hosts, for nodes whose file names a hardware `watchdog`"),
];

/// Makes one change and says whether something was committed.
fn change(change: NodeChange, global: &Global) -> Result<bool, Exit> {
    // The rules are checked by the master against what is then, so it does not matter what this client has seen.
    let revision = locate::connect(global)?.change(None, vec![change], false)?;
    Ok(revision.is_some())
}

pub(super) fn add(arguments: AddArguments, global: &Global) -> Result<(), Exit> {
    let AddArguments { name, address, id, votes, panic, shutdown_ms } = arguments;
    let settings = NodeSettings { votes, panic, shutdown_ms, ..NodeSettings::default() };
    let new = NodeChange::Add { name: name.clone(), id: id.map(NodeId), address: address.clone(), settings };
    change(new, global)?;
    let record = locate::connect(global)?.configuration()?.record;
    let id = record.id_of(&name).map_or_else(String::new, |id| format!(" with id {id}"));
    anstream::println!("{name} is added{id}");
    let table = record.id_of(&name).map_or_else(String::new, |id| {
        format!("  [[cluster.node]]\n  name = \"{name}\"\n  id = {id}\n  address = \"{address}\"\n")
    });
    anstream::eprint!(
        "next, on the machine of {name}:\n\
         1. copy the file of another node; set `name = \"{name}\"`, `state_dir` and `socket` under [node] and\n   \
            `bind = \"{address}\"` under [interconnect], and add\n{table}\
         2. copy the cluster key to where `key_file` says, mode 0600\n\
         3. phalanx config check FILE\n\
         4. phalanx node run --config FILE\n"
    );
    Ok(())
}

pub(super) fn remove(name: String, global: &Global) -> Result<(), Exit> {
    change(NodeChange::Remove { name: name.clone() }, global)?;
    anstream::println!("{name} is removed");
    Ok(())
}

pub(super) fn set(name: &str, pairs: &[String], global: &Global) -> Result<(), Exit> {
    let mut address = None;
    let mut settings = NodeSettings::default();
    let mut keys = Vec::new();
    for pair in pairs {
        let (key, value) = pair.split_once('=').ok_or_else(|| usage(format!("`{pair}` is not KEY=VALUE")))?;
        give(&mut settings, &mut address, key, value)?;
        keys.extend(KEYS.into_iter().filter(|(known, _)| *known == key));
    }
    let changed = change(NodeChange::Set { name: name.to_owned(), address, settings }, global)?;
    if !changed {
        anstream::println!("{name} is so already; nothing was committed");
        return Ok(());
    }
    anstream::println!("{name} is changed");
    for (key, when) in keys {
        anstream::eprintln!("{key}: {when}");
    }
    Ok(())
}

fn give(settings: &mut NodeSettings, address: &mut Option<String>, key: &str, value: &str) -> Result<(), Exit> {
    let wrong = |allowed: &str| usage(format!("{key} `{value}` must be {allowed}"));
    match key {
        "address" => *address = Some(value.to_owned()),
        "votes" => settings.votes = Some(value.parse().map_err(|_| wrong("a number in 0..255"))?),
        "panic" => settings.panic = Some(parse_panic(value).map_err(usage)?),
        "shutdown_timeout" => settings.shutdown_ms = Some(parse_duration_ms(value).map_err(usage)?),
        "capacity" => settings.capacity = Some(value.parse().map_err(|_| wrong("a number; 0 = any weight"))?),
        "watchdog_attested" => settings.watchdog_attested = Some(value.parse().map_err(|_| wrong("true or false"))?),
        other => {
            let known: Vec<&str> = KEYS.iter().map(|(key, _)| *key).collect();
            return Err(
                usage(format!("`{other}` is no key of a node")).hint(format!("the keys are {}", known.join(", ")))
            );
        }
    }
    Ok(())
}

fn usage(text: impl Into<String>) -> Exit {
    Exit::code(2, text)
}

/// A panic policy as it is written everywhere.
///
/// # Errors
/// One sentence that names the policies.
pub fn parse_panic(text: &str) -> Result<PanicPolicy, String> {
    crate::config::parse_panic(text).ok_or_else(|| format!("panic `{text}` must be exit, reboot, crash or watchdog"))
}
