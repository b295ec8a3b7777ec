//! Join, leave and forced leave of one node in clusters of many sizes, beside as many rounds of a bare TCP star.
//!
//! Measured at the master, from the first step that is committed to the end of the transition: connecting, and waiting to be
//! admitted, are not part of it. The number of rounds is counted in the run, and the floor is that many rounds of the star. The
//! star runs before each set of transitions, when the cluster is at rest: one executor serves both, and connections that are just
//! being made would make the floor look worse than it is.

use std::time::Duration;

use anyhow::Context as _;
use phalanx_messages::admin::HappeningReport;
use tokio::sync::broadcast::Receiver;

use super::actor_cluster::ActorCluster;
use super::star::Star;
use super::{Aim, Row, Spread, Stage, now_ns};

/// A transition that takes longer than this has failed.
const PATIENCE: Duration = Duration::from_secs(60);
/// What is left to be done after a join is done by then.
const REST: Duration = Duration::from_millis(200);
/// Rounds of the star in one measurement.
const STAR_ROUNDS: u32 = 20;

/// What was measured of one kind.
#[derive(Debug, Default)]
struct Samples {
    took_ns: Vec<u64>,
    floor_ns: Vec<u64>,
    rounds: usize,
}

/// Every size that was asked for.
///
/// # Errors
/// If a cluster does not form, or a transition does not end.
pub async fn run(stage: &Stage) -> anyhow::Result<()> {
    for &nodes in &stage.options.sizes {
        if stage.is_over() {
            stage.progress(format!("transitions of {nodes} nodes and more: left out, the time is over"));
            return Ok(());
        }
        stage.progress(format!("transitions of {nodes} nodes"));
        of_size(stage, nodes, stage.options.runs).await?;
    }
    Ok(())
}

async fn of_size(stage: &Stage, nodes: u16, runs: usize) -> anyhow::Result<()> {
    let mut cluster = ActorCluster::new(nodes)?;
    cluster.form(nodes).await?;
    measure(stage, &mut cluster, nodes, runs).await?;
    cluster.end().await
}

/// Reports the transitions of the last node of a cluster that has formed.
///
/// # Errors
/// As [`run`].
pub async fn measure(stage: &Stage, cluster: &mut ActorCluster, nodes: u16, runs: usize) -> anyhow::Result<()> {
    let subject = cluster.last().0;
    let mut star = Star::new(nodes).await?;
    let (mut joins, mut leaves, mut forced) = (Samples::default(), Samples::default(), Samples::default());
    let (_, mut happenings) = cluster.follow_master().await?;
    for _ in 0..runs {
        tokio::time::sleep(REST).await;
        let round_ns = star.rounds(STAR_ROUNDS).await? / u64::from(STAR_ROUNDS);
        cluster.leave(subject).await?;
        leaves.take(&mut happenings, subject, round_ns).await?;
        cluster.clear(subject).await?;
        cluster.start(subject).await?;
        joins.take(&mut happenings, subject, round_ns).await?;
        cluster.joined(subject).await?;
        cluster.force(subject).await?;
        forced.take(&mut happenings, subject, round_ns).await?;
        cluster.clear(subject).await?;
        cluster.start(subject).await?;
        joins.take(&mut happenings, subject, round_ns).await?;
        cluster.joined(subject).await?;
        if stage.is_over() {
            break;
        }
    }
    let aim = Aim::Ratio(if nodes <= 16 { 2.0 } else { 3.0 });
    joins.report(stage, "join", nodes, Some(aim));
    leaves.report(stage, "leave", nodes, None);
    forced.report(stage, "forced leave", nodes, None);
    Ok(())
}

impl Samples {
    /// Waits for the end of the subject's transition; a round of the star has just taken so long.
    async fn take(
        &mut self,
        happenings: &mut Receiver<HappeningReport>,
        subject: u16,
        round_ns: u64,
    ) -> anyhow::Result<()> {
        let (took_ns, rounds) = transition(happenings, &format!("n{subject}")).await?;
        self.took_ns.push(took_ns);
        self.floor_ns.push(round_ns * rounds as u64);
        self.rounds = rounds;
        Ok(())
    }

    fn report(&self, stage: &Stage, what: &str, nodes: u16, aim: Option<Aim>) {
        let rounds = self.rounds;
        let (Some(took), Some(floor)) = (Spread::of_ns(&self.took_ns), Spread::of_ns(&self.floor_ns)) else { return };
        let row = Row::new(format!("{what}, {nodes} nodes, {rounds} rounds"), "us", took);
        let row = row.floor("a bare star", floor);
        stage.report(aim.iter().fold(row, |row, aim| row.aim(*aim)));
    }
}

/// Nanoseconds from the first step to the end, and how many steps there were.
async fn transition(happenings: &mut Receiver<HappeningReport>, subject: &str) -> anyhow::Result<(u64, usize)> {
    let watch = async {
        let (mut begun_ns, mut rounds) = (None, 0);
        loop {
            let report = happenings.recv().await?;
            if report.node.as_deref() != Some(subject) {
                continue;
            }
            match report.kind.as_str() {
                "step" => {
                    begun_ns.get_or_insert_with(now_ns);
                    rounds += 1;
                }
                "ended" => {
                    let begun_ns = begun_ns.context("a transition has steps")?;
                    return anyhow::Ok((now_ns() - begun_ns, rounds));
                }
                _ => {}
            }
        }
    };
    tokio::time::timeout(PATIENCE, watch).await.with_context(|| format!("no end of the transition of {subject}"))?
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::Options;

    #[actix_rt::test]
    async fn two_nodes_join_leave_and_are_forced_out_with_the_rounds_that_the_levels_ask_for() {
        let stage = Stage::new(Options { sizes: vec![2], runs: 1, json: true, ..Options::default() });
        run(&stage).await.unwrap();
        let rows = stage.rows();
        let names: Vec<&str> = rows.iter().map(|row| row.what.as_str()).collect();
        // Five levels of two barriers, and the event manager's: one of a join or forced leave, two of a leave.
        assert_eq!(
            names,
            ["join, 2 nodes, 11 rounds", "leave, 2 nodes, 12 rounds", "forced leave, 2 nodes, 11 rounds"]
        );
        assert!(
            rows.iter().all(|row| row.ratio.is_some_and(|ratio| ratio > 0.0) && row.measured.runs >= 1),
            "{rows:#?}"
        );
        assert!(rows[0].aim == Some(Aim::Ratio(2.0)), "{rows:#?}");
    }
}
