//! What a test needs of its machine, and how a test says that it could not run.
//!
//! A skipped test prints `skipped: <reason>`. `PHALANX_REQUIRE=root,cgroup` turns the skips for these reasons into failures,
//! so that a machine which has them can never pass by skipping.

use std::path::PathBuf;

/// Something that not every machine offers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Requirement {
    /// Runs as root.
    Root,
    /// cgroup v2 is mounted and this process may make directories in it.
    Cgroup,
    /// `strace` is installed.
    Strace,
    /// This process may mount file systems.
    Mount,
    /// `python3` is installed.
    Python,
    /// This process may set up loop devices.
    Loop,
    /// OCF resource agents are installed.
    Agents,
    /// A redis server is installed.
    Redis,
    /// Network namespaces can be made, and nftables is installed.
    Namespaces,
}

impl Requirement {
    /// Its word in `PHALANX_REQUIRE`.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::Cgroup => "cgroup",
            Self::Strace => "strace",
            Self::Mount => "mount",
            Self::Python => "python3",
            Self::Loop => "loop",
            Self::Agents => "agents",
            Self::Redis => "redis",
            Self::Namespaces => "netns",
        }
    }

    /// Why this machine does not offer it, if it does not.
    #[must_use]
    pub fn missing(self) -> Option<String> {
        match self {
            Self::Root => (!rustix::process::geteuid().is_root()).then(|| "not root".to_owned()),
            Self::Mount => (!may_mount()).then(|| "no capability to mount file systems".to_owned()),
            Self::Strace => not_installed("strace"),
            Self::Python => not_installed("python3"),
            Self::Agents => no_agents(),
            Self::Redis => not_installed("redis-server").or_else(|| not_installed("redis-cli")),
            Self::Loop => no_loop_device(),
            Self::Namespaces => no_namespaces(),
            Self::Cgroup => match cgroup2_mount() {
                None => Some("no cgroup v2 in the mount table".to_owned()),
                Some(path) => {
                    let writable = rustix::fs::access(&path, rustix::fs::Access::WRITE_OK).is_ok();
                    (!writable).then(|| format!("{} is not writable", path.display()))
                }
            },
        }
    }
}

/// True if every requirement is there; else says `skipped: <reason>` and the caller returns.
///
/// # Panics
/// If `PHALANX_REQUIRE` names a requirement that is missing.
#[must_use]
pub fn available(needed: &[Requirement]) -> bool {
    let required = std::env::var("PHALANX_REQUIRE").unwrap_or_default();
    for requirement in needed {
        if let Some(reason) = requirement.missing() {
            let word = requirement.word();
            assert!(!required.split(',').any(|w| w.trim() == word), "PHALANX_REQUIRE names {word}, but: {reason}");
            eprintln!("skipped: {reason}");
            count(&reason);
            return false;
        }
    }
    true
}

fn no_agents() -> Option<String> {
    let dummy = std::path::Path::new("/usr/lib/ocf/resource.d/heartbeat/Dummy");
    (!dummy.exists()).then(|| "no OCF resource agents are installed".to_owned())
}

/// Why no loop device can be set up here.
fn no_loop_device() -> Option<String> {
    not_installed("losetup").or_else(|| {
        let free = std::process::Command::new("losetup").arg("--find").output();
        let free = free.is_ok_and(|output| output.status.success());
        (!free || !may_mount()).then(|| "loop devices cannot be set up".to_owned())
    })
}

fn no_namespaces() -> Option<String> {
    let missing = ["ip", "nft", "nsenter"].into_iter().find_map(not_installed);
    let lists = || std::process::Command::new("ip").args(["netns", "list"]).output();
    missing
        .or_else(|| (!lists().is_ok_and(|output| output.status.success())).then(|| "`ip netns list` fails".to_owned()))
}

/// Says so if no such program is in the path.
fn not_installed(program: &str) -> Option<String> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let there = std::env::split_paths(&path).any(|directory| directory.join(program).exists());
    (!there).then(|| format!("{program} is not installed"))
}

/// Adds a line to the file that `PHALANX_SKIPPED` names: `.ci/run` tells at its end how many tests were skipped, and why.
fn count(reason: &str) {
    use std::io::Write;
    let Some(path) = std::env::var_os("PHALANX_SKIPPED") else { return };
    let file = std::fs::File::options().create(true).append(true).open(path);
    file.and_then(|mut file| writeln!(file, "{reason}")).ok(); // it is only told
}

/// `CAP_SYS_ADMIN` is effective.
fn may_mount() -> bool {
    const SYS_ADMIN: u64 = 1 << 21;
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    effective.and_then(|word| u64::from_str_radix(word.trim(), 16).ok()).is_some_and(|set| set & SYS_ADMIN != 0)
}

/// Where cgroup v2 is mounted; on hybrid hosts it stands beside v1, not at the usual place.
#[must_use]
pub fn cgroup2_mount() -> Option<PathBuf> {
    let table = std::fs::read_to_string("/proc/self/mounts").ok()?;
    let mount =
        table.lines().map(|line| line.split(' ').collect::<Vec<_>>()).find(|words| words.get(2) == Some(&"cgroup2"))?;
    mount.get(1).map(PathBuf::from)
}
