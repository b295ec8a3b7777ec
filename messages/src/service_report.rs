//! What is printed about client services beside their state: why they are where they are, and what a change would do.

use serde::{Deserialize, Serialize};

/// `phalanx explain S`: why the service is where it is, and what would change that.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ServiceExplanation {
    /// The service.
    pub service: String,
    /// Its summary state, as in the status.
    pub state: String,
    /// Node it is placed on.
    pub node: Option<String>,
    /// It should run.
    pub wanted: bool,
    /// Nothing is begun for it.
    pub held: bool,
    /// The factor that decided: `transfer-target`, `only-candidate`, `ordered-preference`, `unordered-preference`, `performance`,
    /// `load`, `parent`, `on-all-nodes`, `stays` (it was placed when a better node was not there), or why it runs nowhere:
    /// `not-wanted`, `held`, `maturity`, `no-candidate`, `capacity`, `failed`, `restart`, `recovery`, `none`.
    pub factor: String,
    /// The factor in one sentence.
    pub because: String,
    /// Every configured node, by id.
    pub candidates: Vec<CandidateExplanation>,
    /// What would change the placement, each with the command if there is one.
    pub would_change: Vec<String>,
}

/// One node in an explanation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct CandidateExplanation {
    /// The node.
    pub node: String,
    /// `here`, `candidate`, `failed-here`, `not-allowable`, `disallowed`, `down`, `leaving` or `standby`.
    pub verdict: String,
    /// Its place in the order in which candidates would be chosen now, from 1.
    pub place: Option<u16>,
    /// The verdict in words.
    pub reason: String,
}

/// One thing that a change would do at once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct PlannedStep {
    /// The service it concerns.
    pub service: String,
    /// `start`, `stop`, `recover`, `wait` or `rest`.
    pub action: String,
    /// Where.
    pub node: Option<String>,
    /// Why; names the key or order that causes it.
    pub reason: String,
}
