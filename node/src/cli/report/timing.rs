//! `timing` with `--output json`.

use serde::Serialize;

/// `timing`: one profile, or every named one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub struct TimingReport {
    /// The profiles.
    pub profiles: Vec<ProfileReport>,
}

/// One profile, explained.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub struct ProfileReport {
    /// `profile`, `disk` or `config`.
    pub source: String,
    /// Name of the profile; none if some input differs from every named one.
    pub name: Option<String>,
    /// Every input.
    pub inputs: Vec<InputReport>,
    /// What is computed from them.
    pub computed: Vec<ComputedReport>,
    /// Every way for a node to die, and how long its services wait.
    pub cases: Vec<CaseReport>,
}

/// One input.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub struct InputReport {
    /// Its key under `disk.timing`.
    pub key: String,
    /// Its symbol in the formulae.
    pub symbol: String,
    /// Its value.
    pub value: u64,
    /// `ms` or `ppm`.
    pub unit: String,
    /// What it follows from unless it is set; none = it is a plain input.
    pub formula: Option<String>,
    /// What it is.
    pub meaning: String,
}

/// One computed wait.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub struct ComputedReport {
    /// Its symbol.
    pub symbol: String,
    /// How it is computed.
    pub formula: String,
    /// Its value.
    pub ms: u64,
    /// What it is.
    pub meaning: String,
}

/// One way to die.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub struct CaseReport {
    /// Its name.
    pub case: String,
    /// What happened.
    pub when: String,
    /// How the death becomes certain.
    pub proof: String,
    /// This version can do it.
    pub built: bool,
    /// What adds up.
    pub terms: Vec<TermReport>,
    /// The sum; none if somebody else decides how long it takes.
    pub total_ms: Option<u64>,
    /// What adds up if the dead node was the master.
    pub terms_of_master: Vec<TermReport>,
    /// The sum for the master.
    pub total_of_master_ms: Option<u64>,
}

/// One part of a wait.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub struct TermReport {
    /// In symbols.
    pub formula: String,
    /// Its value; none = the profile does not say.
    pub ms: Option<u64>,
    /// What it is for.
    pub why: String,
}
