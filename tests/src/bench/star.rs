//! The floor of a round: a bare TCP star. One node sends a small frame to each other one and waits until all have answered.
//!
//! On one executor over loopback, as the nodes that it is compared with. Nothing is encoded, encrypted, decided or written.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::now_ns;

/// Bytes of a frame: what an acknowledgement has.
const FRAME_BYTES: usize = 64;

/// See the module.
#[derive(Debug)]
pub struct Star {
    spokes: Vec<TcpStream>,
    answering: Vec<JoinHandle<()>>,
}

impl Star {
    /// A star of `nodes` nodes, the hub included.
    ///
    /// # Errors
    /// If the loopback has no free port.
    pub async fn new(nodes: u16) -> std::io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let mut star = Self { spokes: Vec::new(), answering: Vec::new() };
        for _ in 1..nodes {
            let (dialled, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
            let (spoke, mut node) = (dialled?, accepted?.0);
            spoke.set_nodelay(true)?;
            node.set_nodelay(true)?;
            star.spokes.push(spoke);
            star.answering.push(actix_rt::spawn(async move {
                let mut frame = [0; FRAME_BYTES];
                while node.read_exact(&mut frame).await.is_ok() && node.write_all(&frame).await.is_ok() {}
            }));
        }
        Ok(star)
    }

    /// Goes round so many times, and gives the nanoseconds.
    ///
    /// # Errors
    /// If a connection breaks.
    pub async fn rounds(&mut self, count: u32) -> std::io::Result<u64> {
        let begun = now_ns();
        let mut frame = [0; FRAME_BYTES];
        for _ in 0..count {
            for spoke in &mut self.spokes {
                spoke.write_all(&frame).await?;
            }
            for spoke in &mut self.spokes {
                spoke.read_exact(&mut frame).await?;
            }
        }
        Ok(now_ns() - begun)
    }
}

impl Drop for Star {
    fn drop(&mut self) {
        self.answering.iter().for_each(JoinHandle::abort);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[actix_rt::test]
    async fn a_star_of_each_size_goes_round() {
        for nodes in [2, 3, 16] {
            let mut star = Star::new(nodes).await.unwrap();
            assert_eq!(star.spokes.len(), usize::from(nodes) - 1);
            assert!(star.rounds(3).await.unwrap() > 0);
        }
    }
}
