//! A small language model: a separate GGUF, or the backbone of an ARM with its adapter off.

use super::{Draft, Drafter, Offer, Work, copy_row, failed};
use crate::decode::ChainFault;
use crate::expert::{Expert, Token};

/// Drafts with a model, and where that is cheap with the ARMs' weights: q ∝ model · Π ARM^w follows the guided p as an
/// ordinary draft model follows its target.
pub struct ModelDrafter {
    name: String,
    expert: Box<dyn Expert + Send>,
    guided: bool,
    /// One row of the base's vocabulary.
    logits: Vec<f32>,
}

impl ModelDrafter {
    /// A drafter called `name` that adds the ARMs' weighted logits if `guided`. The expert's tokens are the base's.
    pub fn new(name: impl Into<String>, expert: Box<dyn Expert + Send>, guided: bool) -> Self {
        Self { name: name.into(), expert, guided, logits: Vec::new() }
    }
}

impl Drafter for ModelDrafter {
    fn name(&self) -> &str {
        &self.name
    }

    fn offer(&mut self, history: &[Token]) -> Offer {
        Offer { behind: history.len() - self.expert.n_cached(history), ..Offer::default() }
    }

    fn keeps_arms(&self) -> bool {
        self.guided
    }

    fn expert(&mut self) -> Option<&mut (dyn Expert + Send + 'static)> {
        Some(&mut *self.expert)
    }

    fn catch_up(&mut self, work: &mut Work<'_>) -> Result<(), ChainFault> {
        if work.history.len() <= self.expert.n_ctx() {
            self.expert.advance(work.history, 1).map_err(failed)?;
        }
        Ok(())
    }

    fn draft(&mut self, work: &mut Work<'_>, k: usize, draft: &mut Draft) -> Result<(), ChainFault> {
        self.logits.resize(work.base.n_vocab(), 0.0);
        for _ in 0..k {
            if work.history.len() > self.expert.n_ctx() {
                break; // a smaller context than the base's: from here on the text is decoded plainly
            }
            copy_row(self.expert.advance(work.history, 1).map_err(failed)?, &mut self.logits);
            if self.guided {
                work.chain.guide(work.history, &mut self.logits)?;
            }
            work.draw(&self.logits, draft)?;
        }
        Ok(())
    }
}
