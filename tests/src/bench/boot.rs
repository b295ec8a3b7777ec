//! Mass boot: as many node processes as asked for at once, and one by one, beside what starting the processes and shaking hands
//! costs without us.
//!
//! Counted from the moment the last process was started to the one at which the first node has seen all joined. The floor: a
//! warden and a daemon for each node started at once and waited for (`phalanx --version`, which ends as soon as it runs), and
//! N(N-1)/2 handshakes of the interconnect's kind on the cores at hand.

use std::time::Duration;

use anyhow::{Context, bail};
use phalanx_messages::NodeId;
use phalanx_messages::membership::NodeState;
use phalanx_node::cli::client::Client;

use super::{Aim, Row, Spread, Stage, now_ns};
use crate::init_cluster::{InitCluster, NodeProcess};
use crate::process_cluster::phalanx;

/// A cluster that has not formed by then has failed.
const PATIENCE: Duration = Duration::from_secs(180);
/// How often it is looked, which is also how exact the figures are.
const LOOK_AGAIN: rustix::event::Timespec = rustix::event::Timespec { tv_sec: 0, tv_nsec: 5_000_000 };
/// Runs of a mass boot.
const RUNS_MOST: usize = 5;
/// The pattern of the interconnect.
const PATTERN: &str = "Noise_XXpsk0_25519_AESGCM_SHA256";

/// 64 nodes, and with `--large` 256.
///
/// # Errors
/// If a cluster does not form.
pub fn run(stage: &Stage) -> anyhow::Result<()> {
    let sizes: &[usize] = if stage.options.large { &[16, 64, 256] } else { &[16, 64] };
    for &nodes in sizes {
        if stage.is_over() {
            stage.progress(format!("boot of {nodes} nodes: left out, the time is over"));
            continue;
        }
        of_size(stage, nodes)?;
    }
    Ok(())
}

fn of_size(stage: &Stage, nodes: usize) -> anyhow::Result<()> {
    let (mut at_once, mut floors) = (Vec::new(), Vec::new());
    let runs = if nodes > 64 { 1 } else { stage.options.runs.min(RUNS_MOST) };
    for run in 0..runs {
        stage.progress(format!("boot of {nodes} nodes at once, run {} of {runs}", run + 1));
        floors.push(floor_ms(nodes)?);
        let mut cluster = ProcessCluster::new(nodes);
        cluster.start_all();
        let begun_ns = now_ns();
        cluster.wait_joined(nodes)?;
        at_once.push(ms(now_ns() - begun_ns));
        if stage.is_over() {
            break;
        }
    }
    let (Some(at_once), Some(floor)) = (Spread::of(at_once), Spread::of(floors)) else { return Ok(()) };
    let row =
        Row::new(format!("{nodes} node processes at once"), "ms", at_once).floor("processes and handshakes", floor);
    stage.report(if nodes == 64 { row.aim(Aim::Ratio(3.0)) } else { row });
    if nodes > 64 || stage.is_over() {
        return Ok(()); // one by one it would take minutes
    }
    stage.progress(format!("boot of {nodes} nodes one by one"));
    let mut cluster = ProcessCluster::new(nodes);
    let begun_ns = now_ns();
    for count in 1..=nodes {
        cluster.start(count - 1);
        cluster.wait_joined(count)?;
    }
    if let Some(took) = Spread::of(vec![ms(now_ns() - begun_ns)]) {
        let row = Row::new(format!("{nodes} node processes one by one"), "ms", took);
        stage.report(row.floor("processes and handshakes", floor));
    }
    Ok(())
}

/// A cluster of node processes as an administrator makes it.
pub struct ProcessCluster {
    nodes: usize,
    running: Vec<NodeProcess>,
    files: InitCluster,
}

impl ProcessCluster {
    /// Its files and its disk; nothing runs yet.
    ///
    /// # Panics
    /// If the binary is missing.
    #[must_use]
    pub fn new(nodes: usize) -> Self {
        let files = InitCluster::new(nodes);
        files.create_disk_for(nodes);
        Self { nodes, running: Vec::new(), files }
    }

    /// Starts one node's processes.
    pub fn start(&mut self, index: usize) {
        self.running.push(self.files.start(&format!("n{index}"), &[], None));
    }

    /// Starts all nodes at once.
    pub fn start_all(&mut self) {
        (0..self.nodes).for_each(|index| self.start(index));
    }

    /// Waits until the first node says that `count` nodes are joined. It is asked, not followed: in a mass boot more happens than a
    /// follower is given.
    ///
    /// # Errors
    /// If that does not happen in time.
    pub fn wait_joined(&self, count: usize) -> anyhow::Result<()> {
        let socket = self.files.out().join("n0.sock");
        let begun_ns = now_ns();
        let mut joined = 0;
        while joined < count {
            if Duration::from_nanos(now_ns() - begun_ns) > PATIENCE {
                bail!("{joined} of {count} nodes joined in time");
            }
            // It may not listen yet, or be too busy to answer soon.
            if let Ok(status) = Client::connect(&socket).and_then(|mut client| client.status()) {
                joined = status.nodes.iter().filter(|node| node.state == NodeState::Joined).count();
            }
            rustix::event::poll(&mut [], Some(&LOOK_AGAIN)).ok();
        }
        Ok(())
    }

    /// Warden and daemon of each node.
    ///
    /// # Errors
    /// If a register cannot be read.
    pub fn processes(&self) -> anyhow::Result<Vec<(u32, u32)>> {
        let disk = phalanx_node::daemon::open_disk(&self.files.disk())?;
        let ids = (0..u16::try_from(self.nodes)?).map(NodeId);
        ids.map(|id| {
            let register = disk.registers().read(id)?.with_context(|| format!("a register of {id}"))?;
            Ok((register.fence.warden.pid, register.fence.daemon.pid))
        })
        .collect()
    }
}

impl Drop for ProcessCluster {
    fn drop(&mut self) {
        self.running.iter().for_each(NodeProcess::terminate); // all leave as one batch; each is waited for when it is dropped
    }
}

/// Starting the processes, then the handshakes; the second is split over the cores.
fn floor_ms(nodes: usize) -> anyhow::Result<f64> {
    let begun_ns = now_ns();
    let version = || {
        let mut command = std::process::Command::new(phalanx());
        command.arg("--version").stdout(std::process::Stdio::null()).spawn()
    };
    let children = (0..2 * nodes).map(|_| version()).collect::<Result<Vec<_>, _>>()?;
    for mut child in children {
        child.wait()?;
    }
    let processes_ms = ms(now_ns() - begun_ns);
    let cores = std::thread::available_parallelism()?.get();
    let handshakes = nodes * (nodes - 1) / 2;
    let begun_ns = now_ns();
    let share = handshakes.div_ceil(cores);
    let threads: Vec<_> =
        (0..cores).map(|_| std::thread::spawn(move || (0..share).try_for_each(|_| shake_hands()))).collect();
    for thread in threads {
        thread.join().map_err(|_| anyhow::anyhow!("a handshake panicked"))??;
    }
    Ok(processes_ms + ms(now_ns() - begun_ns))
}

/// Both sides of one handshake, without a network.
fn shake_hands() -> anyhow::Result<()> {
    let side = || -> anyhow::Result<(snow::Builder<'static>, Vec<u8>)> {
        let builder = snow::Builder::new(PATTERN.parse()?);
        let keys = builder.generate_keypair()?;
        Ok((builder, keys.private))
    };
    let ((first, first_key), (second, second_key)) = (side()?, side()?);
    let mut dialled = first.local_private_key(&first_key)?.psk(0, &[7; 32])?.build_initiator()?;
    let mut accepted = second.local_private_key(&second_key)?.psk(0, &[7; 32])?.build_responder()?;
    let (mut wire, mut payload) = ([0; 1024], [0; 1024]);
    for message in 0..3 {
        let (from, to) = if message % 2 == 0 { (&mut dialled, &mut accepted) } else { (&mut accepted, &mut dialled) };
        let bytes = from.write_message(&[], &mut wire)?;
        to.read_message(&wire[..bytes], &mut payload)?;
    }
    Ok(())
}

fn ms(ns: u64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "a figure for people")]
    let ns = ns as f64;
    ns / 1_000_000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handshake_of_the_interconnects_kind_completes() {
        shake_hands().unwrap();
    }
}
