//! I-R6: committed registration databases form one chain in (depoch, seq): each was written whole before it counts, and the base of
//! each depoch contains every database of earlier ones that is ever held for committed.

use std::sync::Arc;

use phalanx_messages::registration::RegistrationRecord;

use crate::simulation::service_truth::ServiceTruth;

/// The owner of the decisions holds a database for committed, for the first time.
pub fn check(record: &Arc<RegistrationRecord>, truth: &ServiceTruth) -> Vec<String> {
    let revision = record.revision;
    let mut found = Vec::new();
    match truth.written.get(&revision) {
        Some(written) if written.completed && written.record == *record => {}
        Some(written) if written.completed => {
            found.push(format!("I-R6: database {revision} differs from what was written"))
        }
        Some(_) | None => found.push(format!("I-R6: database {revision} is not on the disk")),
    }
    for other in truth.committed() {
        let (older, newer) =
            if other.revision < revision { (other.revision, revision) } else { (revision, other.revision) };
        let base = truth.bases.get(&newer.term);
        if older.term < newer.term && base.is_some_and(|base| *base < older) {
            let base = base.copied().unwrap_or_default();
            found.push(format!("I-R6: database {older} is committed, and depoch {} was built on {base}", newer.term));
        }
    }
    found
}
