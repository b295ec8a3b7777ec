//! turmoil's network for the actors, which run on it unchanged.

use std::io;
use std::net::SocketAddr;

use phalanx_actors::interconnect::{Dialer, Listener, LocalFuture, Network, Stream};
use turmoil::net::{TcpListener, TcpStream};

struct Simulated(TcpListener);

struct SimulatedDialer;

impl Listener for Simulated {
    fn accept(&self) -> LocalFuture<'_, io::Result<(Stream, SocketAddr)>> {
        Box::pin(async {
            let (stream, from) = self.0.accept().await?;
            Ok((Box::new(stream) as Stream, from))
        })
    }
}

impl Dialer for SimulatedDialer {
    fn dial(&self, address: String) -> LocalFuture<'static, io::Result<Stream>> {
        Box::pin(async move { Ok(Box::new(TcpStream::connect(address).await?) as Stream) })
    }
}

/// The network of the turmoil host that calls this, listening on `port`.
///
/// # Errors
/// If the port is taken.
pub async fn simulated_network(port: u16) -> io::Result<Network> {
    let listener = TcpListener::bind(("0.0.0.0", port)).await?;
    Ok(Network::custom(Simulated(listener), SimulatedDialer))
}
