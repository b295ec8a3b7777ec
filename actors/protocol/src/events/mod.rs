//! The event manager daemon's decisions (spec, "5. Event Manager Daemon", Table 4, Fig. 21).
//!
//! [`places`] says where an event group is enabled: it looks only at the committed database, so that whatever changed while
//! nobody looked is found (protocol I-R11). [`EventDesk`] is one node's part: what is watched here, and what is done about an
//! occurrence. [`check`] refuses definitions that no watcher could detect or whose action function refers to nothing.
//!
//! Nothing is ever returned to registration-and-launch: an action function says what it has to say by the public requests.

mod desk;
mod io;
mod load;
mod mistake;
mod places;
mod reference;
mod schema;
mod test_order;
#[cfg(test)]
mod tests;
mod values;

pub use desk::EventDesk;
pub use io::{DeskInput, DeskOutput, Done, Occurrence, Run, RunId, WatchId, Watched};
pub use load::{LoadScore, Pressures, parse_pressure};
pub use mistake::EventMistake;
pub use places::{Place, Purpose, groups_of, places};
pub use reference::{in_words, substitute, variables};
pub use schema::{EXTERNAL, WATCHERS, builtin, is_external};
pub use values::{check, complete, mistake_in_parameter_name, mistake_in_schema, out_values, value_of_text};
