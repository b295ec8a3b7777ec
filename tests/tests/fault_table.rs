//! `docs/faults.md` has every row of protocol §8.5, and every test that it names exists.

use std::path::Path;

use phalanx_tests::{fault_table, spec_map};

/// Rows that the transition framework, its elections, its detection of faults and its disk must show by tests of their own.
const BY_NAME: [u32; 58] = [
    1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31,
    32, 33, 34, 35, 36, 37, 38, 39, 40, 41, 42, 43, 44, 45, 46, 47, 48, 49, 50, 51, 52, 53, 54, 59, 60, 61, 62,
];

#[test]
fn every_fault_is_in_the_table_and_every_test_that_it_names_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let page = std::fs::read_to_string(root.join("docs/faults.md")).unwrap();
    let rows = fault_table::read(&page).unwrap();
    let tests = spec_map::tests_of_the_workspace(&root);
    let mistakes = fault_table::mistakes(&rows, &tests);
    assert!(mistakes.is_empty(), "docs/faults.md is wrong:\n{}", mistakes.join("\n"));
    for number in BY_NAME {
        let named =
            |row: &fault_table::Row| row.tests.iter().any(|(_, test)| fault_table::row_of(test) == Some(number));
        assert!(rows.iter().any(|row| row.number == number && named(row)), "row {number} has no test of its name");
    }
}
