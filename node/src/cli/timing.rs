//! `phalanx timing`: every part of the waits of a profile, and why.

use std::fmt::Write as _;

use phalanx_messages::profile::{TimingInput, TimingProfile};
use phalanx_storage::{Access, Backend};

use super::args::{Global, Output, TimingArguments};
use super::disk::open::open;
use super::node::load;
use super::report::timing::{CaseReport, ComputedReport, InputReport, ProfileReport, TermReport, TimingReport};
use super::{Exit, print};
use crate::timing::{Case, Proof, Term, cases};

pub(super) fn run(arguments: &TimingArguments, global: &Global) -> Result<(), Exit> {
    let profiles = match arguments {
        TimingArguments { disk: Some(path), .. } => {
            let disk = open(path, Access::ReadOnly)?;
            vec![explain("disk", &disk.superblock().profile, disk.backend())]
        }
        TimingArguments { config: Some(file), .. } => {
            let config = load(file)?;
            vec![explain("config", &config.profile, config.backend)]
        }
        TimingArguments { profile: Some(name), .. } => vec![explain_named(&named(name)?)],
        TimingArguments { disk: None, profile: None, config: None } => {
            TimingProfile::NAMED.iter().map(|(_, profile)| explain_named(profile)).collect()
        }
    };
    let report = TimingReport { profiles };
    match (global.output, report.profiles.as_slice()) {
        (Output::Json, _) => anstream::println!("{}", print::json(&report)?),
        (Output::Text, [one]) => anstream::print!("{}", text_of_one(one)),
        (Output::Text, all) => anstream::print!("{}", text_of_all(all)),
    }
    Ok(())
}

fn named(name: &str) -> Result<TimingProfile, Exit> {
    TimingProfile::named(name).ok_or_else(|| {
        let known: Vec<&str> = TimingProfile::NAMED.iter().map(|(name, _)| *name).collect();
        Exit::error(format!("there is no timing profile `{name}`")).hint(format!("use one of {}", known.join(", ")))
    })
}

/// A profile without a disk: where writes may land late it is meant for a device.
fn explain_named(profile: &TimingProfile) -> ProfileReport {
    let backend = if profile.late_write_ms > 0 { Backend::Direct } else { Backend::Mmap };
    explain("profile", profile, backend)
}

fn explain(source: &str, profile: &TimingProfile, backend: Backend) -> ProfileReport {
    let input = |input: TimingInput| InputReport {
        key: input.key().to_owned(),
        symbol: input.symbol().to_owned(),
        value: input.of(profile),
        unit: input.unit().to_owned(),
        formula: input.formula().map(str::to_owned),
        meaning: input.meaning().to_owned(),
    };
    let computed = [
        (
            "T_self",
            "L + 2 W + delta",
            profile.self_ms(),
            "latest death after the last counted renewal, by the own clock",
        ),
        ("T_takeover", "D(L)", profile.takeover_ms(), "silence of a master before another one claims the next term"),
        ("T_fence", "D(L + 2 W + delta) + T_late", profile.fence_ms(), "wait until a death by deadline is certain"),
        ("heartbeat", "T_net / 6", profile.heartbeat_ms(), "a heartbeat goes out over the interconnect this often"),
        ("feed", "W / 4", profile.feed_ms(), "the daemon feeds its warden this often"),
    ];
    let computed = computed.map(|(symbol, formula, ms, meaning)| ComputedReport {
        symbol: symbol.to_owned(),
        formula: formula.to_owned(),
        ms,
        meaning: meaning.to_owned(),
    });
    ProfileReport {
        source: source.to_owned(),
        name: profile.name().map(str::to_owned),
        inputs: TimingInput::ALL.map(input).to_vec(),
        computed: computed.to_vec(),
        cases: cases(profile, backend).iter().map(case_report).collect(),
    }
}

fn case_report(case: &Case) -> CaseReport {
    let term = |term: &Term| TermReport { formula: term.formula.to_owned(), ms: term.ms, why: term.why.to_owned() };
    CaseReport {
        case: case.name.to_owned(),
        when: case.when.to_owned(),
        proof: proof(case.proof).to_owned(),
        built: case.built,
        terms: case.terms.iter().map(term).collect(),
        total_ms: case.total_ms(),
        terms_of_master: case.terms_of_master.iter().map(term).collect(),
        total_of_master_ms: case.total_of_master_ms(),
    }
}

const fn proof(proof: Proof) -> &'static str {
    match proof {
        Proof::OwnWord => "own-word",
        Proof::Local => "local",
        Proof::Agent => "agent",
        Proof::Deadline => "deadline",
        Proof::Operator => "operator",
    }
}

/// Every named profile beside the others.
fn text_of_all(profiles: &[ProfileReport]) -> String {
    let names = profiles.iter().map(|profile| name(profile).to_owned());
    let mut rows = vec![["INPUT".to_owned(), "SYMBOL".to_owned()].into_iter().chain(names).collect::<Vec<_>>()];
    let Some(first) = profiles.first() else { return String::new() };
    for (index, input) in first.inputs.iter().enumerate() {
        let values = profiles.iter().map(|profile| profile.inputs[index].value.to_string());
        let heading = [format!("{} ({})", input.key, input.unit), input.symbol.clone()];
        rows.push(heading.into_iter().chain(values).collect());
    }
    for (index, computed) in first.computed.iter().enumerate() {
        let values = profiles.iter().map(|profile| profile.computed[index].ms.to_string());
        rows.push([computed.formula.clone(), computed.symbol.clone()].into_iter().chain(values).collect());
    }
    let mut text = print::table(&rows);
    writeln!(text, "\nservices of a dead node wait at most, in ms, before recovery begins (of the master)").ok();
    let mut rows = vec![
        ["CASE".to_owned()]
            .into_iter()
            .chain(profiles.iter().map(|profile| name(profile).to_owned()))
            .collect::<Vec<_>>(),
    ];
    for (index, case) in first.cases.iter().enumerate() {
        let values = profiles.iter().map(|profile| {
            let case = &profile.cases[index];
            format!("{} ({})", total(case.total_ms, &case.terms), total(case.total_of_master_ms, &case.terms_of_master))
        });
        rows.push([case.case.clone()].into_iter().chain(values).collect());
    }
    text += &print::table(&rows);
    text + "\n`phalanx timing --profile NAME` explains one, part by part\n"
}

fn name(profile: &ProfileReport) -> &str {
    profile.name.as_deref().unwrap_or("(of its own)")
}

/// The sum, with `+ x` for what nobody can say beforehand.
fn total(total_ms: Option<u64>, terms: &[TermReport]) -> String {
    let known: u64 = terms.iter().filter_map(|term| term.ms).sum();
    let open: Vec<&str> = terms.iter().filter(|term| term.ms.is_none()).map(|term| term.formula.as_str()).collect();
    total_ms.map_or_else(|| format!("{known} + {}", open.join(" + ")), |total| total.to_string())
}

fn text_of_one(profile: &ProfileReport) -> String {
    let mut text = format!("timing profile {} (from: {})\n\n", name(profile), profile.source);
    let mut rows = vec![["INPUT", "SYMBOL", "VALUE", "FORMULA", "MEANING"].map(str::to_owned).to_vec()];
    for input in &profile.inputs {
        let formula = input.formula.clone().unwrap_or_else(|| "-".to_owned());
        let value = format!("{} {}", input.value, input.unit);
        rows.push(vec![input.key.clone(), input.symbol.clone(), value, formula, input.meaning.clone()]);
    }
    for computed in &profile.computed {
        let value = format!("{} ms", computed.ms);
        rows.push(vec![
            "-".to_owned(),
            computed.symbol.clone(),
            value,
            computed.formula.clone(),
            computed.meaning.clone(),
        ]);
    }
    text += &print::table(&rows);
    text += "\nD(x) = x (1 + rho) / (1 - rho) + eps: x on another clock, as a safe wait on one's own\n";
    for case in &profile.cases {
        let built = if case.built { "" } else { "; not in this version" };
        writeln!(text, "\n{}: {} (proof: {}{built})", case.case, case.when, case.proof).ok();
        text += &text_of_terms(&case.terms, case.total_ms);
        if case.terms_of_master != case.terms {
            text += "  if it was the master:\n";
            text += &text_of_terms(&case.terms_of_master, case.total_of_master_ms);
        }
    }
    text + "\nThen, in every case and without a clock: the commits, the recovery of the levels, the commands of the service.\n"
}

fn text_of_terms(terms: &[TermReport], total_ms: Option<u64>) -> String {
    let row = |term: &TermReport| {
        let ms = term.ms.map_or_else(|| "?".to_owned(), |ms| format!("{ms} ms"));
        vec![String::new(), term.formula.clone(), ms, term.why.clone()]
    };
    let mut rows: Vec<Vec<String>> = terms.iter().map(row).collect();
    rows.push(vec![String::new(), "at most".to_owned(), format!("{} ms", total(total_ms, terms)), String::new()]);
    print::table(&rows)
}
