//! What a new master and a proof of death may not do too early (protocol §3.6, §4.5).

mod common;

use common::{Cluster, Packet, level, n};
use phalanx_messages::membership::{FenceMethod, LevelRegistration, NodeState, StepPhase};
use phalanx_messages::{Incarnation, Level, NodeIncarnation};
use phalanx_protocol::coordinator::CoordinatorInput;
use phalanx_protocol::coordinator::level_states::subjects;

fn two_levels() -> Vec<LevelRegistration> {
    vec![level(Level::DLM, "DLM", 1, 1, 1), level(Level::VDM, "VDM", 1, 1, 1)]
}

/// Everything goes on but the reports to the new master, which are lost.
fn run_without_reports(cluster: &mut Cluster) {
    loop {
        cluster.wire.retain(|envelope| !matches!(envelope.packet, Packet::Report(..)));
        if cluster.writing.is_some() {
            cluster.land_commit();
        } else if let Some(envelope) = cluster.wire.pop_front() {
            cluster.deliver(envelope);
        } else if cluster.work.is_empty() {
            return cluster.assert_sound();
        } else {
            cluster.answer(0);
        }
    }
}

/// Protocol §3.6: "No step may be advanced before all participants of that step reported or were forced out."
#[test]
fn s36_no_step_advances_before_its_participants_have_reported() {
    let mut cluster = Cluster::joined(3, 3, &two_levels());
    cluster.kill(0, true);
    cluster.take_over(Some(FenceMethod::Local));
    run_without_reports(&mut cluster);
    let (_, step) = subjects(&cluster.disk).next().expect("node 0 is being recovered");
    assert_eq!((step.level, step.phase), (Level::DLM, StepPhase::Notifying));
    assert_eq!(cluster.log.len(), 2, "both have been told of the first level, and no more: {:?}", cluster.log);
    cluster.run_until(|cluster| cluster.state(0) == NodeState::Inactive);
}

/// Protocol §4.5: a proof is of one incarnation.
#[test]
fn the_death_of_an_older_incarnation_proves_nothing_of_the_newer_one() {
    let mut cluster = Cluster::joined(2, 2, &two_levels());
    cluster.kill(1, true);
    cluster.boot(1);
    cluster.run_until(|cluster| cluster.state(1) == NodeState::Joined);
    cluster.kill(1, true);
    cluster.detect(None);
    cluster.run();
    let proof = |incarnation| CoordinatorInput::Certain {
        victim: NodeIncarnation { node: n(1), incarnation: Incarnation(incarnation) },
        method: FenceMethod::Local,
    };
    cluster.coordinate(proof(1));
    cluster.run();
    assert_eq!(cluster.state(1), NodeState::ForcedLeaving, "it is still being forced out, without a proof");
    assert!(!cluster.disk.nodes[&n(1)].fence.death_certain);
    cluster.coordinate(proof(2));
    cluster.run();
    assert_eq!(cluster.state(1), NodeState::Inactive);
}
