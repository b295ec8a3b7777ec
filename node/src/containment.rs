//! Keeping the processes of a node together.
