//! Runs one seed of the simulator again and shows what happened, event by event.

use std::io::{BufRead as _, Write as _};

use anyhow::{Context as _, bail};
use clap::Parser;
use phalanx_messages::NodeId;
use phalanx_tests::simulation::campaign;
use phalanx_tests::simulation::log::{Detail, Line};

/// Runs one seed of the simulator again and shows what happened.
#[derive(Parser)]
struct Wanted {
    /// The seed.
    #[arg(long)]
    seed: u64,
    /// Number of the first event to show.
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// Number of the last event to show.
    #[arg(long, default_value_t = u64::MAX, hide_default_value = true)]
    to: u64,
    /// Only this node, such as n2, and what happens to the world as a whole.
    #[arg(long, value_parser = node)]
    node: Option<NodeId>,
    /// Also every step of every machine: input, outputs, and what changed in its state.
    #[arg(long)]
    machines: bool,
    /// Wait for Enter after each event; the number of an event goes there, q ends.
    #[arg(long)]
    step: bool,
}

fn node(text: &str) -> Result<NodeId, String> {
    let number = text.strip_prefix('n').unwrap_or(text).parse();
    number.map(NodeId).map_err(|_| "a node is written n2".to_owned())
}

impl Wanted {
    fn shows(&self, line: &Line) -> bool {
        let here = self.node.is_none() || line.node.is_none() || line.node == self.node;
        here && (self.from..=self.to).contains(&line.event)
    }
}

fn main() -> anyhow::Result<()> {
    let wanted = Wanted::parse();
    let detail = if wanted.machines { Detail::Machines } else { Detail::Events };
    let world = campaign::run_world(wanted.seed, detail);
    let setup = world.setup();
    println!("seed {}: {} nodes, {:?}", wanted.seed, setup.nodes, setup.weather);
    let shown: Vec<&Line> = world.log.lines().iter().filter(|line| wanted.shows(line)).collect();
    if wanted.step {
        step_through(&shown)?;
    } else {
        shown.iter().for_each(|line| println!("{line}"));
    }
    println!("{}", world.coverage.report());
    println!("hash of the log: {:016x}", world.log.hash());
    match &world.violation {
        Some(violation) => bail!("{violation}"),
        None => Ok(()),
    }
}

fn step_through(lines: &[&Line]) -> anyhow::Result<()> {
    let mut answers = std::io::stdin().lock().lines();
    let mut skip_to = 0;
    for event in lines.chunk_by(|one, other| one.event == other.event) {
        if event[0].event < skip_to {
            continue;
        }
        event.iter().for_each(|line| println!("{line}"));
        print!("-- Enter: next event, NUMBER: go there, q: end > ");
        std::io::stdout().flush()?;
        let Some(answer) = answers.next().transpose().context("cannot read what you say")? else { break };
        match answer.trim() {
            "" => {}
            "q" => break,
            number => match number.parse() {
                Ok(number) => skip_to = number,
                Err(_) => println!("`{number}` is not the number of an event"),
            },
        }
    }
    Ok(())
}
