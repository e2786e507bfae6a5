//! The base's own head for drafting (multi-token prediction, MTP).

use super::{Draft, Drafter, Work, failed};
use crate::decode::ChainFault;

/// Drafts with the head that the base's file brings, and where that is cheap with the ARMs' weights: q ∝ head · Π ARM^w.
/// The head reads the base's last state, so it knows the text as well as the base, and costs about a layer.
#[derive(Debug)]
pub struct HeadDrafter {
    guided: bool,
    /// One row of the base's vocabulary.
    logits: Vec<f32>,
}

impl HeadDrafter {
    /// A drafter that adds the ARMs' weighted logits if `guided`.
    pub fn new(guided: bool) -> Self {
        Self { guided, logits: Vec::new() }
    }
}

impl Drafter for HeadDrafter {
    fn name(&self) -> &str {
        "mtp"
    }

    fn keeps_arms(&self) -> bool {
        self.guided
    }

    fn uses_head(&self) -> bool {
        true
    }

    fn draft(&mut self, work: &mut Work<'_>, k: usize, draft: &mut Draft) -> Result<(), ChainFault> {
        self.logits.resize(work.base.n_vocab(), 0.0);
        for _ in 0..k {
            if !work.base.draft_row(work.history, &mut self.logits).map_err(failed)? {
                break;
            }
            if self.guided {
                work.chain.guide(work.history, &mut self.logits)?;
            }
            work.draw(&self.logits, draft)?;
        }
        Ok(())
    }
}
