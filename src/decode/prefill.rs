//! Prompts in chunks: a long one is read beside texts that are being generated, and stalls none of them.

use super::{Chain, DecodeError, Text};
use crate::expert::{Expert, ExpertError};

impl Text {
    /// Announces the next `max` tokens of the prompt to every model that lacks more than that. Returns whether any does: then
    /// [`read_chunk`](Self::read_chunk) follows, otherwise [`prepare`](Self::prepare) and [`step`](Self::step).
    ///
    /// Each model goes on from what it has in memory, so those that have read the prompt before wait for those that have not.
    pub fn prepare_chunk(&self, base: &mut dyn Expert, chain: &mut dyn Chain, max: usize) -> bool {
        if self.finish().is_some() {
            return false;
        }
        let history = self.history();
        let arms_lack = chain.prepare_chunk(history, max);
        let end = base.n_cached(history) + max;
        let base_lacks = end < history.len();
        if base_lacks {
            base.prepare(&history[..end], 1);
        }
        arms_lack || base_lacks
    }

    /// Reads what [`prepare_chunk`](Self::prepare_chunk) announced.
    ///
    /// # Errors
    ///
    /// When a model fails. A model whose context is too small for the prompt says so at the first [`step`](Self::step).
    pub fn read_chunk(&self, base: &mut dyn Expert, chain: &mut dyn Chain) -> Result<(), DecodeError> {
        let read = base.read().map_err(DecodeError::Base).and_then(|()| chain.read().map_err(DecodeError::Chain));
        match read {
            // The next step ends the text as interrupted.
            Err(DecodeError::Base(ExpertError::Interrupted)) => Ok(()),
            other => other,
        }
    }
}
