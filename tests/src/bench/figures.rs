//! A figure, its floor and its aim.

use serde::Serialize;

/// Minimum, median and maximum of some runs.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Spread {
    /// Least.
    pub min: f64,
    /// As many lie above as below.
    pub median: f64,
    /// Most.
    pub max: f64,
    /// How many there were.
    pub runs: usize,
}

impl Spread {
    /// None of nothing.
    #[must_use]
    pub fn of(mut values: Vec<f64>) -> Option<Self> {
        values.sort_by(f64::total_cmp);
        let (min, max) = (*values.first()?, *values.last()?);
        Some(Self { min, median: values[values.len() / 2], max, runs: values.len() })
    }

    /// The same of nanoseconds, in microseconds.
    #[must_use]
    pub fn of_ns(values: &[u64]) -> Option<Self> {
        #[expect(clippy::cast_precision_loss, reason = "a figure for people")]
        Self::of(values.iter().map(|ns| *ns as f64 / 1_000.0).collect())
    }

    fn text(&self, unit: &str) -> String {
        let Self { min, median, max, runs } = self;
        format!("{min:.1} / {median:.1} / {max:.1} {unit} ({runs} runs)")
    }
}

/// What architecture §9 asks for.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Aim {
    /// The median is at most this many times the floor's.
    Ratio(f64),
    /// The median is at most this, in the unit of the figure.
    Most(f64),
}

/// One line of the report.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    /// What was measured.
    pub what: String,
    /// Unit of all figures of the row.
    pub unit: &'static str,
    /// Measured.
    pub measured: Spread,
    /// What the floor is.
    pub floor_of: Option<String>,
    /// The floor, in the same run.
    pub floor: Option<Spread>,
    /// Medians compared.
    pub ratio: Option<f64>,
    /// What is wanted.
    pub aim: Option<Aim>,
    /// Whether it is so.
    pub met: Option<bool>,
}

impl Row {
    /// A figure that stands alone.
    #[must_use]
    pub fn new(what: impl Into<String>, unit: &'static str, measured: Spread) -> Self {
        Self { what: what.into(), unit, measured, floor_of: None, floor: None, ratio: None, aim: None, met: None }
            .judged()
    }

    /// With its floor.
    #[must_use]
    pub fn floor(mut self, of: impl Into<String>, floor: Spread) -> Self {
        self.floor_of = Some(of.into());
        self.floor = Some(floor);
        self.ratio = Some(self.measured.median / floor.median);
        self.judged()
    }

    /// With what is wanted.
    #[must_use]
    pub fn aim(mut self, aim: Aim) -> Self {
        self.aim = Some(aim);
        self.judged()
    }

    fn judged(mut self) -> Self {
        self.met = match self.aim {
            Some(Aim::Ratio(most)) => self.ratio.map(|ratio| ratio <= most),
            Some(Aim::Most(most)) => Some(self.measured.median <= most),
            None => None,
        };
        self
    }

    /// For people: min / median / max beside the floor, the ratio and the aim.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = format!("{:<44} {}", self.what, self.measured.text(self.unit));
        if let (Some(floor), Some(of)) = (&self.floor, &self.floor_of) {
            text += &format!("  floor, {of}: {}", floor.text(self.unit));
        }
        if let Some(ratio) = self.ratio {
            text += &format!("  ratio {ratio:.1}");
        }
        let met = if self.met == Some(true) { "met" } else { "MISSED" };
        match self.aim {
            Some(Aim::Ratio(most)) => text += &format!(" (aim {most}: {met})"),
            Some(Aim::Most(most)) => text += &format!("  aim {most} {}: {met}", self.unit),
            None => {}
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_compared_with_the_floors_and_the_aim_judged() {
        let measured = Spread::of(vec![9.0, 4.0, 30.0]).unwrap();
        assert_eq!((measured.min, measured.median, measured.max, measured.runs), (4.0, 9.0, 30.0, 3));
        let floor = Spread::of(vec![3.0, 3.0, 3.0]).unwrap();
        let row = Row::new("join", "us", measured).floor("a star", floor);
        assert_eq!((row.ratio, row.met), (Some(3.0), None));
        assert_eq!(row.clone().aim(Aim::Ratio(3.0)).met, Some(true));
        let missed = row.aim(Aim::Ratio(2.0));
        assert_eq!(missed.met, Some(false));
        assert!(missed.text().contains("ratio 3.0 (aim 2: MISSED)"), "{}", missed.text());
        assert_eq!(Row::new("memory", "MB", floor).aim(Aim::Most(2.9)).met, Some(false));
        assert_eq!(Spread::of(Vec::new()), None);
    }
}
