//! What of a damaged disk can be written anew from what is left of it, while no node runs (protocol §3.8).
//!
//! What always holds: no record is replaced by an older one that could be taken for the newest. A pair that nobody can read is
//! rewritten only if it cannot have held what counts, by the claims of its node, or if the administrator gives it up. A register
//! that is rewritten says that its node may have owned every term on the disk, and never proves a death.
//!
//! Pure: judges an [`Image`]; the caller writes.

use phalanx_messages::configuration::ConfigurationRecord;
use phalanx_messages::membership::{MembershipRecord, NodeState};
use phalanx_messages::register::{Claim, ClaimPhase, NodeRegister};
use phalanx_messages::registration::{DecisionRegister, RegistrationRecord};
use phalanx_messages::{Incarnation, NodeId, Term};
use phalanx_storage::{AreaRecord, BlockFault};

use super::Place;
use super::image::{AreaImage, Image, Slot};

/// Added to the highest incarnation on record where a register is lost: starts that never joined.
const UNSEEN_STARTS: u64 = 1_000;

/// One pair to be written: into both slots, or into the torn one alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rewrite<T> {
    /// Whose.
    pub node: NodeId,
    /// Incarnation of the header.
    pub incarnation: Incarnation,
    /// What.
    pub record: T,
    /// The other slot is valid and stays.
    pub one_slot: bool,
}

/// Something that nobody can write anew.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loss {
    /// Where.
    pub place: Place,
    /// What is lost, and why nothing may take its place.
    pub what: String,
    /// The administrator may give it up.
    pub may_be_given_up: bool,
}

/// See the module.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// `NB`.
    pub registers: Vec<Rewrite<NodeRegister>>,
    /// `MA`.
    pub memberships: Vec<Rewrite<MembershipRecord>>,
    /// `CF`.
    pub configurations: Vec<Rewrite<ConfigurationRecord>>,
    /// `DL`.
    pub decisions: Vec<Rewrite<DecisionRegister>>,
    /// `RD`.
    pub registrations: Vec<Rewrite<RegistrationRecord>>,
    /// What keeps the disk from being whole again.
    pub losses: Vec<Loss>,
}

/// What can be done. With `give_up`, what may have counted and is lost is replaced by the newest that is left.
#[must_use]
pub fn plan(image: &Image, give_up: bool) -> Plan {
    let mut losses = Vec::new();
    let (term, depoch) = (highest_term(image), highest_depoch(image));
    let owned_term = |node| image.registers.of(node).map(|register| register.claim.owned);
    let owned_depoch = |node| image.decisions.of(node).map(|decision| decision.claim.owned);
    let named = image.memberships.newest().map(|(_, record)| record.configuration);
    let named_is_there = named.is_some_and(|named| image.configurations.find(named).is_some());

    let mut registers = rewrites(&image.registers, &mut losses, give_up, |node| {
        let entry = image.memberships.newest().and_then(|(_, record)| record.nodes.get(&node));
        let recorded = entry.map_or(Incarnation(0), |entry| entry.incarnation);
        let is_out = entry.is_none_or(|entry| entry.state == NodeState::Inactive);
        // A higher incarnation would prove the death of the one that is recorded (protocol §3.7, T-13).
        let incarnation = if is_out { Incarnation(recorded.0 + UNSEEN_STARTS) } else { recorded };
        Ok(NodeRegister { incarnation, claim: withdrawn(term), ..NodeRegister::default() })
    });
    for rewrite in registers.iter_mut().filter(|rewrite| !rewrite.one_slot) {
        rewrite.incarnation = rewrite.record.incarnation;
    }
    let decisions = rewrites(&image.decisions, &mut losses, give_up, |node| {
        let incarnation = image.registers.of(node).map_or(Incarnation(0), |register| register.incarnation);
        Ok(DecisionRegister { incarnation, claim: withdrawn(depoch) })
    });
    let memberships = rewrites(&image.memberships, &mut losses, give_up, |node| {
        newest_left(&image.memberships, owned_term(node), give_up, "term")
    });
    let configurations =
        rewrites(&image.configurations, &mut losses, give_up, |_| match image.configurations.newest() {
            // What a membership does not name does not count.
            Some((_, newest)) if named_is_there || give_up => Ok(newest.clone()),
            Some(_) => Err(("the configuration that the membership names is nowhere else".to_owned(), true)),
            None => Err(("no configuration is left".to_owned(), false)),
        });
    let registrations = rewrites(&image.registrations, &mut losses, give_up, |node| {
        newest_left(&image.registrations, owned_depoch(node), give_up, "depoch")
    });
    Plan { registers, memberships, configurations, decisions, registrations, losses }
}

const fn withdrawn(term: Term) -> Claim {
    let phase = if term.0 == 0 { ClaimPhase::None } else { ClaimPhase::Withdrawn };
    Claim { term, phase, owned: term }
}

/// The newest record of the other nodes, if that of a node which owned `owned` at most cannot have been newer.
fn newest_left<T: AreaRecord>(
    area: &AreaImage<T>,
    owned: Option<Term>,
    give_up: bool,
    what: &str,
) -> Result<T, (String, bool)> {
    let Some((_, newest)) = area.newest() else { return Err(("no record of any node is left".to_owned(), false)) };
    let left = newest.revision();
    match owned {
        // Who never owned a term has what the formatter wrote.
        Some(owned) if owned == Term(0) || owned < left.term => Ok(newest.clone()),
        _ if give_up => Ok(newest.clone()),
        Some(owned) => {
            Err((format!("its node may have owned {what} {owned}, and the newest record that is left is {left}"), true))
        }
        None => {
            Err((format!("what its node owned cannot be read, and the newest record that is left is {left}"), true))
        }
    }
}

/// What each pair that is not whole needs: its own newest record in the torn slot, or a replacement in both.
fn rewrites<T: AreaRecord>(
    area: &AreaImage<T>,
    losses: &mut Vec<Loss>,
    give_up: bool,
    replacement: impl Fn(NodeId) -> Result<T, (String, bool)>,
) -> Vec<Rewrite<T>> {
    let mut rewrites = Vec::new();
    for (node, pair) in &area.pairs {
        if pair.iter().any(|slot| matches!(slot, Slot::Undecodable { .. })) {
            let what = "a newer program wrote it: its own `disk repair` can judge it".to_owned();
            losses.push(Loss { place: area.place(*node), what, may_be_given_up: false });
            continue;
        }
        let has_lost = |slot: &&Slot<T>| matches!(slot, Slot::Faulty { fault: BlockFault::LostEntry { .. } });
        if let (Some(Slot::Faulty { fault }), false) = (pair.iter().find(has_lost), give_up) {
            losses.push(Loss { place: area.place(*node), what: fault.to_string(), may_be_given_up: true });
            continue;
        }
        match pair {
            [Slot::Valid { .. }, Slot::Valid { .. }] => {}
            [Slot::Valid { incarnation, record, .. }, _] | [_, Slot::Valid { incarnation, record, .. }] => {
                let (incarnation, record) = (*incarnation, record.clone());
                rewrites.push(Rewrite { node: *node, incarnation, record, one_slot: true });
            }
            _ => match replacement(*node) {
                // Nobody has written this pair that anybody can read: whoever does next is not older than its register.
                Ok(record) => {
                    rewrites.push(Rewrite { node: *node, incarnation: Incarnation(0), record, one_slot: false })
                }
                Err((what, may_be_given_up)) => losses.push(Loss { place: area.place(*node), what, may_be_given_up }),
            },
        }
    }
    rewrites
}

fn highest_term(image: &Image) -> Term {
    let claims = image.registers.every().map(|(_, register)| register.claim.term.max(register.claim.owned));
    let records = image.memberships.every().map(|(_, record)| record.revision.term);
    claims.chain(records).max().unwrap_or_default()
}

fn highest_depoch(image: &Image) -> Term {
    let claims = image.decisions.every().map(|(_, decision)| decision.claim.term.max(decision.claim.owned));
    let records = image.registrations.every().map(|(_, record)| record.revision.term);
    claims.chain(records).max().unwrap_or_default()
}
