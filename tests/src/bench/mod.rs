//! The benches of architecture §9: figures of this machine, each beside its floor from the same run.
//!
//! A floor is the least that the same work can cost without us: a bare TCP star of the same size, starting the same processes,
//! launching a command. It is measured alternately with what it is the floor of, because machines drift and have neighbours. What is
//! compared is the ratio of the medians. Every bench keeps to one time limit for the whole run and says what it had to leave out.

pub mod actor_cluster;
pub mod actors;
pub mod boot;
pub mod cut;
pub mod failover;
pub mod figures;
pub mod idle;
pub mod options;
pub mod pipes;
pub mod placement;
pub mod services;
pub mod star;
pub mod transitions;

use std::cell::RefCell;

pub use figures::{Aim, Row, Spread};
pub use options::Options;

/// Nanoseconds of the monotonic clock.
#[must_use]
pub fn now_ns() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    u64::try_from(time.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(time.tv_nsec).unwrap_or(0)
}

/// Load average of the last minute.
#[must_use]
pub fn load() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace().next().unwrap_or("unknown").to_owned()
}

/// What every bench is given: the options, the time that is left, where the figures go.
#[derive(Debug)]
pub struct Stage {
    /// What was asked for.
    pub options: Options,
    begun_ns: u64,
    rows: RefCell<Vec<Row>>,
}

impl Stage {
    /// The clock starts.
    #[must_use]
    pub fn new(options: Options) -> Self {
        Self { options, begun_ns: now_ns(), rows: RefCell::new(Vec::new()) }
    }

    /// Seconds since the start.
    #[must_use]
    pub fn elapsed_s(&self) -> u64 {
        (now_ns() - self.begun_ns) / 1_000_000_000
    }

    /// The time limit of the whole run has passed.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.elapsed_s() >= self.options.limit_s
    }

    /// Says on stderr what is being done.
    pub fn progress(&self, what: impl AsRef<str>) {
        eprintln!("[{:>4} s, load {}] {}", self.elapsed_s(), load(), what.as_ref());
    }

    /// Takes a figure, and shows it at once unless the whole is to be one JSON value.
    pub fn report(&self, row: Row) {
        if !self.options.json {
            println!("{}", row.text());
        }
        self.rows.borrow_mut().push(row);
    }

    /// Everything that was reported.
    #[must_use]
    pub fn rows(&self) -> Vec<Row> {
        self.rows.borrow().clone()
    }
}
