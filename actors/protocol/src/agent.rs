//! Membership manager's agent machine (protocol §5.5).
