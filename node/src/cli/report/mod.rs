//! What commands print with `--output json`: plain structs whose keys are a contract (architecture §5). More keys may be added.

pub mod disk;
pub mod subsystem;
pub mod timing;
