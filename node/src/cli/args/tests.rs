//! Every command shows an example, and every example can be said.

use clap::{Command, CommandFactory, Parser};

use super::Cli;

/// The visible commands that do something themselves, with the words that name each.
fn leaves(command: &Command, words: &str, found: &mut Vec<(String, String)>) {
    let visible: Vec<&Command> =
        command.get_subcommands().filter(|sub| !sub.is_hide_set() && sub.get_name() != "help").collect();
    for sub in &visible {
        leaves(sub, &format!("{words} {}", sub.get_name()), found);
    }
    if visible.is_empty() {
        found.push((words.to_owned(), command.get_after_help().map(ToString::to_string).unwrap_or_default()));
    }
}

#[test]
fn every_visible_command_has_an_example_and_every_example_can_be_said() {
    let mut found = Vec::new();
    leaves(&Cli::command(), "phalanx", &mut found);
    assert!(found.len() > 10, "{found:?}");
    for (words, help) in found {
        // What a shell does with the line is no part of the command.
        let examples: Vec<&str> = help
            .lines()
            .map(|line| line.trim().split([';', '|', '>', '#']).next().unwrap_or_default().trim())
            .filter(|line| line.starts_with("phalanx "))
            .collect();
        assert!(examples.iter().any(|example| example.contains(&words)), "`{words}` has no example:\n{help}");
        for example in examples {
            if let Err(error) = Cli::try_parse_from(example.split_whitespace()) {
                panic!("an example of `{words}` cannot be said: {example}\n{error}");
            }
        }
    }
}

#[test]
fn no_flag_means_two_things() {
    Cli::command().debug_assert();
}

/// Whatever the words of a command are, the keeper gets all of them.
#[test]
fn the_keeper_gets_every_word_of_a_command() {
    let words = ["n0: service s", "/bin/echo", "--", "-n", "--help", "--output", "json", ""];
    let line = ["phalanx", "warden-keeper"].into_iter().chain(words);
    let super::Command::Keeper { arguments } = Cli::try_parse_from(line).unwrap().command else {
        panic!("not the keeper")
    };
    assert_eq!(arguments, words);
}
