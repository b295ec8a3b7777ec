//! `phalanx subsystem list` and `phalanx subsystem attach`.

mod command;

use std::path::Path;
use std::sync::mpsc;

use phalanx_messages::Level;
use phalanx_messages::subsystem::{ClientLine, LineError, NodeLine, Registration};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use super::args::{AttachArguments, Global, Output, SubsystemCommand};
use super::client::{EXIT_PRIVILEGE, EXIT_UNREACHABLE};
use super::interrupt::EXIT_INTERRUPTED;
use super::report::subsystem::{SubsystemReport, subsystems};
use super::{Exit, locate, print};
use crate::subsystem_client::{Answers, ClientError, SubsystemClient};
use command::{Job, Surroundings};

pub(super) fn run(command: SubsystemCommand, global: &Global) -> Result<(), Exit> {
    match command {
        SubsystemCommand::List => list(global),
        SubsystemCommand::Attach(arguments) => attach(arguments, global),
    }
}

fn list(global: &Global) -> Result<(), Exit> {
    let levels = subsystems(&locate::connect(global)?.status()?);
    match global.output {
        Output::Json => anstream::println!("{}", print::json(&levels)?),
        Output::Text => anstream::print!("{}", table(&levels)),
    }
    Ok(())
}

fn table(levels: &[SubsystemReport]) -> String {
    let heading = ["level", "name", "joining", "leaving", "forced", "nodes"].map(str::to_owned).to_vec();
    let row = |level: &SubsystemReport| {
        let barriers = |kind| level.barriers.get(kind).copied().unwrap_or_default().to_string();
        let nodes: Vec<String> = level.nodes.iter().map(|(node, state)| format!("{node} {state}")).collect();
        let [joining, leaving, forced] = ["joining", "leaving", "forced_leaving"].map(barriers);
        vec![level.level.to_string(), level.name.clone(), joining, leaving, forced, nodes.join(", ")]
    };
    print::table(&[vec![heading], levels.iter().map(row).collect()].concat())
}

fn attach(arguments: AttachArguments, global: &Global) -> Result<(), Exit> {
    let AttachArguments { name, level, barriers, on_death, needs, answer_within, command } = arguments;
    let socket = locate::connect(global)?.path().to_owned();
    let registration = Registration {
        name: name.clone(),
        level: Level(level),
        barriers,
        on_death: on_death.into(),
        needs: needs.into(),
        answer_within_ms: answer_within,
    };
    let client = SubsystemClient::attach(&socket, registration).map_err(|error| lost(&error, &socket))?;
    anstream::eprintln!("attached to {} at level {level}; Ctrl-C lets the level leave", client.node);
    leave_on_signals(client.answers())?;
    let surroundings = Surroundings {
        socket: socket.clone(),
        cluster: client.cluster.clone(),
        node: client.node.clone(),
        subsystem: name,
        command,
    };
    serve(client, surroundings).map_err(|error| lost(&error, &socket))
}

/// Hands each notification to the one that runs commands, and each abort past the queue.
fn serve(mut client: SubsystemClient, surroundings: Surroundings) -> Result<(), ClientError> {
    let (jobs, waiting) = mpsc::channel::<Job>();
    let answers = client.answers();
    let runner = std::thread::spawn(move || {
        for job in waiting {
            command::process(&job, &surroundings, &answers);
        }
    });
    let mut open: Vec<Job> = Vec::new();
    let end = loop {
        open.retain(|job| !job.is_ended());
        match client.hear() {
            Ok(NodeLine::Notification(told)) => {
                let job = Job::new(told);
                open.push(job.clone());
                jobs.send(job).ok(); // the runner lives as long as this
            }
            Ok(NodeLine::Abort { number }) => open.iter().filter(|job| job.number() == number).for_each(Job::abort),
            Ok(NodeLine::Withdrawn) => break Ok(()),
            Ok(NodeLine::Resumed { .. }) => anstream::eprintln!("goes on where another one was"),
            // Not fatal: the answer to what was overtaken in that moment.
            Ok(NodeLine::Error { .. } | NodeLine::Pong { .. } | NodeLine::Hello { .. } | NodeLine::Registered) => {}
            // Said to watchers alone.
            Ok(NodeLine::Provided | NodeLine::Watch { .. } | NodeLine::Unwatch { .. }) => {}
            Err(error) => break Err(error),
        }
    };
    open.iter().for_each(Job::abort); // nobody waits for it any more
    drop(jobs);
    runner.join().ok();
    end
}

/// The first signal asks for the leave of the level, the second one ends this process.
fn leave_on_signals(answers: Answers) -> Result<(), Exit> {
    let signals = signal_hook::iterator::Signals::new([SIGINT, SIGTERM, SIGHUP]);
    let mut signals = signals.map_err(|error| Exit::error(format!("failed to watch signals: {error}")))?;
    std::thread::spawn(move || {
        let mut signals = signals.forever();
        if signals.next().is_some() && answers.say(&ClientLine::Withdraw).is_ok() && signals.next().is_some() {
            std::process::exit(i32::from(EXIT_INTERRUPTED));
        }
    });
    Ok(())
}

fn lost(error: &ClientError, socket: &Path) -> Exit {
    match error {
        ClientError::Node { error: LineError::NotAllowed, text } => Exit::code(EXIT_PRIVILEGE, text),
        ClientError::Node { error: LineError::Refused, text } => {
            Exit::error(text).hint("`phalanx subsystem list` shows what the cluster has")
        }
        ClientError::Node { text, .. } => Exit::error(text),
        ClientError::Socket(source) => {
            Exit::code(EXIT_UNREACHABLE, format!("the daemon at {} has ended: {source}", socket.display()))
        }
        ClientError::Closed => Exit::code(EXIT_UNREACHABLE, format!("the daemon at {} has ended", socket.display())),
        ClientError::Unexpected(line) => Exit::error(format!("the node said `{line}`, which has no place here"))
            .hint("use the `phalanx` of the version that the node runs"),
    }
}
