//! Connections without sockets, for more nodes in one process than it may have descriptors: N nodes need N(N-1) of them.

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use phalanx_actors::interconnect::{Dialer, Listener, LocalFuture, Network, Stream};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// Bytes that wait in one direction of a connection. They are allocated when it is made.
const BYTES: usize = 4 * 1024;

type Listening = Arc<Mutex<BTreeMap<String, UnboundedSender<Stream>>>>;

/// All addresses somebody listens at.
#[derive(Debug, Clone, Default)]
pub struct Pipes(Listening);

impl Pipes {
    /// The network of a node that listens at `address`; an earlier listener there hears nothing any more.
    #[must_use]
    pub fn network(&self, address: &str) -> Network {
        let (sender, incoming) = unbounded_channel();
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(address.to_owned(), sender);
        let incoming = tokio::sync::Mutex::new(incoming);
        Network::custom(PipeListener { incoming }, PipeDialer(self.0.clone()))
    }
}

struct PipeListener {
    incoming: tokio::sync::Mutex<UnboundedReceiver<Stream>>,
}

impl Listener for PipeListener {
    fn accept(&self) -> LocalFuture<'_, io::Result<(Stream, SocketAddr)>> {
        Box::pin(async {
            match self.incoming.lock().await.recv().await {
                Some(stream) => Ok((stream, (Ipv4Addr::LOCALHOST, 0).into())),
                None => std::future::pending().await, // somebody else listens here now
            }
        })
    }
}

struct PipeDialer(Listening);

impl Dialer for PipeDialer {
    fn dial(&self, address: String) -> LocalFuture<'static, io::Result<Stream>> {
        let listening = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&address).cloned();
        Box::pin(async move {
            let (near, far) = tokio::io::duplex(BYTES);
            let taken = listening.is_some_and(|listening| listening.send(Box::new(far)).is_ok());
            if taken { Ok(Box::new(near) as Stream) } else { Err(io::ErrorKind::ConnectionRefused.into()) }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::actor_cluster::{ActorCluster, Wires};

    #[actix_rt::test]
    async fn nodes_join_over_pipes_and_one_that_was_cleared_joins_again() {
        let mut cluster = ActorCluster::over(3, Wires::Pipes(Pipes::default())).unwrap();
        cluster.form(2).await.unwrap();
        cluster.leave(2).await.unwrap();
        cluster.clear(2).await.unwrap();
        cluster.start(2).await.unwrap();
        cluster.joined(2).await.unwrap();
        cluster.end().await.unwrap();
    }
}
