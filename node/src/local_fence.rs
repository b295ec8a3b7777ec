//! Fence method F3.
