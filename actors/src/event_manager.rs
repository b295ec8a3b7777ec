//! The event manager, level 1000.
