//! A whole cluster from one command.
