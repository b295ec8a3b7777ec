//! The benches of architecture §9 as one command.
//!
//! `cargo build --release && cargo run --release -p phalanx-tests --bin bench -- [names] [--runs N]`

use phalanx_tests::bench::options::NAMES;
use phalanx_tests::bench::{Options, Stage, actors, boot, cut, failover, idle, load, placement, services, transitions};
use serde_json::json;

fn main() -> std::process::ExitCode {
    match Options::parse(std::env::args().skip(1)).and_then(measure) {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            std::process::ExitCode::FAILURE
        }
    }
}

fn measure(options: Options) -> anyhow::Result<()> {
    quieten();
    let cores = std::thread::available_parallelism()?.get();
    let (json, before) = (options.json, load());
    if !json {
        println!("{cores} cores, load {before}; min / median / max; ratios are of medians");
    }
    let stage = Stage::new(options);
    let result = run(&stage);
    if json {
        let report = json!({ "cores": cores, "load": {"before": before, "after": load()}, "seconds": stage.elapsed_s(), "rows": stage.rows() });
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        println!("{} s, load {}", stage.elapsed_s(), load());
    }
    result
}

/// One bench that fails does not keep the others from running.
fn run(stage: &Stage) -> anyhow::Result<()> {
    let in_process = actix_rt::System::new;
    let mut failed = Vec::new();
    for name in NAMES.into_iter().filter(|name| stage.options.wants(name)) {
        if stage.is_over() {
            stage.progress(format!("{name}: left out, the time is over"));
            continue;
        }
        let result = match name {
            "transitions" => in_process().block_on(transitions::run(stage)),
            "actors" => in_process().block_on(actors::run(stage)),
            "idle" => idle::run(stage),
            "failover" => failover::run(stage),
            "cut" => cut::run(stage),
            "placement" => placement::run(stage),
            "services" => services::run(stage),
            _ => boot::run(stage),
        };
        if let Err(error) = result {
            stage.progress(format!("{name}: {error:#}"));
            failed.push(name);
        }
    }
    if failed.is_empty() { Ok(()) } else { anyhow::bail!("failed: {}", failed.join(", ")) }
}

/// Nodes of one process are ended by a panic that was asked for.
fn quieten() {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if panic.payload().downcast_ref::<&str>() != Some(&"injected") {
            usual(panic);
        }
    }));
}
