//! I-M2: committed records form one chain. The base of each term is what its owner has loaded, unchanged, and contains every
//! record of earlier terms that is ever held for committed.

use std::sync::Arc;

use phalanx_messages::Revision;
use phalanx_messages::membership::MembershipRecord;

use crate::simulation::truth::Truth;

/// The first record of a term is given to the disk.
pub fn check_base(record: &Arc<MembershipRecord>, base: Revision, truth: &Truth) -> Vec<String> {
    let loaded = truth.written.get(&base).map(|written| (*written.record).clone()).unwrap_or_default();
    let same = MembershipRecord { revision: record.revision, ..loaded } == **record;
    if same {
        Vec::new()
    } else {
        vec![format!("I-M2: record {} is not the base {base} that was loaded", record.revision)]
    }
}

/// Somebody holds `revision` for committed, for the first time.
pub fn check_commit(revision: Revision, truth: &Truth) -> Vec<String> {
    let begun =
        |term: phalanx_messages::Term| truth.written.get(&Revision { term, seq: 0 }).is_some_and(|it| it.completed);
    let later = truth.bases.iter().filter(|(term, base)| **term > revision.term && **base < revision && begun(**term));
    later
        .filter(|(term, _)| truth.is_committed_term(**term))
        .map(|(term, base)| format!("I-M2: record {revision} is committed, and term {term} was built on {base}"))
        .collect()
}
