//! Names and other small values that several tables share.

use phalanx_messages::limits::NAME_BYTES_MAX;

/// What is wrong with a name, if something is: names appear in file names, cgroups, environment variables and command lines.
pub(crate) fn mistake_in_name(name: &str) -> Option<String> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    let starts_well = name.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric());
    if name.len() > NAME_BYTES_MAX {
        return Some(format!("name `{name}` has {} bytes; at most {NAME_BYTES_MAX} are allowed", name.len()));
    }
    (!starts_well || !name.bytes().all(allowed)).then(|| {
        format!("name `{name}` must begin with a letter or digit and hold only letters, digits, `-`, `_` and `.`")
    })
}

/// What is wrong with an address `host:port`, if something is.
pub(crate) fn mistake_in_address(key: &str, address: &str) -> Option<String> {
    let port =
        address.rsplit_once(':').filter(|(host, _)| !host.is_empty()).and_then(|(_, port)| port.parse::<u16>().ok());
    (port.is_none() || port == Some(0)).then(|| format!("{key} `{address}` must be `host:port` with a port above 0"))
}
