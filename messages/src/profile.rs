//! The timing profile of a disk and everything computed from it (protocol §3.11).
//!
//! Fixed when the disk is formatted and read from the superblock by every node, never from a local file.

mod clash;
mod input;

pub use clash::{Relation, TimingClash};
pub use input::TimingInput;

use serde::{Deserialize, Serialize};

/// Inputs of every timing formula. All durations in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct TimingProfile {
    /// One I/O is slow after this (tau).
    pub io_timeout_ms: u64,
    /// Renewal period (R).
    pub renewal_ms: u64,
    /// A lease lasts this long from the issue of its last counted renewal (L).
    pub lease_ms: u64,
    /// Log and prepare when no renewal counted for this long.
    pub warn_ms: u64,
    /// Watchdog period (W).
    pub watchdog_ms: u64,
    /// Kill services and drain the gate within this time after lease loss or pill (T_stop).
    pub stop_ms: u64,
    /// From the watchdog firing to CPU and bus really stopped (delta).
    pub watchdog_delta_ms: u64,
    /// Latest landing of a dead node's write (T_late).
    pub late_write_ms: u64,
    /// Rate error of a clock in parts per million (rho).
    pub drift_ppm: u64,
    /// Granularity added to every wait on another clock (eps).
    pub granularity_ms: u64,
    /// Interconnect loss after this silence (T_net).
    pub net_ms: u64,
    /// Views published and read again within this time (T_settle).
    pub settle_ms: u64,
    /// Master actions stop this long before the lease ends.
    pub guard_ms: u64,
    /// A dead subsystem may register again within this time (T_restart).
    pub restart_ms: u64,
    /// A preferred node is stable after this time (T_stable).
    pub stable_ms: u64,
    /// Killing and verifying a service's containment may take this long (T_kill).
    pub kill_ms: u64,
}

impl TimingProfile {
    /// Nodes on one machine that are played with: fast, on an mmap disk.
    pub const DEV: Self = Self {
        io_timeout_ms: 250,
        renewal_ms: 500,
        lease_ms: 2_000,
        warn_ms: 1_500,
        watchdog_ms: 1_000,
        stop_ms: 1_000,
        watchdog_delta_ms: 200,
        late_write_ms: 0,
        drift_ppm: 1_000,
        granularity_ms: 50,
        net_ms: 750,
        settle_ms: 1_250,
        guard_ms: 125,
        restart_ms: 10_000,
        stable_ms: 60_000,
        kill_ms: 10_000,
    };

    /// Nodes on one machine with an mmap disk, in production.
    pub const LOCAL_MMAP: Self = Self {
        io_timeout_ms: 500,
        renewal_ms: 1_000,
        lease_ms: 4_000,
        warn_ms: 3_000,
        watchdog_ms: 2_000,
        stop_ms: 2_000,
        net_ms: 1_500,
        settle_ms: 2_500,
        guard_ms: 250,
        ..Self::DEV
    };

    /// Several hosts with a storage network that answers within a tenth of a second, always, and an interconnect of their own.
    pub const SAN_NVME: Self = Self {
        io_timeout_ms: 100,
        renewal_ms: 200,
        lease_ms: 800,
        warn_ms: 600,
        watchdog_ms: 1_000,
        stop_ms: 1_000,
        late_write_ms: 200,
        net_ms: 300,
        settle_ms: 500,
        guard_ms: 50,
        ..Self::DEV
    };

    /// Several hosts on a fast storage network.
    pub const SAN_FAST: Self = Self {
        io_timeout_ms: 1_000,
        renewal_ms: 2_000,
        lease_ms: 8_000,
        warn_ms: 6_000,
        watchdog_ms: 5_000,
        stop_ms: 5_000,
        watchdog_delta_ms: 1_000,
        late_write_ms: 2_000,
        net_ms: 3_000,
        settle_ms: 5_000,
        guard_ms: 500,
        ..Self::LOCAL_MMAP
    };

    /// Several hosts on storage that may stall for long.
    pub const SAN_SAFE: Self = Self {
        io_timeout_ms: 5_000,
        renewal_ms: 10_000,
        lease_ms: 40_000,
        warn_ms: 30_000,
        watchdog_ms: 10_000,
        stop_ms: 10_000,
        watchdog_delta_ms: 2_000,
        late_write_ms: 10_000,
        net_ms: 6_000,
        settle_ms: 22_000,
        guard_ms: 2_500,
        ..Self::SAN_FAST
    };

    /// Several hosts without shared storage: every block is a key, and the token of a dead writer stops its late writes.
    pub const ETCD: Self = Self { late_write_ms: 0, ..Self::SAN_FAST };

    /// The named profiles (protocol §3.11).
    pub const NAMED: [(&'static str, Self); 6] = [
        ("dev", Self::DEV),
        ("local-mmap", Self::LOCAL_MMAP),
        ("san-nvme", Self::SAN_NVME),
        ("san-fast", Self::SAN_FAST),
        ("san-safe", Self::SAN_SAFE),
        ("etcd", Self::ETCD),
    ];

    /// The profile of that name, if there is one.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::NAMED.into_iter().find(|(known, _)| *known == name).map(|(_, profile)| profile)
    }

    /// The name of this profile, if all its numbers are those of a named one.
    #[must_use]
    pub fn name(&self) -> Option<&'static str> {
        Self::NAMED.into_iter().find(|(_, profile)| profile == self).map(|(name, _)| name)
    }

    /// `D(x)`: a duration on another node's clock as a safe wait on mine, in milliseconds, rounded up.
    #[must_use]
    pub const fn safe_wait_ms(&self, duration_ms: u64) -> u64 {
        let million = 1_000_000;
        (duration_ms * (million + self.drift_ppm)).div_ceil(million - self.drift_ppm) + self.granularity_ms
    }

    /// Latest death of a node after it issued its last counted renewal, by its own clock (T_self = L + 2W + delta).
    #[must_use]
    pub const fn self_ms(&self) -> u64 {
        self.lease_ms + 2 * self.watchdog_ms + self.watchdog_delta_ms
    }

    /// Silence of a register after which its lease is over (T_takeover = D(L)).
    #[must_use]
    pub const fn takeover_ms(&self) -> u64 {
        self.safe_wait_ms(self.lease_ms)
    }

    /// Wait until death by deadline is certain (T_fence = D(L + 2W + delta) + T_late).
    #[must_use]
    pub const fn fence_ms(&self) -> u64 {
        self.safe_wait_ms(self.self_ms()) + self.late_write_ms
    }

    /// A heartbeat goes out this often (T_net / 6).
    #[must_use]
    pub const fn heartbeat_ms(&self) -> u64 {
        self.net_ms / 6
    }

    /// The daemon feeds its warden this often (at most W / 3).
    #[must_use]
    pub const fn feed_ms(&self) -> u64 {
        self.watchdog_ms / 4
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Protocol §3.11, the table: tau, R, L, warn, W, T_stop, delta, T_late, then T_self, T_takeover, T_fence, T_net,
    /// T_settle, guard; in milliseconds, where the table rounds to a tenth of a second.
    #[test]
    fn named_profiles_and_formulae_give_the_numbers_of_the_table() {
        let table = [
            ("local-mmap", [500, 1_000, 4_000, 3_000, 2_000, 2_000, 200, 0, 8_200, 4_100, 8_300, 1_500, 2_500, 250]),
            (
                "san-fast",
                [1_000, 2_000, 8_000, 6_000, 5_000, 5_000, 1_000, 2_000, 19_000, 8_100, 21_100, 3_000, 5_000, 500],
            ),
            (
                "san-safe",
                [
                    5_000, 10_000, 40_000, 30_000, 10_000, 10_000, 2_000, 10_000, 62_000, 40_100, 72_200, 6_000,
                    22_000, 2_500,
                ],
            ),
            ("etcd", [1_000, 2_000, 8_000, 6_000, 5_000, 5_000, 1_000, 0, 19_000, 8_100, 19_100, 3_000, 5_000, 500]),
        ];
        let tenths = |ms: u64| (ms + 50) / 100 * 100;
        for (name, expected) in table {
            let profile = TimingProfile::named(name).unwrap();
            let found = [
                profile.io_timeout_ms,
                profile.renewal_ms,
                profile.lease_ms,
                profile.warn_ms,
                profile.watchdog_ms,
                profile.stop_ms,
                profile.watchdog_delta_ms,
                profile.late_write_ms,
                profile.self_ms(),
                tenths(profile.takeover_ms()),
                tenths(profile.fence_ms()),
                profile.net_ms,
                profile.settle_ms,
                profile.guard_ms,
            ];
            assert_eq!(found, expected, "{name}");
            assert_eq!((profile.drift_ppm, profile.granularity_ms), (1_000, 50));
            assert_eq!(profile.name(), Some(name));
        }
        assert_eq!((TimingProfile::LOCAL_MMAP.takeover_ms(), TimingProfile::LOCAL_MMAP.fence_ms()), (4_059, 8_267));
        assert_eq!(TimingProfile::named("slow"), None);
    }
}
