//! Registration and launch on one node: the machines of [`crate::registration`], put together (spec, "C. Registration and
//! launch"; protocol §6).
//!
//! Decides where each client service runs while this node owns the decisions, follows the newest database while it does not, and
//! says which commands for this node are to be carried out. The actor carries its outputs out; so do the simulator's nodes.
//!
//! Always holds: nothing is written or sent while the gate is closed - a node that was frozen finds it closed, and whatever it
//! had in flight is withheld; disk requests of the decisions go one after the other.
//!
//! - `decisions`: the decision machine, its disk requests, and what follows from a commit
//! - `level`: changes of the event-manager level, and when they are answered
//! - `loads`: how hard the nodes are pressed
//! - `orders`: what administrators ask
//! - `registered`: what is registered on this node
//! - `services`: the newest database known, commands for this node, and results
//!
//! Pure: time and the state of the gate are inputs.

mod committed;
mod decisions;
mod io;
mod level;
mod loads;
mod machine;
mod orders;
mod registered;
mod services;

pub use io::{LauncherInput, LauncherOutput, LauncherRead, LauncherWrite, OrderFailure, RegistrationReader};
pub use machine::{Launcher, LauncherSettings};
pub use registered::RegisteredHere;
