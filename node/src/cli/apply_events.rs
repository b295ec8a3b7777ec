//! The events and event groups of `service apply` and `config apply`: they change in the commit of the services.

use phalanx_messages::event::{EventDefinition, EventGroupDefinition};
use phalanx_messages::order::{EventChange, EventGroupChange};

use super::Exit;
use super::apply::{Changes, EventDifference, difference_text};
use super::client::Client;
use super::event::definitions;
use crate::config::{EventDefinitions, KeyDifference, NameOf, event_difference, event_group_difference};

const EVENT: &str = "event";
const GROUP: &str = "event group";

impl Changes {
    /// Adds what differs between the events and event groups of a file and the database's. `prune`: those that the file does not
    /// name are removed.
    pub fn find_events(
        &mut self,
        client: &mut Client,
        name_of: NameOf<'_>,
        wanted: EventDefinitions,
        prune: bool,
    ) -> Result<(), Exit> {
        let known = definitions(client)?;
        for after in &wanted.events {
            let before = known.events.iter().find(|known| known.name == after.name);
            if before != Some(after) {
                let keys = event_difference(before, after);
                self.differs(EVENT, &after.name, before.is_some(), keys);
                let (before, after) = (before.cloned(), Some(after.clone()));
                self.orders.events.push(EventChange { before, after });
            }
        }
        for after in &wanted.groups {
            let before = known.groups.iter().find(|known| known.name == after.name);
            if before != Some(after) {
                let keys = event_group_difference(before, after, name_of);
                self.differs(GROUP, &after.name, before.is_some(), keys);
                let (before, after) = (before.cloned(), Some(after.clone()));
                self.orders.event_groups.push(EventGroupChange { before, after });
            }
        }
        self.unnamed(&known, &wanted, prune);
        Ok(())
    }

    fn unnamed(&mut self, known: &EventDefinitions, wanted: &EventDefinitions, prune: bool) {
        let events: Vec<&EventDefinition> =
            known.events.iter().filter(|known| wanted.events.iter().all(|it| it.name != known.name)).collect();
        let groups: Vec<&EventGroupDefinition> =
            known.groups.iter().filter(|known| wanted.groups.iter().all(|it| it.name != known.name)).collect();
        if !prune {
            let names = events.iter().map(|event| &event.name).chain(groups.iter().map(|group| &group.name));
            self.events_left_alone = names.cloned().collect();
            return;
        }
        for event in events {
            self.events.push(removed(EVENT, &event.name));
            self.orders.events.push(EventChange { before: Some(event.clone()), after: None });
        }
        for group in groups {
            self.events.push(removed(GROUP, &group.name));
            self.orders.event_groups.push(EventGroupChange { before: Some(group.clone()), after: None });
        }
    }

    fn differs(&mut self, what: &str, name: &str, known: bool, keys: Vec<KeyDifference>) {
        let kind = if known { "changed" } else { "added" }.to_owned();
        self.events.push(EventDifference { what: what.to_owned(), name: name.to_owned(), kind, keys });
    }

    /// What differs of events, for people.
    pub fn events_text(&self) -> String {
        self.events.iter().map(|it| difference_text(&it.kind, &it.what, &it.name, &it.keys)).collect()
    }
}

fn removed(what: &str, name: &str) -> EventDifference {
    EventDifference { what: what.to_owned(), name: name.to_owned(), kind: "removed".to_owned(), keys: Vec::new() }
}
