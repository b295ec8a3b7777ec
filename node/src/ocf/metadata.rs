//! What an agent says of itself: an XML document (OCF resource agent API 1.1, "Metadata").

use std::collections::BTreeMap;

use roxmltree::{Document, Node, ParsingOptions};
use schemars::JsonSchema;
use serde::Serialize;

use crate::config::parse_duration_ms;

/// The description of an agent, as far as it is used.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Metadata {
    /// Its name.
    pub name: String,
    /// Its own version.
    pub version: String,
    /// One line for people.
    pub summary: String,
    /// For people.
    pub description: String,
    /// What it can be given.
    pub parameters: Vec<AgentParameter>,
    /// What it can do.
    pub actions: Vec<AgentAction>,
}

/// A parameter of an agent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct AgentParameter {
    /// Its name.
    pub name: String,
    /// It must be given.
    pub required: bool,
    /// `string`, `integer`, `boolean`, or what else the agent calls it.
    pub kind: String,
    /// What it is if it is not given.
    pub default: Option<String>,
    /// One line for people.
    pub summary: String,
}

/// An action of an agent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct AgentAction {
    /// Its name.
    pub name: String,
    /// How long it may take at least, in milliseconds.
    pub timeout_ms: Option<u64>,
    /// How often it is done, in milliseconds.
    pub interval_ms: Option<u64>,
}

impl Metadata {
    /// Reads a description.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let options = ParsingOptions { allow_dtd: true, ..ParsingOptions::default() };
        let document = Document::parse_with_options(text.trim_start(), options).map_err(|error| error.to_string())?;
        let root = document.root_element();
        if !root.has_tag_name("resource-agent") {
            return Err(format!("it is a <{}>, not a <resource-agent>", root.tag_name().name()));
        }
        let within = |list: &str, item: &'static str| {
            let list = child(root, list);
            list.into_iter().flat_map(move |list| list.children().filter(move |node| node.has_tag_name(item)))
        };
        Ok(Self {
            name: attribute(root, "name"),
            version: attribute(root, "version"),
            summary: text_of(root, "shortdesc"),
            description: text_of(root, "longdesc"),
            parameters: within("parameters", "parameter").map(parameter).collect(),
            actions: within("actions", "action").map(action).collect(),
        })
    }

    /// What it asks for an action, in milliseconds.
    #[must_use]
    pub fn timeout_ms(&self, action: &str) -> Option<u64> {
        let named = self.actions.iter().filter(|known| known.name == action);
        named.filter_map(|action| action.timeout_ms).max().filter(|ms| *ms > 0)
    }

    /// How often it wants to be monitored, in milliseconds.
    #[must_use]
    pub fn monitor_interval_ms(&self) -> Option<u64> {
        let monitors = self.actions.iter().filter(|action| action.name == "monitor");
        monitors.filter_map(|action| action.interval_ms).filter(|ms| *ms > 0).min()
    }

    /// What is wrong with parameters, each with the name of the one that was given, if it was.
    #[must_use]
    pub fn mistakes(&self, given: &BTreeMap<String, String>) -> Vec<(Option<String>, String)> {
        let unknown = given.keys().filter(|name| !self.parameters.iter().any(|known| known.name == **name));
        let mut mistakes: Vec<_> = unknown
            .map(|name| (Some(name.clone()), format!("agent {} has no parameter `{name}`", self.name)))
            .collect();
        for parameter in &self.parameters {
            match given.get(&parameter.name) {
                None if parameter.required && parameter.default.is_none() => {
                    mistakes.push((None, format!("agent {} needs the parameter `{}`", self.name, parameter.name)));
                }
                None => {}
                Some(value) => {
                    mistakes.extend(parameter.mistake(value).map(|text| (Some(parameter.name.clone()), text)))
                }
            }
        }
        mistakes
    }
}

impl AgentParameter {
    fn mistake(&self, value: &str) -> Option<String> {
        let fits = match self.kind.as_str() {
            "integer" => value.trim().parse::<i64>().is_ok(),
            "boolean" => {
                let words = ["true", "false", "yes", "no", "on", "off", "1", "0"];
                words.contains(&value.to_ascii_lowercase().as_str())
            }
            _ => true,
        };
        (!fits).then(|| format!("parameter `{}` is `{value}`, and must be of type {}", self.name, self.kind))
    }
}

fn child<'a, 'b>(node: Node<'a, 'b>, name: &str) -> Option<Node<'a, 'b>> {
    node.children().find(|child| child.has_tag_name(name))
}

fn attribute(node: Node<'_, '_>, name: &str) -> String {
    node.attribute(name).unwrap_or_default().to_owned()
}

fn text_of(node: Node<'_, '_>, name: &str) -> String {
    child(node, name).and_then(|found| found.text()).unwrap_or_default().trim().to_owned()
}

fn parameter(node: Node<'_, '_>) -> AgentParameter {
    let content = child(node, "content");
    let of_content = |name| content.and_then(|content| content.attribute(name)).map(str::to_owned);
    AgentParameter {
        name: attribute(node, "name"),
        required: matches!(node.attribute("required"), Some("1" | "true" | "yes")),
        kind: of_content("type").unwrap_or_else(|| "string".to_owned()),
        default: of_content("default").filter(|text| !text.is_empty()),
        summary: text_of(node, "shortdesc"),
    }
}

fn action(node: Node<'_, '_>) -> AgentAction {
    AgentAction {
        name: attribute(node, "name"),
        timeout_ms: node.attribute("timeout").and_then(duration_ms),
        interval_ms: node.attribute("interval").and_then(duration_ms),
    }
}

/// A number without a unit is of seconds.
fn duration_ms(text: &str) -> Option<u64> {
    let text = text.trim();
    text.parse::<u64>().ok().and_then(|seconds| seconds.checked_mul(1_000)).or_else(|| parse_duration_ms(text).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"<?xml version="1.0"?>
<!DOCTYPE resource-agent SYSTEM "ra-api-1.dtd">
<resource-agent name="Thing" version="1.0">
<version>1.1</version>
<longdesc lang="en">Does it all.</longdesc>
<shortdesc lang="en">A thing</shortdesc>
<parameters>
<parameter name="ip" unique="1" required="1"><shortdesc lang="en">Address</shortdesc><content type="string" /></parameter>
<parameter name="port"><content type="integer" default="80" /></parameter>
<parameter name="loud"><content type="boolean" default="false" /></parameter>
</parameters>
<actions>
<action name="start" timeout="1m" />
<action name="monitor" timeout="20" interval="10s" depth="0" />
<action name="monitor" timeout="30s" interval="60s" depth="10" />
</actions>
</resource-agent>"#;

    fn given(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn a_description_gives_parameters_and_times() {
        let thing = Metadata::parse(TEXT).unwrap();
        assert_eq!((thing.name.as_str(), thing.summary.as_str()), ("Thing", "A thing"));
        assert_eq!(thing.timeout_ms("start"), Some(60_000));
        assert_eq!((thing.timeout_ms("stop"), thing.timeout_ms("monitor")), (None, Some(30_000)));
        assert_eq!(thing.monitor_interval_ms(), Some(10_000));
        let names: Vec<_> = thing.parameters.iter().map(|known| (known.name.as_str(), known.required)).collect();
        assert_eq!(names, [("ip", true), ("port", false), ("loud", false)]);
    }

    #[test]
    fn parameters_are_known_complete_and_of_their_type() {
        let thing = Metadata::parse(TEXT).unwrap();
        assert_eq!(thing.mistakes(&given(&[("ip", "10.0.0.1"), ("port", "8080"), ("loud", "Yes")])), []);
        let wrong = thing.mistakes(&given(&[("port", "http"), ("loud", "maybe"), ("colour", "red")]));
        let texts: Vec<&str> = wrong.iter().map(|(_, text)| text.as_str()).collect();
        let expected = [
            "agent Thing has no parameter `colour`",
            "agent Thing needs the parameter `ip`",
            "parameter `port` is `http`, and must be of type integer",
            "parameter `loud` is `maybe`, and must be of type boolean",
        ];
        assert_eq!(texts, expected);
    }

    #[test]
    fn what_is_no_description_is_refused() {
        assert!(Metadata::parse("").is_err());
        assert_eq!(Metadata::parse("<a/>").unwrap_err(), "it is a <a>, not a <resource-agent>");
    }
}
