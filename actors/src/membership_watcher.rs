//! The membership watcher.
