//! Many seeds, two phases each, on several threads.

use std::fmt::Write as _;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use super::clock::{MS, Micros, SECOND};
use super::coverage::Coverage;
use super::log::Detail;
use super::random::Random;
use super::world::{Setup, World};

/// Lines of the log that a failure shows.
const TAIL: usize = 40;
/// After the faults everything must be at rest within this.
const REST_WITHIN: Micros = 60 * SECOND;
/// What the last faults lead to becomes known within this.
const AFTERMATH: Micros = 6 * SECOND;
/// A subsystem that never ends its step is waited for (protocol T-20, `act`), and its node's recovery may have another one.
const REST_WITHIN_IF_HUNG: Micros = 400 * SECOND;

/// Progress is said after so many seeds.
const PROGRESS_SEEDS: u64 = 1_000;

/// What became of one seed.
#[derive(Debug)]
pub struct Outcome {
    /// The seed.
    pub seed: u64,
    /// Hash of the log.
    pub hash: u64,
    /// Events.
    pub events: u64,
    /// Virtual time.
    pub lasted: Micros,
    /// What was reached.
    pub coverage: Coverage,
    /// The invariant that was broken.
    pub violation: Option<String>,
}

/// Runs a seed to its end.
#[must_use]
pub fn run_seed(seed: u64) -> Outcome {
    outcome(seed, run_world(seed, Detail::Hash))
}

fn outcome(seed: u64, world: World) -> Outcome {
    Outcome {
        seed,
        hash: world.log.hash(),
        events: world.log.events(),
        lasted: world.now(),
        coverage: world.coverage.clone(),
        violation: world.violation.clone(),
    }
}

/// Runs a seed to its end and gives the world as it is then.
#[must_use]
pub fn run_world(seed: u64, detail: Detail) -> World {
    run_changed(seed, detail, |_| {})
}

/// The same with something else than what is drawn.
#[must_use]
pub fn run_changed(seed: u64, detail: Detail, change: impl FnOnce(&mut Setup)) -> World {
    let mut setup = Setup::drawn(seed, detail);
    change(&mut setup);
    let mut random = Random::new(seed ^ 0x5eed);
    // The larger the cluster the more happens at the same time.
    let storm = random.between(60, 300) * SECOND * 2 / u64::from(setup.nodes.max(2));
    let rest_within = if setup.weather.hang > 0 { REST_WITHIN_IF_HUNG } else { REST_WITHIN };
    let mut world = World::new(setup);
    world.start_all();
    // Some clusters form in peace.
    let peace = if random.coin() { 5 * SECOND } else { 0 };
    world.run_to(SECOND + peace);
    world.let_it_storm();
    world.run_to(SECOND + peace + storm);
    world.end_the_storm();
    // What the last faults lead to still happens.
    let aftermath = world.now() + AFTERMATH;
    world.run_to(aftermath);
    // Of some clusters an administrator takes back whatever was said of services; of others it stays.
    if random.coin() {
        world.take_everything_back();
    }
    come_to_rest(&mut world, rest_within);
    world
}

fn come_to_rest(world: &mut World, within: Micros) {
    let until = world.now() + within;
    while world.violation.is_none() {
        match world.unrest() {
            None => break,
            Some(why) if world.now() >= until => {
                let (invariant, what) = why.split_once(": ").unwrap_or(("I-T16", &why));
                world.fail(format!("{invariant}: {} s after the faults {what}", within / SECOND));
                return;
            }
            Some(_) => {}
        }
        world.run_to(world.now() + 100 * MS);
    }
    for text in world.wrong_views().into_iter().chain(world.wrong_services()) {
        world.fail(text);
    }
    // Rest is rest: nothing begins by itself.
    let (before, placed) = (world.newest_record().revision, world.placements());
    world.run_to(world.now() + SECOND);
    let after = world.newest_record().revision;
    if before != after {
        world.fail(format!("at rest with record {before}, and record {after} is committed without a cause"));
    }
    if let Some((was, is)) = placed.iter().zip(world.placements()).find(|(was, is)| *was != is) {
        world.fail(format!("I-R20: at rest {was:?} becomes {is:?} without a cause"));
    }
}

/// What became of many seeds.
#[derive(Debug, Default)]
pub struct Report {
    /// Seeds run.
    pub seeds: u64,
    /// Events of all of them.
    pub events: u64,
    /// Their virtual time.
    pub lasted: Micros,
    /// What was reached.
    pub coverage: Coverage,
    /// Seeds that failed, with what was broken.
    pub failures: Vec<(u64, String)>,
}

impl Report {
    /// Long campaigns say on standard error how far they are.
    fn say_progress(&self, of: u64) {
        if self.seeds.is_multiple_of(PROGRESS_SEEDS) {
            eprintln!("{} of {of} seeds, {} failed", self.seeds, self.failures.len());
        }
    }
}

/// Runs the seeds on that many threads. Stops early once a few have failed.
#[must_use]
pub fn run(seeds: Range<u64>, threads: usize) -> Report {
    const FAILURES_MAX: usize = 5;
    let next = AtomicU64::new(seeds.start);
    let report = Mutex::new(Report::default());
    let lock = || report.lock().unwrap_or_else(PoisonError::into_inner);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end || lock().failures.len() >= FAILURES_MAX {
                        return;
                    }
                    let outcome = run_guarded(seed);
                    let mut report = lock();
                    report.seeds += 1;
                    report.events += outcome.events;
                    report.lasted += outcome.lasted;
                    report.coverage.add(&outcome.coverage);
                    if let Some(violation) = outcome.violation {
                        eprintln!("seed {seed} failed: {violation}");
                        report.failures.push((seed, violation));
                    }
                    report.say_progress(seeds.end - seeds.start);
                }
            });
        }
    });
    let mut report = report.into_inner().unwrap_or_else(PoisonError::into_inner);
    report.failures.sort();
    report
}

/// As [`run_seed`]; a machine that panics by an assertion of its own has failed too.
#[must_use]
pub fn run_guarded(seed: u64) -> Outcome {
    std::panic::catch_unwind(|| run_seed(seed)).unwrap_or_else(|payload| {
        let text = payload.downcast_ref::<String>().cloned();
        let text = text.or_else(|| payload.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        let violation = Some(format!("a machine panics: {}", text.unwrap_or_default()));
        Outcome { seed, hash: 0, events: 0, lasted: 0, coverage: Coverage::default(), violation }
    })
}

/// Seeds to run: `PHALANX_SEEDS=20000` or `PHALANX_SEEDS=100..200`, else 0 up to `default`.
#[must_use]
pub fn seeds_wanted(default: u64) -> Range<u64> {
    let wanted = std::env::var("PHALANX_SEEDS").ok();
    wanted.and_then(|text| parse_seeds(&text)).unwrap_or(0..default)
}

fn parse_seeds(text: &str) -> Option<Range<u64>> {
    match text.split_once("..") {
        Some((from, to)) => Some(from.trim().parse().ok()?..to.trim().parse().ok()?),
        None => Some(0..text.trim().parse().ok()?),
    }
}

/// What a failing seed shows: the invariant, the last events, and how to run it again. The whole log goes into a file.
#[must_use]
pub fn explain(seed: u64, violation: &str) -> String {
    let mut text = format!("seed {seed}: {violation}\n");
    let replayed = std::panic::catch_unwind(|| run_world(seed, Detail::Events));
    if let Ok(world) = replayed {
        let lines = world.log.lines();
        for line in &lines[lines.len().saturating_sub(TAIL)..] {
            writeln!(text, "{line}").ok(); // a string takes everything
        }
        match write_log(seed, &world) {
            Ok(path) => writeln!(text, "all {} events: {}", lines.len(), path.display()).ok(),
            Err(error) => writeln!(text, "the log cannot be written: {error}").ok(),
        };
    }
    writeln!(text, "again: cargo run -p phalanx-tests --bin replay -- --seed {seed}").ok();
    text
}

fn write_log(seed: u64, world: &World) -> std::io::Result<PathBuf> {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| PathBuf::from("target"), PathBuf::from);
    let directory = target.join("simulation");
    std::fs::create_dir_all(&directory)?;
    let path = directory.join(format!("{seed}.log"));
    let lines: String = world.log.lines().iter().map(|line| format!("{line}\n")).collect();
    std::fs::write(&path, lines)?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_are_a_count_or_a_range() {
        assert_eq!(parse_seeds("20"), Some(0..20));
        assert_eq!(parse_seeds("5..9"), Some(5..9));
        assert_eq!(parse_seeds("many"), None);
    }
}
