//! Guidance for a host that runs the base itself: a llama.cpp program, through the C ABI or the preload.
//!
//! ```text
//! Plugin   one configuration, its ARMs loaded once
//!   ├── Pool      sequences of the ARMs, leased to samplers
//!   ├── HostSampler one a chain: a history, weights, a lease while it speaks
//!   └── Watch     the file; a saved change of the weights holds from the next token on
//! ```
//!
//! A host tells its samplers tokens and nothing else, so an ARM reads the base's tokens: `template:` in the
//! configuration has no effect here, nor have `sampling:`, `prompt:` and `speculate:`, which are the host's own affair.

pub mod directory;
mod pool;
mod sampler;
mod text;
mod watch;

pub use pool::Pool;
pub use sampler::HostSampler;
pub use text::{HostText, StepError};
pub use watch::Watch;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use crate::config::{self, ArmSpec, Config, ConfigError, Overrides};
use crate::expert::Token;
use crate::guidance::{WeightError, Weights};
use crate::sampling::FailurePolicy;
use crate::session::{ArmModels, HostTokens, SessionError};

/// How many texts have ARM sequences of their own at once, unless `GENARM_SEQUENCES` says otherwise.
const MAX_SEQUENCES: usize = 16;

/// A configuration whose ARMs are loaded.
pub struct Plugin {
    models: Option<Arc<ArmModels>>,
    pool: Mutex<Pool>,
    overrides: Overrides,
    state: Mutex<PluginState>,
    /// The weights that a new sampler starts with.
    weights: Weights,
    texts: Mutex<Vec<Weak<HostText>>>,
    next_text: AtomicU64,
}

/// What a reload changes.
struct PluginState {
    config: Config,
    on_error: FailurePolicy,
}

/// Why there is no plugin.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PluginError {
    /// The configuration is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The ARMs cannot be loaded.
    #[error(transparent)]
    Session(Box<SessionError>),
}

impl From<SessionError> for PluginError {
    fn from(error: SessionError) -> Self {
        Self::Session(Box::new(error))
    }
}

impl Plugin {
    /// Loads the ARMs of a YAML file. `overrides` are laid over it, now and whenever it is reloaded.
    ///
    /// # Errors
    ///
    /// [`PluginError`]: one line that says what to do.
    pub fn open(file: &Path, overrides: Overrides) -> Result<Arc<Self>, PluginError> {
        Self::load(Config::load(Some(file), &overrides)?, overrides)
    }

    /// Does [`open`](Self::open)'s work on a text, whose relative paths start in `folder`.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub fn parse(yaml: &str, folder: &Path, overrides: Overrides) -> Result<Arc<Self>, PluginError> {
        let config = Config::parse(yaml, &folder.join("configuration"), &overrides)?;
        Self::load(Config { path: None, ..config }, overrides)
    }

    fn load(config: Config, overrides: Overrides) -> Result<Arc<Self>, PluginError> {
        let models = Arc::new(ArmModels::open(&config, &mut |_, _| true)?);
        for arm in config.arms.iter().filter(|arm| arm.reading.template.is_some()) {
            tracing::warn!(
                arm = arm.name,
                "a host gives tokens only, so the ARM reads those: its template has no effect"
            );
        }
        let weights = config.steering();
        let maker = (Arc::clone(&models), weights.clone());
        let mut pool = Pool::new(max_sequences(), Box::new(move || maker.0.guide(&maker.1)));
        // Make the first sequences now, so that a lack of memory is an error here and not during a text.
        pool.warm_up()?;
        Ok(Self::new(config, overrides, Some(models), weights, pool))
    }

    fn new(
        config: Config,
        overrides: Overrides,
        models: Option<Arc<ArmModels>>,
        weights: Weights,
        pool: Pool,
    ) -> Arc<Self> {
        let on_error = on_error(&config, models.as_deref());
        Arc::new(Self {
            models,
            pool: Mutex::new(pool),
            overrides,
            state: Mutex::new(PluginState { config, on_error }),
            weights,
            texts: Mutex::default(),
            next_text: AtomicU64::new(0),
        })
    }

    /// The file that it was opened from.
    pub fn path(&self) -> Option<PathBuf> {
        self.state().config.path.clone()
    }

    /// The weights that new samplers start with. [`set`](Self::set) changes those of the samplers that are there, too.
    pub fn weights(&self) -> &Weights {
        &self.weights
    }

    /// Sets one ARM's weight for every sampler, those to come too.
    ///
    /// # Errors
    ///
    /// [`WeightError`]; all weights are then as before.
    pub fn set(&self, name: &str, value: f32) -> Result<(), WeightError> {
        self.steer(|weights| weights.set(name, value))
    }

    /// Sets all weights of every sampler, those to come too.
    ///
    /// # Errors
    ///
    /// As [`set`](Self::set).
    pub fn set_all(&self, values: &[f32]) -> Result<(), WeightError> {
        self.steer(|weights| weights.set_all(values))
    }

    /// The weights of a profile.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] with the nearest profile.
    pub fn profile(&self, name: &str) -> Result<Vec<f32>, ConfigError> {
        self.state().config.profile(name)
    }

    /// Refuses a host whose tokens are not the ARMs'.
    ///
    /// # Errors
    ///
    /// [`SessionError::Vocabulary`].
    pub fn check_host(&self, host: &HostTokens) -> Result<(), SessionError> {
        self.models.as_ref().map_or(Ok(()), |models| models.check_host(host))
    }

    /// Tokens that the ARMs have decoded, in all sequences.
    pub fn n_decoded(&self) -> u64 {
        self.pool().n_decoded()
    }

    /// Reads the configuration again. A weight that has changed in it is set for every sampler; the others stay as they
    /// are, so that weights which a program has set are kept.
    ///
    /// # Errors
    ///
    /// [`ConfigError`]; everything is then as before.
    pub fn reload(&self) -> Result<(), ConfigError> {
        let Some(path) = self.path() else { return Ok(()) };
        let new = Config::load(Some(&path), &self.overrides)?;
        let mut state = self.state();
        let old = &state.config;
        let names = new.weight_names();
        if old.weight_names() != names {
            tracing::warn!("the file names other ARMs: restart the host to load them; nothing was changed");
            return Ok(());
        }
        let loaded = |arm: &ArmSpec| (arm.spec.clone(), arm.reading.clone(), arm.reference.clone());
        if old.arms.iter().zip(&new.arms).any(|(old, new)| loaded(old) != loaded(new)) {
            tracing::warn!("models, prompts or references have changed: restart the host to load them");
        }
        let changes = names.iter().zip(old.weights().into_iter().zip(new.weights()));
        for (name, (from, to)) in changes.filter(|(_, (from, to))| from != to) {
            tracing::info!(arm = name, from, to, "weight changed");
            // The name is known and the number in its range, as the configuration is valid.
            let _ = self.set(name, to);
        }
        state.on_error = on_error(&new, self.models.as_deref());
        state.config = new;
        Ok(())
    }

    /// Every change goes through here, one at a time, so that all samplers end up with the same.
    fn steer(&self, change: impl Fn(&Weights) -> Result<(), WeightError>) -> Result<(), WeightError> {
        let mut texts = self.texts.lock().unwrap_or_else(PoisonError::into_inner);
        change(&self.weights)?;
        texts.retain(|text| text.upgrade().is_some_and(|text| change(text.weights()).is_ok()));
        Ok(())
    }

    /// A text of its own, with weights of its own or another text's.
    fn text(&self, weights: Option<&Weights>, history: Vec<Token>) -> Arc<HostText> {
        let mut texts = self.texts.lock().unwrap_or_else(PoisonError::into_inner);
        let weights = weights.cloned().unwrap_or_else(|| self.weights.detached());
        let text = Arc::new(HostText::new(self.next_text.fetch_add(1, Ordering::Relaxed), weights, history));
        // Texts end without a word; their places are taken from time to time.
        if texts.len() == texts.capacity() {
            texts.retain(|text| text.strong_count() > 0);
        }
        texts.push(Arc::downgrade(&text));
        text
    }

    fn pool(&self) -> MutexGuard<'_, Pool> {
        // A panic in an ARM leaves nothing half done: its next call compares histories again.
        self.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn state(&self) -> MutexGuard<'_, PluginState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Every token that ends a text.
    fn eog_tokens(&self) -> Arc<[Token]> {
        eog_tokens(self.models.as_deref())
    }

    fn n_vocab(&self) -> Option<usize> {
        self.models.as_ref().map(|models| models.n_vocab())
    }
}

fn on_error(config: &Config, models: Option<&ArmModels>) -> FailurePolicy {
    match config.on_error {
        config::OnError::Base => FailurePolicy::Base,
        config::OnError::Stop => FailurePolicy::Stop(eog_tokens(models)),
    }
}

fn eog_tokens(models: Option<&ArmModels>) -> Arc<[Token]> {
    models.map(ArmModels::eog_tokens).unwrap_or_default().into()
}

fn max_sequences() -> usize {
    let given = std::env::var("GENARM_SEQUENCES").ok().and_then(|n| n.parse().ok());
    given.filter(|n| *n > 0).unwrap_or(MAX_SEQUENCES)
}

#[cfg(test)]
mod tests;
