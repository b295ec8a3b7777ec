//! How bad one run is: the rates of every fault (protocol §8.1). Drawn per run, so that some are calm and some are brutal.

use super::clock::{MS, Micros, SECOND};
use super::random::Random;

/// See the module. Rates are per node and second, in thousandths.
#[derive(Debug, Clone)]
pub struct Weather {
    /// Longest time of an ordinary disk operation.
    pub io_max: Micros,
    /// An operation that takes up to two I/O time-outs.
    pub slow_io: u64,
    /// A read that returns an error.
    pub read_error: u64,
    /// A write that returns an error and may have happened.
    pub write_error: u64,
    /// One register that one reading cannot make out.
    pub unreadable: u64,
    /// A node's operations stop for a while.
    pub stall: u64,
    /// Everybody's do. Per second, of the whole cluster.
    pub stall_all: u64,
    /// Longest stall.
    pub stall_max: Micros,
    /// Longest delay of a message.
    pub delay_max: Micros,
    /// A connection that is reset.
    pub reset: u64,
    /// A direction that lets nothing through for a while.
    pub clog: u64,
    /// A partition begins. Per second, of the whole cluster.
    pub partition: u64,
    /// Longest clog or partition.
    pub cut_max: Micros,
    /// A message that comes twice, and copies of the last connection's last words on the next one.
    pub duplicate: u64,
    /// A daemon that dies.
    pub crash: u64,
    /// A warden that dies, or both at once.
    pub warden_crash: u64,
    /// Processes that stop for a while.
    pub freeze: u64,
    /// Longest freeze.
    pub freeze_max: Micros,
    /// The whole host loses power. Per second, of the whole cluster.
    pub power_loss: u64,
    /// Longest time until a node that ended is started again.
    pub restart_max: Micros,
    /// A node that is asked to leave.
    pub leave: u64,
    /// A node that an administrator fences although it lives.
    pub fence: u64,
    /// A change of the configuration. Per second, of the whole cluster.
    pub change: u64,
    /// A proof of death by the local fence that is refused at first.
    pub fence_fails: u64,
    /// A command of a service that fails.
    pub command_fails: u64,
    /// A command of a service that hangs until its time is over.
    pub command_hangs: u64,
    /// Longest time of a command.
    pub command_max: Micros,
    /// An administrator's order about a service. Per second, of the whole cluster.
    pub order: u64,
    /// An event that a node watches for occurs.
    pub occur: u64,
    /// Longest work of a subsystem on one step.
    pub work_max: Micros,
    /// A step that a subsystem refuses.
    pub refuse: u64,
    /// A step that a subsystem never ends.
    pub hang: u64,
    /// Longest time a warden needs to reap its node.
    pub reap_max: Micros,
}

impl Weather {
    /// Nothing goes wrong, and everything takes a little time.
    #[must_use]
    pub const fn calm() -> Self {
        Self {
            io_max: 2 * MS,
            slow_io: 0,
            read_error: 0,
            write_error: 0,
            unreadable: 0,
            stall: 0,
            stall_all: 0,
            stall_max: 0,
            delay_max: 2 * MS,
            reset: 0,
            clog: 0,
            partition: 0,
            cut_max: 0,
            duplicate: 0,
            crash: 0,
            warden_crash: 0,
            freeze: 0,
            freeze_max: 0,
            power_loss: 0,
            restart_max: 500 * MS,
            leave: 0,
            fence: 0,
            change: 0,
            fence_fails: 0,
            command_fails: 0,
            command_hangs: 0,
            command_max: 50 * MS,
            order: 0,
            occur: 0,
            work_max: 20 * MS,
            refuse: 0,
            hang: 0,
            reap_max: 20 * MS,
        }
    }

    /// As drawn: each kind of fault is absent in many runs, and how bad the rest is differs by orders of magnitude.
    #[must_use]
    pub fn drawn(random: &mut Random) -> Self {
        let scale = *random.pick(&[1, 2, 4, 8]).unwrap_or(&1);
        let mut rate = |max: u64| if random.chance(450) { 0 } else { random.below(max * scale + 1) };
        let mut weather = Self {
            slow_io: rate(4),
            read_error: rate(1),
            write_error: rate(1),
            unreadable: rate(3),
            stall: rate(3),
            stall_all: rate(2),
            reset: rate(3),
            clog: rate(3),
            partition: rate(8),
            duplicate: rate(20),
            crash: rate(6),
            warden_crash: rate(2),
            freeze: rate(6),
            power_loss: rate(1),
            leave: rate(4),
            fence: rate(1),
            change: rate(4),
            fence_fails: rate(30),
            refuse: rate(4),
            command_fails: rate(25),
            command_hangs: rate(10),
            order: rate(60),
            occur: rate(15),
            ..Self::calm()
        };
        // Rare: whoever waits for a hung subsystem waits for two minutes.
        weather.hang = if random.chance(30) { 2 } else { 0 };
        weather.io_max = random.magnitude(MS, 40 * MS);
        weather.stall_max = random.magnitude(SECOND, 15 * SECOND);
        weather.delay_max = random.magnitude(MS, 300 * MS);
        weather.cut_max = random.magnitude(SECOND, 20 * SECOND);
        weather.freeze_max = random.magnitude(SECOND, 30 * SECOND);
        weather.restart_max = random.magnitude(100 * MS, 20 * SECOND);
        weather.command_max = random.magnitude(10 * MS, SECOND);
        weather.work_max = random.magnitude(MS, 500 * MS);
        weather.reap_max = random.magnitude(10 * MS, 2 * SECOND);
        weather
    }

    /// The faults end; what takes time goes on taking it.
    #[must_use]
    pub fn after_the_storm(&self) -> Self {
        Self {
            io_max: self.io_max,
            delay_max: self.delay_max,
            command_max: self.command_max,
            work_max: self.work_max,
            reap_max: self.reap_max,
            ..Self::calm()
        }
    }
}
