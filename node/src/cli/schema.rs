//! Which type each command prints with `--output json`, and its JSON schema: docs/schemas holds them.

use phalanx_messages::admin::{KeyStatus, LogLine, NodeStatus, ServiceStatus, Status, Trace};
use phalanx_messages::event_report::{EventGroupStatus, EventsReport, OccurrenceReport};
use phalanx_messages::service_report::ServiceExplanation;
use schemars::{Schema, schema_for};

use super::Exit;
use super::apply::ApplyReport;
use super::configuration::report::{ConfigurationApplied, ConfigurationShown};
use super::order::OrderReport;
use super::report::disk::{CheckReport, CreatedReport, DiskReport, RepairReport};
use super::report::subsystem::SubsystemReport;
use super::report::timing::TimingReport;
use super::service::ServiceShown;
use super::simulate::SimulationReport;
use crate::ocf::Metadata;

/// Makes the schema of one type.
type Make = fn() -> Schema;

/// Command, and the type of what it prints. The one place that a command which prints JSON is added to.
/// `status --watch` and `logs` print one such value a line, `event tail --follow` one occurrence.
const TABLE: [(&str, Make); 36] = [
    ("status", || schema_for!(Status)),
    ("node list", || schema_for!(Vec<NodeStatus>)),
    ("node standby", || schema_for!(OrderReport)),
    ("node unstandby", || schema_for!(OrderReport)),
    ("service list", || schema_for!(Vec<ServiceStatus>)),
    ("service show", || schema_for!(ServiceShown)),
    ("service apply", || schema_for!(ApplyReport)),
    ("service register", || schema_for!(OrderReport)),
    ("service deregister", || schema_for!(OrderReport)),
    ("service transfer", || schema_for!(OrderReport)),
    ("service hold", || schema_for!(OrderReport)),
    ("service clear", || schema_for!(OrderReport)),
    ("service remove", || schema_for!(OrderReport)),
    ("event list", || schema_for!(EventsReport)),
    ("event show", || schema_for!(EventsReport)),
    ("event enable", || schema_for!(EventGroupStatus)),
    ("event disable", || schema_for!(EventGroupStatus)),
    ("event remove", || schema_for!(OrderReport)),
    ("event tail", || schema_for!(Vec<OccurrenceReport>)),
    ("event test", || schema_for!(Vec<OccurrenceReport>)),
    ("service failed", || schema_for!(OrderReport)),
    ("subsystem list", || schema_for!(Vec<SubsystemReport>)),
    ("explain", || schema_for!(ServiceExplanation)),
    ("simulate", || schema_for!(SimulationReport)),
    ("trace", || schema_for!(Trace)),
    ("agent list", || schema_for!(Vec<String>)),
    ("agent describe", || schema_for!(Metadata)),
    ("logs", || schema_for!(LogLine)),
    ("config show", || schema_for!(ConfigurationShown)),
    ("config apply", || schema_for!(ConfigurationApplied)),
    ("key status", || schema_for!(KeyStatus)),
    ("timing", || schema_for!(TimingReport)),
    ("disk create", || schema_for!(CreatedReport)),
    ("disk show", || schema_for!(DiskReport)),
    ("disk check", || schema_for!(CheckReport)),
    ("disk repair", || schema_for!(RepairReport)),
];

/// Every command that prints JSON with its schema, as text.
///
/// # Errors
/// If one cannot be written as JSON, which is a mistake in this program.
pub fn all() -> Result<Vec<(&'static str, String)>, Exit> {
    TABLE.iter().map(|(command, make)| Ok((*command, super::print::json(&make())? + "\n"))).collect()
}

/// Name of the file with the schema of a command.
#[must_use]
pub fn file_name(command: &str) -> String {
    format!("{}.schema.json", command.replace(' ', "-"))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// `phalanx schemas --out docs/schemas` writes them anew.
    #[test]
    fn docs_hold_the_schema_of_every_command_and_no_other() {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/schemas");
        let all = all().unwrap();
        for (command, text) in &all {
            let path = directory.join(file_name(command));
            let kept = std::fs::read_to_string(&path).unwrap_or_default();
            assert!(kept == *text, "{} is behind: run `phalanx schemas --out docs/schemas`", path.display());
        }
        assert_eq!(std::fs::read_dir(directory).unwrap().count(), all.len(), "a file of no command is there");
    }
}
