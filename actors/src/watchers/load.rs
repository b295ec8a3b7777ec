//! `load`: something waits for a processor, for memory or for a disk too much of the time; so many looks in a row are an
//! occurrence. The kernel's pressure counts; where it has none, the load average stands in for that of the processors.

use std::path::PathBuf;

use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;
use phalanx_messages::event::Parameters;
use phalanx_protocol::events::parse_pressure;

use super::{Input, Looks, NoWatch, Tolerance, Watch, missing, number, out, text};

pub(super) struct Load {
    resource: String,
    percent: i64,
    proc: PathBuf,
    looks: Looks,
    tolerance: Tolerance,
}

impl Load {
    pub fn new(input: Input<'_>, proc: impl Into<PathBuf>) -> Result<Self, NoWatch> {
        let load = Self {
            resource: input.required_text("resource")?,
            percent: input.number("percent").ok_or_else(|| missing("percent"))?,
            proc: proc.into(),
            looks: Looks::every(input.interval()?),
            tolerance: Tolerance::new(input),
        };
        match load.look() {
            Some(_) => Ok(load),
            None => Err(NoWatch(format!("the kernel of this host does not tell the pressure of {}", load.resource))),
        }
    }

    /// In percent. `/proc` answers from memory.
    fn look(&self) -> Option<i64> {
        let read = |name: &str| std::fs::read_to_string(self.proc.join(name)).ok();
        let pressure = read(&format!("pressure/{}", self.resource)).and_then(|text| parse_pressure(&text));
        let share = match pressure {
            Some(share) => share,
            None if self.resource == "cpu" => {
                let average: f64 = read("loadavg")?.split_whitespace().next()?.parse().ok()?;
                let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
                #[expect(clippy::cast_precision_loss, reason = "a host has few processors")]
                let processors = processors as f64;
                average / processors * 100.0
            }
            None => return None,
        };
        #[expect(clippy::cast_possible_truncation, reason = "it is a share, made to lie in 0 ..= 100")]
        let percent = share.clamp(0.0, 100.0).round() as i64;
        Some(percent)
    }
}

impl Watch for Load {
    fn next(&mut self) -> LocalBoxFuture<'_, Result<Parameters, NoWatch>> {
        async move {
            loop {
                self.looks.due().await;
                let percent = self.look().unwrap_or(0);
                if percent < self.percent {
                    self.tolerance.good();
                } else if self.tolerance.bad().is_some() {
                    return Ok(out([("resource", text(&self.resource)), ("percent", number(percent))]));
                }
            }
        }
        .boxed_local()
    }
}
