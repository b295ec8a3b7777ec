//! A subsystem outside its node: the Rust side of docs/subsystem-protocol.md. Blocking, without an executor.
//!
//! [`SubsystemClient::attach`] connects and registers, [`SubsystemClient::hear`] gives what the node says, and
//! [`SubsystemClient::acknowledge`] or [`SubsystemClient::fail`] answers a notification. A thread of its own may wait in `hear`
//! while others answer through [`SubsystemClient::answers`]. Dropping the last handle is the death of the subsystem (protocol T-17);
//! [`SubsystemClient::withdraw`] leaves first.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use phalanx_messages::limits::LOCAL_FRAME_BYTES_MAX;
use phalanx_messages::subsystem::{ClientLine, LineError, NodeLine, PROTOCOL_VERSION, Registration};

/// Why a subsystem is not attached, or not any more.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody answers at the socket, or the node has ended.
    #[error("failed to talk to the node")]
    Socket(#[source] io::Error),
    /// The node says why.
    #[error("{text}")]
    Node {
        /// Which of the protocol's errors.
        error: LineError,
        /// The node's words.
        text: String,
    },
    /// The node has closed the connection.
    #[error("the node has closed the connection")]
    Closed,
    /// Not what the protocol says.
    #[error("the node said `{0}`, which has no place here")]
    Unexpected(String),
}

/// Answers from any thread.
#[derive(Debug, Clone)]
pub struct Answers(Arc<Mutex<UnixStream>>);

impl Answers {
    /// Says one line.
    ///
    /// # Errors
    /// The node is gone.
    pub fn say(&self, line: &ClientLine) -> Result<(), ClientError> {
        let mut bytes = serde_json::to_vec(line).map_err(|error| ClientError::Socket(error.into()))?;
        bytes.push(b'\n');
        let mut stream = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        stream.write_all(&bytes).map_err(ClientError::Socket)
    }

    /// Ends the connection; whoever waits for the next line is told that it is closed.
    pub fn hang_up(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).shutdown(Shutdown::Both).ok();
    }
}

/// A connection that has said hello.
#[derive(Debug)]
pub(crate) struct Connection {
    lines: BufReader<UnixStream>,
    pub answers: Answers,
    cluster: String,
    node: String,
}

impl Connection {
    /// Connects to the node's socket.
    pub fn open(socket: &Path) -> Result<Self, ClientError> {
        let stream = UnixStream::connect(socket).map_err(ClientError::Socket)?;
        let answers = Answers(Arc::new(Mutex::new(stream.try_clone().map_err(ClientError::Socket)?)));
        let (cluster, node) = (String::new(), String::new());
        let mut connection = Self { lines: BufReader::new(stream), answers, cluster, node };
        connection.answers.say(&ClientLine::Hello { version: PROTOCOL_VERSION })?;
        let hello = connection.hear()?;
        let NodeLine::Hello { cluster, node, .. } = &hello else { return Err(unexpected(&hello)) };
        (connection.cluster, connection.node) = (cluster.clone(), node.clone());
        Ok(connection)
    }

    /// Waits for the next line.
    pub fn hear(&mut self) -> Result<NodeLine, ClientError> {
        let mut line = Vec::new();
        let limit = LOCAL_FRAME_BYTES_MAX as u64;
        let read = self.lines.by_ref().take(limit).read_until(b'\n', &mut line).map_err(ClientError::Socket)?;
        if read == 0 {
            return Err(ClientError::Closed);
        }
        match serde_json::from_slice(&line) {
            Ok(NodeLine::Error { error, text, fatal: true }) => Err(ClientError::Node { error, text }),
            Ok(line) => Ok(line),
            Err(_) => Err(ClientError::Unexpected(String::from_utf8_lossy(&line).trim_end().to_owned())),
        }
    }
}

/// See the module.
#[derive(Debug)]
pub struct SubsystemClient {
    connection: Connection,
    /// Name of the cluster.
    pub cluster: String,
    /// Name of the node.
    pub node: String,
}

impl SubsystemClient {
    /// Connects to the node's socket and registers. The join of its level, or a refusal, is what [`Self::hear`] gives first.
    ///
    /// # Errors
    /// The node does not take the registration at all.
    pub fn attach(socket: &Path, registration: Registration) -> Result<Self, ClientError> {
        let mut connection = Connection::open(socket)?;
        connection.answers.say(&ClientLine::Register(registration))?;
        let registered = connection.hear()?;
        let (cluster, node) = (connection.cluster.clone(), connection.node.clone());
        let client = Self { connection, cluster, node };
        if registered == NodeLine::Registered { Ok(client) } else { Err(unexpected(&registered)) }
    }

    /// Waits for the next line. [`NodeLine::Withdrawn`] is the last one.
    ///
    /// # Errors
    /// The node has ended the connection, and perhaps said why. A line that says `fatal: false` is no error.
    pub fn hear(&mut self) -> Result<NodeLine, ClientError> {
        self.connection.hear()
    }

    /// The notification was processed.
    ///
    /// # Errors
    /// The node is gone.
    pub fn acknowledge(&self, number: u64) -> Result<(), ClientError> {
        self.connection.answers.say(&ClientLine::Acknowledged { number })
    }

    /// The notification could not be processed.
    ///
    /// # Errors
    /// The node is gone.
    pub fn fail(&self, number: u64, text: impl Into<String>) -> Result<(), ClientError> {
        self.connection.answers.say(&ClientLine::Failed { number, text: text.into() })
    }

    /// Asks for the leave of this level alone; its notifications follow, then [`NodeLine::Withdrawn`].
    ///
    /// # Errors
    /// The node is gone.
    pub fn withdraw(&self) -> Result<(), ClientError> {
        self.connection.answers.say(&ClientLine::Withdraw)
    }

    /// For other threads.
    #[must_use]
    pub fn answers(&self) -> Answers {
        self.connection.answers.clone()
    }
}

fn unexpected(line: &NodeLine) -> ClientError {
    ClientError::Unexpected(format!("{line:?}"))
}
