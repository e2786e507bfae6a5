//! The base itself; the ARMs read its draft in one batch.

use super::{Draft, Drafter, Work, failed};
use crate::decode::ChainFault;

/// Drafts with the base, one token at a time. Its rows are kept, so that it has only the last position left to read
/// when the draft is verified. Pays where ARMs cost as much as the base and batches are cheap.
#[derive(Debug, Default)]
pub struct BaseDrafter;

impl Drafter for BaseDrafter {
    fn name(&self) -> &str {
        "base"
    }

    fn keeps_base(&self) -> bool {
        true
    }

    fn draft(&mut self, work: &mut Work<'_>, k: usize, draft: &mut Draft) -> Result<(), ChainFault> {
        for _ in 0..k {
            let row = work.base.advance(work.history, 1).map_err(failed)?;
            let drafted = work.chain.draft_distribution(row, draft.push(0));
            draft.draw_last(drafted, work.rng, work.history)?;
        }
        Ok(())
    }
}
