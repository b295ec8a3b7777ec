//! Connections of the local socket.

use actix::prelude::*;
use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use phalanx_messages::admin::{AdminAnswer, AdminRequest};
use phalanx_messages::limits::LOCAL_FRAME_BYTES_MAX;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::broadcast::error::RecvError;
use tokio_util::codec::{Framed, LengthDelimitedCodec};

use super::{AskAs, Follow, LocalApi, logs, subsystems};

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
    let codec = LengthDelimitedCodec::builder().max_frame_length(LOCAL_FRAME_BYTES_MAX).new_codec();
    let mut frames = Framed::new(stream, codec);
    while let Some(Ok(frame)) = frames.next().await {
        let answer = match serde_json::from_slice::<AdminRequest>(&frame) {
            Ok(AdminRequest::Follow { recent }) => return follow(frames, api, recent).await,
            Ok(AdminRequest::Logs { service, lines, follow: true }) => {
                return logs::follow(frames, api, service, lines).await;
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

async fn follow(mut frames: Frames, api: Addr<LocalApi>, recent: bool) {
    let Ok((remembered, mut happenings)) = api.send(Follow).await else { return };
    drop(api); // a follower does not keep the actor alive
    for report in remembered.into_iter().filter(|_| recent) {
        if !say(&mut frames, &AdminAnswer::Happened(report)).await {
            return;
        }
    }
    loop {
        let report = tokio::select! {
            report = happenings.recv() => report,
            // Whatever a follower says, or its end, ends the stream.
            _ = frames.next() => return,
        };
        match report {
            Ok(report) => {
                if !say(&mut frames, &AdminAnswer::Happened(report)).await {
                    return;
                }
            }
            Err(RecvError::Lagged(lost)) => tracing::warn!(lost, "a follower of the local socket is too slow"),
            Err(RecvError::Closed) => return,
        }
    }
}

pub(super) async fn say(frames: &mut Frames, answer: &AdminAnswer) -> bool {
    let Ok(bytes) = serde_json::to_vec(answer) else { return false };
    frames.send(Bytes::from(bytes)).await.is_ok()
}
