//! Reads `docs/faults.md`: every fault of protocol §8.5, and which tests show what is expected of it.

use std::collections::{BTreeMap, BTreeSet};

/// Rows of the table.
pub const ROWS: u32 = 62;
/// What a cell says instead of tests.
const NOT_YET: &str = "not yet";
/// Columns of the table.
const COLUMNS: usize = 5;

/// One row of the page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Its number in protocol §8.5.
    pub number: u32,
    /// Tests as (file from the workspace's root, function); none = not yet.
    pub tests: Vec<(String, String)>,
    /// What they do not show, and who brings it.
    pub missing: String,
}

/// Reads the page.
///
/// # Errors
/// Names the first line that is none of ours.
pub fn read(page: &str) -> Result<Vec<Row>, String> {
    let is_row =
        |line: &&str| line.strip_prefix("| ").is_some_and(|rest| rest.starts_with(|at: char| at.is_ascii_digit()));
    page.lines().filter(is_row).map(row).collect()
}

fn row(line: &str) -> Result<Row, String> {
    let inner = line.trim().strip_prefix('|').and_then(|line| line.strip_suffix('|'));
    let cells: Vec<&str> = inner.ok_or_else(|| format!("no row: {line}"))?.split('|').map(str::trim).collect();
    let &[number, fault, expected, tests, missing] = cells.as_slice() else {
        return Err(format!("{} columns instead of {COLUMNS}: {line}", cells.len()));
    };
    if fault.is_empty() || expected.is_empty() {
        return Err(format!("says nothing: {line}"));
    }
    let number = number.parse().map_err(|_| format!("no number: {line}"))?;
    let tests = if tests == NOT_YET { Vec::new() } else { tests.split(',').map(test).collect::<Result<_, _>>()? };
    Ok(Row { number, tests, missing: missing.to_owned() })
}

fn test(word: &str) -> Result<(String, String), String> {
    let name = word.trim().strip_prefix('`').and_then(|word| word.strip_suffix('`'));
    let (file, function) = name.and_then(|name| name.split_once("::")).ok_or_else(|| format!("no test: {word:?}"))?;
    Ok((file.to_owned(), function.to_owned()))
}

/// The row for which a test is named, if it is: `fault_07_...` is row 7.
#[must_use]
pub fn row_of(test: &str) -> Option<u32> {
    test.strip_prefix("fault_")?.split('_').next()?.parse().ok()
}

/// Everything that is wrong with the page, given the tests of each file.
#[must_use]
pub fn mistakes(rows: &[Row], tests: &BTreeMap<String, BTreeSet<String>>) -> Vec<String> {
    let mut mistakes = Vec::new();
    for number in 1..=ROWS {
        let times = rows.iter().filter(|row| row.number == number).count();
        if times != 1 {
            mistakes.push(format!("row {number} stands there {times} times"));
        }
    }
    for row in rows {
        if !(1..=ROWS).contains(&row.number) {
            mistakes.push(format!("the protocol has no row {}", row.number));
        }
        if row.tests.is_empty() && row.missing.is_empty() {
            mistakes.push(format!("row {} has neither a test nor somebody who brings it", row.number));
        }
        for (file, function) in &row.tests {
            if !tests.get(file).is_some_and(|tests| tests.contains(function)) {
                mistakes.push(format!("row {} names `{file}::{function}`, which is no test", row.number));
            }
        }
    }
    for (file, function) in tests.iter().flat_map(|(file, tests)| tests.iter().map(move |test| (file, test))) {
        let named = (file.clone(), function.clone());
        let Some(number) = row_of(function) else { continue };
        if !rows.iter().any(|row| row.number == number && row.tests.contains(&named)) {
            mistakes.push(format!("row {number} does not name `{file}::{function}`"));
        }
    }
    mistakes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page() -> String {
        (1..=ROWS).map(|row| format!("| {row} | a fault | an end | `a.rs::fault_{row:02}_ends` | |\n")).collect()
    }

    fn mistakes_of(page: &str) -> Vec<String> {
        let tests = (1..=ROWS).map(|row| format!("fault_{row:02}_ends")).collect();
        mistakes(&read(page).unwrap(), &[("a.rs".to_owned(), tests)].into())
    }

    #[test]
    fn a_whole_page_is_right_and_every_row_is_missed() {
        assert_eq!(mistakes_of(&page()), Vec::<String>::new());
        let lacking = page().replace("| 7 |", "| 63 |");
        let expected =
            ["row 7 stands there 0 times", "the protocol has no row 63", "row 7 does not name `a.rs::fault_07_ends`"];
        assert_eq!(mistakes_of(&lacking), expected);
        let twice = page() + "| 9 | a fault | an end | not yet | issue 9 |\n";
        assert_eq!(mistakes_of(&twice), ["row 9 stands there 2 times"]);
    }

    #[test]
    fn a_test_that_is_gone_or_stands_in_another_row_is_found() {
        let renamed = page().replace("fault_07_ends", "fault_07_never_ends");
        let expected =
            ["row 7 names `a.rs::fault_07_never_ends`, which is no test", "row 7 does not name `a.rs::fault_07_ends`"];
        assert_eq!(mistakes_of(&renamed), expected);
        let moved = page().replace("a.rs::fault_07", "b.rs::fault_07");
        assert_eq!(mistakes_of(&moved).len(), 2);
        let nobody = page().replace("`a.rs::fault_07_ends`", "not yet");
        assert_eq!(mistakes_of(&nobody)[0], "row 7 has neither a test nor somebody who brings it");
        assert!(read("| 7 | a fault | an end | a.rs::x | |").is_err() && read("| 7 | a fault | an end |").is_err());
    }
}
