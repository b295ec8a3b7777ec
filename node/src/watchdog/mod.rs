//! The hardware watchdog of this host (protocol §3.3, §4.5, condition C2): a device that resets the host when it is not fed.
//!
//! The daemon arms it before the node's first lease, and its lease thread feeds it only while the lease is valid. The daemon never
//! disarms it: whatever way the daemon ends, the device goes on counting. The node's warden disarms it once nothing of the node is
//! left and the others know; if it cannot, the host is reset, which is what the device is for.
//!
//! Always holds: a device that is armed fires at the latest one period (W) after it was last fed, by what it has said itself.

mod device;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use phalanx_actors::ports::Watchdog;
use phalanx_messages::profile::TimingProfile;
use phalanx_messages::register::WatchdogKind;

use self::device::Device;
use crate::config::HostGuard;

/// Written before the device is closed, it lets it go ("magic close").
const LET_GO: &[u8] = b"V";
/// Winds the device up. Any byte but [`LET_GO`].
const WIND_UP: &[u8] = b"\0";
/// The kernel's own timer. It stops when the kernel does, so it proves nothing about a kernel that has stopped.
const SOFTWARE: &str = "Software Watchdog";

/// What a device says of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Abilities {
    /// Its name.
    pub identity: String,
    /// Its period can be set.
    pub sets_timeout: bool,
    /// It can act before it fires.
    pub sets_pretimeout: bool,
    /// It can be let go.
    pub lets_go: bool,
    /// It has reset this host, and that is how this boot began.
    pub has_fired: bool,
}

/// What can be done with an open device.
pub trait Calls: Send {
    /// What it says of itself.
    ///
    /// # Errors
    /// If it is no watchdog.
    fn abilities(&mut self) -> io::Result<Abilities>;

    /// Sets the period, in seconds.
    ///
    /// # Errors
    /// If the device refuses.
    fn set_timeout(&mut self, seconds: u32) -> io::Result<()>;

    /// The period that it uses, in seconds.
    ///
    /// # Errors
    /// If the device does not say.
    fn timeout(&mut self) -> io::Result<u32>;

    /// So long before it fires the kernel panics, in seconds; 0 = never.
    ///
    /// # Errors
    /// If the device refuses.
    fn set_pretimeout(&mut self, seconds: u32) -> io::Result<()>;

    /// Writes to the device.
    ///
    /// # Errors
    /// If it refuses.
    fn write(&mut self, bytes: &[u8]) -> io::Result<()>;
}

/// Why a device is not used.
#[derive(Debug, thiserror::Error)]
pub enum WatchdogError {
    /// It could not be opened, or does not answer.
    #[error("failed to {what} the watchdog")]
    Device {
        /// What was tried.
        what: &'static str,
        /// What went wrong.
        #[source]
        source: io::Error,
    },
    /// Its period is another one than the disk's.
    #[error(
        "the watchdog `{identity}` fires {seconds} s after it was last fed, and W of this disk is {watchdog_ms} ms"
    )]
    Period {
        /// Its name.
        identity: String,
        /// Its period.
        seconds: u32,
        /// W.
        watchdog_ms: u64,
    },
}

/// A device that is armed.
pub struct Armed {
    calls: Box<dyn Calls>,
    abilities: Abilities,
}

impl fmt::Debug for Armed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Armed").field("abilities", &self.abilities).finish_non_exhaustive()
    }
}

impl Armed {
    /// Arms an open device for a disk's timing: it fires W after it was last fed, rounded down to whole seconds, and its period is
    /// read back. `pretimeout_s` before that the kernel panics, for a dump, if the device can do that.
    ///
    /// # Errors
    /// [`WatchdogError`]: the device has been let go again, if it can be.
    pub fn new(mut calls: Box<dyn Calls>, profile: &TimingProfile, pretimeout_s: u32) -> Result<Self, WatchdogError> {
        let armed = arm(calls.as_mut(), profile, pretimeout_s);
        match armed {
            Ok(abilities) => Ok(Self { calls, abilities }),
            Err(error) => {
                calls.write(LET_GO).ok(); // opening it has armed it
                Err(error)
            }
        }
    }

    /// What the device has said of itself.
    #[must_use]
    pub const fn abilities(&self) -> &Abilities {
        &self.abilities
    }

    /// Disarms it, before any node relies on it.
    pub fn let_go(mut self) {
        self.calls.write(LET_GO).ok(); // one that cannot be let go fires, as every such device does
    }

    /// What it is worth as a proof of death. One that stops with the kernel, or with the virtual machine, is no proof (C2).
    #[must_use]
    pub fn kind(&self, host_is_virtual: bool) -> WatchdogKind {
        if host_is_virtual || self.abilities.identity == SOFTWARE {
            WatchdogKind::Software
        } else {
            WatchdogKind::Hardware
        }
    }
}

fn arm(calls: &mut dyn Calls, profile: &TimingProfile, pretimeout_s: u32) -> Result<Abilities, WatchdogError> {
    let failed = |what| move |source| WatchdogError::Device { what, source };
    let abilities = calls.abilities().map_err(failed("question"))?;
    let wanted = u32::try_from(profile.watchdog_ms / 1_000).unwrap_or(u32::MAX).max(1);
    if abilities.sets_timeout {
        calls.set_timeout(wanted).map_err(failed("set the period of"))?;
    }
    let seconds = calls.timeout().map_err(failed("read the period of"))?;
    let ms = u64::from(seconds) * 1_000;
    // Longer, and T_fence would be wrong; hardly longer than the time between two feeds, and it would fire by itself.
    if ms > profile.watchdog_ms || ms < 2 * profile.feed_ms() {
        let (identity, watchdog_ms) = (abilities.identity, profile.watchdog_ms);
        return Err(WatchdogError::Period { identity, seconds, watchdog_ms });
    }
    if abilities.sets_pretimeout {
        calls.set_pretimeout(pretimeout_s).map_err(failed("set the pre-timeout of"))?;
    }
    calls.write(WIND_UP).map_err(failed("feed"))?;
    Ok(abilities)
}

impl Watchdog for Armed {
    fn feed(&mut self) -> io::Result<()> {
        self.calls.write(WIND_UP)
    }
}

/// Arms the device at `path`. See [`Armed::new`].
///
/// # Errors
/// [`WatchdogError`].
pub fn arm_device(path: &Path, profile: &TimingProfile, pretimeout_s: u32) -> Result<Armed, WatchdogError> {
    let device = Device::open(path).map_err(|source| WatchdogError::Device { what: "open", source })?;
    Armed::new(Box::new(device), profile, pretimeout_s)
}

/// Arms the watchdog that a node's file names, right before the node's first lease, with what it is worth as a proof.
///
/// # Errors
/// A device that cannot be used, or one that is `attested` and proves nothing.
pub fn arm_for_node(
    guard: &HostGuard,
    profile: &TimingProfile,
    attested: bool,
) -> io::Result<Option<(Box<dyn Watchdog>, WatchdogKind)>> {
    let is_virtual = host_is_virtual();
    let armed = match &guard.watchdog {
        None => None,
        Some(path) => Some(arm_device(path, profile, guard.pretimeout_s).map_err(|error| {
            io::Error::other(format!("{:#}: `watchdog` {}", anyhow::Error::from(error), path.display()))
        })?),
    };
    let kind = armed.as_ref().map_or(WatchdogKind::None, |armed| armed.kind(is_virtual));
    if let Some(text) = mistake_in_attestation(attested, kind, is_virtual) {
        if let Some(armed) = armed {
            armed.let_go();
        }
        return Err(io::Error::other(format!(
            "`watchdog_attested` is set for this node, and {text} (`phalanx node set NODE watchdog_attested=false` takes it back)"
        )));
    }
    if let Some(armed) = &armed {
        let abilities = armed.abilities();
        tracing::info!(identity = abilities.identity, ?kind, "the watchdog is armed");
        if abilities.has_fired {
            tracing::warn!("the watchdog has reset this host");
        }
    }
    Ok(armed.map(|armed| (Box::new(armed) as Box<dyn Watchdog>, kind)))
}

/// Lets the device go that a node which is no more has armed.
pub trait Disarm {
    /// Does it.
    ///
    /// # Errors
    /// If it cannot be let go: then it fires.
    fn disarm(&self) -> Result<(), String>;
}

/// The device at a path.
#[derive(Debug, Clone)]
pub struct DevicePath(pub PathBuf);

impl Disarm for DevicePath {
    fn disarm(&self) -> Result<(), String> {
        let path = self.0.display();
        let mut device = Device::open(&self.0).map_err(|error| format!("failed to open {path}: {error}"))?;
        disarm(&mut device).map_err(|error| format!("{path} {error}"))
    }
}

fn disarm(calls: &mut dyn Calls) -> Result<(), String> {
    let abilities = calls.abilities().map_err(|error| format!("does not answer: {error}"))?;
    if !abilities.lets_go {
        return Err(format!("(`{}`) cannot be let go; it resets this host", abilities.identity));
    }
    calls.write(LET_GO).map_err(|error| format!("cannot be let go: {error}"))
}

/// What is wrong with an attestation, if something is: the administrator's word that this host is reset although its processes,
/// or the whole host, are frozen (protocol §4.5, F4).
#[must_use]
pub fn mistake_in_attestation(attested: bool, kind: WatchdogKind, host_is_virtual: bool) -> Option<&'static str> {
    match kind {
        WatchdogKind::Hardware => None,
        _ if !attested => None,
        WatchdogKind::None => Some("it uses no watchdog: give `watchdog` under [node]"),
        WatchdogKind::Software if host_is_virtual => {
            Some("this host is a virtual machine, and its watchdog is paused with it")
        }
        WatchdogKind::Software => Some("its watchdog is a timer of the kernel, and stops with it"),
    }
}

/// Whether this host is a virtual machine, as far as its processor says.
#[must_use]
pub fn host_is_virtual() -> bool {
    let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let by_processor = cpuinfo.lines().any(|line| {
        line.split_once(':').is_some_and(|(name, flags)| {
            name.trim() == "flags" && flags.split_whitespace().any(|flag| flag == "hypervisor")
        })
    });
    by_processor || Path::new("/sys/hypervisor/type").exists()
}

#[cfg(test)]
mod tests;
