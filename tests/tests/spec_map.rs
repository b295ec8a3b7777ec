//! `docs/spec-map.md` has every claim, table and figure of the spec, and every module and test that it names exists.

use std::collections::BTreeSet;
use std::path::Path;

use phalanx_tests::process_cluster::files_below;
use phalanx_tests::spec_map;

#[test]
fn every_part_of_the_spec_is_on_the_map_and_every_named_test_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let page = std::fs::read_to_string(root.join("docs/spec-map.md")).unwrap();
    let rows = spec_map::read(&page).unwrap();
    let members = ["messages", "storage", "actors", "node", "tests", "examples"].map(|member| root.join(member));
    let sources = members.iter().flat_map(|member| files_below(member));
    let sources = sources.filter(|path| path.extension().is_some_and(|end| end == "rs"));
    let tests: BTreeSet<String> =
        sources.flat_map(|path| spec_map::tests_in(&std::fs::read_to_string(path).unwrap())).collect();
    assert!(tests.len() > 50, "the sources were not found: {tests:?}");
    let mistakes = spec_map::mistakes(&rows, &tests, &root);
    assert!(mistakes.is_empty(), "docs/spec-map.md is wrong:\n{}", mistakes.join("\n"));
}
