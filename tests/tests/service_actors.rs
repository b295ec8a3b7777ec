//! Services that an actor of the application performs: nodes without any warden that runs commands.

use std::sync::{Arc, Mutex};

use actix::prelude::*;
use phalanx_actors::ports::GetServices;
use phalanx_messages::service::{
    AgentClass, Invocation, Monitor, NodePreferences, RestartPolicy, ServiceAgent, ServiceCommand, ServiceDefinition,
};
use phalanx_messages::{NodeId, launch::WardenRequest};
use phalanx_node::builder::{ServiceAction, ServiceActionKind};
use phalanx_tests::node_cluster::{TestCluster, TestNode};

/// What the actors of all nodes were asked, in order, and whether a monitor may be content.
#[derive(Debug, Default)]
struct Asked {
    actions: Vec<(u16, ServiceActionKind)>,
    sick: bool,
}

/// The application's actor on one node.
struct Counter {
    node: u16,
    asked: Arc<Mutex<Asked>>,
}

impl Actor for Counter {
    type Context = Context<Self>;
}

impl Handler<ServiceAction> for Counter {
    type Result = Result<(), String>;

    fn handle(&mut self, action: ServiceAction, _: &mut Self::Context) -> Self::Result {
        let mut asked = self.asked.lock().expect("no test has panicked");
        assert_eq!((action.service.as_str(), action.parameters["step"].as_str()), ("counter", "2"));
        match action.kind {
            ServiceActionKind::Monitor if asked.sick => return Err("it does not count".to_owned()),
            ServiceActionKind::Monitor => return Ok(()),
            ServiceActionKind::Start => asked.sick = false,
            ServiceActionKind::Stop
            | ServiceActionKind::Notify
            | ServiceActionKind::Recovery
            | ServiceActionKind::Kill => {}
        }
        asked.actions.push((self.node, action.kind));
        Ok(())
    }
}

fn counter() -> ServiceDefinition {
    let command = || Some(ServiceCommand { run: Invocation::Agent, timeout_ms: 5_000, retries: 0 });
    let class = AgentClass::Actor { name: "counter".to_owned() };
    ServiceDefinition {
        node_preferences: NodePreferences::Ordered(vec![NodeId(0)]),
        start_command: command(),
        stop_command: command(),
        agent: Some(ServiceAgent { class, parameters: [("step".to_owned(), "2".to_owned())].into() }),
        monitor: Some(Monitor { run: Invocation::Agent, interval_ms: 20, timeout_ms: 5_000, tolerance: 1 }),
        restart: RestartPolicy { limit: 1, window_ms: 600_000, backoff_ms: 10 },
        ..ServiceDefinition::new("counter")
    }
}

/// Waits until it is registered on that node with another generation than before, and gives that.
async fn registered(node: &TestNode, name: &str, before: Option<String>) -> Option<String> {
    loop {
        let known = node.handle.actors().registration.send(GetServices).await.expect("it lives").services;
        let found = known.iter().find(|service| service.state == "registered" && service.node.as_deref() == Some(name));
        if let Some(found) = found.filter(|found| found.generation != before) {
            return found.generation.clone();
        }
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
    }
}

#[actix_rt::test]
async fn an_actor_is_started_monitored_restarted_and_moved() {
    use ServiceActionKind::{Start, Stop};
    let asked = Arc::new(Mutex::new(Asked::default()));
    let mut cluster = TestCluster::new(2, vec![counter()]).await;
    let mut start = |id: u16| {
        let actor = Counter { node: id, asked: asked.clone() }.start().recipient();
        cluster.start_with(id, |builder| builder.service_actor("counter", actor))
    };
    let nodes = [start(0), start(1)];
    for node in &nodes {
        assert!(node.handle.joined().await);
    }
    let first = registered(&nodes[0], "n0", None).await;
    asked.lock().unwrap().sick = true;
    let second = registered(&nodes[0], "n0", first).await;
    asked.lock().unwrap().sick = true;
    registered(&nodes[0], "n1", second).await;
    let actions = asked.lock().unwrap().actions.clone();
    assert_eq!(actions, [(0, Start), (0, Stop), (0, Start), (0, Stop), (1, Start)]);
    let launched = |request: &WardenRequest| matches!(request, WardenRequest::Launch(_));
    assert!(!nodes.iter().flat_map(TestNode::requests).any(|request| launched(&request)), "no command was run");
}
