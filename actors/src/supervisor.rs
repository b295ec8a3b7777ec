//! Root of the actor tree: owns panic (spec: "A node panics by halting further processing in order to avoid corrupting shared
//! cluster resources"; order of steps: protocol §4.6).
//!
//! A kernel-level actor that panics reports itself through its guard; this actor's check for closed mailboxes is the second
//! line. Nothing is ever restarted here: an actor that lost its protocol state must not go on (protocol §9.1).

use std::time::Duration;

use actix::prelude::*;

use crate::gate::Gate;
use crate::ports::NodePanic;

/// How often mailboxes are looked at.
const CHECK: Duration = Duration::from_millis(100);

/// What happens to the process or the embedded node when it panics. Called once, with the reason, after the gate has closed.
pub type PanicAction = Box<dyn FnOnce(&str)>;

/// Tells whether an actor's mailbox still takes messages.
pub type Connected = Box<dyn Fn() -> bool + Send>;

/// Sent at boot: a kernel-level actor whose end is the node's end.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Guarded {
    /// Name for the reason of the panic.
    pub name: &'static str,
    /// Its mailbox.
    pub connected: Connected,
}

/// Sent when the node leaves on purpose: closed mailboxes are no longer a fault.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub struct StandDown;

/// See the module.
pub struct NodeSupervisor {
    gate: Gate,
    action: Option<PanicAction>,
    guarded: Vec<Guarded>,
    standing_down: bool,
}

impl NodeSupervisor {
    /// A supervisor that closes `gate` and runs `action` when the node panics.
    #[must_use]
    pub const fn new(gate: Gate, action: PanicAction) -> Self {
        Self { gate, action: Some(action), guarded: Vec::new(), standing_down: false }
    }

    fn node_panic(&mut self, reason: &str) {
        self.gate.close_for_good();
        if let Some(action) = self.action.take() {
            tracing::error!(reason, "node panic");
            action(reason);
        }
    }

    fn check(&mut self) {
        if self.standing_down {
            return;
        }
        let lost = self.guarded.iter().find(|guarded| !(guarded.connected)()).map(|guarded| guarded.name);
        if let Some(name) = lost {
            self.node_panic(&format!("actor {name} is gone"));
        }
    }
}

impl Actor for NodeSupervisor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.run_interval(CHECK, |actor, _| actor.check());
    }
}

impl Handler<Guarded> for NodeSupervisor {
    type Result = ();

    fn handle(&mut self, message: Guarded, _: &mut Self::Context) {
        self.guarded.push(message);
    }
}

impl Handler<StandDown> for NodeSupervisor {
    type Result = ();

    fn handle(&mut self, _: StandDown, _: &mut Self::Context) {
        self.standing_down = true;
    }
}

impl Handler<NodePanic> for NodeSupervisor {
    type Result = ();

    fn handle(&mut self, message: NodePanic, _: &mut Self::Context) {
        self.node_panic(&message.reason);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use tokio::sync::mpsc;

    struct Subject;

    impl Actor for Subject {
        type Context = Context<Self>;
    }

    #[derive(Message)]
    #[rtype(result = "()")]
    struct Stop;

    impl Handler<Stop> for Subject {
        type Result = ();

        fn handle(&mut self, _: Stop, ctx: &mut Self::Context) {
            ctx.stop();
        }
    }

    fn supervisor() -> (Addr<NodeSupervisor>, Gate, mpsc::UnboundedReceiver<String>) {
        let (sender, reasons) = mpsc::unbounded_channel();
        let gate = Gate::new(Clock::Boot);
        gate.extend(Clock::Boot.now().plus(60_000));
        let action = Box::new(move |reason: &str| sender.send(reason.to_owned()).expect("the test listens"));
        (NodeSupervisor::new(gate.clone(), action).start(), gate, reasons)
    }

    #[actix_rt::test]
    async fn a_closed_mailbox_of_a_guarded_actor_is_a_node_panic() {
        let (supervisor, gate, mut reasons) = supervisor();
        let subject = Subject.start();
        let watched = subject.clone();
        supervisor.send(Guarded { name: "disk", connected: Box::new(move || watched.connected()) }).await.unwrap();
        assert!(gate.is_open());
        subject.send(Stop).await.unwrap();
        assert_eq!(reasons.recv().await.unwrap(), "actor disk is gone");
        assert!(!gate.is_open());
    }

    #[actix_rt::test]
    async fn the_first_reason_counts_and_the_action_runs_once() {
        let (supervisor, _gate, mut reasons) = supervisor();
        for reason in ["forced out", "lease lost"] {
            supervisor.send(NodePanic { reason: reason.to_owned() }).await.unwrap();
        }
        drop(supervisor);
        assert_eq!(reasons.recv().await.unwrap(), "forced out");
        assert_eq!(reasons.recv().await, None);
    }
}
