//! MC2: two slots and the reader's rule R-4 make a regular register (protocol §1.2, §3.10; docs/design/model-checking.md).

use phalanx_tests::register_model::RegisterModel;
use stateright::{Checker, HasDiscoveries, Model};

const REG: &str = "REG no read is stale";

#[test]
fn two_looks_make_a_pair_of_slots_regular() {
    for (writes, failures, readers) in [(6, 2, 1), (4, 1, 2)] {
        let model = RegisterModel { writes, failures, readers, one_pass: false };
        let checker = model.checker().threads(2).spawn_bfs().join();
        println!("{model:?}: {} states, depth {}", checker.unique_state_count(), checker.max_depth());
        checker.assert_properties();
    }
}

/// "Without the second pass the pair is not regular": stale after three writes, one of them the formatter's.
#[test]
fn one_look_reads_stale_values() {
    let look = |writes| {
        let model = RegisterModel { writes, failures: 0, readers: 1, one_pass: true };
        let finish = HasDiscoveries::AllOf([REG].into());
        model.checker().finish_when(finish).spawn_bfs().join()
    };
    look(1).assert_no_discovery(REG);
    look(2).assert_any_discovery(REG);
}
