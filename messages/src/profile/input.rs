//! The inputs of a profile by name, so that a configuration, a check and an explanation speak of the same thing.

use std::collections::BTreeMap;
use std::fmt;

use super::TimingProfile;

/// One input of a [`TimingProfile`]. The names are those of the keys under `disk.timing`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TimingInput {
    /// tau.
    IoTimeout,
    /// R.
    Renewal,
    /// L.
    Lease,
    /// warn.
    Warn,
    /// W.
    Watchdog,
    /// `T_stop`.
    Stop,
    /// delta.
    WatchdogDelta,
    /// `T_late`.
    LateWrite,
    /// rho; in parts per million, every other input in milliseconds.
    Drift,
    /// eps.
    Granularity,
    /// `T_net`.
    Net,
    /// `T_settle`.
    Settle,
    /// guard.
    Guard,
    /// `T_restart`.
    Restart,
    /// `T_stable`.
    Stable,
    /// `T_kill`.
    Kill,
}

impl TimingInput {
    /// Every input, in the order of protocol §3.11.
    pub const ALL: [Self; 16] = [
        Self::IoTimeout,
        Self::Renewal,
        Self::Lease,
        Self::Warn,
        Self::Watchdog,
        Self::Stop,
        Self::WatchdogDelta,
        Self::LateWrite,
        Self::Drift,
        Self::Granularity,
        Self::Net,
        Self::Settle,
        Self::Guard,
        Self::Restart,
        Self::Stable,
        Self::Kill,
    ];

    /// Its key in a configuration.
    #[must_use]
    pub const fn key(self) -> &'static str {
        match self {
            Self::IoTimeout => "io_timeout",
            Self::Renewal => "renewal",
            Self::Lease => "lease",
            Self::Warn => "warn",
            Self::Watchdog => "watchdog",
            Self::Stop => "stop",
            Self::WatchdogDelta => "watchdog_delta",
            Self::LateWrite => "late_write",
            Self::Drift => "drift_ppm",
            Self::Granularity => "granularity",
            Self::Net => "net",
            Self::Settle => "settle",
            Self::Guard => "guard",
            Self::Restart => "restart",
            Self::Stable => "stable",
            Self::Kill => "kill",
        }
    }

    /// Its symbol in the formulae of protocol §3.11.
    #[must_use]
    pub const fn symbol(self) -> &'static str {
        match self {
            Self::IoTimeout => "tau",
            Self::Renewal => "R",
            Self::Lease => "L",
            Self::Warn => "warn",
            Self::Watchdog => "W",
            Self::Stop => "T_stop",
            Self::WatchdogDelta => "delta",
            Self::LateWrite => "T_late",
            Self::Drift => "rho",
            Self::Granularity => "eps",
            Self::Net => "T_net",
            Self::Settle => "T_settle",
            Self::Guard => "guard",
            Self::Restart => "T_restart",
            Self::Stable => "T_stable",
            Self::Kill => "T_kill",
        }
    }

    /// The formula that gives it where it is not set by hand; none = a plain input.
    #[must_use]
    pub const fn formula(self) -> Option<&'static str> {
        match self {
            Self::Renewal => Some("2 tau"),
            Self::Lease => Some("R + 6 tau"),
            Self::Warn => Some("6 tau"),
            Self::Stop => Some("W"),
            Self::Settle => Some("4 tau + T_net / 3"),
            Self::Guard => Some("tau / 2"),
            Self::IoTimeout
            | Self::Watchdog
            | Self::WatchdogDelta
            | Self::LateWrite
            | Self::Drift
            | Self::Granularity
            | Self::Net
            | Self::Restart
            | Self::Stable
            | Self::Kill => None,
        }
    }

    /// What it is, for people.
    #[must_use]
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::IoTimeout => "one disk I/O is slow after this",
            Self::Renewal => "a node renews its lease this often",
            Self::Lease => "a lease lasts this long from the issue of its last counted renewal",
            Self::Warn => "a node without a counted renewal says so after this",
            Self::Watchdog => "a node that does not feed its warden or watchdog for this long is killed",
            Self::Stop => {
                "services are killed and outstanding I/O ends within this after a lost lease or an order to die"
            }
            Self::WatchdogDelta => "from a watchdog firing to processor and bus really stopped",
            Self::LateWrite => "latest landing of a dead node's write",
            Self::Drift => "rate error of a clock, in parts per million",
            Self::Granularity => "added to every wait for another node's clock",
            Self::Net => "a peer that is silent for this long is lost on the interconnect",
            Self::Settle => "views of the interconnect are published and read again within this",
            Self::Guard => "a master stops acting this long before its lease ends",
            Self::Restart => "a dead subsystem may register again within this",
            Self::Stable => "a preferred node counts as stable after this",
            Self::Kill => "killing and verifying the processes of a service may take this long",
        }
    }

    /// Its value in a profile.
    #[must_use]
    pub const fn of(self, profile: &TimingProfile) -> u64 {
        match self {
            Self::IoTimeout => profile.io_timeout_ms,
            Self::Renewal => profile.renewal_ms,
            Self::Lease => profile.lease_ms,
            Self::Warn => profile.warn_ms,
            Self::Watchdog => profile.watchdog_ms,
            Self::Stop => profile.stop_ms,
            Self::WatchdogDelta => profile.watchdog_delta_ms,
            Self::LateWrite => profile.late_write_ms,
            Self::Drift => profile.drift_ppm,
            Self::Granularity => profile.granularity_ms,
            Self::Net => profile.net_ms,
            Self::Settle => profile.settle_ms,
            Self::Guard => profile.guard_ms,
            Self::Restart => profile.restart_ms,
            Self::Stable => profile.stable_ms,
            Self::Kill => profile.kill_ms,
        }
    }

    const fn place(self, profile: &mut TimingProfile) -> &mut u64 {
        match self {
            Self::IoTimeout => &mut profile.io_timeout_ms,
            Self::Renewal => &mut profile.renewal_ms,
            Self::Lease => &mut profile.lease_ms,
            Self::Warn => &mut profile.warn_ms,
            Self::Watchdog => &mut profile.watchdog_ms,
            Self::Stop => &mut profile.stop_ms,
            Self::WatchdogDelta => &mut profile.watchdog_delta_ms,
            Self::LateWrite => &mut profile.late_write_ms,
            Self::Drift => &mut profile.drift_ppm,
            Self::Granularity => &mut profile.granularity_ms,
            Self::Net => &mut profile.net_ms,
            Self::Settle => &mut profile.settle_ms,
            Self::Guard => &mut profile.guard_ms,
            Self::Restart => &mut profile.restart_ms,
            Self::Stable => &mut profile.stable_ms,
            Self::Kill => &mut profile.kill_ms,
        }
    }

    /// The unit of its value.
    #[must_use]
    pub const fn unit(self) -> &'static str {
        match self {
            Self::Drift => "ppm",
            Self::IoTimeout
            | Self::Renewal
            | Self::Lease
            | Self::Warn
            | Self::Watchdog
            | Self::Stop
            | Self::WatchdogDelta
            | Self::LateWrite
            | Self::Granularity
            | Self::Net
            | Self::Settle
            | Self::Guard
            | Self::Restart
            | Self::Stable
            | Self::Kill => "ms",
        }
    }
}

impl fmt::Display for TimingInput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.key())
    }
}

impl TimingProfile {
    /// This profile with `given` inputs in place of its own. An input with a formula that is not given follows from those it
    /// depends on (protocol §3.11). What comes out is not checked.
    #[must_use]
    pub fn with(mut self, given: &BTreeMap<TimingInput, u64>) -> Self {
        // The order is that of the table, so what a formula needs is there before it is used.
        for input in TimingInput::ALL.into_iter().filter(|input| input.formula().is_none()) {
            if let Some(value) = given.get(&input) {
                *input.place(&mut self) = *value;
            }
        }
        for input in TimingInput::ALL {
            let derived = match input {
                TimingInput::Renewal => self.io_timeout_ms.saturating_mul(2),
                TimingInput::Lease => self.renewal_ms.saturating_add(self.io_timeout_ms.saturating_mul(6)),
                TimingInput::Warn => self.io_timeout_ms.saturating_mul(6),
                TimingInput::Stop => self.watchdog_ms,
                TimingInput::Settle => self.io_timeout_ms.saturating_mul(4).saturating_add(self.net_ms / 3),
                TimingInput::Guard => self.io_timeout_ms / 2,
                TimingInput::IoTimeout
                | TimingInput::Watchdog
                | TimingInput::WatchdogDelta
                | TimingInput::LateWrite
                | TimingInput::Drift
                | TimingInput::Granularity
                | TimingInput::Net
                | TimingInput::Restart
                | TimingInput::Stable
                | TimingInput::Kill => continue,
            };
            *input.place(&mut self) = given.get(&input).copied().unwrap_or(derived);
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_named_profile_follows_from_its_plain_inputs() {
        for (name, profile) in TimingProfile::NAMED {
            assert_eq!(profile.with(&BTreeMap::new()), profile, "{name}");
        }
    }

    #[test]
    fn derived_inputs_follow_unless_they_are_given() {
        let given = [(TimingInput::IoTimeout, 400), (TimingInput::Lease, 3_600)].into();
        let profile = TimingProfile::LOCAL_MMAP.with(&given);
        let found = (profile.io_timeout_ms, profile.renewal_ms, profile.lease_ms, profile.warn_ms);
        assert_eq!(found, (400, 800, 3_600, 2_400));
        assert_eq!((profile.settle_ms, profile.guard_ms, profile.stop_ms), (2_100, 200, 2_000));
        let watchdog = TimingProfile::LOCAL_MMAP.with(&[(TimingInput::Watchdog, 900)].into());
        assert_eq!((watchdog.watchdog_ms, watchdog.stop_ms), (900, 900));
    }
}
