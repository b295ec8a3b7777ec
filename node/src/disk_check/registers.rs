//! Claims of terms and of depochs (protocol §3.4, §4.8 I-M1, I-M6), and what the registers say of their nodes.

use std::collections::BTreeMap;

use phalanx_messages::register::{Claim, ClaimPhase};
use phalanx_messages::{NodeId, Revision, Term};
use phalanx_storage::AreaRecord;

use super::image::{AreaImage, Image};
use super::{CONTRADICTION, Finding, Place, Severity};

pub(super) fn check(image: &Image) -> Vec<Finding> {
    let mut findings = Vec::new();
    let terms = image.registers.all().map(|(node, register)| (node, register.claim)).collect();
    let depochs = image.decisions.all().map(|(node, decision)| (node, decision.claim)).collect();
    findings.extend(claims(image, &terms, |node| image.registers.place(node)));
    findings.extend(claims(image, &depochs, |node| image.decisions.place(node)));
    findings.extend(chain(image, &image.memberships, &terms));
    findings.extend(chain(image, &image.registrations, &depochs));
    findings.extend(processed(image));
    findings
}

fn error(place: Place, what: String) -> Finding {
    Finding { severity: Severity::Error, place, what, advice: CONTRADICTION }
}

/// The claims of one register machine.
fn claims(image: &Image, claims: &BTreeMap<NodeId, Claim>, place: impl Fn(NodeId) -> Place) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut owners: BTreeMap<Term, NodeId> = BTreeMap::new();
    for (node, claim) in claims {
        let Claim { term, phase, owned } = claim;
        let consistent = match phase {
            ClaimPhase::Owner | ClaimPhase::Resigned => owned == term,
            ClaimPhase::Claim => owned < term,
            ClaimPhase::Withdrawn => owned <= term,
            ClaimPhase::None => *owned == Term(0) && *term == Term(0),
        };
        if !consistent {
            let what = format!("the claim contradicts itself: term {term} in phase {phase:?}, highest owned {owned}");
            findings.push(error(place(*node), what));
        }
        let has_owned = match phase {
            ClaimPhase::Owner | ClaimPhase::Resigned => true,
            ClaimPhase::None | ClaimPhase::Claim | ClaimPhase::Withdrawn => false,
        };
        if has_owned && let Some(other) = owners.insert(*term, *node) {
            let what =
                format!("term {term} has two owners: {} and {} (I-M1)", image.name_of(other), image.name_of(*node));
            findings.push(error(place(*node), what));
        }
    }
    findings
}

/// I-M2, I-R6: the records form one chain. A term has one writer, which has claimed it, and a revision one content.
fn chain<T: AreaRecord + PartialEq>(
    image: &Image,
    area: &AreaImage<T>,
    claims: &BTreeMap<NodeId, Claim>,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut writers: BTreeMap<Term, NodeId> = BTreeMap::new();
    let mut records: BTreeMap<Revision, &T> = BTreeMap::new();
    for (node, record) in area.every() {
        let revision = record.revision();
        if *records.entry(revision).or_insert(record) != record {
            findings.push(error(area.place(node), format!("revision {revision} has two contents (I-M2)")));
        }
        if revision.term == Term(0) {
            continue; // written by the formatter into every area
        }
        let writer = *writers.entry(revision.term).or_insert(node);
        if writer != node {
            let (one, other) = (image.name_of(writer), image.name_of(node));
            let what = format!("{one} and {other} both have written records of term {} (I-M1)", revision.term);
            findings.push(error(area.place(node), what));
        }
        if let Some(claim) = claims.get(&node).filter(|claim| claim.term < revision.term) {
            let what = format!(
                "the record is of term {}, and {} has claimed none beyond {} (I-M6)",
                revision.term,
                image.name_of(node),
                claim.term
            );
            findings.push(error(area.place(node), what));
        }
    }
    findings
}

/// I-M4: a node has processed nothing that is not there. After a loss of power the newest steps may be gone.
fn processed(image: &Image) -> Vec<Finding> {
    let Some((_, newest)) = image.memberships.newest() else { return Vec::new() };
    let ahead = image.registers.all().filter(|(_, register)| register.seen > newest.revision);
    let finding = |(node, register): (NodeId, &phalanx_messages::register::NodeRegister)| Finding {
        severity: Severity::Note,
        place: image.registers.place(node),
        what: format!(
            "{} has processed membership {}, and the newest on the disk is {}",
            image.name_of(node),
            register.seen,
            newest.revision
        ),
        advice: "nothing if the host lost power: the last steps were not flushed, and every node starts anew",
    };
    ahead.map(finding).collect()
}
