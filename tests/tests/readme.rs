//! README's transcript is real output: every line of it is said, in these words, by a cluster that is started and loses n0.

use std::path::Path;

use phalanx_tests::process_cluster::{DevCluster, wait_for};

/// The run is over when its lines are looked for; `dev` prints them within moments.
const LIMIT: std::time::Duration = std::time::Duration::from_secs(10);

/// A line without what differs from run to run: times, paths, ports, numbers of transitions.
fn words(line: &str) -> String {
    let after_time = line.trim_start();
    let after_time = match after_time.split_once("  ") {
        Some((time, rest)) if time.chars().all(|c| c.is_ascii_digit() || c == '.') => rest,
        Some(_) | None => after_time,
    };
    let keep = |word: &str| {
        let number = word.trim_matches(|c: char| "().,".contains(c)).chars().all(|c| c.is_ascii_digit() || c == '.');
        if number && !word.is_empty() { "#".to_owned() } else { word.to_owned() }
    };
    let words: Vec<String> = after_time
        .split_whitespace()
        .map(|word| if word.contains("phalanx-") || word.starts_with("http://") { "@".to_owned() } else { keep(word) })
        .collect();
    let words = words.join(" ");
    // Whoever was there first.
    if words.contains("is master, term") { "a node is master".to_owned() } else { words }
}

#[test]
fn every_line_of_the_transcript_is_said_by_a_real_run() {
    let readme =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md")).expect("README.md");
    let transcript = readme.split("```text\n").nth(1).and_then(|rest| rest.split("```").next()).expect("a transcript");
    let cluster = DevCluster::start(3, &[]);
    assert_eq!(cluster.wait_registered("licences"), "n0");
    let _ = cluster.succeed(&["kill", "n0"]);
    let output = cluster.dir().join("dev-output.log");
    let expected: Vec<String> =
        transcript.lines().filter(|line| !line.trim().is_empty() && line.trim() != "...").map(words).collect();
    assert!(expected.len() > 15, "{expected:#?}");
    let said = |line: &String| {
        let text = std::fs::read_to_string(&output).expect("dev's output");
        text.lines().any(|said| words(said) == *line)
    };
    for line in &expected {
        wait_for(&format!("the line `{line}` in:\n{}", cluster.logs()), LIMIT, || said(line).then_some(()));
    }
}
