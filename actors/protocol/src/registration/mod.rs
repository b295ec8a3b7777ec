//! Registration and launch: which client service runs on which node (spec, "C. Registration and launch"; protocol §6).
//!
//! [`settle`] is the whole of the rules: it looks only at the database and the view, never at "an event happened", so whatever
//! changed while nobody could decide is found by the next decision (protocol RL-1). [`Decision`] absorbs events before it.
//! [`Decider`] says who decides and drives the Fenced Register Machine; [`Executor`] is the side that runs commands.
//!
//! At most one node has a possibly running instance of a service (protocol I-R1). Nothing here waits, writes or launches.

mod admission;
mod choose;
mod commands;
mod decider;
mod decision;
mod definitions;
mod event_orders;
mod events;
mod executor;
mod explain;
mod flaps;
mod health;
mod index;
mod orders;
mod plan;
mod recovery;
mod refusal;
mod results;
mod rows;
mod sights;
mod simulate;
mod status;
mod telling;
mod timers;
mod tree;

pub use admission::Admission;
pub use choose::{NodeLoads, candidates, is_only_member, unfit};
pub(crate) use commands::outstanding_of;
pub use commands::{outstanding, victims_of_failure};
pub use decider::{Decider, DeciderInput, DeciderOutput, LeaseSigns};
pub use decision::{Change, DatabaseRoom, Decided, Decision, settle};
pub use definitions::{choosing_parameter, effective};
pub use events::Event;
pub use executor::{Executor, ExecutorInput, ExecutorOutput, refused};
pub use explain::{Waits, explain};
pub use flaps::Flaps;
pub use health::{Care, Health, HealthInput, HealthOutput, MonitorRule, Verdict};
pub use index::Index;
pub use plan::{Planning, plan, stop_text, tell_plan};
pub use refusal::{tell_refusal, unfit_text};
pub use rows::StopReason;
pub use sights::{LevelView, SightChange, Standing, view_of_decision};
pub use simulate::simulate;
pub use status::{awaits, service_statuses, state_word};
pub use telling::tell;
pub use timers::{TimerLimits, Timers};
