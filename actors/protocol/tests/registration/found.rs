//! What the model check found (docs/design/model-checking.md, MC6), each as the shortest story.

use phalanx_messages::Instant;
use phalanx_messages::registration::{Presence, RunState};
use phalanx_messages::service::{PlacementPolicy, RestartPolicy, ServiceDefinition};
use phalanx_protocol::registration::{Event, TimerLimits, Timers};

use super::cluster::{Cluster, definition, instance};

const LIMITS: TimerLimits = TimerLimits { kill_ms: 1_000, margin_ms: 1_000, backoff_ms: 1_000 };

/// An instance that was looked at before another one latched the maturity kept its own copy of it, and the next decision changed
/// the database though nothing had happened. `Cluster::decide` settles everything a second time (I-R15).
#[test]
fn an_instance_that_cannot_start_keeps_step_with_the_maturity_of_its_service() {
    let everywhere = ServiceDefinition { placement_policy: PlacementPolicy::RegisterOnAll, ..definition("s") };
    let mut cluster = Cluster::of([]);
    cluster.sight(0, Presence::Leaving);
    cluster.apply(everywhere).unwrap();
    assert_eq!(cluster.at("s@0").0, RunState::DeRegistered);
    assert_eq!(cluster.at("s@1"), (RunState::Starting, 1));
    assert_eq!(cluster.run("s@0").matured, cluster.run("s@1").matured);
}

/// The pause before a restart in place was ended by the failure that it is for; that may be forgotten before, and the service
/// rested for ever.
#[test]
fn a_pause_ends_though_its_failure_counts_no_more() {
    let restart = RestartPolicy { limit: 2, window_ms: 1_000, backoff_ms: 5_000 };
    let mut cluster = Cluster::of([ServiceDefinition { restart, ..definition("s") }]);
    let (mut timers, now) = (Timers::new(LIMITS), Instant(1_000));
    cluster.succeeds("s");
    cluster.reported_failed("s").unwrap();
    let generation = cluster.run("s").generation;
    cluster.succeeds("s");
    timers.observe(&cluster.record, now);
    let aged = timers.observe(&cluster.record, now.plus(1_000));
    assert_eq!(aged, [Event::FailureAged { instance: instance("s"), generation }]);
    cluster.decide(&aged);
    assert_eq!(cluster.at("s").0, RunState::DeRegistered, "it rests still");
    let over = timers.observe(&cluster.record, now.plus(5_000));
    assert_eq!(over, [Event::RestOver { instance: instance("s"), generation }]);
    cluster.decide(&over);
    assert_eq!(cluster.at("s"), (RunState::Starting, 0));
}

/// The administrator is told of every state; the one in which the only member cleans again was left out.
#[test]
fn cleaning_again_is_told() {
    let mut cluster = Cluster::of([definition("s")]);
    for node in [1, 2] {
        cluster.sight(node, Presence::Leaving);
        cluster.sight(node, Presence::Left);
    }
    cluster.fails("s");
    cluster.fails("s");
    assert_eq!(cluster.at("s"), (RunState::FenceStart, 0));
    cluster.story();
    cluster.decide(&[Event::CleanAgain { instance: instance("s") }]);
    assert_eq!(cluster.story(), "s:StartCleanup@0");
}
