//! A configuration, loaded: models opened once, vocabularies checked, guidance and sampling ready to run.
//!
//! The one way from a [`Config`] to text, for every door.

mod arms;
mod error;
mod open;
mod prompt;

pub use arms::{ArmModels, HostTokens};
pub use error::{PromptError, SessionError};
pub use open::{Loading, context_params};
pub use prompt::Prompt;

use crate::chat::ChatTemplate;
use crate::config::{self, Config};
use crate::decode::{self, DecodeError, Flow, Generated, Step};
use crate::engine::Sequence;
use crate::engine::llama::Vocab;
use crate::expert::Expert;
use crate::guidance::Weights;
use crate::sampling::params::{RANDOM_SEED, SamplingParams};
use crate::sampling::{ChainError, HookState, OnError, Sampler};

/// A base, its ARMs, and all that is needed to generate with them.
pub struct Session {
    config: Config,
    base: Sequence,
    vocab: Vocab,
    hook: HookState,
    weights: Weights,
    /// Of the base, then of each ARM that has one.
    base_template: Option<ChatTemplate>,
    arms: Vec<ArmText>,
}

/// How an ARM reads prompts.
struct ArmText {
    name: String,
    vocab: Vocab,
    template: Option<ChatTemplate>,
    /// Whether the configuration gave the template: then plain prompts go through it too.
    templated: bool,
}

impl Session {
    /// Loads everything that `config` names; `loading` is told how far it is.
    ///
    /// # Errors
    ///
    /// [`SessionError`]: one line that says what to do.
    pub fn open(config: Config, loading: Loading<'_>) -> Result<Self, SessionError> {
        let opened = open::open(&config, loading)?;
        let vocab = opened.base.vocab();
        let on_error = match config.on_error {
            config::OnError::Base => OnError::Base,
            config::OnError::Stop => OnError::Stop(vocab.eog_tokens().collect::<Vec<_>>().into()),
        };
        let weights = opened.guide.weights().clone();
        let hook = HookState::new(opened.guide, on_error);
        let base = opened.base_sequence;
        Ok(Self { config, base, vocab, hook, weights, base_template: opened.base_template, arms: opened.arms })
    }

    /// The configuration that it was opened with.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The base's vocabulary.
    pub fn vocab(&self) -> &Vocab {
        &self.vocab
    }

    /// The weights: a change holds from the next token on.
    pub fn weights(&self) -> &Weights {
        &self.weights
    }

    /// The state of the guiding hook.
    pub fn hook(&self) -> &HookState {
        &self.hook
    }

    /// The base as an expert.
    pub fn base(&mut self) -> &mut Sequence {
        &mut self.base
    }

    /// Tokens that the base has decoded.
    pub fn n_decoded(&self) -> u64 {
        self.base.n_decoded()
    }

    /// Tokens that a text may have.
    pub fn n_ctx(&self) -> usize {
        self.base.n_ctx()
    }

    /// A sampler with these parameters, behind this session's hook.
    ///
    /// # Errors
    ///
    /// [`ChainError`] where the parameters name tokens, grammars or schemas that the vocabulary cannot follow.
    pub fn sampler(&self, params: &SamplingParams) -> Result<Sampler, ChainError> {
        let hook = (!self.arms.is_empty()).then(|| self.hook.clone());
        Sampler::new(params, &self.vocab, self.n_ctx(), hook)
    }

    /// Continues a prompt; `each` sees every token as it is drawn.
    ///
    /// # Errors
    ///
    /// As [`decode::generate`].
    pub fn generate(
        &mut self,
        sampler: &mut Sampler,
        prompt: &Prompt,
        n_predict: usize,
        each: &mut dyn FnMut(Step<'_>) -> Flow,
    ) -> Result<Generated, DecodeError> {
        sampler.reset();
        self.hook.with_guide(|guide| guide.begin(prompt.base.len(), prompt.arms.clone()));
        let vocab = self.vocab.clone();
        decode::generate(&mut self.base, sampler, &prompt.base, n_predict, &|token| vocab.is_eog(token), each)
    }

    /// The β_r of an ARM's training, if the configuration says it.
    pub fn beta_r(&self, arm: usize) -> Option<f32> {
        self.config.arms.get(arm).and_then(|arm| arm.beta_r)
    }
}

/// A seed that can be reported: `params` with [`RANDOM_SEED`] replaced by a random one.
pub fn with_known_seed(params: &SamplingParams) -> SamplingParams {
    let seed = if params.seed == RANDOM_SEED { rand::random::<u32>() >> 1 } else { params.seed };
    SamplingParams { seed, ..params.clone() }
}

/// The text of a special token, for templates.
fn special_text(vocab: &Vocab, token: Option<crate::Token>) -> String {
    token.map(|token| vocab.text(&[token], true)).unwrap_or_default()
}
