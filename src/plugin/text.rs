//! One text of a host, as its sampler and other threads see it.

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::Plugin;
use crate::expert::{Token, check_finite};
use crate::guidance::{GuideError, Weights, log_sum_exp};
use crate::session::SessionError;

/// One text of a host: what its sampler has accepted, and the weights that steer it.
pub struct HostText {
    pub(super) id: u64,
    pub(super) weights: Weights,
    inner: Mutex<Inner>,
}

pub(super) struct Inner {
    pub history: Vec<Token>,
    /// Tokens that were accepted before the sampler was applied first: the prompt.
    pub n_prompt: Option<usize>,
    pub warned: bool,
    /// The length of the history at which the gate was asked last, and its answer: a step that is applied again, with a
    /// grammar's mask for example, keeps it.
    pub gated: Option<(usize, bool)>,
}

impl Inner {
    /// Tokens of the prompt: what has been accepted when this is asked first.
    pub fn prompt_len(&mut self) -> usize {
        let len = self.history.len();
        *self.n_prompt.get_or_insert(len)
    }
}

/// Why a step was not guided.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StepError {
    /// An ARM failed.
    #[error(transparent)]
    Guide(#[from] GuideError),
    /// There is no memory for the ARMs' sequences.
    #[error(transparent)]
    Session(Box<SessionError>),
    /// The host has other tokens.
    #[error(
        "the host's model has {host} tokens and the configuration's base {base}: give `base:` the model that the host runs"
    )]
    Vocabulary {
        /// The candidates that the host gave.
        host: usize,
        /// The base's tokens.
        base: usize,
    },
    /// No token has been accepted yet.
    #[error("no token has been accepted yet")]
    NoToken,
}

impl From<SessionError> for StepError {
    fn from(error: SessionError) -> Self {
        Self::Session(Box::new(error))
    }
}

impl HostText {
    pub(super) fn new(id: u64, weights: Weights, history: Vec<Token>) -> Self {
        Self { id, weights, inner: Mutex::new(Inner { history, n_prompt: None, warned: false, gated: None }) }
    }

    /// Its weights: a change holds from the next token on.
    pub fn weights(&self) -> &Weights {
        &self.weights
    }

    /// The natural log-probability that each ARM gave to the last token, at temperature 1; of those with weight 0 too.
    ///
    /// # Errors
    ///
    /// [`StepError`].
    ///
    /// # Cost
    ///
    /// A pass over the vocabulary an ARM, when asked before the next step; after it the ARMs read a token again.
    pub fn last_logprobs(&self, plugin: &Plugin) -> Result<(Token, Vec<f32>), StepError> {
        let inner = self.inner();
        let Some((&last, before)) = inner.history.split_last().filter(|(_, before)| !before.is_empty()) else {
            return Err(StepError::NoToken);
        };
        let mut pool = plugin.pool();
        let guide = pool.lease(self.id, before, inner.n_prompt.unwrap_or(before.len()))?;
        let n_vocab =
            plugin.n_vocab().unwrap_or_else(|| guide.experts().first_mut().map_or(0, |arm| arm.expert().n_vocab()));
        let rows = guide.expert_logits(before, &[], n_vocab)?;
        let logprob = |row: &Vec<f32>| row.get(last as usize).map_or(f32::NEG_INFINITY, |x| x - log_sum_exp(row));
        // In a host every ARM is an expert, the base's own file too.
        let arms = (0..guide.directions().len()).filter_map(|i| guide.expert_of(i));
        Ok((last, arms.map(|at| logprob(&rows[at])).collect()))
    }

    /// Adds the weighted logits after `history` to a row of logits, whatever the sampler has accepted.
    ///
    /// # Errors
    ///
    /// [`StepError`]; the logits are then as before.
    pub fn add(&self, plugin: &Plugin, history: &[Token], logits: &mut [f32]) -> Result<(), StepError> {
        if history.is_empty() {
            return Ok(());
        }
        check_size(plugin, logits.len())?;
        check_finite(logits).map_err(GuideError::of_base)?;
        let n_prompt = {
            // A shorter history than the first one is another text.
            let mut inner = self.inner();
            let n = inner.n_prompt.map_or(history.len(), |n| n.min(history.len()));
            inner.n_prompt = Some(n);
            n
        };
        let mut pool = plugin.pool();
        let guide = pool.lease(self.id, history, n_prompt)?;
        guide.steer_by(&self.weights);
        guide.set_limits(plugin.state().config.guidance.limits);
        guide.prepare(history, 1);
        Ok(guide.add(history, 1, logits)?)
    }

    pub(super) fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A host's rows may be shorter than the vocabulary (truncated candidates), and never longer.
pub(super) fn check_size(plugin: &Plugin, host: usize) -> Result<(), StepError> {
    match plugin.n_vocab() {
        Some(base) if host > base => Err(StepError::Vocabulary { host, base }),
        _ => Ok(()),
    }
}
