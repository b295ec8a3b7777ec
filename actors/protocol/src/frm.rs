//! The Fenced Register Machine (protocol §3.4).
