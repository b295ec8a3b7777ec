//! A TCP proxy between two nodes that records, stalls, cuts, changes single bits, says things again and in another order.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Which way bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From whoever dialled.
    Forth,
    /// To whoever dialled.
    Back,
}

/// Which byte of what is forwarded next is changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// This many bytes from its beginning.
    FromStart(usize),
    /// Its last byte.
    Last,
}

/// Forwards every connection to one address; stops when dropped.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    accepting: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    mode: watch::Sender<Mode>,
    state: Mutex<State>,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Mode {
    stalled: bool,
    /// Connections of an earlier generation end.
    generation: u64,
}

#[derive(Debug, Default)]
struct State {
    recorded: Vec<u8>,
    /// What was forwarded at once, each with its direction.
    pieces: Vec<(Direction, Vec<u8>)>,
    connections: usize,
    flip: Option<(Direction, Place)>,
    inject: Option<(Direction, Vec<u8>)>,
    /// The next piece that way waits for the one after it.
    swap: Option<Direction>,
    held: Option<(Direction, Vec<u8>)>,
}

impl Proxy {
    /// A proxy on a free port of the loopback that forwards to `target`.
    ///
    /// # Errors
    /// If it cannot listen.
    pub async fn start(target: String) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared { mode: watch::Sender::default(), state: Mutex::default() });
        let accepting = tokio::spawn(accept(listener, target, shared.clone()));
        Ok(Self { address, shared, accepting })
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on nothing is read or forwarded, and connections stay open.
    pub fn stall(&self) {
        self.shared.mode.send_modify(|mode| mode.stalled = true);
    }

    /// Ends a stall; nothing was lost.
    pub fn resume(&self) {
        self.shared.mode.send_modify(|mode| mode.stalled = false);
    }

    /// Closes every connection.
    pub fn cut(&self) {
        self.shared.mode.send_modify(|mode| mode.generation += 1);
    }

    /// Changes one bit of what is forwarded next that way.
    pub fn flip_bit(&self, direction: Direction, place: Place) {
        self.shared.state().flip = Some((direction, place));
    }

    /// True if a bit is still to be changed.
    #[must_use]
    pub fn is_flip_pending(&self) -> bool {
        self.shared.state().flip.is_some()
    }

    /// Puts these bytes before what is forwarded next that way.
    pub fn inject(&self, direction: Direction, bytes: Vec<u8>) {
        self.shared.state().inject = Some((direction, bytes));
    }

    /// The next two pieces that way change places.
    pub fn swap(&self, direction: Direction) {
        self.shared.state().swap = Some(direction);
    }

    /// True if something is still to be said again or in another order.
    #[must_use]
    pub fn is_mischief_pending(&self) -> bool {
        let state = self.shared.state();
        state.inject.is_some() || state.swap.is_some() || state.held.is_some()
    }

    /// What was forwarded at once that way, in order.
    #[must_use]
    pub fn pieces(&self, direction: Direction) -> Vec<Vec<u8>> {
        let state = self.shared.state();
        state.pieces.iter().filter(|(way, _)| *way == direction).map(|(_, bytes)| bytes.clone()).collect()
    }

    /// All bytes forwarded so far, both ways.
    #[must_use]
    pub fn recorded(&self) -> Vec<u8> {
        self.shared.state().recorded.clone()
    }

    /// Connections taken so far.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.shared.state().connections
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
        self.cut();
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records, changes what is to be changed, and gives what is to be forwarded now.
    fn pass(&self, direction: Direction, bytes: &mut [u8]) -> Vec<u8> {
        let mut state = self.state();
        if let Some((flipped, place)) = state.flip
            && flipped == direction
        {
            let index = match place {
                Place::FromStart(index) => index,
                Place::Last => bytes.len() - 1,
            };
            if let Some(byte) = bytes.get_mut(index) {
                *byte ^= 1;
                state.flip = None;
            }
        }
        state.recorded.extend_from_slice(bytes);
        state.pieces.push((direction, bytes.to_vec()));
        if state.swap.take_if(|way| *way == direction).is_some() {
            state.held = Some((direction, bytes.to_vec()));
            return Vec::new();
        }
        let before = state.inject.take_if(|(way, _)| *way == direction).map(|(_, bytes)| bytes).unwrap_or_default();
        let after = state.held.take_if(|(way, _)| *way == direction).map(|(_, bytes)| bytes).unwrap_or_default();
        [&before, &*bytes, &after].concat()
    }
}

async fn accept(listener: TcpListener, target: String, shared: Arc<Shared>) {
    while let Ok((near, _)) = listener.accept().await {
        shared.state().connections += 1;
        let (target, shared) = (target.clone(), shared.clone());
        tokio::spawn(async move {
            let Ok(far) = TcpStream::connect(target).await else { return };
            let ((near_read, near_write), (far_read, far_write)) = (near.into_split(), far.into_split());
            let generation = shared.mode.borrow().generation;
            let mut mode = shared.mode.subscribe();
            let cut = async move { mode.wait_for(|mode| mode.generation != generation).await.map(|_| ()) };
            tokio::select! {
                _ = forward(Direction::Forth, near_read, far_write, &shared) => {}
                _ = forward(Direction::Back, far_read, near_write, &shared) => {}
                _ = cut => {}
            }
        });
    }
}

/// Ends with the connection, at whichever side; then both sides close.
async fn forward(
    direction: Direction,
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    shared: &Shared,
) -> io::Result<()> {
    let mut mode = shared.mode.subscribe();
    let mut buffer = vec![0; 64 * 1024];
    loop {
        mode.wait_for(|mode| !mode.stalled).await.map_err(io::Error::other)?;
        let length = from.read(&mut buffer).await?;
        if length == 0 {
            return Ok(());
        }
        // What was read when the stall began waits for its end.
        mode.wait_for(|mode| !mode.stalled).await.map_err(io::Error::other)?;
        let bytes = shared.pass(direction, &mut buffer[..length]);
        to.write_all(&bytes).await?;
    }
}
