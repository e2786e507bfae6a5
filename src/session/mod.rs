//! A configuration, loaded: models opened once, vocabularies checked, guidance and sampling ready to run.
//!
//! The one way from a [`Config`] to text, for every door.

mod arms;
mod drafters;
mod error;
mod lane;
mod open;
mod pieces;
mod plan;
mod prompt;
mod share;
mod studio;
mod template;

pub use arms::{ArmModels, HostTokens};
pub use error::{PromptError, SessionError, Shortage};
pub use lane::Lane;
pub use open::{Loading, context_params};
pub use pieces::{Pieces, TokenText};
pub use plan::{MemoryPlan, plan};
pub use prompt::{Prompt, Prompts};
pub use share::Shared;
pub use studio::SessionStudio;

use std::sync::Arc;

use crate::chat::ChatTemplate;
use crate::config::{self, Config};
use crate::decode::{self, DecodeError, Flow, Generated, Speculator, Step};
use crate::engine::Sequence;
use crate::engine::llama::Vocab;
use crate::guidance::Weights;
use crate::sampling::params::{RANDOM_SEED, SamplingParams};
use crate::sampling::{ChainError, HookState, OnError, Sampler};

/// A base, its ARMs, and all that is needed to generate with them: one text at a time, or one in each of its lanes.
pub struct Session {
    config: Config,
    vocab: Vocab,
    /// At least one.
    lanes: Vec<Lane>,
    shared: Vec<Shared>,
    prompts: Arc<Prompts>,
    /// `None` decodes plainly.
    speculator: Option<Speculator>,
}

/// How an ARM reads prompts.
pub(crate) struct ArmText {
    name: String,
    vocab: Vocab,
    template: Option<ChatTemplate>,
    /// Whether the configuration names the template: then plain prompts go through it too.
    templated: bool,
}

impl Session {
    /// Loads everything that `config` names; `loading` is told how far it is.
    ///
    /// # Errors
    ///
    /// [`SessionError`]: one line that says what to do.
    pub fn open(config: Config, loading: Loading<'_>) -> Result<Self, SessionError> {
        Self::open_lanes(config, 1, loading)
    }

    /// The same with room for `n_lanes` texts at once, at least one.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub fn open_lanes(config: Config, n_lanes: usize, loading: Loading<'_>) -> Result<Self, SessionError> {
        let opened = open::open(&config, n_lanes.max(1), &mut *loading)?;
        let vocab = opened.base.vocab();
        let on_error = match config.on_error {
            config::OnError::Base => OnError::Base,
            config::OnError::Stop => OnError::Stop(vocab.eog_tokens().collect::<Vec<_>>().into()),
        };
        let gate = config.guidance.gate;
        let lane = |(base, guide)| Lane::new(base, guide, gate, on_error.clone(), &vocab);
        let lanes: Vec<_> = opened.lanes.into_iter().map(lane).collect();
        let (base_template, arms, shared) = (opened.base_template, opened.arms, opened.shared);
        let speculator = drafters::speculator(&config, &opened.base, &arms, lanes[0].hook(), loading)?;
        let prompts = Arc::new(Prompts::new(vocab.clone(), base_template, config.prompt.system.clone(), arms));
        Ok(Self { config, vocab, lanes, shared, prompts, speculator })
    }

    /// Its lanes, each with weights of its own.
    pub fn lanes(&mut self) -> &mut [Lane] {
        &mut self.lanes
    }

    /// The same, with what drafts for one of them at a time.
    pub fn lanes_and_speculator(&mut self) -> (&mut [Lane], Option<&mut Speculator>) {
        (&mut self.lanes, self.speculator.as_mut())
    }

    /// Which experts share batches, and why those do not that could.
    pub fn shared(&self) -> &[Shared] {
        &self.shared
    }

    /// The configuration that it was opened with.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The base's vocabulary.
    pub fn vocab(&self) -> &Vocab {
        &self.vocab
    }

    /// The weights of the first lane: a change holds from the next token on.
    pub fn weights(&self) -> &Weights {
        self.lanes[0].weights()
    }

    /// The state of the first lane's guiding hook.
    pub fn hook(&self) -> &HookState {
        self.lanes[0].hook()
    }

    /// The base as an expert, in the first lane.
    pub fn base(&mut self) -> &mut Sequence {
        self.lanes[0].base()
    }

    /// Tokens that the base has decoded in the first lane.
    pub fn n_decoded(&self) -> u64 {
        self.lanes[0].n_decoded()
    }

    /// Tokens that a text may have.
    pub fn n_ctx(&self) -> usize {
        self.lanes[0].n_ctx()
    }

    /// A sampler with these parameters, behind the first lane's hook.
    ///
    /// # Errors
    ///
    /// [`ChainError`] where the parameters name tokens, grammars or schemas that the vocabulary cannot follow.
    pub fn sampler(&self, params: &SamplingParams) -> Result<Sampler, ChainError> {
        self.lanes[0].sampler(params)
    }

    /// Continues a prompt in the first lane; `each` sees every token as it is drawn.
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
        let lane = &mut self.lanes[0];
        lane.rewind(sampler, prompt);
        let vocab = self.vocab.clone();
        let is_eog = |token| vocab.is_eog(token);
        let mut speculator = self.speculator.as_mut().filter(|_| sampler.has_distribution());
        if let Some(speculator) = &mut speculator {
            speculator.seed(sampler.seed().into());
        }
        decode::generate(lane.base(), sampler, speculator, &prompt.base, n_predict, &is_eog, each)
    }

    /// A speculator on this session's models; `None` is plain decoding.
    ///
    /// # Errors
    ///
    /// [`SessionError::Speculate`] where that drafter cannot draft here; what loading a draft model reports.
    pub fn speculator(&self, speculate: &config::Speculate) -> Result<Option<Speculator>, SessionError> {
        let config = Config { speculate: speculate.clone(), ..self.config.clone() };
        drafters::speculator(&config, self.vocab.model(), self.prompts.arms(), self.hook(), &mut |_, _| true)
    }

    /// Takes another speculator from now on, and gives back the one of before.
    pub fn replace_speculator(&mut self, speculator: Option<Speculator>) -> Option<Speculator> {
        std::mem::replace(&mut self.speculator, speculator)
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
