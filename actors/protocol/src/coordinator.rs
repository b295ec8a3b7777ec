//! Coordinator machine of the master (protocol §5.2, §5.4).
