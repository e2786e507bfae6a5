//! Room for one text: the base's sequence, the ARMs' behind their hook, and the weights that steer it.

use std::sync::Arc;

use super::Prompt;
use crate::config::Gate;
use crate::decode::{DecodeError, Text};
use crate::engine::Sequence;
use crate::engine::llama::Vocab;
use crate::expert::Expert;
use crate::guidance::{Arm, Guide, Weights};
use crate::sampling::grammar::Compiled;
use crate::sampling::params::SamplingParams;
use crate::sampling::{ChainError, Dry, FailurePolicy, HookState, Sampler};

/// Room for one text in a [`Session`](super::Session).
pub struct Slot {
    base: Sequence,
    hook: HookState,
    weights: Weights,
    vocab: Vocab,
}

impl Slot {
    pub(super) fn new(
        base: Sequence,
        mut guide: Guide,
        gate: Option<Gate>,
        on_error: FailurePolicy,
        vocab: &Vocab,
    ) -> Self {
        guide.set_gate(gate);
        let weights = guide.weights().clone();
        Self { base, hook: HookState::new(guide, on_error), weights, vocab: vocab.clone() }
    }

    /// The base as an expert.
    pub fn base(&mut self) -> &mut Sequence {
        &mut self.base
    }

    /// The state of the guiding hook.
    pub fn hook(&self) -> &HookState {
        &self.hook
    }

    /// The weights: a change holds from the next token on.
    pub fn weights(&self) -> &Weights {
        &self.weights
    }

    /// Tokens that the base has decoded.
    pub fn n_decoded(&self) -> u64 {
        self.base.n_decoded()
    }

    /// Tokens that a text may have.
    pub fn n_ctx(&self) -> usize {
        self.base.n_ctx()
    }

    /// Drops all that base and ARMs hold: a text then does not depend, by a rounding, on what was read before.
    pub fn forget(&mut self) {
        self.base.forget();
        self.hook.with_guide(|guide| guide.experts().iter_mut().for_each(Arm::forget));
    }

    /// A sampler with these parameters, behind this slot's hook.
    ///
    /// # Errors
    ///
    /// [`ChainError`] where the parameters name tokens, grammars or schemas that the vocabulary cannot follow.
    pub fn sampler(&self, params: &SamplingParams) -> Result<Sampler, ChainError> {
        Sampler::new(params, &self.vocab, self.n_ctx(), self.active_hook())
    }

    /// The same with a grammar that was compiled before, in place of that of the parameters, and with a copy of a
    /// [`Dry`] that was made before for these parameters.
    ///
    /// # Errors
    ///
    /// [`ChainError`].
    pub fn constrained_sampler(
        &self,
        params: &SamplingParams,
        grammar: Option<Arc<Compiled>>,
        dry: Option<&Dry>,
    ) -> Result<Sampler, ChainError> {
        Sampler::constrained(params, &self.vocab, self.n_ctx(), self.active_hook(), grammar, dry)
    }

    fn active_hook(&self) -> Option<HookState> {
        (!self.weights.names().is_empty()).then(|| self.hook.clone())
    }

    /// Puts sampler and ARMs at the beginning of a text.
    pub fn rewind(&mut self, sampler: &mut Sampler, prompt: &Prompt) {
        sampler.reset();
        self.hook.with_guide(|guide| guide.begin(prompt.base.len(), prompt.experts.clone()));
    }

    /// Begins a text of up to `n_predict` tokens; [`Text::step`] continues it.
    ///
    /// # Errors
    ///
    /// As [`Text::begin`].
    pub fn begin(&mut self, sampler: &mut Sampler, prompt: &Prompt, n_predict: usize) -> Result<Text, DecodeError> {
        self.rewind(sampler, prompt);
        Text::begin(&self.base, sampler, &prompt.base, n_predict)
    }
}
