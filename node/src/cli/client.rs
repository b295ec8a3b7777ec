//! Talks to a daemon's local socket.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use phalanx_messages::admin::{AdminAnswer, AdminRequest, Configuration, HappeningReport, Status, Trace};
use phalanx_messages::configuration::NodeChange;
use phalanx_messages::limits::{LOCAL_FRAME_BYTES_MAX, TRACE_ANSWER_MS};
use phalanx_messages::{Revision, TransitionId};

use super::Exit;
use crate::config::SOCKET_PATH_BYTES_MAX;

/// Exit code "daemon unreachable".
pub const EXIT_UNREACHABLE: u8 = 69;
/// Exit code "privilege".
pub(super) const EXIT_PRIVILEGE: u8 = 4;
/// Exit code "usage".
const EXIT_USAGE: u8 = 2;
/// A daemon that says nothing for this long is not asked further.
const ANSWER_WITHIN: std::time::Duration = std::time::Duration::from_secs(2);
/// A daemon gives up asking the master before this.
const MASTER_WITHIN: std::time::Duration = std::time::Duration::from_secs(20);

/// One connection.
#[derive(Debug)]
pub struct Client {
    stream: UnixStream,
    path: PathBuf,
}

impl Client {
    /// Connects to the socket at `path`.
    ///
    /// # Errors
    /// If nobody answers there (69), or this user may not (4).
    pub fn connect(path: &Path) -> Result<Self, Exit> {
        match UnixStream::connect(path) {
            Ok(stream) => {
                // A frozen daemon accepts and never answers.
                stream.set_read_timeout(Some(ANSWER_WITHIN)).ok();
                Ok(Self { stream, path: path.to_owned() })
            }
            Err(error) => Err(not_connected(path, &error)),
        }
    }

    /// The socket.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Waits so long for answers from now on.
    pub(super) fn set_patience(&self, patience: std::time::Duration) {
        self.stream.set_read_timeout(Some(patience)).ok();
    }

    /// Asks one thing.
    ///
    /// # Errors
    /// If the daemon ends meanwhile, or refuses.
    pub fn ask(&mut self, request: &AdminRequest) -> Result<AdminAnswer, Exit> {
        let answer = self.say(request).and_then(|()| self.hear()).map_err(|error| self.lost(&error))?;
        if let AdminAnswer::Refused { code, text } = answer { Err(Exit::code(code, text)) } else { Ok(answer) }
    }

    /// Asks one thing that the master has to do, which may have to be elected first.
    ///
    /// # Errors
    /// As [`Self::ask`].
    pub fn ask_patiently(&mut self, request: &AdminRequest) -> Result<AdminAnswer, Exit> {
        self.stream.set_read_timeout(Some(MASTER_WITHIN)).ok();
        let answer = self.ask(request);
        self.stream.set_read_timeout(Some(ANSWER_WITHIN)).ok();
        answer
    }

    /// The status as that node sees it.
    ///
    /// # Errors
    /// As [`Self::ask`].
    pub fn status(&mut self) -> Result<Status, Exit> {
        let answer = self.ask(&AdminRequest::Status)?;
        let AdminAnswer::Status(status) = answer else { return Err(unexpected(&answer)) };
        Ok(*status)
    }

    /// One transition as all nodes saw it; the newest if none is named.
    ///
    /// # Errors
    /// As [`Self::ask`]; 105 if no node keeps it.
    pub fn trace(&mut self, which: Option<TransitionId>) -> Result<Trace, Exit> {
        // A frozen member is waited for, twice if the transition is not named.
        let patience = ANSWER_WITHIN + 2 * std::time::Duration::from_millis(TRACE_ANSWER_MS);
        self.stream.set_read_timeout(Some(patience)).ok();
        let answer = self.ask(&AdminRequest::Trace { which });
        self.stream.set_read_timeout(Some(ANSWER_WITHIN)).ok();
        let answer = answer?;
        let AdminAnswer::Trace(trace) = answer else { return Err(unexpected(&answer)) };
        Ok(*trace)
    }

    /// The membership configuration as that node knows it.
    ///
    /// # Errors
    /// As [`Self::ask`].
    pub fn configuration(&mut self) -> Result<Configuration, Exit> {
        let answer = self.ask(&AdminRequest::Configuration)?;
        let AdminAnswer::Configuration(configuration) = answer else { return Err(unexpected(&answer)) };
        Ok(*configuration)
    }

    /// Changes the membership configuration, if it is still the one of revision `base`. Gives the revision that has the
    /// change; none if nothing was committed.
    ///
    /// # Errors
    /// As [`Self::ask`]; nothing was changed then, unless no master has answered (106).
    pub fn change(
        &mut self,
        base: Option<Revision>,
        changes: Vec<NodeChange>,
        dry_run: bool,
    ) -> Result<Option<Revision>, Exit> {
        let answer = self.ask_patiently(&AdminRequest::Change { base, changes, dry_run })?;
        let AdminAnswer::Changed { committed, revision } = answer else { return Err(unexpected(&answer)) };
        Ok(committed.then_some(revision))
    }

    /// Turns the connection into a stream of answers to one request, until either side closes.
    ///
    /// # Errors
    /// If the daemon is gone.
    pub fn stream(mut self, request: &AdminRequest) -> Result<impl Iterator<Item = AdminAnswer> + use<>, Exit> {
        let begun = self.stream.set_read_timeout(None).and_then(|()| self.say(request));
        begun.map_err(|error| self.lost(&error))?;
        Ok(std::iter::from_fn(move || self.hear().ok()))
    }

    /// Turns the connection into a stream of happenings, `recent` ones first.
    ///
    /// # Errors
    /// If the daemon is gone.
    pub fn follow(mut self, recent: bool) -> io::Result<impl Iterator<Item = HappeningReport>> {
        self.stream.set_read_timeout(None)?;
        self.say(&AdminRequest::Follow { recent })?;
        Ok(std::iter::from_fn(move || match self.hear() {
            Ok(AdminAnswer::Happened(report)) => Some(report),
            Ok(_) | Err(_) => None,
        }))
    }

    fn lost(&self, error: &io::Error) -> Exit {
        Exit::code(EXIT_UNREACHABLE, format!("the daemon at {} has ended: {error}", self.path.display()))
    }

    fn say(&mut self, request: &AdminRequest) -> io::Result<()> {
        let body = serde_json::to_vec(request)?;
        let length = u32::try_from(body.len()).map_err(io::Error::other)?;
        self.stream.write_all(&[&length.to_be_bytes()[..], &body].concat())
    }

    fn hear(&mut self) -> io::Result<AdminAnswer> {
        let mut length = [0; 4];
        self.stream.read_exact(&mut length)?;
        let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
        if length > LOCAL_FRAME_BYTES_MAX {
            return Err(io::Error::other(format!("an answer of {length} bytes is too large")));
        }
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body)?;
        Ok(serde_json::from_slice(&body)?)
    }
}

fn not_connected(path: &Path, error: &io::Error) -> Exit {
    let bytes = path.as_os_str().len();
    if bytes >= SOCKET_PATH_BYTES_MAX {
        let text =
            format!("socket path {} has {bytes} bytes; the system takes {}", path.display(), SOCKET_PATH_BYTES_MAX - 1);
        return Exit::code(EXIT_USAGE, text).hint("`--socket` and `--dir` must name a shorter path");
    }
    if error.kind() == io::ErrorKind::PermissionDenied {
        return Exit::code(EXIT_PRIVILEGE, format!("not allowed to use the socket {}", path.display()))
            .hint("run this as the user that runs the node");
    }
    Exit::code(EXIT_UNREACHABLE, format!("no daemon answers at {}: {error}", path.display()))
        .hint("`phalanx node run --config FILE` starts one")
}

/// An answer to another question: client and daemon are of different versions.
pub(super) fn unexpected(answer: &AdminAnswer) -> Exit {
    Exit::error(format!("unexpected answer {answer:?}")).hint("use the `phalanx` of the version that the node runs")
}
