//! Many trivial services on three nodes: how long until all of them run, and until one node has given up its third.
//!
//! The floor is launching that many commands on this machine, two at a time as there are cores, in the same run.

use std::fmt::Write as _;
use std::process::Command;

use super::{Aim, Row, Spread, Stage, now_ns};
use crate::process_cluster::{DevCluster, list};

const COUNTS: [usize; 3] = [100, 500, 1_000];
/// Times the floor.
const MOST: f64 = 3.0;
/// Services are many: each count is measured this often at most.
const RUNS_MAX: usize = 3;

/// Starts and drains, for each count.
///
/// # Errors
/// If no command can be started, or services do not start.
pub fn run(stage: &Stage) -> anyhow::Result<()> {
    for count in COUNTS {
        let (mut starts, mut drains, mut floors, mut thirds) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for _ in 0..stage.options.runs.min(RUNS_MAX) {
            stage.progress(format!("{count} services on three nodes"));
            floors.push(launches(count)?);
            thirds.push(launches(2 * count / 3)?);
            let (start_ns, drain_ns) = start_and_drain(count)?;
            starts.push(start_ns);
            drains.push(drain_ns);
            if stage.is_over() {
                break;
            }
        }
        for (what, measured, floor) in [("start", starts, floors), ("drain a third of", drains, thirds)] {
            if let (Some(measured), Some(floor)) = (Spread::of_ns(&measured), Spread::of_ns(&floor)) {
                let row = Row::new(format!("{what} {count} services"), "us", measured).aim(Aim::Ratio(MOST));
                stage.report(row.floor("launching as many commands", floor));
            }
        }
        if stage.is_over() {
            break;
        }
    }
    Ok(())
}

fn launches(count: usize) -> anyhow::Result<u64> {
    let begun_ns = now_ns();
    let mut running = Vec::new();
    for _ in 0..count {
        running.push(Command::new("/bin/true").spawn()?);
        if running.len() == 2 {
            running.remove(0).wait()?;
        }
    }
    for mut child in running {
        child.wait()?;
    }
    Ok(now_ns() - begun_ns)
}

fn start_and_drain(count: usize) -> anyhow::Result<(u64, u64)> {
    let services = count.to_string();
    let cluster = DevCluster::start(3, &["--no-demo-service"]);
    cluster.wait_joined(3);
    let file = cluster.dir().join("many.toml");
    let mut text = String::new();
    for index in 0..count {
        writeln!(
            text,
            "[[service]]\nname = \"s{index:04}\"\nstart_command = \"/bin/true\"\nstop_command = \"/bin/true\"\n\
             leaves = \"processes\"\nauto_register = \"always\""
        )?;
    }
    std::fs::write(&file, text)?;
    let begun_ns = now_ns();
    drop(cluster.succeed(&["service", "apply", &file.to_string_lossy(), "--no-wait"]));
    let all = |status: &serde_json::Value| {
        let services = list(status, "services");
        services.len() == count && services.iter().all(|service| service["state"] == "registered")
    };
    let status = cluster.wait_status(&format!("{services} services that run"), all);
    let start_ns = now_ns() - begun_ns;
    let on_n2 = list(&status, "services").iter().filter(|service| service["node"] == "n2").count();
    anyhow::ensure!(on_n2 * 4 > count, "n2 carries {on_n2} of {count}");
    let begun_ns = now_ns();
    drop(cluster.succeed(&["node", "leave", "n2"]));
    cluster.wait_status("all of them elsewhere", |status| {
        all(status) && list(status, "services").iter().all(|service| service["node"] != "n2")
    });
    Ok((start_ns, now_ns() - begun_ns))
}
