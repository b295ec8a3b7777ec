//! Nodes as actors of one process: how many fit, what one costs, and how long a join takes among them.

use super::actor_cluster::{ActorCluster, Wires};
use super::idle::private_kib;
use super::{Row, Spread, Stage, now_ns, transitions};

/// Nodes started together; all at once would time out in each other's handshakes on one thread.
const GROUP: u16 = 16;
/// Sizes.
const SIZES: [u16; 3] = [64, 128, 256];

/// Every size.
///
/// # Errors
/// If a cluster does not form.
pub async fn run(stage: &Stage) -> anyhow::Result<()> {
    for nodes in SIZES {
        if stage.is_over() {
            stage.progress(format!("{nodes} nodes in one process: left out, the time is over"));
            continue;
        }
        stage.progress(format!("{nodes} nodes in one process"));
        of_size(stage, nodes).await?;
    }
    Ok(())
}

async fn of_size(stage: &Stage, nodes: u16) -> anyhow::Result<()> {
    let before_kib = private_kib(std::process::id());
    let wires = Wires::for_nodes(nodes);
    let over = wires.name();
    let mut cluster = ActorCluster::over(nodes, wires)?;
    let begun_ns = now_ns();
    cluster.form(GROUP).await?;
    let took_ms = f64::from(u32::try_from((now_ns() - begun_ns) / 1_000_000).unwrap_or(u32::MAX));
    let kib = private_kib(std::process::id()).saturating_sub(before_kib) / u64::from(nodes);
    let one = |what: String, unit, value| Spread::of(vec![value]).map(|value| Row::new(what, unit, value));
    let formed = one(format!("{nodes} nodes in one process {over}, joined in groups of {GROUP}"), "ms", took_ms);
    let weighs = one(
        format!("{nodes} nodes in one process, memory of each"),
        "KiB",
        f64::from(u32::try_from(kib).unwrap_or(u32::MAX)),
    );
    formed.into_iter().chain(weighs).for_each(|row| stage.report(row));
    transitions::measure(stage, &mut cluster, nodes, stage.options.runs.min(3)).await?;
    cluster.end().await
}
