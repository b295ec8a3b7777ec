//! Passwords and keys of fence agents: in `fence.d/<node>.toml` on every node, never on the shared disk (architecture §6).

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{ErrorKind, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

/// The secrets of one agent of one node: the table of its name. A file that is not there has none.
pub(super) fn load(file: &Path, agent: &str) -> Result<BTreeMap<String, String>, String> {
    let failed = |error: std::io::Error| format!("failed to read {}: {error}", file.display());
    let mut opened = match File::open(file) {
        Ok(opened) => opened,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(BTreeMap::new()),
        Err(error) => return Err(failed(error)),
    };
    if opened.metadata().map_err(failed)?.mode() & 0o077 != 0 {
        return Err(format!("others can read the secrets in {0}; `chmod 600 {0}`", file.display()));
    }
    let mut text = String::new();
    opened.read_to_string(&mut text).map_err(failed)?;
    // An error of the parser shows the line, which may be a secret.
    let tables: BTreeMap<String, BTreeMap<String, toml::Value>> = toml::from_str(&text)
        .map_err(|_| format!("{} is no file of tables [AGENT] with `name = value`", file.display()))?;
    let secrets = tables.get(agent).into_iter().flatten();
    Ok(secrets.map(|(name, value)| (name.clone(), plain(value))).collect())
}

fn plain(value: &toml::Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
