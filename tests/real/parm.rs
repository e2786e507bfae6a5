//! An ARM with objectives on SmolLM2.

use genarm::engine::share::Probe;

use super::smollm2;
use crate::support::parm::RandomParm;
use crate::support::{context_params, load};

#[test]
#[ignore = "needs a real model: make test-real"]
fn an_arm_with_objectives_shares_the_batches_of_smollm2() {
    // Activations are quantised there: the blocks, added up in another order than in a stack, make other logits.
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("parm.gguf");
    RandomParm::on(&smollm2(), &["helpful", "harmless"], 3, 0.05).write(&path);
    let experts = [vec![], vec![(path.as_path(), 1.0)]];
    let mut probe = Probe::new(&load(&smollm2()), &experts, &context_params()).expect("contexts");
    probe.check().expect("the same rows");
}
