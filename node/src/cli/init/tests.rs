//! Every file that is written is right, as it is and with its examples; a mistake is one clear error and writes nothing.

use std::os::unix::fs::PermissionsExt;

use clap::Parser;

use crate::cli::args::{Cli, Command};
use crate::config::NodeConfig;

use super::*;

fn init(out: &Path, words: &[&str]) -> Result<(), Exit> {
    let mut all = vec!["phalanx", "init", "--out", out.to_str().unwrap()];
    let defaults =
        [("--name", "alpha"), ("--nodes", "n0=127.0.0.1:7600,n1=127.0.0.1:7601"), ("--disk", "/srv/alpha.disk")];
    for (flag, value) in defaults.iter().filter(|(flag, _)| !words.contains(flag)) {
        all.extend([*flag, value]);
    }
    all.extend(words);
    let Command::Init(arguments) = Cli::try_parse_from(all).unwrap().command else { panic!("not init") };
    run(&arguments)
}

fn fails(out: &Path, words: &[&str]) -> (u8, String) {
    let before = files_in(out);
    let exit = init(out, words).unwrap_err();
    assert_eq!(files_in(out), before, "nothing is written by {words:?}");
    assert!(exit.hint.is_some(), "{exit:?}");
    (exit.code, exit.text)
}

fn files_in(directory: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let mut files: Vec<_> = entries.map(|entry| (entry.path(), fs::read(entry.path()).unwrap_or_default())).collect();
    files.sort();
    files
}

/// Every line that is a key behind a `#` becomes that key.
fn with_examples(text: &str) -> String {
    let is_key = |rest: &&str| rest.starts_with(|c: char| c.is_ascii_lowercase() || c == '[');
    text.lines().map(|line| line.strip_prefix('#').filter(is_key).unwrap_or(line).to_owned() + "\n").collect()
}

#[test]
fn every_file_is_right_as_it_is_and_with_its_examples() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("alpha");
    for policy in ["exit", "reboot", "crash", "watchdog"] {
        for timing in ["local-mmap", "dev"] {
            init(&out, &["--panic", policy, "--timing", timing, "--force"]).unwrap();
            for node in ["n0", "n1"] {
                let file = out.join(format!("{node}.toml"));
                let config = NodeConfig::load(&file).unwrap();
                assert_eq!(
                    (config.socket, config.state_dir),
                    (out.join(format!("{node}.sock")), out.join("state").join(node))
                );
                assert_eq!((config.cluster_nodes.len(), config.key_file), (2, out.join("cluster.key")));
                let text = with_examples(&fs::read_to_string(&file).unwrap());
                let config = NodeConfig::of_text(&file, &text).unwrap();
                assert_eq!((config.subsystems.len(), config.services.len()), (1, 1));
                assert!(config.bind.starts_with("0.0.0.0:760"));
            }
        }
    }
    let mode = fs::metadata(out.join("cluster.key")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

/// A key that a node may have and that the file does not explain is a key that nobody finds.
#[test]
fn the_file_explains_every_key_of_the_reference() {
    let reference = include_str!("../../../../configs/node.toml");
    let template = &include_str!("node.toml").replace("@WATCHDOG@", "");
    let keys = |text: &str| -> std::collections::BTreeSet<String> {
        let key = |line: &str| {
            let line = line.trim_start_matches('#').trim_start();
            let (key, _) = line.split_once(" = ")?;
            key.chars().all(|c| c.is_ascii_lowercase() || c == '_').then(|| key.to_owned())
        };
        text.lines().filter_map(key).collect()
    };
    let mut known = keys(template);
    known.extend(["id".to_owned(), "address".to_owned()]); // filled in
    let missing: Vec<_> = keys(reference).difference(&known).cloned().collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn files_that_are_there_are_refused_and_force_keeps_the_key() {
    let dir = tempfile::tempdir().unwrap();
    init(dir.path(), &[]).unwrap();
    let (code, text) = fails(dir.path(), &["--name", "beta"]);
    assert!(code == EXIT_REFUSED && text.contains("n0.toml") && text.contains("cluster.key"), "{code} {text}");
    let key = fs::read(dir.path().join("cluster.key")).unwrap();
    init(dir.path(), &["--name", "beta", "--force"]).unwrap();
    assert_eq!(fs::read(dir.path().join("cluster.key")).unwrap(), key);
    assert_eq!(NodeConfig::load(&dir.path().join("n0.toml")).unwrap().cluster, "beta");
}

#[test]
fn each_mistake_is_one_clear_error_and_writes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let long = dir.path().join("x".repeat(90));
    let dir_text = dir.path().to_str().unwrap();
    let mistakes: [(&[&str], &str); 10] = [
        (&["--name", "no good"], "name `no good` must begin with a letter or digit"),
        (&["--nodes", "n0"], "`n0` is not NAME=HOST:PORT"),
        (&["--nodes", "../n0=127.0.0.1:1"], "name `../n0` must begin with a letter or digit"),
        (&["--nodes", "dev=127.0.0.1:1"], "no node can have the name `dev`"),
        (&["--nodes", "n0=127.0.0.1:1,n0=127.0.0.1:2"], "the name `n0` is given twice"),
        (&["--nodes", "n0=127.0.0.1:1,n1=127.0.0.1:1"], "n0 and n1 both have the address 127.0.0.1:1"),
        (&["--nodes", "n0=127.0.0.1"], "address of n0 `127.0.0.1` must be `host:port`"),
        (&["--nodes", "n0=127.0.0.1:0"], "with a port above 0"),
        (&["--disk", dir_text], "is a directory"),
        (&["--timing", "slow"], "there is no profile `slow`"),
    ];
    for (words, expected) in mistakes {
        let (code, text) = fails(&dir.path().join("out"), words);
        assert!(code == EXIT_USAGE && text.contains(expected), "{words:?}: {code} {text}");
    }
    let (code, text) = fails(&long, &[]);
    assert!(code == EXIT_USAGE && text.contains("the system takes 107"), "{code} {text}");
}

const EXIT_USAGE: u8 = 2;

#[test]
fn a_disk_whose_path_needs_quotes_is_written_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    init(dir.path(), &["--disk", "/srv/a \"b\" @NODE@ é\\n"]).unwrap();
    assert_eq!(NodeConfig::load(&dir.path().join("n1.toml")).unwrap().disk, Path::new("/srv/a \"b\" @NODE@ é\\n"));
    assert_eq!((quoted("/tmp/a.b"), quoted("it's")), ("/tmp/a.b".to_owned(), r"'it'\''s'".to_owned()));
}
