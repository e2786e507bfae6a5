//! The decoding loop, over [`Expert`](crate::Expert)s and a [`GuidedChain`] alone: it runs in tests without a GGUF.

#[doc(hidden)]
pub mod accept;
#[doc(hidden)]
pub mod controller;
mod distribution;
#[doc(hidden)]
pub mod draft;
mod prefill;
mod speculator;
mod step;
mod stop;
mod stream;
mod text;
#[doc(hidden)]
pub mod text_generator;

pub use distribution::Distribution;
pub use speculator::{DrafterCount, Policy, Speculation, Speculator};
pub use step::generate;
#[doc(hidden)]
pub use step::read_rows;
#[doc(hidden)]
pub use stop::{Settled, StopStrings};
#[doc(hidden)]
pub use stream::TextStream;
pub use text::{DecodeError, Finish, Flow, Generated, Step, Text};

use crate::expert::{ExpertError, Token, check_finite};
use crate::guidance::GuideError;

/// What turns a row of logits into the next token: guidance by the ARMs, truncation, the draw.
///
/// It follows the text through [`accept`](Self::accept), as a llama.cpp sampler does.
pub trait Chain {
    /// Takes the next token of the text; `generated` is false for the prompt's.
    fn accept(&mut self, token: Token, generated: bool);

    /// Draws the next token from the base's raw logits. May be called again at the same position.
    ///
    /// # Errors
    ///
    /// [`ChainFault`].
    fn sample(&mut self, logits: &[f32]) -> Result<Token, ChainFault>;

    /// The distribution p that [`sample`](Self::sample) draws from at this position, after the whole chain: drafts are
    /// judged against it.
    ///
    /// # Errors
    ///
    /// As [`sample`](Self::sample).
    fn target_distribution(&mut self, logits: &[f32], out: &mut Distribution) -> Result<(), ChainFault>;

    /// A distribution q to draft from: the same truncation, without guidance and without what depends on the text
    /// (penalties, grammar) or on chance. It leaves the state as it is.
    ///
    /// # Errors
    ///
    /// [`ChainFault::NoCandidate`].
    fn draft_distribution(&mut self, logits: &[f32], out: &mut Distribution) -> Result<(), ChainFault>;
}

/// The ARMs behind a chain: models that must be brought to the text as the base is. Nothing here draws a token.
pub trait Guided {
    /// Announces that the base is about to be asked for its last `k` rows after `history`: ARMs that share a batch with
    /// it read along.
    fn prepare(&mut self, history: &[Token], k: usize);

    /// Starts what was announced and computes beside this thread, on a device.
    fn start(&mut self);

    /// Announces up to `max` tokens to each ARM of the next draw that lacks more than that of `history`. False where
    /// none does.
    fn prepare_chunk(&mut self, history: &[Token], max: usize) -> bool;

    /// Decodes what was announced.
    ///
    /// # Errors
    ///
    /// [`ChainFault::Guide`].
    fn read(&mut self) -> Result<(), ChainFault>;

    /// Brings the ARMs to `history` with its last `k` rows in one batch; what is asked at these positions then decodes
    /// nothing. `rows` are the base's, `k × n_vocab`.
    ///
    /// # Errors
    ///
    /// Where the text must end: an ARM is full or interrupted.
    fn verify(&mut self, history: &[Token], rows: &[f32], k: usize) -> Result<(), ChainFault>;

    /// Tokens by which a history of `len` tokens may grow before an ARM is full.
    fn room(&mut self, len: usize) -> usize;

    /// Adds the ARMs' weighted logits after `history` to one row.
    ///
    /// # Errors
    ///
    /// When an ARM fails.
    fn guide(&mut self, history: &[Token], logits: &mut [f32]) -> Result<(), ChainFault>;

    /// Shows `each` the raw row of the ARM at `index` after `history`.
    ///
    /// # Errors
    ///
    /// When the ARM fails, or where there is none ([`ChainFault::NoCandidate`]).
    fn arm_row(&mut self, index: usize, history: &[Token], each: &mut dyn FnMut(&[f32])) -> Result<(), ChainFault>;
}

/// What the decoding loop works with.
pub trait GuidedChain: Chain + Guided {}

impl<T: Chain + Guided> GuidedChain for T {}

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

/// A chain without ARMs that takes the likeliest token: for tests and examples.
#[derive(Debug, Default, Clone, Copy)]
pub struct Greedy;

impl Chain for Greedy {
    fn accept(&mut self, _: Token, _: bool) {}

    fn sample(&mut self, logits: &[f32]) -> Result<Token, ChainFault> {
        check_finite(logits).map_err(ChainFault::Base)?;
        let best = (0..logits.len()).max_by(|a, b| logits[*a].total_cmp(&logits[*b]).then(b.cmp(a)));
        best.map(|id| id as Token).ok_or(ChainFault::NoCandidate)
    }

    fn target_distribution(&mut self, logits: &[f32], out: &mut Distribution) -> Result<(), ChainFault> {
        out.set([(self.sample(logits)?, 1.0)]);
        Ok(())
    }

    fn draft_distribution(&mut self, logits: &[f32], out: &mut Distribution) -> Result<(), ChainFault> {
        self.target_distribution(logits, out)
    }
}

impl Guided for Greedy {
    fn prepare(&mut self, _: &[Token], _: usize) {}

    fn start(&mut self) {}

    fn prepare_chunk(&mut self, _: &[Token], _: usize) -> bool {
        false
    }

    fn read(&mut self) -> Result<(), ChainFault> {
        Ok(())
    }

    fn verify(&mut self, _: &[Token], _: &[f32], _: usize) -> Result<(), ChainFault> {
        Ok(())
    }

    fn room(&mut self, _: usize) -> usize {
        usize::MAX
    }

    fn guide(&mut self, _: &[Token], _: &mut [f32]) -> Result<(), ChainFault> {
        Ok(())
    }

    fn arm_row(&mut self, _: usize, _: &[Token], _: &mut dyn FnMut(&[f32])) -> Result<(), ChainFault> {
        Err(ChainFault::NoCandidate)
    }
}
