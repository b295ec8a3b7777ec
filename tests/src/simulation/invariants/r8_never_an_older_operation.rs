//! I-R8: an executor never runs an operation older than one it has seen for that service.

use phalanx_messages::registration::CommandKind;
use phalanx_messages::{NodeIncarnation, OperationId};

/// A command is to be run. `newest` = the newest operation that ran in that lane. A notification has a lane of its own in the
/// executor and none at the warden, which refuses one that comes late.
pub fn check(
    lane: &str,
    who: NodeIncarnation,
    kind: CommandKind,
    operation: OperationId,
    newest: OperationId,
) -> Vec<String> {
    if operation >= newest || kind == CommandKind::Notify {
        return Vec::new();
    }
    vec![format!("I-R8: {who} runs {kind:?} of {lane} with {operation} after {newest}")]
}

#[cfg(test)]
mod tests {
    use phalanx_messages::{Revision, Term};

    use super::*;

    #[test]
    fn an_older_operation_is_found_and_the_same_one_is_not() {
        let of = |seq| OperationId { revision: Revision { term: Term(1), seq }, index: 0 };
        let runs = |kind, seq| check("web", NodeIncarnation::default(), kind, of(seq), of(5)).len();
        assert_eq!([runs(CommandKind::Stop, 4), runs(CommandKind::Stop, 5), runs(CommandKind::Notify, 4)], [1, 0, 0]);
    }
}
