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

#[cfg(test)]
mod tests {
    use phalanx_messages::registration::{Presence, Sight};
    use phalanx_messages::service::ServiceDefinition;
    use phalanx_messages::{Incarnation, NodeId, Revision, Term};

    use super::*;

    #[test]
    fn a_database_in_which_a_service_could_be_started_is_not_settled() {
        let mut record = RegistrationRecord::of_definitions([ServiceDefinition::new("web")]);
        record.services.get_mut("web").unwrap().run.want = true;
        record.revision = Revision { term: Term(1), seq: 1 };
        assert!(check(&record).is_empty(), "there is no node");
        let sight = Sight { incarnation: Incarnation(1), presence: Presence::Joined };
        record.view.insert(NodeId(0), sight);
        assert_eq!(check(&record).len(), 1);
        let (settled, _) = settle(&record, &record.seen());
        assert!(check(&settled).is_empty());
    }
}
