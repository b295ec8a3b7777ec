//! Programs outside the node that are subsystems, over the local socket (docs/subsystem-protocol.md).
//!
//! The same socket serves the command line. What comes first tells them apart: a frame of the command line begins with the high
//! byte of its length, which is zero, and a line with `{`.
//!
//! What always holds: one connection is one subsystem; its end, for whatever reason, is that subsystem's death (protocol T-17). A
//! program that stalls, floods or talks nonsense loses its connection by a named error, and costs what its own policy says.

mod lines;
mod permission;
mod providing;
mod session;

use std::path::PathBuf;
use std::sync::Arc;

use actix::prelude::*;
use phalanx_messages::NodeId;
use phalanx_messages::configuration::ConfigurationRecord;
use phalanx_messages::subsystem::{LineError, NodeLine};
use tokio::net::UnixStream;
use tokio::sync::{Semaphore, watch};

use super::LocalApi;
use crate::event_daemon::EventDaemon;
use crate::subsystem::{RegisterSubsystem, WithdrawSubsystem};
use session::Session;

pub(super) use lines::Stream;

/// What a connection of a subsystem needs.
#[derive(Debug, Clone)]
pub(super) struct AttachPoint {
    pub register: Recipient<RegisterSubsystem>,
    pub withdraw: Recipient<WithdrawSubsystem>,
    /// Takes programs that provide event watchers.
    pub events: Addr<EventDaemon>,
    /// Gives nodes their names.
    pub names: watch::Receiver<Arc<ConfigurationRecord>>,
    /// This node.
    pub own: NodeId,
    /// The socket, whose group may attach.
    pub socket: Option<PathBuf>,
    /// One permit for each connection.
    pub clients: Arc<Semaphore>,
}

/// Sent by a connection that speaks lines.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "AttachPoint")]
pub(super) struct GetAttachPoint;

/// Serves one connection until either side ends it.
pub(super) async fn serve(stream: Stream, api: Addr<LocalApi>) {
    let Ok(point) = api.send(GetAttachPoint).await else { return };
    drop(api); // a subsystem does not keep the actor alive
    let socket: &UnixStream = stream.get_ref();
    let allowed = permission::may_attach(socket, point.socket.as_deref());
    let permit = point.clients.clone().try_acquire_owned();
    let refusal = match (&allowed, &permit) {
        (Err(text), _) => Some((LineError::NotAllowed, text.clone())),
        (Ok(()), Err(_)) => {
            Some((LineError::TooManyClients, "as many subsystems are connected as there can be".to_owned()))
        }
        (Ok(()), Ok(_)) => None,
    };
    let (outgoing, mut incoming) = lines::split(stream);
    if let Some((error, text)) = refusal {
        outgoing.say(NodeLine::Error { error, text, fatal: true }).ok();
        return outgoing.finish().await;
    }
    let session = Session::new(point, outgoing.clone()).start();
    lines::read(&mut incoming, &outgoing, &session).await;
    session.do_send(session::HungUp);
    drop(session);
    outgoing.finish().await;
    drop(permit);
}
