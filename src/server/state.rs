//! What all routes share.

use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Context;
use tokio::sync::mpsc;

use super::access::Access;
use super::answers::Answers;
use super::engine::{Engine, Event, Job, Queue, Refused, SlotPlace};
use super::error::ApiError;
use super::metrics::Metrics;
use super::options::{Limits, Options};
use super::readers::{Purpose, Readers};
use super::running::RunningAnswers;
use crate::chat::SpecialTexts;
use crate::config::{Config, Overrides};
use crate::session::{Caches, PromptRenderer, Session};

/// Events that may wait for a client before its text pauses.
const CHANNEL: usize = 64;

/// A loaded session behind HTTP.
pub struct Server {
    /// Ways into the engine.
    pub(super) queue: Arc<Queue>,
    /// How prompts are read.
    pub(super) prompts: Arc<PromptRenderer>,
    /// How answers are read; known when the first one is.
    answers: OnceLock<Result<Answers, String>>,
    /// Room for those who read prompts.
    pub(super) readers: Readers,
    /// Tokens that a text may have.
    pub(super) n_ctx: usize,
    /// The base's name.
    pub(super) model: String,
    /// When the server started, in seconds since 1970.
    pub(super) created: u64,
    /// Weights, profiles and sampling that new requests start from.
    defaults: RwLock<Arc<Config>>,
    /// Personas that a request may bring.
    pub(super) n_personas: usize,
    /// The answers that are being written.
    pub(super) running: RunningAnswers,
    /// What the command line says, for reloads.
    pub(super) overrides: Overrides,
    /// Who may come in.
    pub(super) access: Access,
    /// Whether grammars and schemas of requests are refused.
    pub(super) refuses_grammars: bool,
    /// Whether unknown fields of requests are refused on all routes.
    pub(super) strict_fields: bool,
    /// All names of the model, that of `model` first.
    pub(super) aliases: Vec<String>,
    /// Most tokens per text where a request does not say.
    pub(super) n_predict: Option<usize>,
    /// Variables for the chat template where a request does not give them.
    pub(super) variables: serde_json::Map<String, serde_json::Value>,
    /// Whether there is a page.
    pub(super) has_page: bool,
    /// Whether answers repeat the prompt.
    pub(super) verbose: bool,
    /// Whether the slots are shown.
    pub(super) shows_slots: bool,
    /// The folder in which requests may save slots.
    pub(super) slot_save_path: Option<std::path::PathBuf>,
    /// What a slot held when the server started, where slots can be saved: the models that it has caches of.
    pub(super) empty_caches: Option<Caches>,
    /// The base's file.
    pub(super) model_path: std::path::PathBuf,
    /// Bounds.
    pub(super) limits: Limits,
    /// Counters.
    pub(super) metrics: Metrics,
    /// Whether they are shown.
    pub(super) shows_metrics: bool,
    /// Origins whose pages may use the API.
    pub(super) cors_origins: Vec<String>,
}

impl Server {
    /// Reports what is wrong with `options`, before any model is opened, and reads the keys.
    ///
    /// # Errors
    ///
    /// One line that names the option.
    pub fn check(options: &Options) -> anyhow::Result<Access> {
        if let Some(folder) = options.slot_save_path.as_ref().filter(|folder| !folder.is_dir()) {
            anyhow::bail!("--slot-save-path {}: there is no such folder; make it first", folder.display());
        }
        Access::new(options)
    }

    /// Opens what `open` opens, on the engine's thread. `access` is what [`check`](Self::check) returned for `options`.
    ///
    /// # Errors
    ///
    /// Those of `open`.
    pub fn start(
        open: impl FnOnce() -> anyhow::Result<Session> + Send + 'static,
        overrides: Overrides,
        options: &Options,
        access: Access,
    ) -> anyhow::Result<(Arc<Self>, Engine)> {
        let saves_slots = options.slot_save_path.is_some();
        let metrics = Metrics::default();
        let opened = move |session: &mut Session| {
            // Reads the files for their fingerprints now, and not while texts wait.
            let empty = saves_slots.then(|| session.slots()[0].save_caches()).transpose();
            empty.map(|empty| (empty, Arc::clone(session.prompts()), session.n_ctx(), session.config().clone()))
        };
        let (engine, opened) = Engine::start(open, opened, &options.limits, metrics.clone())?;
        let (empty_caches, prompts, n_ctx, mut config) = opened.context("--slot-save-path")?;
        // Places that wait for a request's persona are no ARMs to the outside.
        let n_arms = config.arms.len();
        config.arms.retain(|arm| !arm.spare);
        let n_personas = n_arms - config.arms.len();
        let mut aliases = options.aliases.clone();
        if aliases.is_empty() {
            aliases.push(crate::files::model_name(&config.base.model));
        }
        let server = Self {
            queue: Arc::clone(engine.queue()),
            prompts,
            answers: OnceLock::new(),
            readers: Readers::default(),
            n_ctx,
            model: aliases[0].clone(),
            aliases,
            n_predict: options.n_predict.map(|n| n as usize),
            verbose: options.verbose,
            variables: options.variables.clone(),
            has_page: options.page,
            shows_slots: options.slots,
            slot_save_path: options.slot_save_path.clone(),
            empty_caches,
            strict_fields: options.strict_fields,
            model_path: config.base.model.clone(),
            created: now(),
            defaults: RwLock::new(Arc::new(config)),
            n_personas,
            running: RunningAnswers::default(),
            overrides,
            access,
            refuses_grammars: options.no_grammar,
            limits: options.limits.clone(),
            metrics,
            shows_metrics: options.metrics,
            cors_origins: options.cors_origins.clone(),
        };
        Ok((Arc::new(server), engine))
    }

    /// How llama.cpp reads answers under the base's chat template.
    ///
    /// # Errors
    ///
    /// Why it cannot.
    pub(super) fn answers(&self) -> Result<&Answers, &str> {
        let read = || {
            let template = self.prompts.template(0).ok_or("there is none")?;
            let special = SpecialTexts::of(self.prompts.vocab());
            Answers::new(template.source(), &special.bos, &special.eos)
        };
        self.answers.get_or_init(read).as_ref().map_err(String::as_str)
    }

    /// The same, where it has been read.
    pub(super) fn known_answers(&self) -> Option<Result<&Answers, &str>> {
        self.answers.get().map(|answers| answers.as_ref().map_err(String::as_str))
    }

    /// Whether texts are still being read, on threads that llama.cpp has at work.
    pub fn is_reading(&self) -> bool {
        self.readers.are_busy()
    }

    /// Calls `read` on a thread of its own; see [`Readers::off_thread`].
    ///
    /// # Errors
    ///
    /// As there.
    pub(super) async fn off_thread<T: Send + 'static>(
        &self,
        purpose: Purpose,
        read: impl FnOnce() -> Result<T, ApiError> + Send + 'static,
    ) -> Result<T, ApiError> {
        let queue = Arc::clone(&self.queue);
        let is_closed = move || queue.is_closed();
        self.readers.off_thread(purpose, self.n_ctx, self.limits.queue_timeout, is_closed, read).await
    }

    /// What new requests start from.
    pub(super) fn defaults(&self) -> Arc<Config> {
        Arc::clone(&self.defaults.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Changes what new requests start from; running ones keep what they have.
    pub(super) fn set_defaults(&self, config: Config) {
        self.set_defaults_and(config, || {});
    }

    /// As [`set_defaults`](Self::set_defaults). `count` is done by the time that the new ones can be seen, and they can
    /// be seen by the time that what it does can.
    pub(super) fn set_defaults_and(&self, config: Config, count: impl FnOnce()) {
        let mut defaults = self.defaults.write().unwrap_or_else(PoisonError::into_inner);
        *defaults = Arc::new(config);
        count();
    }

    /// Whether a prompt is read from its beginning. A cached prefix was read in other batches, whose sums are rounded
    /// otherwise: where one text at a time is served, a request that names a seed gets the same text each time, unless
    /// it prefers the cache.
    pub(super) fn reads_anew(&self, is_seeded: bool, cache_prompt: Option<bool>) -> bool {
        !cache_prompt.unwrap_or(!(is_seeded && self.queue.n_slots() == 1))
    }

    /// The slot that a request asks for, if there is one of that number.
    ///
    /// # Errors
    ///
    /// A 400 about `id_slot`.
    pub(super) fn slot(&self, asked: Option<usize>) -> Result<Option<usize>, ApiError> {
        let n = self.queue.n_slots();
        match asked.filter(|slot| *slot >= n) {
            Some(slot) => {
                Err(ApiError::invalid("id_slot", format!("id_slot {slot} is none of the slots 0 to {}", n - 1)))
            }
            None => Ok(asked),
        }
    }

    /// The place of the one request that saves or restores a slot, once the slot is free.
    ///
    /// # Errors
    ///
    /// [`ApiError::queued_too_long`], and those of a full and of a closed queue.
    pub(super) async fn slot_place(&self, slot: usize) -> Result<SlotPlace, ApiError> {
        let place = self.queue.wait_for_place(slot).map_err(Refused::error)?;
        let place = tokio::time::timeout(self.limits.queue_timeout, place).await;
        place.map_err(|_| ApiError::queued_too_long())?.map_err(|_| ApiError::shutting_down())
    }

    /// Hands jobs to the engine; each is given its number and the way back.
    pub(super) fn submit(
        &self,
        jobs: impl FnOnce(&mpsc::Sender<(usize, Event)>) -> Vec<Job>,
    ) -> Result<mpsc::Receiver<(usize, Event)>, ApiError> {
        let (sender, receiver) = mpsc::channel(CHANNEL);
        self.queue.submit(jobs(&sender)).map_err(Refused::error)?;
        Ok(receiver)
    }
}

/// Seconds since 1970.
pub(super) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs())
}
