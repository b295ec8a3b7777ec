//! Connections of the local socket.

use actix::prelude::*;
use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use phalanx_messages::admin::{AdminAnswer, AdminRequest, HappeningReport};
use phalanx_messages::limits::LOCAL_FRAME_BYTES_MAX;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio_util::codec::{Framed, LengthDelimitedCodec};

use super::{AskAs, Follow, LocalApi, events, logs, subsystems};

/// A connection.
pub(super) type Frames = Framed<BufReader<UnixStream>, LengthDelimitedCodec>;

/// Takes connections in until the actor ends.
pub(super) async fn accept(listener: UnixListener, api: Addr<LocalApi>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => drop(actix_rt::spawn(serve(stream, api.clone()))),
            Err(error) => {
                tracing::debug!(%error, "failed to accept on the local socket");
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            }
        }
    }
}

async fn serve(stream: UnixStream, api: Addr<LocalApi>) {
    let uid = stream.peer_cred().ok().map(|credentials| credentials.uid()); // as the kernel saw it at connect
    let mut stream = BufReader::new(stream);
    if stream.fill_buf().await.is_ok_and(|first| first.first() == Some(&b'{')) {
        return subsystems::serve(stream, api).await;
    }
    let mut frames = framed(stream);
    while let Some(Ok(frame)) = frames.next().await {
        let answer = match serde_json::from_slice::<AdminRequest>(&frame) {
            Ok(AdminRequest::Follow { recent }) => return follow(frames, api, recent).await,
            Ok(AdminRequest::Logs { service, lines, follow: true }) => {
                return logs::follow(frames, api, service, lines).await;
            }
            Ok(AdminRequest::Occurrences { count, follow: true }) => {
                return events::follow(frames, api, count).await;
            }
            Ok(request) => match api.send(AskAs(request, uid)).await {
                Ok(answer) => answer,
                Err(_) => return,
            },
            Err(error) => AdminAnswer::Refused { code: 2, text: format!("not a request: {error}") },
        };
        if !say(&mut frames, &answer).await {
            return;
        }
    }
}

fn framed(stream: BufReader<UnixStream>) -> Frames {
    Framed::new(stream, LengthDelimitedCodec::builder().max_frame_length(LOCAL_FRAME_BYTES_MAX).new_codec())
}

async fn follow(mut frames: Frames, api: Addr<LocalApi>, recent: bool) {
    let Ok((remembered, happenings)) = api.send(Follow).await else { return };
    drop(api); // a follower does not keep the actor alive
    for report in remembered.into_iter().filter(|_| recent) {
        if !say(&mut frames, &AdminAnswer::Happened(report)).await {
            return;
        }
    }
    tell(frames, happenings).await;
}

/// Tells a follower everything, and how much it has lost if it was too slow, until either side closes.
async fn tell(mut frames: Frames, mut happenings: Receiver<HappeningReport>) {
    let mut lost = 0;
    loop {
        let report = tokio::select! {
            report = happenings.recv() => report,
            // Whatever a follower says, or its end, ends the stream.
            _ = frames.next() => return,
        };
        match report {
            Ok(report) => {
                let gap = (lost > 0).then(|| gap(std::mem::take(&mut lost), &report));
                for report in gap.into_iter().chain([report]) {
                    if !say(&mut frames, &AdminAnswer::Happened(report)).await {
                        return;
                    }
                }
            }
            Err(RecvError::Lagged(lines)) => lost += lines, // the oldest line that is left comes next
            Err(RecvError::Closed) => return,
        }
    }
}

/// What a follower that was too slow is told before the line that it reads next.
fn gap(lost: u64, next: &HappeningReport) -> HappeningReport {
    let text = format!("{lost} lines were not read in time and are lost");
    HappeningReport { kind: "missed".to_owned(), node: None, service: None, text, ..next.clone() }
}

pub(super) async fn say(frames: &mut Frames, answer: &AdminAnswer) -> bool {
    let Ok(bytes) = serde_json::to_vec(answer) else { return false };
    frames.send(Bytes::from(bytes)).await.is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::broadcast;

    fn line(number: u64) -> HappeningReport {
        HappeningReport {
            at_ms: number,
            reporter: "n0".to_owned(),
            by_master: true,
            term: 1,
            kind: "step".to_owned(),
            node: Some("n1".to_owned()),
            service: None,
            text: format!("line {number}"),
        }
    }

    #[actix_rt::test]
    async fn the_socket_is_its_owners_alone_unless_it_has_a_group() {
        use std::os::unix::fs::{MetadataExt, PermissionsExt};
        let path = std::env::temp_dir().join(format!("phalanx-socket-{}", std::process::id()));
        let own = rustix::process::getegid().as_raw();
        for (group, mode) in [(None, 0o600), (Some(own), 0o660)] {
            let listener = super::super::listen(&path, group).unwrap();
            let metadata = std::fs::metadata(&path).unwrap();
            assert_eq!((metadata.permissions().mode() & 0o777, metadata.gid()), (mode, own));
            drop(listener); // the file stays, and is taken over
        }
        std::fs::remove_file(&path).unwrap();
    }

    #[actix_rt::test]
    async fn a_follower_that_was_too_slow_is_told_how_much_it_lost_and_where() {
        let (here, there) = UnixStream::pair().unwrap();
        let happenings = broadcast::Sender::new(4);
        let receiver = happenings.subscribe();
        assert!((0..10).all(|number| happenings.send(line(number)).is_ok()));
        let telling = actix_rt::spawn(tell(framed(BufReader::new(here)), receiver));
        let mut follower = framed(BufReader::new(there));
        let mut heard = Vec::new();
        while heard.len() < 5 {
            let frame = follower.next().await.unwrap().unwrap();
            let AdminAnswer::Happened(report) = serde_json::from_slice(&frame).unwrap() else { panic!("{frame:?}") };
            heard.push((report.kind, report.text));
        }
        let told = |kind: &str, text: String| (kind.to_owned(), text);
        let mut expected = vec![told("missed", "6 lines were not read in time and are lost".to_owned())];
        expected.extend((6..10).map(|number| told("step", format!("line {number}"))));
        assert_eq!(heard, expected);
        drop(follower);
        telling.await.unwrap();
    }
}
