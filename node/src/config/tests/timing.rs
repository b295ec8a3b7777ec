//! Timing: a profile, or a table that overrides some of it (protocol §3.11).

use super::{WHOLE, load, mistakes};

#[test]
fn a_timing_table_overrides_inputs_and_the_rest_follows() {
    let table = |table: &str| WHOLE.replace("timing = \"dev\"", table);
    let (_dir, loaded) =
        load(&table("timing = { profile = \"dev\", io_timeout = \"200ms\", kill = \"5s\", drift_ppm = 500 }"));
    let config = loaded.unwrap();
    assert_eq!((config.timing.as_str(), config.profile.io_timeout_ms, config.profile.lease_ms), ("dev", 200, 1_600));
    assert_eq!((config.profile.kill_ms, config.profile.drift_ppm, config.profile.watchdog_ms), (5_000, 500, 1_000));
    let (_dir, loaded) = load(&table("[disk.timing]\nlease = \"6s\""));
    let config = loaded.unwrap();
    assert_eq!((config.timing.as_str(), config.profile.lease_ms), ("local-mmap", 6_000), "the profile has a default");
}

/// Protocol §3.11, "Checks made at start".
#[test]
fn a_timing_that_breaks_a_relation_names_both_keys_values_and_places() {
    let found = |table: &str| mistakes(&WHOLE.replace("timing = \"dev\"", table));
    let both = found("timing = { profile = \"dev\", lease = \"1s\", io_timeout = \"400ms\" }");
    let text = "node.toml:16:37: disk.timing: `lease` (1000 ms) must be at least `renewal` + 6 `io_timeout` (3200 ms; \
                `renewal` is 800 ms; `io_timeout` is 400 ms) (the other is at ";
    assert!(both.len() == 1 && both[0].starts_with(text) && both[0].ends_with("node.toml:16:56)"), "{both:#?}");
    let one = found("timing = { profile = \"dev\", stop = \"2s\" }");
    let text =
        "node.toml:16:36: disk.timing: `stop` (2000 ms) must be at most `watchdog` (1000 ms; `watchdog` is 1000 ms)";
    assert_eq!(one, [text]);
    let (_dir, loaded) = load(&WHOLE.replace("timing = \"dev\"", "timing = { lease = \"1s\" }"));
    let hint = loaded.unwrap_err().0[0].hint_text().map(str::to_owned);
    assert_eq!(
        hint.as_deref(),
        Some("raise `lease` to 4000ms, or lower `renewal`; left out, it follows from the others")
    );
}

#[test]
fn mistakes_inside_a_timing_table_have_their_place() {
    let found = |table: &str| mistakes(&WHOLE.replace("timing = \"dev\"", table));
    assert_eq!(found("timing = { profile = \"slow\" }"), ["node.toml:16:22: disk.timing.profile `slow` is no profile"]);
    assert!(found("timing = { leese = \"1s\" }")[0].starts_with("node.toml:16:12: unknown field `leese`"));
    assert!(
        found("timing = { profile = \"dev\", lease = \"1\" }")[0].starts_with("node.toml:16:37: `1` is not a duration")
    );
    assert!(found("timing = 3")[0].contains("expected the name of a timing profile, or a table such as"));
}
