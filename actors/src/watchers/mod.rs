//! Event watchers (spec, Fig. 21, 60a to 60g): one actor for each event that is enabled on this node.
//!
//! A watcher waits until the condition of its event occurs, tells the event manager daemon with the OUT parameters, and waits
//! again; it does not go on before the daemon has taken what it told. A panic in it is recorded and it begins anew with empty
//! memory; too many are the end of this watcher, never of the node.

mod health;
mod link;
mod load;
mod log;
mod membership;
mod probe;
mod process;
mod space;
#[cfg(test)]
mod tests;
mod timer;

pub(crate) use health::health_of;

use std::panic::{AssertUnwindSafe, resume_unwind};
use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;
use phalanx_messages::configuration::ConfigurationRecord;
use phalanx_messages::event::{EventDefinition, ParameterValue, Parameters};
use phalanx_messages::launch::WardenRequest;
use phalanx_messages::notification::SubsystemNotification;
use phalanx_protocol::events::WatchId;
use tokio::sync::{broadcast, watch};

use crate::clock::Clock;
use crate::gate::Gate;
use crate::ports::InjectPanic;
use crate::restart::Restarts;

/// Sent by a watcher to the event manager daemon: its event has occurred. Answered when the daemon has taken it.
#[derive(Debug, Clone, Message)]
#[rtype(result = "()")]
pub struct Detected {
    /// The event.
    pub event: String,
    /// In which watching.
    pub watch: WatchId,
    /// OUT parameters.
    pub out: Parameters,
}

/// Why a watcher can't watch; what the administrator reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoWatch(pub String);

/// Sent by a watcher to the event manager daemon when it ends by itself.
#[derive(Debug, Clone, Message)]
#[rtype(result = "()")]
pub struct WatchFailed {
    /// The event.
    pub event: String,
    /// In which watching.
    pub watch: WatchId,
    /// Why.
    pub failure: NoWatch,
}

/// Sent by the event manager daemon to a watcher: the event is watched no more.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub struct EndWatch;

/// What watchers are given.
#[derive(Debug)]
pub struct Surroundings {
    /// Changes of the event-manager level.
    pub levels: broadcast::Sender<Arc<SubsystemNotification>>,
    /// Names of the nodes.
    pub names: watch::Receiver<Arc<ConfigurationRecord>>,
    /// Runs what a watcher runs.
    pub warden: Recipient<WardenRequest>,
    /// Closed = a watcher runs nothing.
    pub gate: Gate,
    /// Time.
    pub clock: Clock,
    /// What its commands find in their environment.
    pub variables: Vec<(String, String)>,
}

/// Waits for one condition.
trait Watch {
    /// The OUT parameters of the next occurrence. An error is the end of the watching.
    fn next(&mut self) -> LocalBoxFuture<'_, Result<Parameters, NoWatch>>;
}

/// What became of waiting for one occurrence, or the panic that ended it.
type Waited = std::thread::Result<(Box<dyn Watch>, Result<Parameters, NoWatch>)>;

/// See the module.
pub struct Watcher {
    watch: WatchId,
    definition: EventDefinition,
    surroundings: Surroundings,
    restarts: Restarts,
    detected: Recipient<Detected>,
    failed: Recipient<WatchFailed>,
    waiting: Option<SpawnHandle>,
}

impl Watcher {
    /// A watcher for an event whose IN parameters are complete.
    #[must_use]
    pub fn new(
        watch: WatchId,
        definition: EventDefinition,
        surroundings: Surroundings,
        detected: Recipient<Detected>,
        failed: Recipient<WatchFailed>,
    ) -> Self {
        let restarts = Restarts::contained(surroundings.clock);
        Self { watch, definition, surroundings, restarts, detected, failed, waiting: None }
    }

    /// With empty memory.
    fn begin(&mut self, ctx: &mut Context<Self>) {
        match make(&self.definition, &self.surroundings) {
            Ok(watch) => self.wait(watch, ctx),
            Err(failure) => self.end(failure, ctx),
        }
    }

    fn wait(&mut self, mut watch: Box<dyn Watch>, ctx: &mut Context<Self>) {
        let next = async move {
            let told = watch.next().await;
            (watch, told)
        };
        let next = AssertUnwindSafe(next).catch_unwind().into_actor(self);
        self.waiting = Some(ctx.spawn(next.map(|waited, actor, ctx| actor.waited(waited, ctx))));
    }

    fn waited(&mut self, waited: Waited, ctx: &mut Context<Self>) {
        let (watch, out) = match waited {
            Ok((watch, Ok(out))) => (watch, out),
            Ok((_, Err(failure))) => return self.end(failure, ctx),
            Err(payload) => {
                self.restarts.run(|| resume_unwind(payload));
                return self.begin_again(ctx);
            }
        };
        let detected = Detected { event: self.definition.name.clone(), watch: self.watch, out };
        let taken = self.detected.send(detected).into_actor(self);
        self.waiting = Some(ctx.spawn(taken.map(|taken, actor, ctx| match taken {
            Ok(()) => actor.wait(watch, ctx),
            Err(_) => ctx.stop(), // the daemon is gone
        })));
    }

    fn begin_again(&mut self, ctx: &mut Context<Self>) {
        if self.restarts.is_exhausted() {
            self.end(NoWatch("its watcher panicked too often".to_owned()), ctx);
        } else {
            self.begin(ctx);
        }
    }

    fn end(&self, failure: NoWatch, ctx: &mut Context<Self>) {
        let (event, watch) = (self.definition.name.clone(), self.watch);
        self.failed.do_send(WatchFailed { event, watch, failure });
        ctx.stop();
    }
}

fn make(definition: &EventDefinition, surroundings: &Surroundings) -> Result<Box<dyn Watch>, NoWatch> {
    let input = Input(&definition.parameters);
    Ok(match definition.watcher.as_str() {
        "membership" => Box::new(membership::Membership::new(input, surroundings)),
        "process" => Box::new(process::Process::new(input, "/proc")),
        "health" => Box::new(health::Health::new(definition, surroundings)?),
        "tcp" => Box::new(probe::Probe::tcp(input)?),
        "http" => Box::new(probe::Probe::http(input)?),
        "space" => Box::new(space::Space::new(input)?),
        "link" => Box::new(link::Link::new(input, "/sys/class/net")?),
        "load" => Box::new(load::Load::new(input, "/proc")?),
        "log" => Box::new(log::Log::new(input)?),
        "timer" => Box::new(timer::Timer::new(input)?),
        other => return Err(NoWatch(format!("this node has no watcher `{other}`"))),
    })
}

impl Actor for Watcher {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.begin(ctx);
    }
}

impl Handler<EndWatch> for Watcher {
    type Result = ();

    fn handle(&mut self, _: EndWatch, ctx: &mut Self::Context) {
        ctx.stop();
    }
}

impl Handler<InjectPanic> for Watcher {
    type Result = ();

    fn handle(&mut self, _: InjectPanic, ctx: &mut Self::Context) {
        if self.restarts.run(|| panic!("injected")).is_none() {
            if let Some(waiting) = self.waiting.take() {
                ctx.cancel_future(waiting);
            }
            self.begin_again(ctx);
        }
    }
}

/// IN parameters by their types. What the schema requires or gives a default is there; anything else is said.
#[derive(Debug, Clone, Copy)]
struct Input<'a>(&'a Parameters);

impl Input<'_> {
    fn text(self, name: &str) -> Option<String> {
        match self.0.get(name)? {
            ParameterValue::Text(text) => Some(text.clone()),
            ParameterValue::Number(_) | ParameterValue::Flag(_) | ParameterValue::DurationMs(_) => None,
        }
    }

    fn number(self, name: &str) -> Option<i64> {
        match self.0.get(name)? {
            ParameterValue::Number(number) => Some(*number),
            ParameterValue::Text(_) | ParameterValue::Flag(_) | ParameterValue::DurationMs(_) => None,
        }
    }

    fn ms(self, name: &str) -> Option<u64> {
        match self.0.get(name)? {
            ParameterValue::DurationMs(ms) => Some(*ms),
            ParameterValue::Text(_) | ParameterValue::Flag(_) | ParameterValue::Number(_) => None,
        }
    }

    fn required_text(self, name: &str) -> Result<String, NoWatch> {
        self.text(name).ok_or_else(|| missing(name))
    }

    fn interval(self) -> Result<Duration, NoWatch> {
        self.ms("interval").map(Duration::from_millis).ok_or_else(|| missing("interval"))
    }
}

fn missing(name: &str) -> NoWatch {
    NoWatch(format!("IN parameter `{name}` is missing"))
}

/// OUT parameters.
fn out<const N: usize>(pairs: [(&str, ParameterValue); N]) -> Parameters {
    pairs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

fn text(text: impl Into<String>) -> ParameterValue {
    ParameterValue::Text(text.into())
}

fn number(number: impl TryInto<i64>) -> ParameterValue {
    ParameterValue::Number(number.try_into().unwrap_or(i64::MAX))
}

/// So many bad looks in a row are an occurrence; as many again are another one.
#[derive(Debug, Clone, Copy)]
struct Tolerance {
    most: i64,
    bad: i64,
}

impl Tolerance {
    fn new(input: Input<'_>) -> Self {
        Self { most: input.number("tolerance").unwrap_or(1), bad: 0 }
    }

    fn good(&mut self) {
        self.bad = 0;
    }

    /// The number of bad ones, if they are an occurrence.
    fn bad(&mut self) -> Option<i64> {
        self.bad += 1;
        (self.bad >= self.most).then(|| std::mem::take(&mut self.bad))
    }
}

/// Looks at once, then once in each interval; what was missed is not made up for.
#[derive(Debug)]
struct Looks {
    interval: Duration,
    next: Option<tokio::time::Instant>,
}

impl Looks {
    const fn every(interval: Duration) -> Self {
        Self { interval, next: None }
    }

    /// Waits until it is time to look.
    async fn due(&mut self) {
        if let Some(next) = self.next {
            tokio::time::sleep_until(next).await;
        }
        self.next = Some(tokio::time::Instant::now() + self.interval);
    }
}
