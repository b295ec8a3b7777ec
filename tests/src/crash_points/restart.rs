//! A cluster starts on what a crash has left.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use phalanx_storage::ClusterDisk;

use super::disk_of;
use super::duties::Duties;
use super::images::{Image, Stop};
use super::scenario::{Effect, NODES};
use crate::draw::Draw;
use crate::simulated_cluster::{Happened, Keys, Options, SimulatedCluster};

/// Boot of the host after a loss of power; before, it is that of [`Options::default`].
const NEXT_BOOT: u128 = 3;

/// Whatever is wrong with the cluster that forms on this image. Nothing if formatting was interrupted and the disk is refused.
#[must_use]
pub fn wrong_after(image: &Image, duties: &Duties, is_formatted: bool, keys: &Keys) -> Vec<String> {
    if !is_formatted && ClusterDisk::open(Arc::new(disk_of(image.blocks.clone()))).is_err() {
        return Vec::new();
    }
    let run = catch_unwind(AssertUnwindSafe(|| run(image, duties, keys)));
    run.unwrap_or_else(|payload| {
        let text = payload.downcast_ref::<String>().cloned();
        let text = text.or_else(|| payload.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        vec![format!("no cluster forms: {}", text.unwrap_or_default())]
    })
}

fn run(image: &Image, duties: &Duties, keys: &Keys) -> Vec<String> {
    let same_boot = Options { keys: Some(keys.clone()), ..Options::default() };
    let options = match image.stop {
        Stop::Crash => same_boot,
        Stop::PowerLoss => Options { boot: NEXT_BOOT, ..same_boot },
    };
    let seed = image.ended as u64;
    let mut draw = Draw::new(seed);
    let memory = disk_of(image.blocks.clone());
    let disk = ClusterDisk::open(Arc::new(memory.clone())).expect("it was opened before");
    let mut cluster = SimulatedCluster::on(memory, NODES, seed, options);
    let all: Vec<u16> = (0..NODES).collect();
    for id in draw.shuffled(&all) {
        cluster.start(id);
        cluster.run([0, 3, 40][draw.below(3)]);
    }
    cluster.until_settled(&all);
    let database = disk.registrations().newest().expect("memory is readable").unwrap_or_default();
    // Whether the service should run was decided anew when the cluster formed.
    let mut wrong = duties.missing_orders(&database, |effect| !matches!(effect, Effect::Wanted(_)));
    wrong.extend(repeated(&cluster, duties));
    wrong.extend(cluster.disorder());
    wrong.extend(cluster.panics().into_iter().map(|(node, reason)| format!("n{node} panicked: {reason}")));
    wrong
}

/// I-R6 and its like: whatever must be new and is not.
fn repeated(cluster: &SimulatedCluster, duties: &Duties) -> Vec<String> {
    let mut wrong = Vec::new();
    for event in cluster.journal() {
        match event.what {
            Happened::Service(served) if served.action == phalanx_messages::launch::Action::Start => {
                if served.generation <= duties.generation {
                    let (again, before) = (served.generation, duties.generation);
                    wrong.push(format!("I-R6: generation {again} after {before}"));
                }
            }
            Happened::Started
            | Happened::Joined
            | Happened::Ended(_)
            | Happened::Panicked(_)
            | Happened::Dead
            | Happened::Step(_)
            | Happened::Service(_) => {}
        }
    }
    for id in 0..NODES {
        let register = cluster.register(id).expect("it runs");
        let before = duties.incarnations.get(&id).copied().unwrap_or_default();
        if register.incarnation.0 <= before {
            wrong.push(format!("n{id} starts as {} after {before}", register.incarnation));
        }
    }
    let master = cluster.master().expect("somebody leads");
    let term = cluster.register(master).expect("it runs").claim.term.0;
    if term <= duties.term {
        wrong.push(format!("I-M1: term {term} after {}", duties.term));
    }
    wrong
}
