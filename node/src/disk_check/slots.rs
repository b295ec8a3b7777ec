//! Superblocks and slots: can everything be read, and do the two slots of a pair follow each other (protocol §1.2, R-3)?

use phalanx_storage::{AreaRecord, BlockFault};

use super::image::{AreaImage, Image, Slot};
use super::{CONTRADICTION, Finding, LOST, Place, Severity};

pub(super) fn check(image: &Image) -> Vec<Finding> {
    let mut findings = superblocks(image);
    findings.extend(area(&image.registers));
    findings.extend(area(&image.memberships));
    findings.extend(area(&image.configurations));
    findings.extend(area(&image.decisions));
    findings.extend(area(&image.registrations));
    findings
}

/// One valid copy is enough to open a disk, so a damaged one is told before the others go the same way.
fn superblocks(image: &Image) -> Vec<Finding> {
    let damaged = image.superblock_copies.iter().filter_map(|(block, error)| Some((*block, error.as_ref()?)));
    let finding = |(block, error): (_, &String)| Finding {
        severity: Severity::Error,
        place: Place { region: "SB", node: None, blocks: Some((block, block)) },
        what: format!("this copy of the superblock is damaged: {error}"),
        advice: "the other copies are enough to run, but save the disk now and format another one",
    };
    damaged.map(finding).collect()
}

fn area<T: AreaRecord>(area: &AreaImage<T>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (node, pair) in &area.pairs {
        let faults = [fault(&pair[0]), fault(&pair[1])];
        let at = |slot: u16| area.slot_place(*node, slot);
        match faults {
            [Some(first), Some(second)] => findings.push(Finding {
                severity: Severity::Error,
                place: area.place(*node),
                what: format!("both slots are unreadable: {first}; {second}"),
                advice: LOST,
            }),
            [Some(fault), None] => findings.push(one_torn(at(0), &fault, &pair[0])),
            [None, Some(fault)] => findings.push(one_torn(at(1), &fault, &pair[1])),
            [None, None] => findings.extend(order(area.place(*node), pair)),
        }
        for (slot, content) in (0..).zip(pair) {
            if let Slot::Valid { epoch, record, .. } = content
                && *epoch != record.revision().term
            {
                let term = record.revision().term;
                let what = format!("the header says term {epoch}, the record term {term}");
                findings.push(Finding { severity: Severity::Error, place: at(slot), what, advice: CONTRADICTION });
            }
        }
    }
    findings
}

fn fault<T>(slot: &Slot<T>) -> Option<String> {
    match slot {
        Slot::Valid { .. } => None,
        Slot::Undecodable { why } => Some(format!("it is whole, and cannot be decoded: {why}")),
        Slot::Faulty { fault } => Some(fault.to_string()),
    }
}

/// A pair survives the loss of one slot: that is what it is a pair for.
fn one_torn<T>(place: Place, fault: &str, slot: &Slot<T>) -> Finding {
    let what = format!("one slot is unreadable, the other is valid: {fault}");
    match slot {
        // Whole, and written by a program that knows more: its content counts, and this one cannot judge it.
        Slot::Undecodable { .. } => Finding {
            severity: Severity::Error,
            place,
            what,
            advice: "use the `phalanx` of the version that wrote it; if none can read it, restore a copy of the disk",
        },
        Slot::Faulty { fault: BlockFault::LostEntry { .. } } => Finding {
            severity: Severity::Error,
            place,
            what,
            advice: "start its node if it was the last to decide, it may mend it; else restore a copy of the disk, or go on with \
                     what is left by `phalanx disk repair --give-up-lost-records`",
        },
        Slot::Faulty { .. } | Slot::Valid { .. } => Finding {
            severity: Severity::Note,
            place,
            what,
            advice: "nothing: a write was interrupted, and the next write of that node goes to this slot",
        },
    }
}

/// I-F7, I-M6: one incarnation writes at a time, and the later slot says nothing older.
fn order<T: AreaRecord>(place: Place, pair: &[Slot<T>; 2]) -> Option<Finding> {
    let (Slot::Valid { .. }, Slot::Valid { .. }) = (&pair[0], &pair[1]) else { return None };
    let newer = usize::from(pair[1].order() > pair[0].order());
    let (newer, older) = (&pair[newer], &pair[1 - newer]);
    let (Slot::Valid { sequence, record, .. }, Slot::Valid { sequence: before, record: old, .. }) = (newer, older)
    else {
        return None;
    };
    let what = if sequence < before {
        format!("a newer incarnation has sequence {sequence}, below {before} of the older one")
    } else if record.revision().term < old.revision().term {
        format!("the newer slot says term {}, the older one {}", record.revision().term, old.revision().term)
    } else {
        return None;
    };
    Some(Finding { severity: Severity::Error, place, what, advice: CONTRADICTION })
}
