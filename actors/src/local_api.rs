//! The local socket: what the command line and scripts ask a daemon (architecture §5).
//!
//! Frames of JSON, see [`phalanx_messages::admin`]; subsystems outside the node speak lines (`subsystems`). Decides nothing: it asks the membership manager and registration-and-launch,
//! and turns ids into names. A follower that does not read fast enough loses lines and is told so; it never delays anybody.
//!
//! Not a kernel-level actor: the node lives on without it.

mod administration;
mod answer;
mod cluster_keys;
mod events;
mod log_ring;
mod logs;
mod output_log;
mod report;
mod serve;
mod status;
mod subsystems;
mod trace;

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use actix::prelude::*;
use phalanx_messages::admin::{AdminAnswer, AdminRequest, HappeningReport};
use phalanx_messages::configuration::ConfigurationRecord;
use phalanx_messages::limits::SUBSYSTEM_CLIENTS_MAX;
use phalanx_messages::{NodeId, Term};
use tokio::net::UnixListener;
use tokio::sync::{Semaphore, broadcast, watch};

pub use self::log_ring::LogRing;
pub use self::logs::{LogSources, ServiceLog};
pub use self::status::status;

use self::answer::Asked;
use self::logs::{GetLogSources, LogSourcesAnswer};
use self::subsystems::{AttachPoint, GetAttachPoint};
use crate::clock::wall_now_ms;
use crate::event_daemon::EventDaemon;
use crate::interconnect::{GetKeysInUse, UseKeys};
use crate::ports::{
    AskMaster, AskTraces, ConfigurationChanged, GetMembership, Happened, InjectPanic, RequestLeave, ServiceHappened,
    TryChange,
};
use crate::registration_and_launch::RegistrationAndLaunch;
use crate::restart::Restarts;
use crate::subsystem::{RegisterSubsystem, WithdrawSubsystem};

/// Lines a slow follower may be behind.
const FOLLOWED_MAX: usize = 4096;
/// Happenings remembered for a follower that comes late.
const RECENT_MAX: usize = 256;
/// Bytes of a socket path that the kernel takes.
const SOCKET_PATH_MAX: usize = 107;
/// Whom the local socket asks.
#[derive(Debug, Clone)]
pub struct LocalApiEdges {
    /// State of the membership.
    pub membership: Recipient<GetMembership>,
    /// What the nodes keep of a transition.
    pub traces: Recipient<AskTraces>,
    /// Graceful leaves.
    pub leave: Recipient<RequestLeave>,
    /// Client services.
    pub services: Addr<RegistrationAndLaunch>,
    /// Events.
    pub events: Addr<EventDaemon>,
    /// What only the master can do.
    pub master: Recipient<AskMaster>,
    /// Whether a change of the configuration would be refused.
    pub try_change: Recipient<TryChange>,
    /// Subsystems outside the node.
    pub register: Recipient<RegisterSubsystem>,
    /// Their leave.
    pub withdraw: Recipient<WithdrawSubsystem>,
    /// Other cluster keys.
    pub use_keys: Recipient<UseKeys>,
    /// Those in use.
    pub keys_in_use: Recipient<GetKeysInUse>,
    /// Bears its panics.
    pub restarts: Restarts,
}

/// Sent by an embedder: answer this.
#[derive(Debug, Clone, Message)]
#[rtype(result = "AdminAnswer")]
pub struct Ask(pub AdminRequest);

/// Sent by a connection: answer this to the user with that id.
#[derive(Debug, Clone, Message)]
#[rtype(result = "AdminAnswer")]
pub(crate) struct AskAs(AdminRequest, Option<u32>);

/// Sent by a connection, or an embedder: every happening from now on.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "Follower")]
pub struct Follow;

/// What is remembered, and what happens from now on; a receiver says so if it lost some.
pub type Follower = (Vec<HappeningReport>, broadcast::Receiver<HappeningReport>);

/// Sent by a connection that follows occurrences.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "Addr<EventDaemon>")]
pub(crate) struct GetEventDaemon;

/// Opens the socket at `path`, for its owner and, if one is given, for a group. A socket file that nobody answers is taken over.
///
/// # Errors
/// If the path is too long, another process answers there, or the system refuses: only root and members may give it to a group.
pub fn listen(path: &Path, group: Option<u32>) -> io::Result<UnixListener> {
    use std::os::unix::fs::PermissionsExt;
    let length = path.as_os_str().len();
    if length > SOCKET_PATH_MAX {
        let text = format!("socket path {} has {length} bytes; the system takes {SOCKET_PATH_MAX}", path.display());
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    }
    match std::os::unix::net::UnixStream::connect(path) {
        Ok(_) => return Err(io::Error::new(io::ErrorKind::AddrInUse, format!("{} is in use", path.display()))),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => std::fs::remove_file(path)?,
        Err(_) => {}
    }
    let listener = UnixListener::bind(path)?;
    // Nobody else gets in between: it opens for the group when it has that group.
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    if let Some(group) = group {
        std::os::unix::fs::chown(path, None, Some(group))?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660))?;
    }
    Ok(listener)
}

/// What has happened, not in words yet: a step names every participant, and mostly nobody asks.
#[derive(Debug)]
struct Remembered {
    at_ms: u64,
    what: What,
}

#[derive(Debug)]
enum What {
    Membership(Happened),
    Service(ServiceHappened, Term),
}

/// See the module.
pub struct LocalApi {
    edges: LocalApiEdges,
    listener: Option<UnixListener>,
    path: Option<PathBuf>,
    reporter: NodeId,
    configuration: Arc<ConfigurationRecord>,
    followers: broadcast::Sender<HappeningReport>,
    recent: VecDeque<Remembered>,
    term: Term,
    logs: LogSources,
    key_file: Option<PathBuf>,
    /// What connections of subsystems show of names.
    names: watch::Sender<Arc<ConfigurationRecord>>,
    /// Connections of subsystems.
    clients: Arc<Semaphore>,
}

impl LocalApi {
    /// A local socket of node `reporter`; without a listener only actors can ask.
    #[must_use]
    pub fn new(
        edges: LocalApiEdges,
        listener: Option<(UnixListener, PathBuf)>,
        reporter: NodeId,
        configuration: Arc<ConfigurationRecord>,
    ) -> Self {
        let (listener, path) = listener.map_or((None, None), |(listener, path)| (Some(listener), Some(path)));
        let followers = broadcast::Sender::new(FOLLOWED_MAX);
        Self {
            edges,
            listener,
            path,
            reporter,
            names: watch::Sender::new(configuration.clone()),
            clients: Arc::new(Semaphore::new(SUBSYSTEM_CLIENTS_MAX)),
            configuration,
            followers,
            recent: VecDeque::new(),
            term: Term(0),
            logs: LogSources::default(),
            key_file: None,
        }
    }

    /// Where it reads cluster keys that have changed.
    #[must_use]
    pub fn key_file(mut self, path: Option<PathBuf>) -> Self {
        self.key_file = path;
        self
    }

    /// What it shows of logs.
    #[must_use]
    pub fn logs(mut self, logs: LogSources) -> Self {
        self.logs = logs;
        self
    }

    fn happened(&mut self, what: What) {
        let happened = Remembered { at_ms: wall_now_ms(), what };
        if self.followers.receiver_count() > 0
            && let Some(report) = self.in_words(&happened)
        {
            self.followers.send(report).ok(); // the last one may just have gone
        }
        if self.recent.len() == RECENT_MAX {
            self.recent.pop_front();
        }
        self.recent.push_back(happened);
    }

    fn in_words(&self, Remembered { at_ms, what }: &Remembered) -> Option<HappeningReport> {
        let (at_ms, reporter) = (*at_ms, self.configuration.name_of(self.reporter));
        match what {
            What::Membership(Happened { happening, by_master, term }) => {
                let report::Words { kind, node, text } = report::words(happening, &self.configuration)?;
                let (kind, by_master, term) = (kind.to_owned(), *by_master, term.0);
                Some(HappeningReport { at_ms, reporter, by_master, term, kind, node, service: None, text })
            }
            What::Service(ServiceHappened { service, node, text }, term) => Some(HappeningReport {
                at_ms,
                reporter,
                by_master: false,
                term: term.0,
                kind: "service".to_owned(),
                node: node.map(|node| self.configuration.name_of(node)),
                service: Some(service.clone()),
                text: text.clone(),
            }),
        }
    }

    fn ask(&self, request: AdminRequest, by: String) -> ResponseFuture<AdminAnswer> {
        let (edges, configuration) = (self.edges.clone(), self.configuration.clone());
        let (logs, key_file) = (self.logs.clone(), self.key_file.clone());
        let asked = Asked { edges, configuration, logs, key_file, own: self.reporter, by };
        Box::pin(asked.answer(request))
    }
}

impl Actor for LocalApi {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        if let Some(listener) = self.listener.take() {
            let address = ctx.address();
            ctx.spawn(serve::accept(listener, address).into_actor(self));
        }
    }
}

impl Drop for LocalApi {
    fn drop(&mut self) {
        if let Some(path) = &self.path {
            std::fs::remove_file(path).ok();
        }
    }
}

impl Handler<Ask> for LocalApi {
    type Result = ResponseFuture<AdminAnswer>;

    fn handle(&mut self, Ask(request): Ask, _: &mut Self::Context) -> Self::Result {
        self.ask(request, "the program that runs this node".to_owned())
    }
}

impl Handler<AskAs> for LocalApi {
    type Result = ResponseFuture<AdminAnswer>;

    fn handle(&mut self, AskAs(request, uid): AskAs, _: &mut Self::Context) -> Self::Result {
        self.ask(request, uid.map_or_else(|| "an unknown user".to_owned(), administration::user))
    }
}

impl Handler<Follow> for LocalApi {
    type Result = MessageResult<Follow>;

    fn handle(&mut self, _: Follow, _: &mut Self::Context) -> Self::Result {
        let remembered = self.recent.iter().filter_map(|happened| self.in_words(happened)).collect();
        MessageResult((remembered, self.followers.subscribe()))
    }
}

impl Handler<GetLogSources> for LocalApi {
    type Result = LogSourcesAnswer;

    fn handle(&mut self, _: GetLogSources, _: &mut Self::Context) -> Self::Result {
        LogSourcesAnswer(self.logs.clone())
    }
}

impl Handler<GetAttachPoint> for LocalApi {
    type Result = MessageResult<GetAttachPoint>;

    fn handle(&mut self, _: GetAttachPoint, _: &mut Self::Context) -> Self::Result {
        MessageResult(AttachPoint {
            register: self.edges.register.clone(),
            withdraw: self.edges.withdraw.clone(),
            events: self.edges.events.clone(),
            names: self.names.subscribe(),
            own: self.reporter,
            socket: self.path.clone(),
            clients: self.clients.clone(),
        })
    }
}

impl Handler<GetEventDaemon> for LocalApi {
    type Result = MessageResult<GetEventDaemon>;

    fn handle(&mut self, _: GetEventDaemon, _: &mut Self::Context) -> Self::Result {
        MessageResult(self.edges.events.clone())
    }
}

impl Handler<Happened> for LocalApi {
    type Result = ();

    fn handle(&mut self, message: Happened, _: &mut Self::Context) {
        self.term = message.term;
        self.happened(What::Membership(message));
    }
}

impl Handler<ServiceHappened> for LocalApi {
    type Result = ();

    fn handle(&mut self, message: ServiceHappened, _: &mut Self::Context) {
        self.happened(What::Service(message, self.term));
    }
}

impl Handler<ConfigurationChanged> for LocalApi {
    type Result = ();

    fn handle(&mut self, ConfigurationChanged(configuration): ConfigurationChanged, _: &mut Self::Context) {
        self.names.send_replace(configuration.clone());
        self.configuration = configuration;
    }
}

impl Handler<InjectPanic> for LocalApi {
    type Result = ();

    fn handle(&mut self, _: InjectPanic, _: &mut Self::Context) {
        self.edges.restarts.run(|| panic!("injected"));
    }
}
