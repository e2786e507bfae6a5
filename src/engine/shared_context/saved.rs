//! The memory of one sequence, taken out of its context and put back.

use std::mem;

use super::SharedContext;
use crate::engine::llama::{CheckedMemory, Context};
use crate::expert::{CheckedState, ExpertState, StateError, Token};

impl SharedContext {
    /// Tokens in memory.
    pub(in crate::engine) fn n_held(&self, at: usize) -> usize {
        self.seqs[at].cached.len()
    }

    /// A copy of a sequence's memory.
    pub(in crate::engine) fn save(&mut self, at: usize) -> Result<ExpertState, StateError> {
        let Self { ctx, seqs, poisoned, .. } = self;
        let seq = &mut seqs[at];
        if seq.cached.is_empty() || *poisoned {
            return Ok(ExpertState::default());
        }
        let mut state = exported(ctx, at, &seq.cached)?;
        state.n_plain = seq.adapted_from;
        state.read_with = seq.read_with.spans();
        // One that cannot be exported is made again when the text is read again.
        if let Some((n_tokens, earlier)) = seq.checkpoints.last()
            && let Ok(memory) = ctx.export_saved(earlier, n_tokens)
        {
            let tokens = seq.cached[..n_tokens].to_vec();
            state.earlier = Some(Box::new(ExpertState { tokens, memory: memory.into(), ..ExpertState::default() }));
        }
        Ok(state)
    }

    /// Checks a saved state and the earlier one in it. Nothing is found where nothing was saved.
    pub(in crate::engine) fn check_state(&self, state: &ExpertState) -> Result<Vec<CheckedMemory>, StateError> {
        if *state == ExpertState::default() {
            return Ok(Vec::new());
        }
        let n_vocab = self.ctx.n_vocab();
        if state.tokens.iter().any(|token| usize::try_from(*token).map_or(true, |token| token >= n_vocab)) {
            return Err(StateError::Broken { what: "a token is outside of the vocabulary" });
        }
        let mut checked = vec![self.ctx.check_exported(&state.memory, state.tokens.len())?];
        if let Some(earlier) = &state.earlier {
            if !self.ctx.model().is_recurrent() || !state.tokens.starts_with(&earlier.tokens) {
                return Err(StateError::Broken { what: "its earlier state is not one of its own" });
            }
            checked.push(self.ctx.check_exported_partial(&earlier.memory, earlier.tokens.len())?);
        }
        Ok(checked)
    }

    /// Puts a checked state in the place of what a sequence holds. Where llama.cpp refuses it, the sequence is empty.
    pub(in crate::engine) fn restore(&mut self, at: usize, state: &CheckedState<'_>) -> Result<(), StateError> {
        let checked_anew;
        let checked = match state.found::<Vec<CheckedMemory>>() {
            Some(found) if found.iter().all(|memory| self.ctx.has_checked(memory)) => found,
            _ => {
                checked_anew = self.check_state(state.state())?;
                &checked_anew
            }
        };
        let state = state.state();
        if mem::take(&mut self.poisoned) {
            self.clear();
        }
        self.forget(at);
        let [now, then @ ..] = &checked[..] else { return Ok(()) };
        let Self { ctx, seqs, .. } = self;
        let seq = &mut seqs[at];
        let first = ctx.import(at, now)?;
        if let (Some(earlier), [checked]) = (&state.earlier, then) {
            seq.checkpoints.adopt(earlier.tokens.len(), ctx.adopt(checked));
        }
        seq.cached.clone_from(&state.tokens);
        seq.adapted_from = state.n_plain;
        seq.read_with.restore(&state.read_with);
        seq.min_prefix = if first > 0 { state.tokens.len() } else { 0 };
        Ok(())
    }
}

/// A copy of the memory of a sequence that holds `tokens`.
fn exported(ctx: &mut Context, at: usize, tokens: &[Token]) -> Result<ExpertState, StateError> {
    let memory = ctx.export(at, tokens.len())?.into();
    Ok(ExpertState { tokens: tokens.to_vec(), memory, ..ExpertState::default() })
}
