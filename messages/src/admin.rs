//! Requests of the command line to a daemon, and what it answers (architecture §5).
