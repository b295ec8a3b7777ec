//! Commands as they are written: a program and its arguments, or, where that is said, a command line for the shell.
//!
//! A plain string is split into words as a shell would, with quotes and backslashes, and never interpreted: what only a shell
//! understands is refused, so that nobody finds out on a bad day that `$` or `&` meant nothing.

use phalanx_messages::launch::Program;
use phalanx_messages::limits::COMMAND_BYTES_MAX;
use toml::Value;

use super::check::Mistakes;
use super::document::Key;
use super::raw::RawCommand;

/// Words that a shell understands by itself; no program has their name, or it would not do the same.
const SHELL_WORDS: [&str; 26] = [
    "exec", "exit", "cd", "if", "while", "until", "for", "case", "function", "source", ".", ":", "export", "set",
    "unset", "trap", "ulimit", "umask", "eval", "wait", "return", "shift", "alias", "local", "readonly", "!",
];

/// The program of a command that is right; else none, and the mistake is told.
pub(super) fn program(path: &[Key<'_>], key: &str, raw: &RawCommand, mistakes: &mut Mistakes<'_>) -> Option<Program> {
    checked(key, raw).map_err(|(message, hint)| mistakes.add(path, message, hint)).ok()
}

fn checked(key: &str, raw: &RawCommand) -> Result<Program, (String, String)> {
    let long = "call a script if the command is long".to_owned();
    let program = match raw {
        RawCommand::Line(line) => Program::Arguments(split(line).map_err(|mistake| {
            let hint = format!("write {key} = {{ shell = \"...\" }} if a shell shall read it, or quote it as '...'");
            (format!("{key} has {mistake}, which only a shell understands"), hint)
        })?),
        RawCommand::Words(words) => Program::Arguments(words.clone()),
        RawCommand::Shell(raw) => Program::Shell(raw.shell.clone()),
    };
    let (empty, bytes, zero) = match &program {
        Program::Arguments(words) => (
            words.first().is_none_or(|program| program.trim().is_empty()),
            words.iter().map(|word| word.len() + 1).sum(),
            words.iter().any(|word| word.contains('\0')),
        ),
        Program::Shell(line) => (line.trim().is_empty(), line.len(), line.contains('\0')),
    };
    if empty {
        return Err((format!("{key} is empty; leave the key out if there is nothing to do"), long));
    }
    if zero {
        return Err((format!("{key} contains a zero byte"), long));
    }
    if bytes > COMMAND_BYTES_MAX {
        return Err((format!("{key} has {bytes} bytes; at most {COMMAND_BYTES_MAX} are allowed"), long));
    }
    Ok(program)
}

/// The program as a value that [`RawCommand`] is read from.
pub(super) fn value(program: &Program) -> Value {
    match program {
        Program::Arguments(words) => Value::Array(words.iter().cloned().map(Value::String).collect()),
        Program::Shell(line) => Value::Table([("shell".to_owned(), Value::String(line.clone()))].into_iter().collect()),
    }
}

/// The words of a line, or what of it only a shell understands.
fn split(line: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut letters = line.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            ' ' | '\t' => words.extend(word.take()),
            '\'' => {
                let word = word.get_or_insert_default();
                loop {
                    match letters.next() {
                        Some('\'') => break,
                        Some(inside) => word.push(inside),
                        None => return Err("a `'` without its end".to_owned()),
                    }
                }
            }
            '"' => {
                let word = word.get_or_insert_default();
                loop {
                    match letters.next() {
                        Some('"') => break,
                        Some('\\') => match letters.next() {
                            Some(escaped @ ('"' | '\\' | '$' | '`')) => word.push(escaped),
                            Some(other) => word.extend(['\\', other]),
                            None => return Err("a `\"` without its end".to_owned()),
                        },
                        Some(inside @ ('$' | '`')) => return Err(format!("`{inside}` inside \"...\"")),
                        Some(inside) => word.push(inside),
                        None => return Err("a `\"` without its end".to_owned()),
                    }
                }
            }
            '\\' => match letters.next() {
                Some('\n') | None => return Err("a `\\` at the end of a line".to_owned()),
                Some(escaped) => word.get_or_insert_default().push(escaped),
            },
            '\n' | '\r' => return Err("several lines".to_owned()),
            '&' | '|' | ';' | '<' | '>' | '$' | '`' | '(' | ')' | '{' | '}' | '*' | '?' | '[' | ']' => {
                return Err(format!("`{letter}`"));
            }
            '~' | '#' if word.is_none() => return Err(format!("`{letter}` at the beginning of a word")),
            other => word.get_or_insert_default().push(other),
        }
    }
    words.extend(word);
    match words.first() {
        Some(first) if SHELL_WORDS.contains(&first.as_str()) => Err(format!("`{first}` as its program")),
        Some(first) if is_assignment(first) => Err(format!("`{first}` before its program")),
        Some(_) | None => Ok(words),
    }
}

/// `NAME=value`, which a shell would put into the environment.
fn is_assignment(word: &str) -> bool {
    let name = word.split_once('=').map_or("", |(name, _)| name);
    let letters = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    letters && name.bytes().next().is_some_and(|first| !first.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_line_is_split_as_a_shell_would() {
        for (line, words) in [
            ("prog", vec!["prog"]),
            ("  prog  -a\tb ", vec!["prog", "-a", "b"]),
            (r#"prog 'a b' "c d" e\ f"#, vec!["prog", "a b", "c d", "e f"]),
            (r#"prog "" '' x'y'"z""#, vec!["prog", "", "", "xyz"]),
            (r#"prog '$HOME; ls' "a\$b\"c\\d\e" \$x"#, vec!["prog", "$HOME; ls", r#"a$b"c\d\e"#, "$x"]),
            ("prog --key=value a#b a~b %h", vec!["prog", "--key=value", "a#b", "a~b", "%h"]),
        ] {
            assert_eq!(split(line), Ok(words.into_iter().map(str::to_owned).collect()), "{line}");
        }
    }

    #[test]
    fn what_only_a_shell_understands_is_refused() {
        for line in [
            "sleep 1000 &",
            "a | b",
            "a; b",
            "a < b",
            "a > b",
            "echo $HOME",
            "echo `id`",
            "(a)",
            "{ a",
            "ls *",
            "ls ?",
            "ls [a]",
            "echo \"$HOME\"",
            "echo \"`id`\"",
            "a\nb",
            "cat ~/x",
            "a # b",
            "exec a",
            "A=b c",
            "cd /tmp",
            "echo 'a",
            "echo \"a",
            "a \\",
        ] {
            assert!(split(line).is_err(), "{line:?} became {:?}", split(line));
        }
        let (message, hint) = checked("start_command", &RawCommand::Line("sleep 1000 &".to_owned())).unwrap_err();
        assert_eq!(message, "start_command has `&`, which only a shell understands");
        assert!(hint.contains("start_command = { shell = \"...\" }"), "{hint}");
    }

    #[test]
    fn an_empty_command_is_a_mistake() {
        for raw in [RawCommand::Line(" ".to_owned()), RawCommand::Words(vec![]), RawCommand::Words(vec![String::new()])]
        {
            assert!(checked("stop_command", &raw).unwrap_err().0.starts_with("stop_command is empty"));
        }
    }

    proptest! {
        /// Whatever stands between single quotes is one word.
        #[test]
        fn a_quoted_word_is_never_read(word in "[^'\\x00]{0,20}") {
            prop_assert_eq!(split(&format!("prog '{word}'")), Ok(vec!["prog".to_owned(), word]));
        }
    }
}
