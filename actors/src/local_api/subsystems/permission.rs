//! Who may attach: root, the user that runs the node, and the group of the socket.

use std::path::Path;

use tokio::net::UnixStream;

/// Credentials as the kernel saw them at connect.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Peer {
    user: u32,
    groups: Vec<u32>,
}

/// Checks the program at the other end.
///
/// # Errors
/// What the program is told.
pub(super) fn may_attach(stream: &UnixStream, socket: Option<&Path>) -> Result<(), String> {
    let peer = stream.peer_cred().map_err(|error| format!("the system does not tell who you are: {error}"))?;
    let mut groups = vec![peer.gid()];
    groups.extend(peer.pid().map(supplementary_groups).unwrap_or_default());
    let own = rustix::process::geteuid().as_raw();
    check(&Peer { user: peer.uid(), groups }, own, socket.and_then(group_of))
}

fn check(peer: &Peer, own: u32, group: Option<u32>) -> Result<(), String> {
    let in_group = group.is_some_and(|group| peer.groups.contains(&group));
    if peer.user == 0 || peer.user == own || in_group {
        return Ok(());
    }
    let group = group.map_or_else(String::new, |group| format!(", and group {group}, which the socket has"));
    Err(format!("user {} may not attach: root may, user {own}, which runs the node{group}", peer.user))
}

fn group_of(socket: &Path) -> Option<u32> {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata(socket).ok().map(|metadata| metadata.gid())
}

/// The kernel's credentials of a connection have only the first group of the process.
fn supplementary_groups(pid: i32) -> Vec<u32> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("Groups:")).unwrap_or_default();
    line.split_whitespace().filter_map(|group| group.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_the_nodes_user_and_the_sockets_group_may_attach_and_nobody_else() {
        let peer = |user, groups: &[u32]| Peer { user, groups: groups.to_vec() };
        assert_eq!(check(&peer(0, &[]), 500, None), Ok(()));
        assert_eq!(check(&peer(500, &[]), 500, None), Ok(()));
        assert_eq!(check(&peer(501, &[7, 40]), 500, Some(40)), Ok(()));
        let refused = check(&peer(501, &[7]), 500, Some(40)).unwrap_err();
        assert_eq!(
            refused,
            "user 501 may not attach: root may, user 500, which runs the node, and group 40, which the socket has"
        );
        assert!(check(&peer(501, &[7]), 500, None).is_err());
    }
}
