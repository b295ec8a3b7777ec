//! `phalanx disk check`: reads a disk, never writes it, and says what is wrong, where, and what to do.

use std::fmt::Write as _;
use std::path::Path;

use phalanx_storage::{Access, opening};

use super::EXIT_DISK;
use super::open::{open, unreadable};
use super::watch::{Sight, Until, watch};
use crate::cli::args::Output;
use crate::cli::report::disk::{CheckReport, FindingReport};
use crate::cli::{Exit, print};
use crate::disk_check::{Finding, Image, Severity, check, is_sound};

pub(super) fn run(path: &Path, output: Output) -> Result<(), Exit> {
    // Asked before this process holds it. A disk that nobody holds is judged at once; a live one is watched, so that its nodes
    // can be named.
    let in_use = opening::is_in_use(path).unwrap_or(false); // opening says what is wrong
    let disk = open(path, Access::ReadOnly)?;
    let before = Sight::take(&disk)?;
    let image = Image::read(&disk).map_err(unreadable)?;
    let mut findings = check(&image);
    let alive = if in_use { watch(&disk, &before, Until::Over)? } else { Vec::new() };
    if !alive.is_empty() && !findings.is_empty() {
        // The regions are not read in one instant, and nodes write meanwhile: only what stays is worth a word.
        let again = check(&Image::read(&disk).map_err(unreadable)?);
        findings.retain(|finding| again.contains(finding));
    }
    let report = CheckReport {
        path: path.display().to_string(),
        name: image.superblock.name.clone(),
        sound: is_sound(&findings),
        alive,
        findings: findings.iter().map(|finding| report(finding, &image)).collect(),
    };
    match output {
        Output::Json => anstream::println!("{}", print::json(&report)?),
        Output::Text => anstream::print!("{}", text(&report)),
    }
    if report.sound {
        return Ok(());
    }
    let count = report.findings.iter().filter(|finding| finding.severity == "error").count();
    let text = format!("{} is damaged: {count} error{}", path.display(), if count == 1 { "" } else { "s" });
    Err(Exit::code(EXIT_DISK, text).hint(if report.alive.is_empty() {
        "each error above says what to do"
    } else {
        "nodes are alive and write: run the command again, and believe what is found twice"
    }))
}

fn report(finding: &Finding, image: &Image) -> FindingReport {
    let severity = match finding.severity {
        Severity::Note => "note",
        Severity::Error => "error",
    };
    FindingReport {
        severity: severity.to_owned(),
        region: finding.place.region.to_owned(),
        node: finding.place.node.map(|node| image.name_of(node)),
        first_block: finding.place.blocks.map(|(first, _)| first.0),
        last_block: finding.place.blocks.map(|(_, last)| last.0),
        what: finding.what.clone(),
        advice: finding.advice.to_owned(),
    }
}

fn text(report: &CheckReport) -> String {
    let mut text = String::new();
    if !report.alive.is_empty() {
        writeln!(text, "alive: {} - findings may be transient", report.alive.join(", ")).ok();
    }
    for finding in &report.findings {
        let blocks = match (finding.first_block, finding.last_block) {
            (Some(first), Some(last)) if first == last => format!(" block {first}"),
            (Some(first), Some(last)) => format!(" blocks {first}-{last}"),
            _ => String::new(),
        };
        let node = finding.node.as_ref().map(|node| format!(" of {node}")).unwrap_or_default();
        writeln!(text, "{}: {}{node}{blocks}: {}", finding.severity, finding.region, finding.what).ok();
        writeln!(text, "  do: {}", finding.advice).ok();
    }
    if report.sound {
        writeln!(text, "{}: the disk of cluster {} is sound", report.path, report.name).ok();
    }
    text
}
