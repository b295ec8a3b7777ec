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

#[cfg(test)]
mod tests {
    use phalanx_messages::{Revision, Term};

    use super::*;

    fn database(term: u64, seq: u64) -> Arc<RegistrationRecord> {
        let revision = Revision { term: Term(term), seq };
        Arc::new(RegistrationRecord { revision, ..RegistrationRecord::default() })
    }

    fn commit(truth: &mut ServiceTruth, record: &Arc<RegistrationRecord>, base: Revision) -> Vec<String> {
        let mut found = truth.database_written(record, base);
        truth.database_completed(record.revision);
        found.extend(truth.database_committed(record, &|_| true));
        found
    }

    #[test]
    fn what_is_not_on_the_disk_is_not_committed() {
        let (mut truth, record) = (ServiceTruth::default(), database(1, 0));
        truth.database_written(&record, Revision::default());
        assert_eq!(truth.database_committed(&record, &|_| true).len(), 1);
        assert_eq!(commit(&mut ServiceTruth::default(), &record, Revision::default()), [""; 0]);
    }

    #[test]
    fn a_depoch_that_is_built_on_less_than_was_committed_breaks_the_chain() {
        let after = |base: Revision| {
            let mut truth = ServiceTruth::default();
            commit(&mut truth, &database(1, 0), Revision::default());
            commit(&mut truth, &database(1, 1), Revision::default());
            commit(&mut truth, &database(2, 0), base).len()
        };
        assert_eq!([after(database(1, 0).revision), after(database(1, 1).revision)], [1, 0]);
    }
}
