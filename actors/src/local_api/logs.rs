//! Serves `phalanx logs`: this node's own lines from memory, and the output of a service's commands from its file.
//!
//! Files are read on tokio's threads for blocking work: a local disk that hangs never delays an actor.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use futures_util::StreamExt;
use phalanx_messages::admin::{AdminAnswer, AdminRequest, LogLine};
use tokio::sync::broadcast::error::RecvError;

use super::answer::Refusal;
use super::log_ring::LogRing;
use super::output_log::OutputLog;
use super::serve::{Frames, say};
use super::{Ask, LocalApi};

/// Between two looks at a followed file.
const LOOK: Duration = Duration::from_millis(200);
/// Exit code of a plain error.
const EXIT_ERROR: u8 = 1;

/// Finds the file with the output of a service's commands, by the service's name.
pub type ServiceLog = Arc<dyn Fn(&str) -> PathBuf + Send + Sync>;

/// Where logs are.
#[derive(Clone, Default)]
pub struct LogSources {
    /// The node's own lines.
    pub own: Option<LogRing>,
    /// Files of the services.
    pub service: Option<ServiceLog>,
}

/// Sent by a connection that follows a log.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "LogSourcesAnswer")]
pub(super) struct GetLogSources;

/// The answer.
#[derive(MessageResponse)]
pub(super) struct LogSourcesAnswer(pub LogSources);

impl LogSources {
    pub(super) fn ring(&self) -> Result<&LogRing, Refusal> {
        self.own.as_ref().ok_or_else(|| Refusal(EXIT_ERROR, "this node keeps no log lines".to_owned()))
    }

    pub(super) fn file_of(&self, service: &str) -> Result<OutputLog, Refusal> {
        let path = self.service.as_ref().map(|path| path(service));
        let path = path.ok_or_else(|| Refusal(EXIT_ERROR, "this node keeps no output of services".to_owned()))?;
        Ok(OutputLog::new(path))
    }

    /// The last lines of a service's output, on this node.
    pub(super) async fn output(&self, service: &str, count: usize) -> Result<Vec<LogLine>, Refusal> {
        let mut log = self.file_of(service)?;
        let read = move || {
            let mut lines = log.tail(count)?;
            lines.extend(log.unfinished());
            Ok(lines.split_off(lines.len().saturating_sub(count)))
        };
        let lines = blocking(read).await?;
        Ok(lines.into_iter().map(|text| output_line(service, text)).collect())
    }
}

async fn blocking<T: Send + 'static>(read: impl FnOnce() -> std::io::Result<T> + Send + 'static) -> Result<T, Refusal> {
    let result = tokio::task::spawn_blocking(read).await.map_err(std::io::Error::other).flatten();
    result.map_err(|error| Refusal(EXIT_ERROR, format!("failed to read the output of the service: {error}")))
}

fn output_line(service: &str, text: String) -> LogLine {
    LogLine { at_ms: None, level: None, source: format!("service {service}"), text }
}

/// Says the last lines, then every one from then on, until either side closes.
pub(super) async fn follow(mut frames: Frames, api: Addr<LocalApi>, service: Option<String>, lines: u32) {
    // Says whether there is such a service and such a log, in the words of a request that does not follow.
    let asked = Ask(AdminRequest::Logs { service: service.clone(), lines: 0, follow: false });
    let Ok(answer) = api.send(asked).await else { return };
    if matches!(answer, AdminAnswer::Refused { .. }) {
        say(&mut frames, &answer).await;
        return;
    }
    let Ok(LogSourcesAnswer(sources)) = api.send(GetLogSources).await else { return };
    drop(api); // a follower does not keep the actor alive
    let count = usize::try_from(lines).unwrap_or(usize::MAX);
    match service {
        None => follow_own(frames, &sources, count).await,
        Some(service) => follow_output(frames, &sources, service, count).await,
    }
}

async fn follow_own(mut frames: Frames, sources: &LogSources, count: usize) {
    let Ok(ring) = sources.ring() else { return };
    let (tail, mut news) = ring.follow(count);
    if !say_all(&mut frames, tail).await {
        return;
    }
    loop {
        let line = tokio::select! {
            line = news.recv() => line,
            // Whatever a follower says, or its end, ends the stream.
            _ = frames.next() => return,
        };
        match line {
            Ok(line) => {
                if !say(&mut frames, &AdminAnswer::Logged(line)).await {
                    return;
                }
            }
            Err(RecvError::Lagged(_)) => {} // said by nobody: a line about it would be the next to be lost
            Err(RecvError::Closed) => return,
        }
    }
}

async fn follow_output(mut frames: Frames, sources: &LogSources, service: String, count: usize) {
    let Ok(mut log) = sources.file_of(&service) else { return };
    let Ok((mut log, mut lines)) = blocking(move || log.tail(count).map(|lines| (log, lines))).await else { return };
    loop {
        if !say_all(&mut frames, lines.into_iter().map(|text| output_line(&service, text)).collect()).await {
            return;
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK) => {}
            _ = frames.next() => return,
        }
        let Ok(read) = blocking(move || log.news().map(|lines| (log, lines))).await else { return };
        (log, lines) = read;
    }
}

async fn say_all(frames: &mut Frames, lines: Vec<LogLine>) -> bool {
    for line in lines {
        if !say(frames, &AdminAnswer::Logged(line)).await {
            return false;
        }
    }
    true
}
