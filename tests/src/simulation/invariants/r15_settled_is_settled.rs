//! I-R15: a committed database is settled: the same view makes nothing of it and commands nothing.

use phalanx_messages::registration::RegistrationRecord;
use phalanx_protocol::registration::settle;

/// A database is committed. The first one of a depoch is what was loaded, which nobody has decided on yet.
pub fn check(record: &RegistrationRecord) -> Vec<String> {
    if record.revision.seq == 0 {
        return Vec::new();
    }
    let (again, commands) = settle(record, &record.seen());
    if again.services == record.services && commands.is_empty() {
        return Vec::new();
    }
    vec![format!("I-R15: database {} is not settled: {commands:?}", record.revision)]
}
