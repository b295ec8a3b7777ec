//! When a register's silence means that its lease has ended (protocol §3.4, `expired`).
