//! What the command line of the benches says.

use anyhow::{Context, bail};

/// How to call it.
pub const USAGE: &str = "usage: bench [transitions] [boot] [idle] [actors] [failover] [cut] [placement] [services] [--runs N] \
                         [--sizes 2,3,5] [--limit SECONDS] [--large] [--output text|json]";
/// The benches by name, in the order in which they run.
pub const NAMES: [&str; 8] = ["transitions", "actors", "idle", "failover", "cut", "placement", "services", "boot"];

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Which benches; all if none is named.
    pub names: Vec<String>,
    /// Runs of each figure.
    pub runs: usize,
    /// Cluster sizes for the transitions.
    pub sizes: Vec<u16>,
    /// The whole run ends after so many seconds; what is left out is said.
    pub limit_s: u64,
    /// Also what takes minutes and gigabytes: 256 node processes at once.
    pub large: bool,
    /// One JSON value instead of lines.
    pub json: bool,
}

impl Default for Options {
    fn default() -> Self {
        let sizes = vec![2, 3, 5, 8, 16, 32, 64];
        Self { names: Vec::new(), runs: 20, sizes, limit_s: 900, large: false, json: false }
    }
}

impl Options {
    /// Reads a command line without the program's name.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(arguments: impl IntoIterator<Item = String>) -> anyhow::Result<Self> {
        let mut options = Self::default();
        let mut arguments = arguments.into_iter();
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().with_context(|| format!("`{argument}` needs a value; {USAGE}"));
            match argument.as_str() {
                "--runs" => options.runs = value()?.parse().context("`--runs` is a number")?,
                "--limit" => options.limit_s = value()?.parse().context("`--limit` is a number of seconds")?,
                "--sizes" => options.sizes = sizes(&value()?)?,
                "--large" => options.large = true,
                "--output" => {
                    options.json = match value()?.as_str() {
                        "json" => true,
                        "text" => false,
                        other => bail!("`--output {other}`: text or json"),
                    }
                }
                name if NAMES.contains(&name) => options.names.push(name.to_owned()),
                other => bail!("`{other}` is no bench and no option; {USAGE}"),
            }
        }
        if options.runs == 0 {
            bail!("`--runs` is at least 1");
        }
        Ok(options)
    }

    /// That bench is to run.
    #[must_use]
    pub fn wants(&self, name: &str) -> bool {
        self.names.is_empty() || self.names.iter().any(|named| named == name)
    }
}

fn sizes(text: &str) -> anyhow::Result<Vec<u16>> {
    let sizes: Vec<u16> =
        text.split(',').map(|size| size.parse().context("`--sizes` are numbers of nodes")).collect::<Result<_, _>>()?;
    if sizes.iter().any(|size| !(2..=256).contains(size)) {
        bail!("`--sizes` lie between 2 and 256");
    }
    Ok(sizes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> anyhow::Result<Options> {
        Options::parse(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn a_bench_is_named_or_all_run() {
        let all = parse("").unwrap();
        assert!(NAMES.iter().all(|name| all.wants(name)));
        let some = parse("idle --runs 5 --sizes 2,64 --output json").unwrap();
        assert_eq!((some.runs, some.sizes.as_slice(), some.json), (5, &[2, 64][..], true));
        assert!(some.wants("idle") && !some.wants("boot"));
    }

    #[test]
    fn nonsense_is_refused() {
        for line in ["speed", "--runs", "--runs 0", "--sizes 1", "--sizes 300", "--output xml", "--limit x"] {
            assert!(parse(line).is_err(), "{line}");
        }
    }
}
