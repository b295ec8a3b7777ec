//! Reads `docs/spec-map.md`: which part of the spec is where, and which tests show it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::process_cluster::files_below;

/// Claims, tables and figures of the spec.
const PARTS: [(&str, u32); 3] = [("Claim", 38), ("Table", 4), ("Fig.", 21)];
/// What a cell says instead of names.
const NOT_YET: &str = "not yet";
/// Columns of every table on the page.
const COLUMNS: usize = 5;

/// One row of the page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// `Claim 7`, `Table 1`, `Fig. 20`.
    pub part: String,
    /// Paths of the modules, from the workspace's root; none = not yet.
    pub modules: Vec<String>,
    /// Names of test functions; none = not yet.
    pub tests: Vec<String>,
}

/// Every part that must stand on the page, in the page's order.
#[must_use]
pub fn expected_parts() -> Vec<String> {
    PARTS.iter().flat_map(|(kind, count)| (1..=*count).map(move |number| format!("{kind} {number}"))).collect()
}

/// Reads the page.
///
/// # Errors
/// Names the first line that is none of ours.
pub fn read(page: &str) -> Result<Vec<Row>, String> {
    let is_row = |line: &&str| PARTS.iter().any(|(kind, _)| line.starts_with(&format!("| {kind} ")));
    page.lines().filter(is_row).map(row).collect()
}

fn row(line: &str) -> Result<Row, String> {
    let inner = line.trim().strip_prefix('|').and_then(|line| line.strip_suffix('|'));
    let cells: Vec<&str> = inner.ok_or_else(|| format!("no row: {line}"))?.split('|').map(str::trim).collect();
    let &[part, asks, modules, tests, _missing] = cells.as_slice() else {
        return Err(format!("{} columns instead of {COLUMNS}: {line}", cells.len()));
    };
    if asks.is_empty() {
        return Err(format!("says nothing: {line}"));
    }
    Ok(Row { part: part.to_owned(), modules: names(modules, line)?, tests: names(tests, line)? })
}

fn names(cell: &str, line: &str) -> Result<Vec<String>, String> {
    if cell == NOT_YET {
        return Ok(Vec::new());
    }
    let name = |word: &str| {
        let name = word.trim().strip_prefix('`').and_then(|word| word.strip_suffix('`'));
        name.filter(|name| !name.is_empty()).map(str::to_owned).ok_or_else(|| format!("no name: {word:?} in {line}"))
    };
    cell.split(',').map(name).collect()
}

/// Everything that is wrong with the page, given the names of all tests and the root of the workspace.
#[must_use]
pub fn mistakes(rows: &[Row], tests: &BTreeSet<String>, root: &Path) -> Vec<String> {
    let mut mistakes = Vec::new();
    for part in expected_parts() {
        let times = rows.iter().filter(|row| row.part == part).count();
        if times != 1 {
            mistakes.push(format!("{part} stands there {times} times"));
        }
    }
    let expected = expected_parts();
    for row in rows {
        if !expected.contains(&row.part) {
            mistakes.push(format!("the spec has no {}", row.part));
        }
        if row.modules.is_empty() != row.tests.is_empty() {
            mistakes.push(format!("{} has modules without tests, or tests without modules", row.part));
        }
        for module in row.modules.iter().filter(|module| !root.join(module).exists()) {
            mistakes.push(format!("{} names `{module}`, which does not exist", row.part));
        }
        for test in row.tests.iter().filter(|test| !tests.contains(*test)) {
            mistakes.push(format!("{} names `{test}`, which is no test", row.part));
        }
    }
    mistakes
}

/// The test functions of every source file of the workspace, by path from its root.
///
/// # Panics
/// If a source cannot be read.
#[must_use]
pub fn tests_of_the_workspace(root: &Path) -> BTreeMap<String, BTreeSet<String>> {
    let members = ["messages", "storage", "actors", "node", "tests", "examples"].map(|member| root.join(member));
    let sources = members.iter().flat_map(|member| files_below(member));
    let sources = sources.filter(|path| path.extension().is_some_and(|end| end == "rs"));
    let tests = |path: std::path::PathBuf| {
        let source = std::fs::read_to_string(&path).expect("a source is readable");
        let name = path.strip_prefix(root).expect("below the root").display().to_string();
        (name, tests_in(&source).into_iter().collect())
    };
    sources.map(tests).collect()
}

/// The names of all test functions in a source text: a function whose attributes have the word `test`.
#[must_use]
pub fn tests_in(source: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut is_test = false;
    for line in source.lines().map(str::trim) {
        if let Some(attribute) = line.strip_prefix("#[") {
            is_test |= attribute.split(|letter: char| !letter.is_alphanumeric()).any(|word| word == "test")
                && !attribute.starts_with("cfg");
            continue;
        }
        let function = line.strip_prefix("async ").unwrap_or(line).strip_prefix("fn ");
        if let Some(function) = function.filter(|_| is_test) {
            names.extend(function.split('(').next().map(str::to_owned));
        }
        // A comment or a blank line between attribute and function changes nothing.
        is_test &= line.is_empty() || line.starts_with("//");
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page() -> String {
        let rows = expected_parts().into_iter().map(|part| format!("| {part} | asks | `Cargo.toml` | `a_test` | |\n"));
        rows.collect()
    }

    fn mistakes_of(page: &str) -> Vec<String> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        mistakes(&read(page).unwrap(), &["a_test".to_owned()].into(), root)
    }

    #[test]
    fn a_whole_page_is_right_and_one_that_lacks_or_repeats_a_part_is_not() {
        assert_eq!(mistakes_of(&page()), Vec::<String>::new());
        let lacking = page().replace("| Claim 7 |", "| Claim 8 |");
        assert_eq!(mistakes_of(&lacking), ["Claim 7 stands there 0 times", "Claim 8 stands there 2 times"]);
        let more = page() + "| Fig. 22 | asks | not yet | not yet | |\n";
        assert_eq!(mistakes_of(&more), ["the spec has no Fig. 22"]);
    }

    #[test]
    fn names_that_do_not_exist_and_half_rows_are_found() {
        let renamed = page().replacen("`a_test`", "`a_test`, `another`", 1);
        assert_eq!(mistakes_of(&renamed), ["Claim 1 names `another`, which is no test"]);
        let moved = page().replacen("`Cargo.toml`", "`gone.rs`", 1);
        assert_eq!(mistakes_of(&moved), ["Claim 1 names `gone.rs`, which does not exist"]);
        let half = page().replacen("`a_test`", "not yet", 1);
        assert_eq!(mistakes_of(&half), ["Claim 1 has modules without tests, or tests without modules"]);
        assert!(read("| Claim 1 | asks | not yet |\n").is_err() && read("| Claim 1 | asks | x | y | |\n").is_err());
    }

    #[test]
    fn a_test_is_a_function_with_a_test_attribute() {
        let source = "#[cfg(test)]\nmod tests {\n#[test]\n#[ignore]\nfn one() {}\nfn helper() {}\n#[tokio::test]\n// why\n\
                      async fn two() {}\n#[cfg(test)]\nfn three() {}\n}";
        assert_eq!(tests_in(source), ["one", "two"]);
    }
}
