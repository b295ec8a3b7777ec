//! A subsystem of a node in Rust, outside the node's process: prints every step and acknowledges it.
//!
//! ```text
//! phalanx dev --dir /tmp/demo &
//! cargo run -p phalanx-examples --bin audit_subsystem -- /tmp/demo/n0.sock
//! ```

use std::path::PathBuf;
use std::process::ExitCode;

use phalanx_messages::Level;
use phalanx_messages::membership::{BarrierCounts, Certainty};
use phalanx_messages::subsystem::{ANSWER_WITHIN_MS_DEFAULT, DeathPolicy, NodeLine, Registration};
use phalanx_node::subsystem_client::{ClientError, SubsystemClient};

fn main() -> ExitCode {
    let Some(socket) = std::env::args_os().nth(1).map(PathBuf::from) else {
        eprintln!("usage: audit_subsystem SOCKET");
        return ExitCode::from(2);
    };
    match serve(&socket) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn serve(socket: &std::path::Path) -> Result<(), ClientError> {
    let registration = Registration {
        name: "audit".to_owned(),
        level: Level(500),
        barriers: BarrierCounts { joining: 2, leaving: 1, forced_leaving: 1 },
        on_death: DeathPolicy::DropLevel, // it only watches
        needs: Certainty::Io,
        answer_within_ms: ANSWER_WITHIN_MS_DEFAULT,
    };
    let mut client = SubsystemClient::attach(socket, registration)?;
    println!("attached to {} of cluster {}", client.node, client.cluster);
    loop {
        match client.hear()? {
            NodeLine::Notification(told) => {
                for notice in &told.batch {
                    println!("{:?} of {}, barrier {}", notice.kind, notice.node, notice.barrier);
                }
                // The work comes here. What fails is answered with `client.fail(number, text)`.
                client.acknowledge(told.number)?;
            }
            NodeLine::Resumed { states } => println!("goes on where another one was: {states:?}"),
            NodeLine::Withdrawn => return Ok(()),
            // Nothing of this is left unanswered long enough to be aborted.
            NodeLine::Abort { .. } | NodeLine::Error { .. } | NodeLine::Pong { .. } => {}
            NodeLine::Hello { .. } | NodeLine::Registered => {}
            // Said to watchers alone.
            NodeLine::Provided | NodeLine::Watch { .. } | NodeLine::Unwatch { .. } => {}
        }
    }
}
