//! Where the interconnect's byte streams come from: TCP, or whatever a test gives in its place.
//!
//! The interconnect only ever needs to accept and to dial; everything above is the same over a simulated network.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};

/// A connection: ordered bytes both ways.
pub trait ByteStream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> ByteStream for T {}

/// An open connection of any kind.
pub type Stream = Box<dyn ByteStream>;

/// A future that stays on its thread.
pub type LocalFuture<'a, T> = Pin<Box<dyn Future<Output = T> + 'a>>;

/// Takes connections in.
pub trait Listener: Send {
    /// The next connection, and where it comes from.
    fn accept(&self) -> LocalFuture<'_, io::Result<(Stream, SocketAddr)>>;
}

/// Opens connections.
pub trait Dialer: Send {
    /// Connects to `address`, which is `host:port`.
    fn dial(&self, address: String) -> LocalFuture<'static, io::Result<Stream>>;
}

/// A node's access to its network.
pub struct Network {
    pub(super) listener: Box<dyn Listener>,
    pub(super) dialer: Box<dyn Dialer>,
}

impl Network {
    /// The real network; peers reach this node through `listener`.
    #[must_use]
    pub fn tcp(listener: TcpListener) -> Self {
        Self::custom(listener, Tcp)
    }

    /// Any other network.
    #[must_use]
    pub fn custom(listener: impl Listener + 'static, dialer: impl Dialer + 'static) -> Self {
        Self { listener: Box::new(listener), dialer: Box::new(dialer) }
    }
}

/// Dials over TCP.
struct Tcp;

impl Listener for TcpListener {
    fn accept(&self) -> LocalFuture<'_, io::Result<(Stream, SocketAddr)>> {
        Box::pin(async {
            let (stream, from) = self.accept().await?;
            stream.set_nodelay(true)?;
            Ok((Box::new(stream) as Stream, from))
        })
    }
}

impl Dialer for Tcp {
    fn dial(&self, address: String) -> LocalFuture<'static, io::Result<Stream>> {
        Box::pin(async move {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            Ok(Box::new(stream) as Stream)
        })
    }
}
