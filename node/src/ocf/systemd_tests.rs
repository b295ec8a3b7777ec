//! Against a manager that the test plays itself, at the other end of a socket: no systemd is needed, and none is touched.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::net::UnixStream;
use tokio::sync::mpsc;
use zbus::object_server::SignalEmitter;
use zbus::{Guid, connection};

use super::*;

/// How a unit is, and what its next job comes to.
#[derive(Debug, Clone)]
struct Unit {
    active: &'static str,
    load: &'static str,
}

type Units = Arc<Mutex<BTreeMap<String, Unit>>>;

#[derive(Debug, zbus::DBusError)]
#[zbus(prefix = "org.freedesktop.systemd1")]
enum Refused {
    #[zbus(error)]
    ZBus(zbus::Error),
    NoSuchUnit(String),
}

/// Tells the test of every call that makes a job, and how many there were before.
struct Manager {
    units: Units,
    jobs: u32,
    called: mpsc::UnboundedSender<(String, u32)>,
    /// The job has ended before the reply is sent, with this result.
    at_once: Option<&'static str>,
}

impl Manager {
    async fn job(
        &mut self,
        method: &str,
        unit: &str,
        mode: &str,
        emitter: &SignalEmitter<'_>,
    ) -> Result<OwnedObjectPath, Refused> {
        assert_eq!(mode, "replace");
        if !self.units.lock().unwrap().contains_key(unit) {
            return Err(Refused::NoSuchUnit(format!("Unit {unit} not found.")));
        }
        self.jobs += 1;
        self.called.send((format!("{method} {unit}"), self.jobs)).unwrap();
        if let Some(result) = self.at_once {
            Self::job_removed(emitter, self.jobs, job_path(self.jobs), unit, result).await?;
        }
        Ok(job_path(self.jobs).into())
    }
}

#[zbus::interface(name = "org.freedesktop.systemd1.Manager")]
impl Manager {
    async fn subscribe(&self) {}

    async fn start_unit(
        &mut self,
        unit: &str,
        mode: &str,
        #[zbus(signal_emitter)] emitter: SignalEmitter<'_>,
    ) -> Result<OwnedObjectPath, Refused> {
        self.job("start", unit, mode, &emitter).await
    }

    async fn stop_unit(
        &mut self,
        unit: &str,
        mode: &str,
        #[zbus(signal_emitter)] emitter: SignalEmitter<'_>,
    ) -> Result<OwnedObjectPath, Refused> {
        self.job("stop", unit, mode, &emitter).await
    }

    async fn load_unit(&self, unit: &str) -> OwnedObjectPath {
        let place = self.units.lock().unwrap_or_else(PoisonError::into_inner).keys().position(|known| known == unit);
        unit_path(place.unwrap_or(usize::MAX)).into()
    }

    #[zbus(signal)]
    async fn job_removed(
        emitter: &SignalEmitter<'_>,
        id: u32,
        job: ObjectPath<'_>,
        unit: &str,
        result: &str,
    ) -> zbus::Result<()>;
}

struct UnitObject {
    units: Units,
    name: String,
}

#[zbus::interface(name = "org.freedesktop.systemd1.Unit")]
impl UnitObject {
    #[zbus(property)]
    fn active_state(&self) -> String {
        self.units.lock().unwrap()[&self.name].active.to_owned()
    }

    #[zbus(property)]
    fn load_state(&self) -> String {
        self.units.lock().unwrap()[&self.name].load.to_owned()
    }
}

fn job_path(number: u32) -> ObjectPath<'static> {
    ObjectPath::try_from(format!("/org/freedesktop/systemd1/job/{number}")).unwrap()
}

fn unit_path(place: usize) -> ObjectPath<'static> {
    ObjectPath::try_from(format!("/org/freedesktop/systemd1/unit/u{place}")).unwrap()
}

/// The connection under test, the manager's end, and what the manager was called for.
struct Bench {
    ours: Connection,
    theirs: Connection,
    called: mpsc::UnboundedReceiver<(String, u32)>,
}

impl Bench {
    async fn of(units: &[(&str, &'static str, &'static str)], at_once: Option<&'static str>) -> Self {
        let named = units.iter().map(|&(name, active, load)| (name.to_owned(), Unit { active, load }));
        let units: Units = Arc::new(Mutex::new(named.collect()));
        let (calls, called) = mpsc::unbounded_channel();
        let (here, there) = UnixStream::pair().unwrap();
        let manager = Manager { units: units.clone(), jobs: 0, called: calls, at_once };
        let mut server = connection::Builder::unix_stream(there).server(Guid::generate()).unwrap().p2p();
        server = server.serve_at(MANAGER_PATH, manager).unwrap();
        let names: Vec<String> = units.lock().unwrap().keys().cloned().collect();
        for (place, name) in names.into_iter().enumerate() {
            server = server.serve_at(unit_path(place), UnitObject { units: units.clone(), name }).unwrap();
        }
        let client = connection::Builder::unix_stream(here).p2p();
        let (theirs, ours) = tokio::join!(server.build(), client.build());
        Self { ours: ours.unwrap(), theirs: theirs.unwrap(), called }
    }

    async fn job_ends(&self, number: u32, unit: &str, result: &str) {
        let manager = self.theirs.object_server().interface::<_, Manager>(MANAGER_PATH).await.unwrap();
        Manager::job_removed(manager.signal_emitter(), number, job_path(number), unit, result).await.unwrap();
    }

    async fn monitor(&self, unit: &str) -> UnitAnswer {
        perform(&self.ours, unit, UnitAction::Monitor).await
    }
}

#[tokio::test]
async fn a_start_is_done_when_its_own_job_is() {
    let mut bench = Bench::of(&[("web.service", "inactive", "loaded")], None).await;
    let ours = bench.ours.clone();
    let start = tokio::spawn(async move { perform(&ours, "web.service", UnitAction::Start).await });
    let (call, number) = bench.called.recv().await.unwrap();
    assert_eq!((call.as_str(), number), ("start web.service", 1));
    bench.job_ends(7, "other.service", "failed").await;
    // An answer to a later question shows that the signal before it has been taken in.
    assert_eq!(bench.monitor("web.service").await, UnitAnswer::NotRunning("unit web.service is inactive".to_owned()));
    assert!(!start.is_finished(), "neither the reply to the call nor another job ends it");
    bench.job_ends(1, "web.service", "done").await;
    assert_eq!(start.await.unwrap(), UnitAnswer::Well);
}

/// systemd sends the signal of a short job before the reply to the call that made it.
#[tokio::test]
async fn a_job_that_has_ended_before_its_call_was_answered_is_not_missed() {
    let bench = Bench::of(&[("web.service", "active", "loaded")], Some("done")).await;
    for action in [UnitAction::Start, UnitAction::Stop] {
        assert_eq!(perform(&bench.ours, "web.service", action).await, UnitAnswer::Well, "{action:?}");
    }
    let bench = Bench::of(&[("web.service", "active", "loaded")], Some("timeout")).await;
    let text = "the job of unit web.service has ended as `timeout` (StartUnit)";
    assert_eq!(perform(&bench.ours, "web.service", UnitAction::Start).await, UnitAnswer::Failed(text.to_owned()));
}

#[tokio::test]
async fn what_systemd_does_not_know_cannot_be_started_and_is_stopped() {
    let bench = Bench::of(&[], None).await;
    let unknown = UnitAnswer::Unknown("Unit web.service not found.".to_owned());
    assert_eq!(perform(&bench.ours, "web.service", UnitAction::Start).await, unknown);
    assert_eq!(perform(&bench.ours, "web.service", UnitAction::Stop).await, UnitAnswer::Well);
}

#[tokio::test]
async fn the_state_of_a_unit_is_its_monitor() {
    let states = ["activating", "active", "deactivating", "failed", "inactive", "refreshing", "reloading"];
    let names: Vec<String> = states.iter().map(|state| format!("{state}.service")).collect();
    let mut units: Vec<_> = names.iter().zip(states).map(|(name, state)| (name.as_str(), state, "loaded")).collect();
    units.push(("missing.service", "inactive", "not-found"));
    let bench = Bench::of(&units, None).await;
    let mut words = Vec::new();
    for (name, ..) in &units {
        words.push(match bench.monitor(name).await {
            UnitAnswer::Well => "well",
            UnitAnswer::NotRunning(_) => "not running",
            UnitAnswer::Unknown(_) => "unknown",
            UnitAnswer::Failed(_) => "bad",
        });
    }
    assert_eq!(words, ["bad", "well", "bad", "not running", "not running", "well", "well", "unknown"]);
}

#[tokio::test]
async fn a_manager_that_goes_away_fails_what_waits_for_it() {
    let mut bench = Bench::of(&[("web.service", "inactive", "loaded")], None).await;
    let ours = bench.ours.clone();
    let start = tokio::spawn(async move { perform(&ours, "web.service", UnitAction::Start).await });
    bench.called.recv().await.unwrap();
    bench.theirs.close().await.unwrap();
    assert!(matches!(start.await.unwrap(), UnitAnswer::Failed(_)));
}
