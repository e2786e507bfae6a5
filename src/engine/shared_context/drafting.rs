//! Drafts by the model's own head: what the sequences of a context hand to theirs, and ask of them.

use super::head::Head;
use super::{Seq, SharedContext};
use crate::engine::llama::{ContextError, DraftHead};
use crate::expert::{ExpertError, Token, common_prefix};

/// States that a batch left: those of the tokens `first..first + n` of it, which are the positions of a sequence from
/// `start` on.
pub(super) struct FreshStates {
    pub(super) at: usize,
    pub(super) start: usize,
    pub(super) first: usize,
    pub(super) n: usize,
}

impl SharedContext {
    /// Lets the model's own head draft for a sequence, from the next token that it reads on.
    pub(in crate::engine) fn open_head(&mut self, at: usize) -> Result<(), ContextError> {
        if self.seqs[at].head.is_none() {
            self.seqs[at].head = Some(Head::new(DraftHead::new(self.ctx.model(), &self.params)?));
            self.ctx.keep_states(true);
        }
        Ok(())
    }

    /// Takes the head of a sequence away again.
    pub(in crate::engine) fn close_head(&mut self, at: usize) {
        self.seqs[at].head = None;
        self.fresh_states.retain(|fresh| fresh.at != at);
        if self.seqs.iter().all(|seq| seq.head.is_none()) {
            self.ctx.keep_states(false);
        }
    }

    /// Hands the states of the last batch to the heads.
    pub(super) fn take_states(&mut self) {
        for FreshStates { at, start, first, n } in self.fresh_states.drain(..) {
            let Seq { head, cached, .. } = &mut self.seqs[at];
            if let (Some(head), Some(states)) = (head, self.ctx.states(first, n)) {
                head.note(start, states, &cached[..start + n]);
            }
        }
    }

    /// Writes the logits after `history` into `row`, as the head of a sequence guesses them. Returns whether it has one.
    pub(in crate::engine) fn draft_row(
        &mut self,
        at: usize,
        history: &[Token],
        row: &mut [f32],
    ) -> Result<bool, ExpertError> {
        self.check(history, 1)?;
        self.take_states();
        let Seq { head, cached, .. } = &mut self.seqs[at];
        let Some(head) = head else { return Ok(false) };
        let guessed = head.row_after(history, common_prefix(cached, history))?;
        Ok(guessed.map(|guessed| row.copy_from_slice(guessed)).is_some())
    }
}
