//! Whether a service that is registered here is well: its monitor again and again, and the end of its processes
//! (protocol §6.2, `monitor`; spec, "5. Event Manager Daemon": an event's action is a request like any other).
//!
//! Nothing is decided here. A failure is told in the words of the public request `service failed S --generation G`, and told again
//! until the database shows another registration. A monitor that ends late, or after the registration it was begun for, counts for
//! nothing.
//!
//! While the service is held (protocol §6.3, `H`) an administrator may stop it and start it by hand: a failure is told once, so that
//! the status shows it, and nothing follows from it. When the hold ends, what was seen meanwhile counts no more and the service is
//! looked at anew: what still runs is adopted as it is, without a second start; what does not is told as failed, and the rules
//! start it.
//!
//! Pure: no process, no clock. The caller carries out each [`HealthOutput`], and gives no tick while its node may not act.

use phalanx_messages::admin::MonitorStatus;
use phalanx_messages::{Instant, OperationId};

/// A failure that is not taken up is told again after this long, in milliseconds; doubles each time.
const TELL_AGAIN_MS: u64 = 2_000;
/// It is told at least this often, in milliseconds.
const TELL_AGAIN_MS_MAX: u64 = 60_000;
/// What is told when nothing is left of what the start left running.
const ENDED: &str = "its processes have ended";

/// When a monitor runs, and what its failure means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MonitorRule {
    /// From the end of one to the beginning of the next, in milliseconds.
    pub interval_ms: u64,
    /// Bad ones in a row that are a failure.
    pub tolerance: u16,
}

/// How a registered service is looked after.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Care {
    /// None = it is not monitored.
    pub monitor: Option<MonitorRule>,
    /// Nothing is begun for it (protocol §6.3, `H`).
    pub held: bool,
    /// It may go on without the processes of its start: its node's death is followed by its stop command, which ends whatever an
    /// administrator has started by hand. Of any other service only what its start left is the service (protocol I-R1).
    pub outlives_processes: bool,
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
        /// What is to be known of it beside.
        care: Care,
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
    /// Somebody has been told.
    told: bool,
    tell_at: Instant,
    pause_ms: u64,
}

/// A registration here.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Watched {
    generation: OperationId,
    care: Care,
    /// Number of the monitor that runs.
    running: Option<u64>,
    next_at: Instant,
    bad_in_row: u16,
    /// Everything that its start left running has ended.
    ended: bool,
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
    /// What the monitors of the present registration have found; none = there is no registration here, or no monitor.
    #[must_use]
    pub fn monitor_status(&self) -> Option<MonitorStatus> {
        let watched = self.watched.as_ref()?;
        let tolerance = watched.care.monitor?.tolerance;
        Some(MonitorStatus { bad_in_row: watched.bad_in_row, tolerance, bad: self.bad, begun: self.monitors })
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
        let monitor = watched.care.monitor.filter(|_| watched.running.is_none()).map(|_| watched.next_at);
        let failing = watched.failing.as_ref().filter(|failing| failing.is_told_again(watched.care.held));
        monitor.into_iter().chain(failing.map(|failing| failing.tell_at)).min()
    }

    /// Takes one input.
    pub fn step(&mut self, input: HealthInput) -> Vec<HealthOutput> {
        match input {
            HealthInput::Registered { generation, care, now } => self.registered(generation, care, now),
            HealthInput::Deregistered => {
                self.watched = None;
                Vec::new()
            }
            HealthInput::MonitorEnded { number, verdict, now } => self.ended(number, verdict, now),
            HealthInput::ProcessesEnded { generation, now } => match &mut self.watched {
                Some(watched) if watched.generation == generation => {
                    watched.ended = true;
                    watched.fail(ENDED.to_owned(), true, now);
                    watched.tell(now)
                }
                Some(_) | None => Vec::new(),
            },
            HealthInput::Tick(now) => self.tick(now),
        }
    }

    fn registered(&mut self, generation: OperationId, care: Care, now: Instant) -> Vec<HealthOutput> {
        match &mut self.watched {
            // Defined otherwise: what is known of this registration stays.
            Some(watched) if watched.generation == generation => {
                if watched.care.monitor != care.monitor {
                    watched.next_at = now.plus(care.monitor.map_or(0, |rule| rule.interval_ms));
                }
                let released = watched.care.held && !care.held;
                watched.care = care;
                if released { watched.released(now) } else { Vec::new() }
            }
            Some(_) | None => {
                self.watched = Some(Watched::new(generation, care, now));
                Vec::new()
            }
        }
    }

    fn ended(&mut self, number: u64, verdict: Verdict, now: Instant) -> Vec<HealthOutput> {
        let Some(watched) = self.watched.as_mut().filter(|watched| watched.running == Some(number)) else {
            return Vec::new(); // of an earlier registration
        };
        watched.running = None;
        let Some(rule) = watched.care.monitor else { return Vec::new() };
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
        if watched.care.monitor.is_some() && watched.running.is_none() && watched.next_at <= now {
            self.monitors += 1;
            watched.running = Some(self.monitors);
            out.push(HealthOutput::RunMonitor { number: self.monitors });
        }
        out
    }
}

impl Failing {
    /// Of a service that is held it is told once: what is still on its way when the hold ends would count.
    const fn is_told_again(&self, held: bool) -> bool {
        !held || !self.told
    }
}

impl Watched {
    fn new(generation: OperationId, care: Care, now: Instant) -> Self {
        let next_at = now.plus(care.monitor.map_or(0, |rule| rule.interval_ms));
        Self { generation, care, running: None, next_at, bad_in_row: 0, ended: false, failing: None }
    }

    /// The hold has ended: only what is there now counts. A monitor that was begun before may have seen what is no more.
    fn released(&mut self, now: Instant) -> Vec<HealthOutput> {
        self.failing = None;
        self.bad_in_row = 0;
        self.running = None;
        self.next_at = now;
        let monitor_decides = self.care.outlives_processes && self.care.monitor.is_some();
        if self.ended && !monitor_decides {
            self.fail(ENDED.to_owned(), true, now);
        }
        self.tell(now)
    }

    /// What was seen first is told; the newest words of it.
    fn fail(&mut self, text: String, ended: bool, now: Instant) {
        match &mut self.failing {
            Some(failing) if failing.ended => {}
            Some(failing) if !ended => failing.text = text,
            Some(_) | None => {
                self.failing = Some(Failing { text, ended, told: false, tell_at: now, pause_ms: TELL_AGAIN_MS });
            }
        }
    }

    fn tell(&mut self, now: Instant) -> Vec<HealthOutput> {
        let held = self.care.held;
        let due = |failing: &&mut Failing| failing.tell_at <= now && failing.is_told_again(held);
        let Some(failing) = self.failing.as_mut().filter(due) else { return Vec::new() };
        failing.told = true;
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
        assert_eq!(is_registered(&mut health, Care { monitor, ..Care::default() }, 0), []);
        health
    }

    fn is_registered(health: &mut Health, care: Care, ms: u64) -> Vec<HealthOutput> {
        health.step(HealthInput::Registered { generation: generation(5), care, now: T0.plus(ms) })
    }

    fn processes_ended(health: &mut Health, ms: u64) -> Vec<HealthOutput> {
        health.step(HealthInput::ProcessesEnded { generation: generation(5), now: T0.plus(ms) })
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
        let status = MonitorStatus { bad_in_row: 2, tolerance: 3, bad: 4, begun: 5 };
        assert_eq!(health.monitor_status(), Some(status));
        tick(&mut health, 600);
        let slow = Verdict::Slow("timed out after 20 ms and was killed".to_owned());
        let text = "its monitor is too slow: timed out after 20 ms and was killed (3 in a row)";
        assert_eq!(ended(&mut health, 6, slow, 600), told(text), "slow is told from bad");
        let status = MonitorStatus { bad_in_row: 3, bad: 5, begun: 6, ..status };
        assert_eq!(health.monitor_status(), Some(status));
        health.step(HealthInput::Deregistered);
        assert_eq!(health.monitor_status(), None);
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
        let care = Care { monitor: Some(RULE), ..Care::default() };
        health.step(HealthInput::Registered { generation: generation(6), care, now: T0.plus(150) });
        assert_eq!(ended(&mut health, 1, Verdict::Dead(String::new()), 160), []);
        assert_eq!(tick(&mut health, 250), run(2));
    }

    /// A changed definition reaches a service that runs.
    #[test]
    fn a_changed_rule_is_used_from_then_on() {
        let mut health = registered(None);
        assert_eq!(health.next_deadline(), None);
        is_registered(&mut health, Care { monitor: Some(RULE), ..Care::default() }, 500);
        assert_eq!(tick(&mut health, 600), run(1));
    }

    const HELD: Care = Care { monitor: Some(RULE), held: true, outlives_processes: true };
    const RELEASED: Care = Care { held: false, ..HELD };

    #[test]
    fn what_fails_while_it_is_held_is_told_once() {
        let mut health = registered(None);
        is_registered(&mut health, Care { monitor: None, ..HELD }, 10);
        assert_eq!(processes_ended(&mut health, 20), told(ENDED));
        assert_eq!((tick(&mut health, 100_000), health.next_deadline()), (vec![], None), "nothing follows from it");
    }

    /// Protocol §6.3, `H`: it was stopped and started by hand meanwhile.
    #[test]
    fn what_runs_when_the_hold_ends_is_adopted() {
        let mut health = registered(Some(RULE));
        is_registered(&mut health, HELD, 10);
        assert_eq!(processes_ended(&mut health, 20), told(ENDED));
        assert_eq!(tick(&mut health, 100), run(1));
        assert_eq!(is_registered(&mut health, RELEASED, 110), [], "nobody knows yet");
        assert_eq!(ended(&mut health, 1, Verdict::Dead("exit status 7".to_owned()), 111), [], "it was begun before");
        assert_eq!(tick(&mut health, 111), run(2), "at once");
        assert_eq!(ended(&mut health, 2, Verdict::Well, 120), []);
        assert_eq!((tick(&mut health, 219), tick(&mut health, 220)), (vec![], run(3)));
        let text = "its monitor says that it does not run: exit status 7";
        assert_eq!(ended(&mut health, 3, Verdict::Dead("exit status 7".to_owned()), 230), told(text), "as ever");
    }

    #[test]
    fn what_does_not_run_when_the_hold_ends_has_failed() {
        let text = "its monitor says that it does not run: exit status 7";
        let mut health = registered(Some(RULE));
        is_registered(&mut health, HELD, 10);
        processes_ended(&mut health, 20);
        is_registered(&mut health, RELEASED, 110);
        assert_eq!(tick(&mut health, 110), run(1));
        assert_eq!(ended(&mut health, 1, Verdict::Dead("exit status 7".to_owned()), 120), told(text));

        for nobody_can_tell in [
            Care { monitor: None, ..HELD },
            // It would run outside of the containment, where nobody ends it when its node dies (protocol I-R1).
            Care { outlives_processes: false, ..HELD },
        ] {
            let mut health = registered(Some(RULE));
            is_registered(&mut health, nobody_can_tell, 10);
            processes_ended(&mut health, 20);
            let released = Care { held: false, ..nobody_can_tell };
            assert_eq!(is_registered(&mut health, released, 110), told(ENDED), "{nobody_can_tell:?}");
            assert_eq!(tick(&mut health, 2_110).first(), told(ENDED).first(), "again: it is held no more");
        }
    }

    #[test]
    fn a_service_that_was_left_alone_while_it_was_held_is_only_looked_at_sooner() {
        let mut health = registered(None);
        is_registered(&mut health, Care { monitor: None, ..HELD }, 10);
        assert_eq!(is_registered(&mut health, Care { monitor: None, ..RELEASED }, 20), []);
        assert_eq!((tick(&mut health, 100_000), health.next_deadline()), (vec![], None));
    }
}
