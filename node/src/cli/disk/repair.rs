//! `phalanx disk repair`: writes anew what can be written from what is left, while no node runs.

use std::path::Path;

use phalanx_storage::{Access, Area, AreaRecord, Durability, StorageError};

use super::EXIT_DISK;
use super::alone::open_alone;
use super::open::unreadable;
use crate::cli::args::Output;
use crate::cli::report::disk::{RepairReport, RepairedReport};
use crate::cli::{Exit, print};
use crate::disk_check::repair::{Loss, Plan, Rewrite, plan};
use crate::disk_check::{AreaImage, Image, check, is_sound};

pub(super) fn run(path: &Path, give_up: bool, dry_run: bool, output: Output) -> Result<(), Exit> {
    let disk = open_alone(path, Access::Alone)?;
    let image = Image::read(&disk).map_err(unreadable)?;
    let plan = plan(&image, give_up);
    let mut done = Vec::new();
    for (block, _) in image.superblock_copies.iter().filter(|(_, damage)| damage.is_some()) {
        done.push(RepairedReport {
            region: "SB".to_owned(),
            node: None,
            first_block: block.0,
            what: "this copy of the superblock, from another one".to_owned(),
        });
    }
    if !dry_run && !done.is_empty() {
        disk.mend_superblocks().map_err(failed)?;
    }
    let Plan { registers, memberships, configurations, decisions, registrations, losses } = plan;
    let write = !dry_run;
    done.extend(mend(disk.registers(), &image, &image.registers, &registers, write)?);
    done.extend(mend(disk.memberships(), &image, &image.memberships, &memberships, write)?);
    done.extend(mend(disk.configurations(), &image, &image.configurations, &configurations, write)?);
    done.extend(mend(disk.decisions(), &image, &image.decisions, &decisions, write)?);
    done.extend(mend(disk.registrations(), &image, &image.registrations, &registrations, write)?);
    let sound = is_sound(&check(&Image::read(&disk).map_err(unreadable)?));
    let lost: Vec<String> = losses.iter().map(|loss| text_of(loss, &image)).collect();
    let report = RepairReport { path: path.display().to_string(), dry_run, repaired: done, lost, sound };
    match output {
        Output::Json => anstream::println!("{}", print::json(&report)?),
        Output::Text => anstream::print!("{}", text(&report)),
    }
    if sound || dry_run && losses.is_empty() {
        return Ok(());
    }
    let may_be_given_up = losses.iter().any(|loss| loss.may_be_given_up);
    let hint = if may_be_given_up {
        "restore a backup; `--give-up-lost-records` goes on with what is left, and what was committed last may be gone"
    } else {
        "restore a backup; `phalanx disk check` names what contradicts what"
    };
    Err(Exit::code(EXIT_DISK, format!("{} is not sound", path.display())).hint(hint))
}

/// Writes what an area needs. A pair of which one slot is valid gets its record into the other one.
fn mend<T: AreaRecord>(
    area: &Area<T>,
    image: &Image,
    found: &AreaImage<T>,
    rewrites: &[Rewrite<T>],
    write: bool,
) -> Result<Vec<RepairedReport>, Exit> {
    let mut done = Vec::new();
    for Rewrite { node, incarnation, record, one_slot } in rewrites {
        if write {
            let mut writer = area.writer(*node, *incarnation).map_err(unreadable)?;
            for _ in 0..if *one_slot { 1 } else { 2 } {
                writer.write(record, Durability::Durable).map_err(failed)?;
            }
        }
        let what =
            if *one_slot { "the torn slot, from the other one" } else { "both slots, from what else is on the disk" };
        done.push(RepairedReport {
            region: area.region().names().0.to_owned(),
            node: Some(image.name_of(*node)),
            first_block: found.region.slot(*node, 0).0,
            what: what.to_owned(),
        });
    }
    Ok(done)
}

fn failed(error: StorageError) -> Exit {
    let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
    Exit::code(EXIT_DISK, format!("{error}{cause}")).hint("the device does not take the write: repair the device first")
}

fn text_of(loss: &Loss, image: &Image) -> String {
    let node = loss.place.node.map(|node| format!(" of {}", image.name_of(node))).unwrap_or_default();
    format!("{}{node}: {}", loss.place.region, loss.what)
}

fn text(report: &RepairReport) -> String {
    let mut text = String::new();
    for RepairedReport { region, node, first_block, what } in &report.repaired {
        let node = node.as_ref().map(|node| format!(" of {node}")).unwrap_or_default();
        let verb = if report.dry_run { "would write" } else { "written" };
        text += &format!("{verb}: {region}{node} from block {first_block}: {what}\n");
    }
    for lost in &report.lost {
        text += &format!("lost: {lost}\n");
    }
    match (report.repaired.is_empty() && report.lost.is_empty(), report.sound) {
        (true, true) => text + &format!("{}: nothing to repair\n", report.path),
        (false, true) => text + &format!("{}: the disk is sound\n", report.path),
        (_, false) => text,
    }
}
