//! When two databases are the same to the rules: only the order of operations counts, and nothing that an idle service was.

use std::collections::BTreeSet;

use phalanx_messages::registration::{RegistrationRecord, RunState, ServiceRun};
use phalanx_messages::{NodeIncarnation, OperationId, Revision, Term};

/// Revision of every database in normal form; later than every operation in it.
const REVISION: Revision = Revision { term: Term(1), seq: 100 };

pub fn normal_form(mut record: RegistrationRecord) -> RegistrationRecord {
    record.revision = REVISION;
    record.requests.clear();
    let names: Vec<String> = record.services.keys().cloned().collect();
    for name in names {
        if let Some(service) = record.services.get_mut(&name) {
            normal_run(&mut service.run);
            service.instances.values_mut().for_each(normal_run);
        }
    }
    record
}

fn normal_run(run: &mut ServiceRun) {
    run.failure = None;
    if run.state.is_idle() {
        run.node = NodeIncarnation::default();
        if !run.resting {
            run.generation = OperationId::default();
        }
    }
    if run.state != RunState::Registered {
        run.notified.clear();
    }
    let none = OperationId::default();
    let known = run.restarts.iter().copied().chain([run.operation, run.generation]);
    let known: BTreeSet<OperationId> = known.filter(|operation| *operation != none).collect();
    let rename = |operation: &mut OperationId| {
        if let Some(place) = known.iter().position(|other| other == operation) {
            *operation = OperationId { revision: Revision { term: Term(1), seq: place as u64 + 1 }, index: 0 };
        }
    };
    run.restarts.iter_mut().for_each(rename);
    rename(&mut run.operation);
    rename(&mut run.generation);
}
