//! An ARM, as a language model.

use super::{Draft, Drafter, Work, copy_row};
use crate::decode::ChainFault;

/// Drafts with one ARM alone. It follows the guided distribution only where its weight is large: a reward model without
/// a reference is no longer a language model.
pub struct ArmDrafter {
    index: usize,
    name: String,
    logits: Vec<f32>,
}

impl ArmDrafter {
    /// The ARM at `index` of the guide, called `arm`.
    pub fn new(index: usize, arm: &str) -> Self {
        Self { index, name: format!("arm:{arm}"), logits: Vec::new() }
    }
}

impl Drafter for ArmDrafter {
    fn name(&self) -> &str {
        &self.name
    }

    fn catch_up(&mut self, work: &mut Work<'_>) -> Result<(), ChainFault> {
        work.chain.arm_row(self.index, work.history, &mut |_| {})
    }

    fn draft(&mut self, work: &mut Work<'_>, k: usize, draft: &mut Draft) -> Result<(), ChainFault> {
        self.logits.resize(work.base.n_vocab(), 0.0);
        for _ in 0..k {
            let logits = &mut self.logits;
            work.chain.arm_row(self.index, work.history, &mut |row| copy_row(row, logits))?;
            work.draw(&self.logits, draft)?;
        }
        Ok(())
    }
}
