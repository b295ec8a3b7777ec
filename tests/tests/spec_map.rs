//! `docs/spec-map.md` has every claim, table and figure of the spec, and every module and test that it names exists.

use std::collections::BTreeSet;
use std::path::Path;

use phalanx_tests::spec_map;

#[test]
fn every_part_of_the_spec_is_on_the_map_and_every_named_test_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let page = std::fs::read_to_string(root.join("docs/spec-map.md")).unwrap();
    let rows = spec_map::read(&page).unwrap();
    let tests: BTreeSet<String> = spec_map::tests_of_the_workspace(&root).into_values().flatten().collect();
    assert!(tests.len() > 50, "the sources were not found: {tests:?}");
    let mistakes = spec_map::mistakes(&rows, &tests, &root);
    assert!(mistakes.is_empty(), "docs/spec-map.md is wrong:\n{}", mistakes.join("\n"));
}
