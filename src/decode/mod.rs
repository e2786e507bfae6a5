//! Decoding loops, over [`Expert`](crate::Expert)s and a [`Chain`] alone: they run in tests without a GGUF.

mod plain;
mod prefill;
mod stop;
mod text;

pub use plain::{DecodeError, Finish, Flow, Generated, Step, Text, generate};
pub use stop::StopStrings;
pub use text::TextStream;

use crate::expert::Token;
use crate::guidance::GuideError;

/// What stands between the base's logits and the next token: guidance, truncation, the draw.
///
/// It learns the text through [`accept`](Self::accept), as a llama.cpp sampler does.
pub trait Chain {
    /// Is told the next token of the text; `generated` is false for the prompt's.
    fn accept(&mut self, token: Token, generated: bool);

    /// Announces that the base is about to be asked for its last `k` rows after `history`: what shares a batch with it reads along.
    fn prepare(&mut self, history: &[Token], k: usize) {
        let _ = (history, k);
    }

    /// Announces up to `max` tokens of what takes part in the next draw and lacks more than that of `history`. False where
    /// nothing lacks more.
    fn prepare_chunk(&mut self, history: &[Token], max: usize) -> bool {
        let _ = (history, max);
        false
    }

    /// Decodes what was announced.
    ///
    /// # Errors
    ///
    /// [`ChainFault::Guide`].
    fn read(&mut self) -> Result<(), ChainFault> {
        Ok(())
    }

    /// Draws the next token from the base's raw logits. May be called again at the same position.
    ///
    /// # Errors
    ///
    /// [`ChainFault`].
    fn sample(&mut self, logits: &[f32]) -> Result<Token, ChainFault>;
}

/// Why no token was drawn.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ChainFault {
    /// An ARM failed.
    #[error(transparent)]
    Guide(#[from] GuideError),
    /// Grammar, masks and truncation leave no token.
    #[error("no token is left: grammar, logit biases and samplers together forbid all of them")]
    NoCandidate,
}

/// A chain that takes the likeliest token: for tests and examples.
#[derive(Debug, Default, Clone, Copy)]
pub struct Greedy;

impl Chain for Greedy {
    fn accept(&mut self, _: Token, _: bool) {}

    fn sample(&mut self, logits: &[f32]) -> Result<Token, ChainFault> {
        let best = (0..logits.len()).max_by(|a, b| logits[*a].total_cmp(&logits[*b]).then(b.cmp(a)));
        best.map(|id| id as Token).ok_or(ChainFault::NoCandidate)
    }
}
