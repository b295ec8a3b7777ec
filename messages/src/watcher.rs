//! What an event watcher can be asked for, and what it says of an occurrence (spec, Table 4: "a fixed set of name-value pairs");
//! and how a program outside the node says so (docs/watcher-protocol.md).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::event::{ParameterValue, Parameters};

/// What values a parameter takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ParameterKind {
    /// Any text.
    Text,
    /// One of these words.
    Choice(Vec<String>),
    /// A whole number within these bounds, both included.
    Number {
        /// The smallest.
        least: i64,
        /// The largest.
        most: i64,
    },
    /// Yes or no.
    Flag,
    /// A duration within these bounds, both included, in milliseconds.
    Duration {
        /// The shortest.
        least_ms: u64,
        /// The longest.
        most_ms: u64,
    },
}

/// An IN or OUT parameter of a watcher.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parameter {
    /// Its name: lower-case letters, digits and `_`.
    pub name: String,
    /// What it takes.
    pub kind: ParameterKind,
    /// An event must give it. Means nothing for an OUT parameter.
    pub required: bool,
    /// What it is if it is not given; none = the watcher does without.
    pub default: Option<ParameterValue>,
}

/// Everything that a watcher takes and tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WatcherSchema {
    /// IN parameters: they say what exactly is looked for.
    pub input: Vec<Parameter>,
    /// OUT parameters: they describe an occurrence. Each occurrence has all of them.
    pub output: Vec<Parameter>,
}

/// A value as a program outside the node writes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum PlainValue {
    /// `true` or `false`.
    Flag(bool),
    /// A whole number.
    Number(i64),
    /// Text.
    Text(String),
}

/// Values by the names of their parameters.
pub type PlainValues = BTreeMap<String, PlainValue>;

impl From<PlainValue> for ParameterValue {
    fn from(value: PlainValue) -> Self {
        match value {
            PlainValue::Flag(flag) => Self::Flag(flag),
            PlainValue::Number(number) => Self::Number(number),
            PlainValue::Text(text) => Self::Text(text),
        }
    }
}

impl From<ParameterValue> for PlainValue {
    fn from(value: ParameterValue) -> Self {
        match value {
            ParameterValue::Flag(flag) => Self::Flag(flag),
            ParameterValue::Number(number) => Self::Number(number),
            ParameterValue::Text(text) => Self::Text(text),
            ParameterValue::DurationMs(ms) => Self::Number(i64::try_from(ms).unwrap_or(i64::MAX)),
        }
    }
}

/// The values as the node keeps them.
#[must_use]
pub fn from_plain(values: PlainValues) -> Parameters {
    values.into_iter().map(|(name, value)| (name, value.into())).collect()
}

/// Kinds of parameters that a program can name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PlainKind {
    /// Text; one of `choices`, if there are some.
    Text,
    /// A whole number, within `least` and `most` where they are given.
    Number,
    /// `true` or `false`.
    Flag,
}

/// A parameter as a program describes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlainParameter {
    /// What it takes.
    pub kind: PlainKind,
    /// Words that a text may be; none = any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub choices: Vec<String>,
    /// The smallest number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub least: Option<i64>,
    /// The largest number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub most: Option<i64>,
    /// An event must give it.
    #[serde(default)]
    pub required: bool,
    /// What it is if it is not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<PlainValue>,
}

/// What a program offers: one watcher.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Provision {
    /// Its name, without `external:`.
    pub watcher: String,
    /// IN parameters by name.
    #[serde(rename = "in", default)]
    pub input: BTreeMap<String, PlainParameter>,
    /// OUT parameters by name.
    #[serde(rename = "out", default)]
    pub output: BTreeMap<String, PlainParameter>,
}

impl Provision {
    /// The schema that it describes.
    #[must_use]
    pub fn schema(&self) -> WatcherSchema {
        let all = |parameters: &BTreeMap<String, PlainParameter>| {
            parameters.iter().map(|(name, parameter)| parameter.named(name)).collect()
        };
        WatcherSchema { input: all(&self.input), output: all(&self.output) }
    }
}

impl PlainParameter {
    fn named(&self, name: &str) -> Parameter {
        let kind = match self.kind {
            PlainKind::Text if self.choices.is_empty() => ParameterKind::Text,
            PlainKind::Text => ParameterKind::Choice(self.choices.clone()),
            PlainKind::Number => {
                ParameterKind::Number { least: self.least.unwrap_or(i64::MIN), most: self.most.unwrap_or(i64::MAX) }
            }
            PlainKind::Flag => ParameterKind::Flag,
        };
        let default = self.default.clone().map(ParameterValue::from);
        Parameter { name: name.to_owned(), kind, required: self.required, default }
    }
}
