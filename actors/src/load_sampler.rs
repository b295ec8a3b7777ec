//! Samples how hard this host is pressed (`/proc/pressure`) and tells registration-and-launch, which chooses nodes by it.
//!
//! Only where nodes have hosts of their own: nodes of one host are pressed alike.

use std::time::Duration;

use actix::prelude::*;
use phalanx_protocol::events::{LoadScore, Pressures, parse_pressure};

use crate::clock::Clock;
use crate::restart::Restarts;

/// Between two samples; the kernel's own average is over ten seconds.
const EVERY: Duration = Duration::from_secs(5);

/// Sent to registration-and-launch at every sample.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub struct Pressed(pub u8);

/// See the module.
pub struct LoadSampler {
    score: LoadScore,
    clock: Clock,
    restarts: Restarts,
    listener: Recipient<Pressed>,
}

impl LoadSampler {
    /// Tells `listener`.
    #[must_use]
    pub fn new(clock: Clock, restarts: Restarts, listener: Recipient<Pressed>) -> Self {
        Self { score: LoadScore::default(), clock, restarts, listener }
    }

    fn sample(&mut self) {
        let (score, now) = (&mut self.score, self.clock.now());
        let step = self.restarts.run(|| {
            // A few bytes that the kernel makes up: reading them waits for nothing. A kernel without them counts as idle.
            let share = |resource: &str| {
                let text = std::fs::read_to_string(format!("/proc/pressure/{resource}")).ok();
                text.and_then(|text| parse_pressure(&text)).unwrap_or(0.0)
            };
            score.sample(now, Pressures { cpu: share("cpu"), memory: share("memory"), io: share("io") })
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
