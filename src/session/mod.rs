//! A configuration, loaded: models opened once, vocabularies checked, guidance and sampling ready to run.
//!
//! The one way from a [`Config`] to text, for every door.

mod arms;
mod cache;
mod detokenizer;
mod draft_length;
mod drafters;
mod error;
mod experts;
mod open;
mod pace;
mod params;
mod plan;
mod prompt;
mod saved;
mod scheduler;
mod share;
mod slot;
mod template;
mod text_generator;
mod translate;

#[doc(hidden)]
pub use arms::{ArmModels, HostTokens};
pub use detokenizer::{Detokenizer, TokenText};
pub use error::{PromptError, SessionError, Shortage, VocabularyAdvice};
pub use open::Loading;
#[doc(hidden)]
pub use params::context_params;
#[doc(hidden)]
pub use plan::{MemoryPlan, plan};
pub use prompt::Prompt;
#[doc(hidden)]
pub use prompt::{ChatInput, Personas, PromptRenderer};
#[doc(hidden)]
pub use saved::{Caches, CachesError};
pub(crate) use scheduler::{Scheduler, SlotText};
#[doc(hidden)]
pub use share::Shared;
#[doc(hidden)]
pub use slot::Slot;
#[doc(hidden)]
pub use text_generator::SessionGenerator;
#[cfg(feature = "cli")]
pub(crate) use translate::translation;

use std::sync::Arc;

use crate::chat::ChatTemplate;
use crate::config::{self, Config, ExpertSpec, ReadingSpec};
use crate::decode::{self, DecodeError, Flow, Generated, Speculator, Step};
use crate::engine::Sequence;
use crate::engine::llama::Vocab;
use crate::engine::share::ShareError;
use crate::guidance::Weights;
use crate::guidance::translate::Translation;
use crate::sampling::params::{RANDOM_SEED, SamplingParams};
use crate::sampling::{ChainError, FailurePolicy, HookState, Sampler};

/// A base, its ARMs, and all that is needed to generate with them: one text at a time, or one in each of its slots.
pub struct Session {
    config: Config,
    vocab: Vocab,
    /// At least one.
    slots: Vec<Slot>,
    shared: Vec<Shared>,
    prompts: Arc<PromptRenderer>,
    /// `None` decodes plainly.
    speculator: Option<Speculator>,
    /// Tokens of a draft that base and ARMs can take back.
    draft_max: usize,
}

/// How an expert reads prompts.
pub(crate) struct ExpertText {
    /// What messages call it.
    who: String,
    vocab: Vocab,
    spec: ExpertSpec,
    template: Option<ChatTemplate>,
    /// Whether the configuration names the template: then plain prompts go through it too.
    templated: bool,
    reading: ReadingSpec,
    /// Whether requests say what it reads.
    spare: bool,
    /// Where its vocabulary is another than the base's.
    translation: Option<Arc<Translation>>,
}

/// The experts' readings, and which of them each ARM is; `None` is the base itself.
pub(crate) struct ExpertTexts {
    experts: Vec<ExpertText>,
    of_arms: Vec<Option<usize>>,
}

impl Session {
    /// Loads everything that `config` names; `loading` is told how far it is.
    ///
    /// # Errors
    ///
    /// [`SessionError`]: one line that says what to do.
    pub fn open(config: Config, loading: Loading<'_>) -> Result<Self, SessionError> {
        Self::open_slots(config, 1, loading)
    }

    /// The same with room for `n_slots` texts at once, at least one.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub fn open_slots(config: Config, n_slots: usize, loading: Loading<'_>) -> Result<Self, SessionError> {
        let opened = open::open(&config, n_slots.max(1), &mut *loading)?;
        let vocab = opened.base.vocab();
        let on_error = match config.on_error {
            config::OnError::Base => FailurePolicy::Base,
            config::OnError::Stop => FailurePolicy::Stop(vocab.eog_tokens().collect::<Vec<_>>().into()),
        };
        let gate = config.guidance.gate;
        let slot = |(base, guide)| Slot::new(base, guide, gate, on_error.clone(), &vocab);
        let mut slots: Vec<_> = opened.slots.into_iter().map(slot).collect();
        let (base_template, shared) = (opened.base_template, opened.shared);
        let experts = ExpertTexts { experts: opened.experts, of_arms: opened.of_arms };
        let draft_max = opened.draft_max;
        let speculator = drafters::speculator(&config, &opened.base, &experts, draft_max, slots[0].hook(), loading)?;
        match set_heads(&mut slots, speculator.as_ref()) {
            Err(error) if config.speculate == config::Speculate::Mtp => return Err(error),
            Err(error) => tracing::warn!("{error}; nothing is drafted with the base's own head"),
            Ok(()) => {}
        }
        let prompts = Arc::new(PromptRenderer::new(vocab.clone(), base_template, &config.prompt, experts));
        Ok(Self { config, vocab, slots, shared, prompts, speculator, draft_max })
    }

    /// Its slots, each with weights of its own.
    pub fn slots(&mut self) -> &mut [Slot] {
        &mut self.slots
    }

    /// The same, with what drafts for one of them at a time.
    pub fn slots_and_speculator(&mut self) -> (&mut [Slot], Option<&mut Speculator>) {
        (&mut self.slots, self.speculator.as_mut())
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

    /// The weights of the first slot: a change holds from the next token on.
    pub fn weights(&self) -> &Weights {
        self.slots[0].weights()
    }

    /// The state of the first slot's guiding hook.
    pub fn hook(&self) -> &HookState {
        self.slots[0].hook()
    }

    /// The base as an expert, in the first slot.
    pub fn base(&mut self) -> &mut Sequence {
        self.slots[0].base()
    }

    /// Tokens that the base has decoded in the first slot.
    pub fn n_decoded(&self) -> u64 {
        self.slots[0].n_decoded()
    }

    /// Tokens that a text may have.
    pub fn n_ctx(&self) -> usize {
        self.slots[0].n_ctx()
    }

    /// A sampler with these parameters, behind the first slot's hook.
    ///
    /// # Errors
    ///
    /// [`ChainError`] where the parameters name tokens, grammars or schemas that the vocabulary cannot follow.
    pub fn sampler(&self, params: &SamplingParams) -> Result<Sampler, ChainError> {
        self.slots[0].sampler(params)
    }

    /// Continues a prompt in the first slot; `each` sees every token as it is drawn.
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
        let slot = &mut self.slots[0];
        slot.rewind(sampler, prompt);
        let vocab = self.vocab.clone();
        let is_eog = |token| vocab.is_eog(token);
        let mut speculator = self.speculator.as_mut().filter(|_| sampler.has_distribution());
        if let Some(speculator) = &mut speculator {
            speculator.seed(sampler.seed().into());
        }
        decode::generate(slot.base(), sampler, speculator, &prompt.base, n_predict, &is_eog, each)
    }

    /// A speculator on this session's models; `None` is plain decoding.
    ///
    /// # Errors
    ///
    /// [`SessionError::Speculate`] where that drafter cannot draft here; what loading a draft model reports.
    pub fn speculator(&self, speculate: &config::Speculate) -> Result<Option<Speculator>, SessionError> {
        let config = Config { speculate: speculate.clone(), ..self.config.clone() };
        let (base, experts) = (self.vocab.model(), self.prompts.experts());
        drafters::speculator(&config, base, experts, self.draft_max, self.hook(), &mut |_, _| true)
    }

    /// Takes another speculator from now on, and gives back the one of before. The base's own head reads along from the next
    /// token on where that is to draft, and no longer where it is not.
    pub fn replace_speculator(&mut self, speculator: Option<Speculator>) -> Option<Speculator> {
        if let Err(error) = set_heads(&mut self.slots, speculator.as_ref()) {
            tracing::warn!("{error}; nothing is drafted with the base's own head");
        }
        std::mem::replace(&mut self.speculator, speculator)
    }

    /// The β_r of an ARM's training, if the configuration says it.
    pub fn beta_r(&self, arm: usize) -> Option<f32> {
        self.config.arms.get(arm).and_then(|arm| arm.beta_r)
    }
}

/// Lets the bases of all slots read along with their heads where `speculator` drafts with those, and not elsewhere.
fn set_heads(slots: &mut [Slot], speculator: Option<&Speculator>) -> Result<(), SessionError> {
    let fail = |source| SessionError::Sequence { who: "base".into(), source: ShareError::Context(source) };
    match speculator.is_some_and(Speculator::uses_head) {
        true => slots.iter_mut().try_for_each(|slot| slot.base().open_head().map_err(fail)),
        false => {
            slots.iter_mut().for_each(|slot| slot.base().close_head());
            Ok(())
        }
    }
}

/// A seed that can be reported: `params` with [`RANDOM_SEED`] replaced by a random one.
pub fn with_known_seed(params: &SamplingParams) -> SamplingParams {
    let seed = if params.seed == RANDOM_SEED { rand::random::<u32>() >> 1 } else { params.seed };
    SamplingParams { seed, ..params.clone() }
}
