//! How messages travel: each may be lost, come twice, be overtaken, and come long after (protocol N1).

use crate::simulation::random::Random;

use super::Step;

/// Thousandths of messages that something happens to.
#[derive(Debug, Clone)]
pub struct Weather {
    /// Never arrive.
    pub lost: u64,
    /// Arrive twice.
    pub doubled: u64,
    /// Arrive after everything that is under way.
    pub late: u64,
    /// Where among the steps that wait each of the others arrives; none = in order.
    pub seed: Option<u64>,
}

impl Weather {
    /// Every message arrives once and in order.
    #[must_use]
    pub const fn calm() -> Self {
        Self { lost: 0, doubled: 0, late: 0, seed: None }
    }

    /// A quarter of all messages is lost, a quarter comes twice, some come very late, and the others in any order.
    #[must_use]
    pub const fn rough(seed: u64) -> Self {
        Self { lost: 250, doubled: 250, late: 100, seed: Some(seed) }
    }
}

/// See the module.
pub(super) struct Mail {
    weather: Weather,
    random: Option<Random>,
    late: Vec<Step>,
    mishaps: u64,
}

impl Mail {
    pub fn new(weather: Weather) -> Self {
        Self { random: weather.seed.map(Random::new), weather, late: Vec::new(), mishaps: 0 }
    }

    /// Messages that were lost, repeated or late.
    pub const fn mishaps(&self) -> u64 {
        self.mishaps
    }

    /// Nothing is on its way.
    pub fn is_empty(&self) -> bool {
        self.late.is_empty()
    }

    /// The copies of a message that arrive soon.
    pub fn send(&mut self, arrival: Step) -> Vec<Step> {
        let Some(random) = &mut self.random else { return vec![arrival] };
        if random.chance(self.weather.lost) {
            self.mishaps += 1;
            return Vec::new();
        }
        let copies = if random.chance(self.weather.doubled) { 2 } else { 1 };
        self.mishaps += copies as u64 - 1;
        let mut soon = Vec::new();
        for arrival in std::iter::repeat_n(arrival, copies) {
            if random.chance(self.weather.late) {
                self.mishaps += 1;
                self.late.push(arrival);
            } else {
                soon.push(arrival);
            }
        }
        soon
    }

    /// Where in a queue of that length it arrives, not before `earliest`.
    pub fn place(&mut self, earliest: usize, length: usize) -> usize {
        let Some(random) = &mut self.random else { return length };
        let wait = random.below((length - earliest) as u64 + 1);
        earliest + usize::try_from(wait).unwrap_or(0)
    }

    /// Time passes: half of what is late arrives now.
    pub fn arrivals(&mut self) -> Vec<Step> {
        let Some(random) = &mut self.random else { return Vec::new() };
        let (now, later) = std::mem::take(&mut self.late).into_iter().partition(|_| random.coin());
        self.late = later;
        now
    }

    /// What is late arrives now, and nothing is lost any more.
    pub fn calm_down(&mut self) -> Vec<Step> {
        self.random = None;
        std::mem::take(&mut self.late)
    }
}
