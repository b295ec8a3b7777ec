//! The timing profile of a disk and everything computed from it (protocol §3.11).
//!
//! Fixed when the disk is formatted and read from the superblock by every node, never from a local file.

use serde::{Deserialize, Serialize};

/// Inputs of every timing formula. All durations in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
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

    /// The profile of that name, if there is one: `dev` or `local-mmap`.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "dev" => Some(Self::DEV),
            "local-mmap" => Some(Self::LOCAL_MMAP),
            _ => None,
        }
    }

    /// `D(x)`: a duration on another node's clock as a safe wait on mine, in milliseconds, rounded up.
    #[must_use]
    pub const fn safe_wait_ms(&self, duration_ms: u64) -> u64 {
        let million = 1_000_000;
        (duration_ms * (million + self.drift_ppm)).div_ceil(million - self.drift_ppm) + self.granularity_ms
    }

    /// Silence of a register after which its lease is over (T_takeover = D(L)).
    #[must_use]
    pub const fn takeover_ms(&self) -> u64 {
        self.safe_wait_ms(self.lease_ms)
    }

    /// Wait until death by deadline is certain (T_fence = D(L + 2W + delta) + T_late).
    #[must_use]
    pub const fn fence_ms(&self) -> u64 {
        self.safe_wait_ms(self.lease_ms + 2 * self.watchdog_ms + self.watchdog_delta_ms) + self.late_write_ms
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

    /// Checks the relations between the inputs (protocol §3.11, "Checks made at start").
    ///
    /// # Errors
    /// One sentence that names both values.
    pub fn check(&self) -> Result<(), String> {
        let least = self.renewal_ms + 6 * self.io_timeout_ms;
        if self.lease_ms < least {
            return Err(format!(
                "lease_ms ({}) must be at least renewal_ms + 6 io_timeout_ms ({least})",
                self.lease_ms
            ));
        }
        if self.stop_ms > self.watchdog_ms {
            return Err(format!("stop_ms ({}) must be at most watchdog_ms ({})", self.stop_ms, self.watchdog_ms));
        }
        if self.guard_ms >= self.lease_ms || self.heartbeat_ms() == 0 || self.feed_ms() == 0 {
            return Err(format!(
                "guard_ms ({}) must be below lease_ms ({}), net_ms ({}) at least 6 and watchdog_ms ({}) at least 4",
                self.guard_ms, self.lease_ms, self.net_ms, self.watchdog_ms
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formulae_give_the_numbers_of_the_protocol() {
        let local = TimingProfile::LOCAL_MMAP;
        assert_eq!(local.takeover_ms(), 4_059); // protocol §3.11: 4.1 s
        assert_eq!(local.fence_ms(), 8_267); // 8.3 s
        assert!(local.check().is_ok() && TimingProfile::DEV.check().is_ok());
    }

    #[test]
    fn a_check_that_fails_names_both_values() {
        let text = TimingProfile { lease_ms: 1_000, ..TimingProfile::DEV }.check().unwrap_err();
        assert_eq!(text, "lease_ms (1000) must be at least renewal_ms + 6 io_timeout_ms (2000)");
    }
}
