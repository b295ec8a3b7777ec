//! Spec, Table 1 and Fig. 2: which notifications a subsystem may receive, printed whole.

use phalanx_protocol::agent::table;

/// Spec, Table 1, "Sent Notification", "New State After All Nodes Have Acknowledged", "Allowed Re-notifications".
#[test]
fn table_1_as_one_printed_table() {
    let stored = include_str!("table_1.txt");
    let printed = table::render();
    assert!(printed == stored, "the table is now\n{printed}");
}
