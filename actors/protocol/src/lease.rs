//! The node lease (protocol §3.3).
