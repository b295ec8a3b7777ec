//! Looks at every image of a recording, and starts clusters on some.

use std::sync::{Mutex, PoisonError};

use super::duties::Duties;
use super::images::{Counts, Image, Stop, enumerate};
use super::restart::wrong_after;
use super::scenario::Recording;
use crate::simulated_cluster::Keys;

/// What came of one recording.
#[derive(Debug, Default)]
pub struct Report {
    /// What was enumerated.
    pub counts: Counts,
    /// Images that were looked at.
    pub images: usize,
    /// Those of them that differ for a reader, by what stopped: [`Stop`].
    pub distinct: [usize; 2],
    /// Clusters that were started.
    pub restarts: usize,
    /// Whatever is wrong.
    pub wrong: Vec<String>,
}

impl Report {
    /// The first few things that are wrong.
    #[must_use]
    pub fn first_wrong(&self) -> String {
        let first: Vec<_> = self.wrong.iter().take(10).map(String::as_str).collect();
        format!("{} things are wrong, the first of them:\n{}", self.wrong.len(), first.join("\n"))
    }
}

/// Images that differ for a reader, by what stopped.
#[must_use]
pub fn distinct(recording: &Recording) -> [usize; 2] {
    let mut distinct = [0, 0];
    enumerate(recording, |image| distinct[image.stop as usize] += usize::from(!image.repeats));
    distinct
}

/// Looks at every image of the recording, and starts a cluster on those of the distinct ones that `chosen` takes by their number.
#[must_use]
pub fn check(recording: &Recording, chosen: impl Fn(Stop, usize) -> bool) -> Report {
    let mut report = Report::default();
    let mut to_start = Vec::new();
    let (mut images, mut distinct, mut wrong) = (0, [0, 0], Vec::new());
    report.counts = enumerate(recording, |image| {
        images += 1;
        let duties = Duties::after(recording, image.ended);
        let is_formatted = image.ended >= recording.formatted;
        let missing = duties.missing(&image, is_formatted);
        wrong.extend(missing.iter().map(|text| said(&image, text)));
        if !image.repeats {
            let number = &mut distinct[image.stop as usize];
            if chosen(image.stop, *number) {
                to_start.push((image, duties, is_formatted));
            }
            *number += 1;
        }
    });
    report.restarts = to_start.len();
    wrong.extend(start_all(to_start, &recording.keys));
    Report { images, distinct, wrong, ..report }
}

fn said(image: &Image, text: &str) -> String {
    format!("{:?} after {} operations, {}: {text}", image.stop, image.ended, image.text)
}

/// A cluster on each, on as many threads as there are processors.
fn start_all(images: Vec<(Image, Duties, bool)>, keys: &Keys) -> Vec<String> {
    let next = Mutex::new(images.into_iter());
    let wrong = Mutex::new(Vec::new());
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let taken = next.lock().unwrap_or_else(PoisonError::into_inner).next();
                    let Some((image, duties, is_formatted)) = taken else { break };
                    let found = wrong_after(&image, &duties, is_formatted, keys);
                    let found = found.iter().map(|text| said(&image, text));
                    wrong.lock().unwrap_or_else(PoisonError::into_inner).extend(found);
                }
            });
        }
    });
    wrong.into_inner().unwrap_or_else(PoisonError::into_inner)
}
