//! How an action function refers to the IN and OUT parameters of its event (spec, Table 4, "Action Function").
//!
//! A reference in an argument list becomes part of that one argument, whatever its value holds. A shell never sees a value: a
//! text for a shell finds them in its environment.

use std::collections::BTreeMap;

use phalanx_messages::event::{EventDefinition, ParameterValue, Parameters};
use phalanx_messages::service::Invocation;
use phalanx_messages::watcher::{Parameter, WatcherSchema};

use super::mistake::EventMistake;

/// A piece of an argument.
#[derive(Debug, PartialEq, Eq)]
enum Piece<'a> {
    Text(&'a str),
    /// What stands between `${` and `}`.
    Reference(&'a str),
    /// `${` without an end.
    Open(&'a str),
}

fn pieces(text: &str) -> Vec<Piece<'_>> {
    let (mut pieces, mut rest) = (Vec::new(), text);
    while let Some((before, after)) = rest.split_once("${") {
        if !before.is_empty() {
            pieces.push(Piece::Text(before));
        }
        match after.split_once('}') {
            Some((reference, after)) => {
                pieces.push(Piece::Reference(reference));
                rest = after;
            }
            None => {
                pieces.push(Piece::Open(after));
                return pieces;
            }
        }
    }
    if !rest.is_empty() {
        pieces.push(Piece::Text(rest));
    }
    pieces
}

/// Name of the variable with the value of a parameter.
fn variable(side: &str, name: &str) -> String {
    format!("PHALANX_{}_{}", side.to_uppercase(), name.to_uppercase())
}

/// Refuses references to what is not there, and those that a shell would interpret.
pub(super) fn check(
    run: &Invocation,
    definition: &EventDefinition,
    schema: Option<&WatcherSchema>,
) -> Result<(), EventMistake> {
    match run {
        Invocation::Agent => Err(EventMistake::Agent),
        Invocation::Arguments(words) => {
            if words.first().is_none_or(String::is_empty) {
                return Err(EventMistake::NoProgram);
            }
            words.iter().flat_map(|word| pieces(word)).try_for_each(|piece| match piece {
                Piece::Text(_) => Ok(()),
                Piece::Reference(reference) => known(reference, definition, schema),
                Piece::Open(rest) => Err(EventMistake::UnknownReference {
                    reference: format!("${{{rest}"),
                    why: "it has no closing brace".to_owned(),
                }),
            })
        }
        Invocation::Shell(text) if text.trim().is_empty() => Err(EventMistake::NoProgram),
        Invocation::Shell(text) => check_shell(text, definition, schema),
    }
}

fn known(reference: &str, definition: &EventDefinition, schema: Option<&WatcherSchema>) -> Result<(), EventMistake> {
    let mistake = |why: String| Err(EventMistake::UnknownReference { reference: format!("${{{reference}}}"), why });
    let Some((side, name)) = reference.split_once('.').filter(|(side, _)| matches!(*side, "in" | "out")) else {
        return mistake("only ${in.NAME} and ${out.NAME} are references".to_owned());
    };
    let watcher = &definition.watcher;
    match schema {
        None if side == "in" && !definition.parameters.contains_key(name) => {
            mistake("the event does not give that IN parameter".to_owned())
        }
        None => Ok(()),
        Some(schema) if side == "out" => match schema.output.iter().any(|parameter| parameter.name == name) {
            true => Ok(()),
            false => mistake(format!("watcher `{watcher}` has the OUT parameters {}", names(&schema.output))),
        },
        Some(schema) => match schema.input.iter().find(|parameter| parameter.name == name) {
            Some(parameter) if parameter.default.is_some() || definition.parameters.contains_key(name) => Ok(()),
            Some(_) => mistake("the event does not give that IN parameter, which has no default".to_owned()),
            None => mistake(format!("watcher `{watcher}` has the IN parameters {}", names(&schema.input))),
        },
    }
}

fn names(parameters: &[Parameter]) -> String {
    parameters.iter().map(|parameter| parameter.name.as_str()).collect::<Vec<_>>().join(", ")
}

/// `${in.X}` would be interpreted, or be no more than a bad substitution. A variable that will not be there is found too.
fn check_shell(text: &str, definition: &EventDefinition, schema: Option<&WatcherSchema>) -> Result<(), EventMistake> {
    for piece in pieces(text) {
        let (Piece::Reference(inner) | Piece::Open(inner)) = piece else { continue };
        if let Some((side @ ("in" | "out"), name)) = inner.split_once('.') {
            let reference = format!("${{{inner}}}");
            return Err(EventMistake::ReferenceInShell { reference, variable: variable(side, name) });
        }
    }
    for side in ["in", "out"] {
        let prefix = variable(side, "");
        for (at, _) in text.match_indices(&prefix) {
            let rest = &text[at + prefix.len()..];
            let end = rest.find(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_').unwrap_or(rest.len());
            let name = rest[..end].to_lowercase();
            known(&format!("{side}.{name}"), definition, schema)?;
        }
    }
    Ok(())
}

/// Every parameter as a variable of the action function's environment.
#[must_use]
pub fn variables(input: &Parameters, out: &Parameters) -> Vec<(String, String)> {
    let of = |side: &'static str, values: &Parameters| {
        values.iter().map(|(name, value)| (variable(side, name), value.to_string())).collect::<Vec<_>>()
    };
    [of("in", input), of("out", out)].concat()
}

/// The action function with the values of an occurrence in it.
///
/// # Errors
/// A reference whose parameter has no value, as it is written.
pub fn substitute(run: &Invocation, input: &Parameters, out: &Parameters) -> Result<Invocation, String> {
    let sides: BTreeMap<&str, &Parameters> = [("in", input), ("out", out)].into();
    let value = |reference: &str| -> Option<&ParameterValue> {
        let (side, name) = reference.split_once('.')?;
        sides.get(side)?.get(name)
    };
    let filled = |word: &String| {
        let mut text = String::new();
        for piece in pieces(word) {
            match piece {
                Piece::Text(piece) => text += piece,
                Piece::Reference(reference) => match value(reference) {
                    Some(value) => text += &value.to_string(),
                    None => return Err(format!("${{{reference}}}")),
                },
                Piece::Open(rest) => return Err(format!("${{{rest}")),
            }
        }
        Ok(text)
    };
    match run {
        Invocation::Arguments(words) => words.iter().map(filled).collect::<Result<_, _>>().map(Invocation::Arguments),
        Invocation::Shell(text) => Ok(Invocation::Shell(text.clone())),
        Invocation::Agent => Ok(Invocation::Agent),
    }
}

/// What is run, for people.
#[must_use]
pub fn in_words(run: &Invocation) -> String {
    match run {
        Invocation::Arguments(words) => words.join(" "),
        Invocation::Shell(text) => text.trim().to_owned(),
        Invocation::Agent => "the agent".to_owned(),
    }
}
