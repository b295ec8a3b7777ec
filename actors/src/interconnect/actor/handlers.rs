//! The messages that the actor takes, each handled under its guard.

use super::*;

macro_rules! handles {
    ($message:ty, |$actor:ident, $value:pat_param, $ctx:pat_param| $body:expr) => {
        impl Handler<$message> for Interconnect {
            type Result = ();

            fn handle(&mut self, $value: $message, $ctx: &mut Self::Context) {
                self.guarded(|$actor| $body);
            }
        }
    };
}

handles!(ConfigurationChanged, |actor, message, ctx| actor.configure(&message, ctx));
handles!(SendToPeer, |actor, SendToPeer { to, message }, _| actor.send(std::iter::once(to), &message));
handles!(SendToPeers, |actor, SendToPeers { to, message }, _| actor.send(to.iter(), &message));
handles!(SetSeen, |actor, SetSeen(seen), _| actor.seen = seen);
handles!(MasterIs, |actor, MasterIs(master), _| actor.master = master);
handles!(SetHeartbeatTargets, |actor, SetHeartbeatTargets(targets), _| actor.targets = targets);
handles!(UseKeys, |actor, UseKeys(keys), ctx| actor.use_keys(keys, ctx));
handles!(ProbeAll, |actor, _, _| actor.probe_all());
handles!(Accepted, |actor, Accepted { stream, from }, ctx| actor.accepted(stream, from, ctx));
handles!(HandshakeEnded, |actor, HandshakeEnded { task, result }, ctx| actor.handshake_ended(task, result, ctx));
handles!(LinkEnded, |actor, LinkEnded { node, id, reason }, ctx| actor.link_ended(node, id, reason, ctx));
handles!(InjectPanic, |_actor, _, _| panic!("injected"));
handles!(Disconnect, |actor, _, ctx| {
    actor.end();
    ctx.stop();
});

impl Handler<GetLinkStatistics> for Interconnect {
    type Result = MessageResult<GetLinkStatistics>;

    fn handle(&mut self, _: GetLinkStatistics, _: &mut Self::Context) -> Self::Result {
        MessageResult(self.guarded(|actor| actor.statistics()))
    }
}

impl Handler<GetKeysInUse> for Interconnect {
    type Result = MessageResult<GetKeysInUse>;

    fn handle(&mut self, _: GetKeysInUse, _: &mut Self::Context) -> Self::Result {
        MessageResult(self.guarded(|actor| actor.keys_in_use()))
    }
}
