//! Decoding loops, over [`Expert`](crate::Expert)s and a [`Chain`] alone: they run in tests without a GGUF.

pub mod accept;
pub mod controller;
mod distribution;
pub mod draft;
mod plain;
mod prefill;
mod speculate;
mod stop;
mod text;

pub use distribution::Distribution;
pub use plain::{DecodeError, Finish, Flow, Generated, Step, Text, generate};
pub use speculate::{DrafterCount, Policy, Speculation, Speculator, speculate};
pub use stop::{Settled, StopStrings};
pub use text::TextStream;

use crate::expert::{ExpertError, Token, check_finite};
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

/// A chain that says with which probabilities it would draw: what [speculation](speculate) verifies a draft against.
pub trait TargetChain: Chain {
    /// The distribution p that [`sample`](Chain::sample) draws from at this position, after the whole chain.
    ///
    /// # Errors
    ///
    /// As [`sample`](Chain::sample).
    fn target_distribution(&mut self, logits: &[f32], out: &mut Distribution) -> Result<(), ChainFault>;

    /// A distribution q to draft from: the same truncation, without guidance and without what depends on the text (penalties,
    /// grammar) or on chance. It leaves the state as it is.
    ///
    /// # Errors
    ///
    /// [`ChainFault::NoCandidate`].
    fn draft_distribution(&mut self, logits: &[f32], out: &mut Distribution) -> Result<(), ChainFault>;

    /// Brings the ARMs to `history` with its last `k` rows in one batch; what is asked at these positions then decodes nothing.
    /// `rows` are the base's, `k × n_vocab`.
    ///
    /// # Errors
    ///
    /// Where the text must end: an ARM is full or interrupted.
    fn verify(&mut self, history: &[Token], rows: &[f32], k: usize) -> Result<(), ChainFault> {
        let _ = (history, rows, k);
        Ok(())
    }

    /// Tokens by which a history of `len` tokens may grow before an ARM is full.
    fn room(&mut self, len: usize) -> usize {
        let _ = len;
        usize::MAX
    }

    /// Adds the ARMs' weighted logits after `history` to one row.
    ///
    /// # Errors
    ///
    /// When an ARM fails.
    fn guide(&mut self, history: &[Token], logits: &mut [f32]) -> Result<(), ChainFault> {
        let _ = (history, logits);
        Ok(())
    }

    /// Shows `each` the raw row of the ARM at `index` after `history`.
    ///
    /// # Errors
    ///
    /// When the ARM fails, or where there is none ([`ChainFault::NoCandidate`]).
    fn arm_row(&mut self, index: usize, history: &[Token], each: &mut dyn FnMut(&[f32])) -> Result<(), ChainFault> {
        let _ = (index, history, each);
        Err(ChainFault::NoCandidate)
    }
}

/// Why no token was drawn.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ChainFault {
    /// An ARM failed.
    #[error(transparent)]
    Guide(#[from] GuideError),
    /// The base's logits are no numbers.
    #[error("base: {0}")]
    Base(ExpertError),
    /// Grammar, masks and truncation leave no token.
    #[error("no token is left: grammar, logit biases and samplers together forbid all of them")]
    NoCandidate,
    /// The grammar asks for more work at a token than is allowed.
    #[error(
        "{field}: there are too many ways to go on with the text as it is so far; make it less ambiguous, or lower its repetitions"
    )]
    Grammar {
        /// The field that the grammar came in.
        field: &'static str,
    },
    /// A drafter's model failed. Only how fast the text comes depends on it.
    #[error("drafter: {0}")]
    Draft(ExpertError),
}

/// A chain that takes the likeliest token: for tests and examples.
#[derive(Debug, Default, Clone, Copy)]
pub struct Greedy;

impl Chain for Greedy {
    fn accept(&mut self, _: Token, _: bool) {}

    fn sample(&mut self, logits: &[f32]) -> Result<Token, ChainFault> {
        check_finite(logits).map_err(ChainFault::Base)?;
        let best = (0..logits.len()).max_by(|a, b| logits[*a].total_cmp(&logits[*b]).then(b.cmp(a)));
        best.map(|id| id as Token).ok_or(ChainFault::NoCandidate)
    }
}

impl TargetChain for Greedy {
    fn target_distribution(&mut self, logits: &[f32], out: &mut Distribution) -> Result<(), ChainFault> {
        out.set([(self.sample(logits)?, 1.0)]);
        Ok(())
    }

    fn draft_distribution(&mut self, logits: &[f32], out: &mut Distribution) -> Result<(), ChainFault> {
        self.target_distribution(logits, out)
    }
}
