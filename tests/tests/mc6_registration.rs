//! MC6: registration and launch under every interleaving (protocol §6.7, §8.2; docs/design/model-checking.md).
//!
//! The large configurations need time and memory: set `PHALANX_MODEL=full`, and `PHALANX_STATES` to stop after so many.

use phalanx_tests::registration_model::configurations::single;
use phalanx_tests::registration_model::{RegistrationModel, explore};

fn holds(models: Vec<RegistrationModel>) {
    for model in models {
        let explored = explore(&model, usize::MAX);
        println!(
            "{}: {} states, depth {}, {:.1} s",
            model.name,
            explored.states,
            explored.depth,
            explored.took.as_secs_f64()
        );
        explored.assert_holds(model.name);
    }
}

#[test]
fn one_service() {
    holds(single());
}
