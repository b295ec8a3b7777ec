//! Lines in and out, each way with a limit: length, rate, and how many wait to be read.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use actix::prelude::*;
use futures_util::StreamExt;
use phalanx_messages::limits::{SUBSYSTEM_LINE_BYTES_MAX, SUBSYSTEM_LINES_PER_SECOND_MAX, SUBSYSTEM_LINES_WAITING_MAX};
use phalanx_messages::subsystem::{ClientLine, LineError, NodeLine};
use tokio::io::{AsyncWriteExt, BufReader, ReadHalf, WriteHalf};
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio_util::codec::{FramedRead, LinesCodec, LinesCodecError};
use tokio_util::sync::CancellationToken;

use super::session::{Fatal, Session};
use crate::clock::Clock;

/// A connection whose first byte has been looked at.
pub(in crate::local_api) type Stream = BufReader<UnixStream>;
/// Lines of the client.
pub(super) type Incoming = FramedRead<ReadHalf<Stream>, LinesCodec>;

/// A program that takes none of a line for this long reads no more.
const WRITE_WITHIN: Duration = Duration::from_secs(5);
/// What waits when a connection ends is written for this long.
const FINISH_WITHIN: Duration = Duration::from_secs(1);

/// Takes lines for the client, without waiting.
#[derive(Debug, Clone)]
pub(super) struct Outgoing {
    lines: mpsc::WeakSender<NodeLine>,
    /// Dropped to end the writer when it has written what waits.
    open: Arc<Mutex<Option<mpsc::Sender<NodeLine>>>>,
    writer: Arc<Mutex<Option<actix_rt::task::JoinHandle<()>>>>,
    closed: CancellationToken,
}

impl Outgoing {
    /// Queues a line.
    ///
    /// # Errors
    /// The client has not read what waits already, or is gone.
    pub fn say(&self, line: NodeLine) -> Result<(), ()> {
        let lines = self.lines.upgrade().ok_or(())?;
        lines.try_send(line).map_err(|_| ())
    }

    /// Takes no line any more; what waits is still written, then the connection is closed.
    pub fn close(&self) {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).take();
        self.closed.cancel();
    }

    /// Closes, and waits for the end of the writer.
    pub async fn finish(&self) {
        self.close();
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(mut writer) = writer
            && tokio::time::timeout(FINISH_WITHIN, &mut writer).await.is_err()
        {
            writer.abort();
        }
    }
}

/// Both directions of a connection.
pub(super) fn split(stream: Stream) -> (Outgoing, Incoming) {
    let (reader, writer) = tokio::io::split(stream);
    let (sender, lines) = mpsc::channel(SUBSYSTEM_LINES_WAITING_MAX);
    let weak = sender.downgrade();
    let writer = actix_rt::spawn(write(writer, lines));
    let outgoing = Outgoing {
        lines: weak,
        open: Arc::new(Mutex::new(Some(sender))),
        writer: Arc::new(Mutex::new(Some(writer))),
        closed: CancellationToken::new(),
    };
    (outgoing, FramedRead::new(reader, LinesCodec::new_with_max_length(SUBSYSTEM_LINE_BYTES_MAX)))
}

async fn write(mut writer: WriteHalf<Stream>, mut lines: mpsc::Receiver<NodeLine>) {
    while let Some(line) = lines.recv().await {
        let Ok(mut bytes) = serde_json::to_vec(&line) else { continue };
        bytes.push(b'\n');
        if !matches!(tokio::time::timeout(WRITE_WITHIN, writer.write_all(&bytes)).await, Ok(Ok(()))) {
            break;
        }
    }
    writer.shutdown().await.ok(); // the client sees the end
}

/// Gives the lines of the client to its session, one at a time, until either is gone.
pub(super) async fn read(incoming: &mut Incoming, outgoing: &Outgoing, session: &Addr<Session>) {
    let mut rate = Rate::default();
    loop {
        let next = tokio::select! {
            next = incoming.next() => next,
            () = outgoing.closed.cancelled() => return, // the session has ended, and the client may not have noticed
        };
        let Some(line) = next else { return };
        let fatal = match line {
            Ok(_) if !rate.allows(Clock::Boot.now().0) => {
                Some((LineError::TooManyLines, format!("more than {SUBSYSTEM_LINES_PER_SECOND_MAX} lines in a second")))
            }
            Ok(line) => match serde_json::from_str::<ClientLine>(&line) {
                Ok(line) => match session.send(Line(line)).await {
                    Ok(()) => None,
                    Err(_) => return,
                },
                Err(error) => Some((LineError::NotUnderstood, format!("no line of this protocol: {error}"))),
            },
            Err(LinesCodecError::MaxLineLengthExceeded) => {
                Some((LineError::LineTooLong, format!("a line has at most {SUBSYSTEM_LINE_BYTES_MAX} bytes")))
            }
            Err(LinesCodecError::Io(error)) if error.kind() == std::io::ErrorKind::InvalidData => {
                Some((LineError::NotUnderstood, format!("no line of this protocol: {error}")))
            }
            Err(LinesCodecError::Io(_)) => return,
        };
        if let Some((error, text)) = fatal {
            session.send(Fatal { error, text }).await.ok(); // it may be gone
            return;
        }
    }
}

/// Sent by a connection to its session.
#[derive(Debug, Clone, Message)]
#[rtype(result = "()")]
pub(super) struct Line(pub ClientLine);

/// Lines of one client within a second that begins with the first of them.
#[derive(Debug, Default)]
struct Rate {
    since_ms: u64,
    lines: u32,
}

impl Rate {
    fn allows(&mut self, now_ms: u64) -> bool {
        if now_ms.saturating_sub(self.since_ms) >= 1_000 {
            *self = Self { since_ms: now_ms, lines: 0 };
        }
        self.lines += 1;
        self.lines <= SUBSYSTEM_LINES_PER_SECOND_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_has_a_limit_and_the_next_one_its_own() {
        let mut rate = Rate::default();
        let allowed = |rate: &mut Rate, now| (0..2_000).filter(|_| rate.allows(now)).count();
        assert_eq!(allowed(&mut rate, 5_000), 1_000);
        assert_eq!(allowed(&mut rate, 5_999), 0);
        assert_eq!(allowed(&mut rate, 6_000), 1_000);
    }
}
