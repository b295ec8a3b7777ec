//! Tests of events by hand: the condition is not waited for (`phalanx event test`).

use std::collections::BTreeMap;

use phalanx_messages::event::{EventDefinition, Parameters};
use phalanx_messages::watcher::WatcherSchema;

use super::desk::{EventDesk, occurrence};
use super::io::{DeskOutput, Done, RunId};
use super::places::{Purpose, groups_of};
use super::reference::{in_words, substitute};
use super::values::{complete, value_of_text};

impl EventDesk {
    /// An event, or every event of a group, occurs.
    pub(super) fn test(&mut self, ticket: u64, name: &str, out: &BTreeMap<String, String>, dry_run: bool) {
        let answer = self.tested(name, out);
        let (answer, tests) = match answer {
            Ok(tests) => (Ok(tests.iter().map(|test| test.0).collect()), tests),
            Err(text) => (Err(text), Vec::new()),
        };
        self.emit(DeskOutput::Tested { ticket, answer });
        for (id, definition, purpose, out, schema) in tests {
            let mut occurrence = occurrence(id, definition.name.clone(), purpose, out, Done::WouldRun);
            occurrence.test = true;
            if !dry_run {
                occurrence.done = Done::Told;
                self.act(None, occurrence, &definition, &schema);
                continue;
            }
            if let Some(action) = &definition.action {
                let run = substitute(&action.run, &complete(&definition, &schema), &occurrence.out);
                occurrence.text = run.as_ref().map_or_else(|reference| format!("{reference} has no value"), in_words);
            }
            self.tell(occurrence);
        }
    }

    fn tested(&mut self, name: &str, out: &BTreeMap<String, String>) -> Result<Vec<Tested>, String> {
        let record = self.record().clone();
        let (events, strict) = match (record.events.contains_key(name), record.event_groups.get(name)) {
            (true, _) => (vec![name.to_owned()], true),
            (false, Some(group)) => (group.events.clone(), false),
            (false, None) => return Err(format!("there is no event and no event group `{name}`")),
        };
        let here = self.purposes_here();
        let mut tests = Vec::new();
        for definition in events.iter().filter_map(|event| record.events.get(event)) {
            let event = &definition.name;
            let schema = self.schema_of(&definition.watcher).ok_or_else(|| {
                format!("watcher `{}` of event `{event}` is not known to this node", definition.watcher)
            })?;
            let out = values(&schema, out, strict).map_err(|text| format!("event `{event}`: {text}"))?;
            if let Some(action) = &definition.action
                && let Err(reference) = substitute(&action.run, &complete(definition, &schema), &out)
            {
                return Err(format!("the action of event `{event}` refers to {reference}, which is not given"));
            }
            let anywhere = || groups_of(&record, event).into_iter().next().map(Purpose::of_group);
            let purposes: Vec<Option<Purpose>> = match here.get(event) {
                Some(purposes) => purposes.iter().cloned().map(Some).collect(),
                None => vec![anywhere()],
            };
            for purpose in purposes {
                tests.push((RunId(self.next_id()), definition.clone(), purpose, out.clone(), schema.clone()));
            }
        }
        Ok(tests)
    }
}

type Tested = (RunId, EventDefinition, Option<Purpose>, Parameters, WatcherSchema);

/// Of a group each event takes those that it has.
fn values(schema: &WatcherSchema, out: &BTreeMap<String, String>, strict: bool) -> Result<Parameters, String> {
    let mut values = Parameters::new();
    for (name, text) in out {
        match schema.output.iter().find(|parameter| parameter.name == *name) {
            Some(parameter) => {
                let value = value_of_text(&parameter.kind, text)
                    .map_err(|takes| format!("OUT parameter `{name}` is `{text}`; it takes {takes}"))?;
                values.insert(name.clone(), value);
            }
            None if strict => {
                let known: Vec<&str> = schema.output.iter().map(|parameter| parameter.name.as_str()).collect();
                return Err(format!("there is no OUT parameter `{name}`; its watcher has {}", known.join(", ")));
            }
            None => {}
        }
    }
    Ok(values)
}
