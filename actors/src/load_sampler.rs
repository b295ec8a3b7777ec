//! Samples how hard this host is pressed (`/proc/pressure`) and tells registration-and-launch, which chooses nodes by it.
//!
//! Only where nodes have hosts of their own: nodes of one host are pressed alike.

use std::time::Duration;

use actix::prelude::*;
use phalanx_protocol::registration::{Pressure, percent_of};

use crate::restart::Restarts;

/// Between two samples; the kernel's own average is over ten seconds.
const EVERY: Duration = Duration::from_secs(5);
/// Processors, memory, disks.
const FILES: [&str; 3] = ["/proc/pressure/cpu", "/proc/pressure/memory", "/proc/pressure/io"];

/// Sent to registration-and-launch at every sample.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub struct Pressed(pub u8);

/// See the module.
pub struct LoadSampler {
    pressure: Pressure,
    restarts: Restarts,
    listener: Recipient<Pressed>,
}

impl LoadSampler {
    /// Tells `listener`.
    #[must_use]
    pub fn new(restarts: Restarts, listener: Recipient<Pressed>) -> Self {
        Self { pressure: Pressure::default(), restarts, listener }
    }

    fn sample(&mut self) {
        let pressure = &mut self.pressure;
        let step = self.restarts.run(|| {
            // A few bytes that the kernel makes up: reading them waits for nothing. A kernel without them counts as idle.
            let lines = FILES.iter().filter_map(|file| std::fs::read_to_string(file).ok());
            let highest = lines.filter_map(|text| percent_of(text.lines().next()?)).max();
            pressure.sample(highest.unwrap_or(0))
        });
        if let Some(step) = step {
            self.listener.do_send(Pressed(step));
        }
    }
}

impl Actor for LoadSampler {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.run_interval(EVERY, |actor, _| actor.sample());
    }
}
