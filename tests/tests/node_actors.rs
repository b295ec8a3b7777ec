//! Actors of whole nodes in one process, reached by their mailboxes alone.

use actix::prelude::*;
use phalanx_actors::membership_manager::MembershipEnded;
use phalanx_actors::ports::{AskTraces, GetMembership, GetServices, InjectPanic, RequestLeave};
use phalanx_messages::NodeId;
use phalanx_messages::launch::{Leaves, Program, WardenRequest};
use phalanx_messages::membership::NodeState;
use phalanx_messages::service::{
    AllowableNodes, AutoRegister, NodePreferences, ServiceCommand, ServiceDefinition, StopFailure,
};
use phalanx_tests::node_cluster::{TestCluster, state};

fn service() -> ServiceDefinition {
    ServiceDefinition {
        name: "clock".to_owned(),
        allowable_nodes: AllowableNodes::Any,
        disallowable_nodes: Vec::new(),
        node_preferences: NodePreferences::None,
        auto_register: AutoRegister::Always,
        maturity_count: None,
        maturity_time_ms: None,
        start_command: Some(ServiceCommand::shell("start".to_owned(), 1_000)),
        stop_command: None,
        notify_command: None,
        recovery_command: None,
        leaves: Leaves::Processes,
        start_retries: 0,
        stop_failure: StopFailure::Ignore,
        recover_lost_start: true,
        ..ServiceDefinition::new("")
    }
}

/// The membership manager, by recipients: two nodes join, a service starts, one node leaves, and the traces tell it.
#[actix_rt::test]
async fn a_membership_manager_is_driven_by_its_mailbox_alone() {
    let mut cluster = TestCluster::new(2, vec![service()]).await;
    let nodes = [cluster.start(0), cluster.start(1)];
    for node in &nodes {
        assert!(node.handle.joined().await);
    }
    let membership: Recipient<GetMembership> = nodes[0].handle.actors().membership.clone().recipient();
    let status = membership.send(GetMembership).await.unwrap();
    assert!(status.lease_valid && status.master.is_some());

    let services: Recipient<GetServices> = nodes[0].handle.actors().registration.clone().recipient();
    loop {
        let known = services.send(GetServices).await.unwrap().services;
        if known.iter().any(|service| service.state == "registered") {
            break;
        }
        tokio::task::yield_now().await;
    }
    let started = |request: &WardenRequest| matches!(request, WardenRequest::Launch(launch) if launch.command == Program::shell("start"));
    assert_eq!(nodes.iter().flat_map(|node| node.requests()).filter(started).count(), 1, "one instance");

    let leave: Recipient<RequestLeave> = nodes[1].handle.actors().membership.clone().recipient();
    assert_eq!(leave.send(RequestLeave(NodeId(1))).await.unwrap(), Ok(()));
    assert_eq!(nodes[1].handle.ended().await, MembershipEnded::Left);
    while state(&nodes[0], 1).await != NodeState::Inactive {
        tokio::task::yield_now().await;
    }
    let traces: Recipient<AskTraces> = nodes[0].handle.actors().membership.clone().recipient();
    let traces = traces.send(AskTraces(None)).await.unwrap();
    let subjects: Vec<_> = traces.kept.values().flatten().map(|trace| trace.subject.node).collect();
    assert!(subjects.contains(&NodeId(1)), "{traces:#?}");
}

/// A panic in the handler of any kernel-level actor is a panic of the node, with the gate shut (architecture §3).
#[actix_rt::test]
async fn a_panic_of_any_kernel_level_actor_is_the_nodes() {
    for kind in ["disk", "fence", "interconnect", "membership manager", "event manager", "registration and launch"] {
        let mut cluster = TestCluster::new(1, Vec::new()).await;
        let node = cluster.start(0);
        assert!(node.handle.joined().await);
        assert!(node.handle.gate().is_open());
        let actors = node.handle.actors().clone();
        match kind {
            "disk" => actors.disk.do_send(InjectPanic),
            "fence" => actors.fence.do_send(InjectPanic),
            "interconnect" => actors.interconnect.do_send(InjectPanic),
            "membership manager" => actors.membership.do_send(InjectPanic),
            "event manager" => actors.event_manager.do_send(InjectPanic),
            _ => actors.registration.do_send(InjectPanic),
        }
        let reason = node.panicked().await;
        assert!(reason.contains(kind), "{kind}: {reason}");
        assert!(!node.handle.gate().is_open());
    }
}

/// A watcher and the local socket are restarted, and the node lives on.
#[actix_rt::test]
async fn a_panic_of_a_watcher_is_borne() {
    let mut cluster = TestCluster::new(1, Vec::new()).await;
    let node = cluster.start(0);
    assert!(node.handle.joined().await);
    let actors = node.handle.actors().clone();
    actors.membership_watcher.send(InjectPanic).await.unwrap();
    actors.local_api.send(InjectPanic).await.unwrap();
    assert!(actors.membership_watcher.connected() && actors.local_api.connected());
    assert!(node.handle.gate().is_open());
    node.handle.leave().await;
    assert_eq!(node.handle.ended().await, MembershipEnded::Left, "membership still goes through the watcher");
}
