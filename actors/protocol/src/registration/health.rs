//! Whether a service that is registered here is well: its monitor again and again, and the end of its processes
//! (protocol §6.2, `monitor`; spec, "5. Event Manager Daemon": an event's action is a request like any other).
//!
//! Nothing is decided here. A failure is told in the words of the public request `service failed S --generation G`, and told again
//! until the database shows another registration. A monitor that ends late, or after the registration it was begun for, counts for
//! nothing.
//!
//! Pure: no process, no clock. The caller carries out each [`HealthOutput`], and gives no tick while its node may not act.

use phalanx_messages::{Instant, OperationId};

/// A failure that is not taken up is told again after this long, in milliseconds; doubles each time.
const TELL_AGAIN_MS: u64 = 2_000;
/// It is told at least this often, in milliseconds.
const TELL_AGAIN_MS_MAX: u64 = 60_000;

/// When a monitor runs, and what its failure means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MonitorRule {
    /// From the end of one to the beginning of the next, in milliseconds.
    pub interval_ms: u64,
    /// Bad ones in a row that are a failure.
    pub tolerance: u16,
}

/// What a monitor found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It is well.
    Well,
    /// It is not well.
    Bad(String),
    /// The monitor took too long; counts as bad.
    Slow(String),
    /// It does not run at all: a failure at once.
    Dead(String),
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HealthInput {
    /// The database says that it is registered at this incarnation of this node.
    Registered {
        /// The operation of its start.
        generation: OperationId,
        /// None = it is not monitored.
        monitor: Option<MonitorRule>,
        /// When.
        now: Instant,
    },
    /// The database no longer says so.
    Deregistered,
    /// A monitor has ended.
    MonitorEnded {
        /// Which.
        number: u64,
        /// What it found.
        verdict: Verdict,
        /// When.
        now: Instant,
    },
    /// Everything that the start of that generation left running has ended.
    ProcessesEnded {
        /// Of which registration.
        generation: OperationId,
        /// When.
        now: Instant,
    },
    /// Time passes, and this node may act.
    Tick(Instant),
}

/// What the caller must do next, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HealthOutput {
    /// Run the monitor once.
    RunMonitor {
        /// Names its end.
        number: u64,
    },
    /// Ask that the service be counted as failed.
    TellFailed {
        /// Its registration.
        generation: OperationId,
        /// What was seen.
        text: String,
    },
}

/// A failure that was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Failing {
    text: String,
    /// Nothing that a monitor says makes it well again.
    ended: bool,
    tell_at: Instant,
    pause_ms: u64,
}

/// A registration here.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Watched {
    generation: OperationId,
    monitor: Option<MonitorRule>,
    /// Number of the monitor that runs.
    running: Option<u64>,
    next_at: Instant,
    bad_in_row: u16,
    failing: Option<Failing>,
}

/// See the module.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Health {
    watched: Option<Watched>,
    monitors: u64,
    bad: u64,
}

impl Health {
    /// Monitors that were begun, and those that were bad, since this machine began.
    #[must_use]
    pub const fn counts(&self) -> (u64, u64) {
        (self.monitors, self.bad)
    }

    /// Bad monitors in a row until now.
    #[must_use]
    pub fn bad_in_row(&self) -> u16 {
        self.watched.as_ref().map_or(0, |watched| watched.bad_in_row)
    }

    /// A monitor runs.
    #[must_use]
    pub fn is_monitoring(&self) -> bool {
        self.watched.as_ref().is_some_and(|watched| watched.running.is_some())
    }

    /// When [`HealthInput::Tick`] is needed next.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        let watched = self.watched.as_ref()?;
        let monitor = watched.monitor.filter(|_| watched.running.is_none()).map(|_| watched.next_at);
        let tell = watched.failing.as_ref().map(|failing| failing.tell_at);
        monitor.into_iter().chain(tell).min()
    }

    /// Takes one input.
    pub fn step(&mut self, input: HealthInput) -> Vec<HealthOutput> {
        match input {
            HealthInput::Registered { generation, monitor, now } => {
                self.registered(generation, monitor, now);
                Vec::new()
            }
            HealthInput::Deregistered => {
                self.watched = None;
                Vec::new()
            }
            HealthInput::MonitorEnded { number, verdict, now } => self.ended(number, verdict, now),
            HealthInput::ProcessesEnded { generation, now } => match &mut self.watched {
                Some(watched) if watched.generation == generation => {
                    watched.fail("its processes have ended".to_owned(), true, now);
                    watched.tell(now)
                }
                Some(_) | None => Vec::new(),
            },
            HealthInput::Tick(now) => self.tick(now),
        }
    }

    fn registered(&mut self, generation: OperationId, monitor: Option<MonitorRule>, now: Instant) {
        match &mut self.watched {
            // Defined otherwise: what is known of this registration stays.
            Some(watched) if watched.generation == generation => {
                if watched.monitor != monitor {
                    watched.next_at = now.plus(monitor.map_or(0, |rule| rule.interval_ms));
                }
                watched.monitor = monitor;
            }
            Some(_) | None => {
                let next_at = now.plus(monitor.map_or(0, |rule| rule.interval_ms));
                let watched = Watched { generation, monitor, running: None, next_at, bad_in_row: 0, failing: None };
                self.watched = Some(watched);
            }
        }
    }

    fn ended(&mut self, number: u64, verdict: Verdict, now: Instant) -> Vec<HealthOutput> {
        let Some(watched) = self.watched.as_mut().filter(|watched| watched.running == Some(number)) else {
            return Vec::new(); // of an earlier registration
        };
        watched.running = None;
        let Some(rule) = watched.monitor else { return Vec::new() };
        watched.next_at = now.plus(rule.interval_ms);
        let (text, at_once) = match verdict {
            Verdict::Well => {
                watched.bad_in_row = 0;
                watched.failing.take_if(|failing| !failing.ended);
                return Vec::new();
            }
            Verdict::Bad(text) => (format!("its monitor failed: {text}"), false),
            Verdict::Slow(text) => (format!("its monitor is too slow: {text}"), false),
            Verdict::Dead(text) => (format!("its monitor says that it does not run: {text}"), true),
        };
        self.bad += 1;
        watched.bad_in_row = watched.bad_in_row.saturating_add(1);
        if watched.bad_in_row < rule.tolerance && !at_once {
            return Vec::new();
        }
        let times = if watched.bad_in_row > 1 { format!(" ({} in a row)", watched.bad_in_row) } else { String::new() };
        watched.fail(text + &times, false, now);
        watched.tell(now)
    }

    fn tick(&mut self, now: Instant) -> Vec<HealthOutput> {
        let Some(watched) = &mut self.watched else { return Vec::new() };
        let mut out = watched.tell(now);
        if watched.monitor.is_some() && watched.running.is_none() && watched.next_at <= now {
            self.monitors += 1;
            watched.running = Some(self.monitors);
            out.push(HealthOutput::RunMonitor { number: self.monitors });
        }
        out
    }
}

impl Watched {
    /// What was seen first is told; the newest words of it.
    fn fail(&mut self, text: String, ended: bool, now: Instant) {
        match &mut self.failing {
            Some(failing) if failing.ended => {}
            Some(failing) if !ended => failing.text = text,
            Some(_) | None => {
                self.failing = Some(Failing { text, ended, tell_at: now, pause_ms: TELL_AGAIN_MS });
            }
        }
    }

    fn tell(&mut self, now: Instant) -> Vec<HealthOutput> {
        let Some(failing) = self.failing.as_mut().filter(|failing| failing.tell_at <= now) else { return Vec::new() };
        failing.tell_at = now.plus(failing.pause_ms);
        failing.pause_ms = (failing.pause_ms * 2).min(TELL_AGAIN_MS_MAX);
        vec![HealthOutput::TellFailed { generation: self.generation, text: failing.text.clone() }]
    }
}

#[cfg(test)]
mod tests {
    use phalanx_messages::{Revision, Term};

    use super::*;

    const T0: Instant = Instant(1_000);
    const RULE: MonitorRule = MonitorRule { interval_ms: 100, tolerance: 3 };

    fn generation(seq: u64) -> OperationId {
        OperationId { revision: Revision { term: Term(1), seq }, index: 0 }
    }

    fn registered(monitor: Option<MonitorRule>) -> Health {
        let mut health = Health::default();
        assert_eq!(health.step(HealthInput::Registered { generation: generation(5), monitor, now: T0 }), []);
        health
    }

    fn tick(health: &mut Health, ms: u64) -> Vec<HealthOutput> {
        health.step(HealthInput::Tick(T0.plus(ms)))
    }

    fn ended(health: &mut Health, number: u64, verdict: Verdict, ms: u64) -> Vec<HealthOutput> {
        health.step(HealthInput::MonitorEnded { number, verdict, now: T0.plus(ms) })
    }

    fn bad() -> Verdict {
        Verdict::Bad("exit status 1".to_owned())
    }

    fn told(text: &str) -> Vec<HealthOutput> {
        vec![HealthOutput::TellFailed { generation: generation(5), text: text.to_owned() }]
    }

    fn run(number: u64) -> Vec<HealthOutput> {
        vec![HealthOutput::RunMonitor { number }]
    }

    #[test]
    fn a_monitor_begins_an_interval_after_the_last_one_has_ended() {
        let mut health = registered(Some(RULE));
        assert_eq!((tick(&mut health, 99), health.next_deadline()), (vec![], Some(T0.plus(100))));
        assert_eq!(tick(&mut health, 100), run(1));
        assert_eq!((tick(&mut health, 500), health.next_deadline()), (vec![], None), "one at a time");
        assert_eq!(ended(&mut health, 1, Verdict::Well, 510), []);
        assert_eq!(tick(&mut health, 609), []);
        assert_eq!(tick(&mut health, 610), run(2));
    }

    #[test]
    fn so_many_bad_ones_in_a_row_are_a_failure_and_a_good_one_begins_anew() {
        let mut health = registered(Some(RULE));
        for (number, verdict) in [(1, bad()), (2, bad()), (3, Verdict::Well), (4, bad()), (5, bad())] {
            assert_eq!(tick(&mut health, number * 100), run(number));
            assert_eq!(ended(&mut health, number, verdict, number * 100), []);
        }
        assert_eq!(health.bad_in_row(), 2);
        tick(&mut health, 600);
        let slow = Verdict::Slow("timed out after 20 ms and was killed".to_owned());
        let text = "its monitor is too slow: timed out after 20 ms and was killed (3 in a row)";
        assert_eq!(ended(&mut health, 6, slow, 600), told(text), "slow is told from bad");
        assert_eq!(health.counts(), (6, 5));
    }

    #[test]
    fn one_that_says_that_nothing_runs_is_a_failure_at_once() {
        let mut health = registered(Some(RULE));
        tick(&mut health, 100);
        let text = "its monitor says that it does not run: exit status 7";
        assert_eq!(ended(&mut health, 1, Verdict::Dead("exit status 7".to_owned()), 100), told(text));
    }

    /// The order may be lost with the node that decides.
    #[test]
    fn a_failure_is_told_again_less_and_less_often_until_it_is_taken_up() {
        let mut health = registered(None);
        let ended = HealthInput::ProcessesEnded { generation: generation(5), now: T0 };
        assert_eq!(health.step(ended), told("its processes have ended"));
        assert_eq!((tick(&mut health, 1_999), tick(&mut health, 2_000)), (vec![], told("its processes have ended")));
        assert_eq!(health.next_deadline(), Some(T0.plus(6_000)));
        assert_eq!(tick(&mut health, 6_000), told("its processes have ended"));
        health.step(HealthInput::Deregistered);
        assert_eq!((tick(&mut health, 100_000), health.next_deadline()), (vec![], None));
    }

    #[test]
    fn a_service_that_is_well_again_before_anybody_took_it_up_has_not_failed() {
        let mut health = registered(Some(MonitorRule { tolerance: 1, ..RULE }));
        tick(&mut health, 100);
        assert_eq!(ended(&mut health, 1, bad(), 100), told("its monitor failed: exit status 1"));
        assert_eq!(tick(&mut health, 200), run(2));
        ended(&mut health, 2, Verdict::Well, 200);
        assert_eq!(tick(&mut health, 2_100), run(3), "nothing is told any more");
    }

    #[test]
    fn what_belongs_to_another_registration_counts_for_nothing() {
        let mut health = registered(Some(RULE));
        assert_eq!(health.step(HealthInput::ProcessesEnded { generation: generation(4), now: T0 }), []);
        assert_eq!(tick(&mut health, 100), run(1));
        health.step(HealthInput::Registered { generation: generation(6), monitor: Some(RULE), now: T0.plus(150) });
        assert_eq!(ended(&mut health, 1, Verdict::Dead(String::new()), 160), []);
        assert_eq!(tick(&mut health, 250), run(2));
    }

    /// A changed definition reaches a service that runs.
    #[test]
    fn a_changed_rule_is_used_from_then_on() {
        let mut health = registered(None);
        assert_eq!(health.next_deadline(), None);
        health.step(HealthInput::Registered { generation: generation(5), monitor: Some(RULE), now: T0.plus(500) });
        assert_eq!(tick(&mut health, 600), run(1));
    }
}
