//! One step of a machine as the replay program shows it: the input, the outputs, and what has changed in its state.

use std::fmt::Debug;

use similar::{ChangeTag, TextDiff};

/// Lines of state that are shown around a difference, so that one sees where it is.
const AROUND: usize = 2;
/// Inputs and outputs are cut after this many characters: a reading of all registers fills pages.
const TEXT_MAX: usize = 600;

/// A machine that is about to take an input.
#[derive(Debug)]
pub struct Before {
    input: String,
    state: String,
}

impl Before {
    /// Keeps what it was.
    pub fn of(input: &impl Debug, machine: &impl Debug) -> Self {
        Self { input: format!("{input:?}"), state: format!("{machine:#?}") }
    }

    /// The step, one thing a line. Nothing if nothing came of it: most ticks are like that.
    pub fn after(self, name: &str, outputs: &[impl Debug], machine: &impl Debug) -> Vec<String> {
        let differences = differences(&self.state, &format!("{machine:#?}"));
        if outputs.is_empty() && differences.is_empty() {
            return Vec::new();
        }
        let input = format!("    {name} <- {}", cut(&self.input));
        let outputs = outputs.iter().map(|output| format!("    {name} -> {}", cut(&format!("{output:?}"))));
        std::iter::once(input).chain(outputs).chain(differences).collect()
    }
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(TEXT_MAX) {
        Some((end, _)) => format!("{} ...", &text[..end]),
        None => text.to_owned(),
    }
}

fn differences(before: &str, after: &str) -> Vec<String> {
    let diff = TextDiff::from_lines(before, after);
    let groups = diff.grouped_ops(AROUND);
    let changes = groups.iter().flatten().flat_map(|group| diff.iter_changes(group));
    let line = |change: similar::Change<&str>| {
        let sign = match change.tag() {
            ChangeTag::Equal => ' ',
            ChangeTag::Delete => '-',
            ChangeTag::Insert => '+',
        };
        format!("    {sign} {}", change.value().trim_end())
    };
    changes.map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::Before;

    #[derive(Debug)]
    struct Counter {
        steps: u32,
        name: &'static str,
    }

    #[test]
    fn a_step_shows_its_input_its_outputs_and_what_it_changed() {
        let mut counter = Counter { steps: 1, name: "c" };
        let before = Before::of(&"tick", &counter);
        counter.steps += 1;
        let lines = before.after("counter", &[7], &counter);
        assert_eq!(counter.name, "c");
        let expected = [
            "    counter <- \"tick\"",
            "    counter -> 7",
            "      Counter {",
            "    -     steps: 1,",
            "    +     steps: 2,",
            "          name: \"c\",",
            "      }",
        ];
        assert_eq!(lines, expected);
    }

    #[test]
    fn a_step_without_effect_shows_nothing() {
        let counter = Counter { steps: 1, name: "c" };
        assert!(Before::of(&"tick", &counter).after("counter", &[(); 0], &counter).is_empty());
    }
}
