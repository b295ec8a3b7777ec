//! Runs one seed of the simulator again and prints what happened: `replay --seed N [--from EVENT] [--node n2]`.

use anyhow::{Context, bail};
use phalanx_messages::NodeId;
use phalanx_tests::simulation::campaign;
use phalanx_tests::simulation::log::Line;

struct Wanted {
    seed: u64,
    from: u64,
    node: Option<NodeId>,
}

fn wanted() -> anyhow::Result<Wanted> {
    let mut wanted = Wanted { seed: 0, from: 0, node: None };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let value = arguments.next().with_context(|| format!("`{argument}` needs a value"))?;
        match argument.as_str() {
            "--seed" => wanted.seed = value.parse().context("`--seed` is a number")?,
            "--from" => wanted.from = value.parse().context("`--from` is the number of an event")?,
            "--node" => {
                let number = value.strip_prefix('n').unwrap_or(&value).parse();
                wanted.node = Some(NodeId(number.context("`--node` is a node, such as n2")?));
            }
            _ => bail!("usage: replay --seed N [--from EVENT] [--node n2]"),
        }
    }
    Ok(wanted)
}

fn main() -> anyhow::Result<()> {
    let Wanted { seed, from, node } = wanted()?;
    let world = campaign::run_world(seed, true);
    let setup = world.setup();
    println!("seed {seed}: {} nodes, {:?}", setup.nodes, setup.weather);
    // What happens to the world as a whole concerns every node.
    let shown = |line: &&Line| line.event >= from && (node.is_none() || line.node.is_none() || line.node == node);
    world.log.lines().iter().filter(shown).for_each(|line| println!("{line}"));
    println!("{}", world.coverage.report());
    println!("hash of the log: {:016x}", world.log.hash());
    match &world.violation {
        Some(violation) => bail!("{violation}"),
        None => Ok(()),
    }
}
