//! The sampler that a host's chain holds.

use std::ffi::CStr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Plugin, directory};
use crate::expert::{Token, check_finite};
use crate::guidance::{GuideError, Weights, log_sum_exp};
use crate::sampling::vtable::{Candidates, CustomSampler};
use crate::sampling::{FailurePolicy, end_text, steer};
use crate::session::SessionError;

/// One text of a host: what its sampler has been told, and the weights that steer it.
pub struct HostText {
    id: u64,
    weights: Weights,
    inner: Mutex<Inner>,
}

struct Inner {
    history: Vec<Token>,
    warned: bool,
    /// The length of the history at which the gate was asked last, and its answer: a step that is applied again, with a grammar's
    /// mask for example, keeps it.
    gated: Option<(usize, bool)>,
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
        Self { id, weights, inner: Mutex::new(Inner { history, warned: false, gated: None }) }
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
        let guide = pool.lease(self.id, before)?;
        let n_vocab =
            plugin.n_vocab().unwrap_or_else(|| guide.experts().first_mut().map_or(0, |arm| arm.expert().n_vocab()));
        let rows = guide.expert_logits(before, n_vocab)?;
        let logprob = |row: &Vec<f32>| row.get(last as usize).map_or(f32::NEG_INFINITY, |x| x - log_sum_exp(row));
        // An ARM that is the base itself has no row here: the host has it.
        let arms = (0..guide.directions().len()).map(|i| guide.expert_of(i).map_or(f32::NAN, |at| logprob(&rows[at])));
        Ok((last, arms.collect()))
    }

    /// Adds the weighted logits after `history` to a row of logits, whatever the sampler has been told.
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
        let mut pool = plugin.pool();
        let guide = pool.lease(self.id, history)?;
        guide.steer_by(&self.weights);
        guide.prepare(history, 1);
        Ok(guide.add(history, 1, logits)?)
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A host's rows may be shorter than the vocabulary (truncated candidates), and never longer.
fn check_size(plugin: &Plugin, host: usize) -> Result<(), StepError> {
    match plugin.n_vocab() {
        Some(base) if host > base => Err(StepError::Vocabulary { host, base }),
        _ => Ok(()),
    }
}

/// The sampler "genarm" of a host. It knows its text only through `accept`.
///
/// A fork shares the weights and has a history of its own; it costs nothing until it is asked.
pub struct HostSampler {
    plugin: Arc<Plugin>,
    pub(super) text: Arc<HostText>,
    address: Option<usize>,
}

impl HostSampler {
    /// A sampler at the beginning of a text.
    pub fn new(plugin: &Arc<Plugin>) -> Self {
        Self { plugin: Arc::clone(plugin), text: plugin.text(None, Vec::new()), address: None }
    }

    /// Whether the configuration's gate leaves this step to the base.
    fn is_gated(&self, inner: &mut Inner, candidates: &mut Candidates<'_>) -> bool {
        let Some(gate) = self.plugin.state().config.guidance.gate else { return false };
        let at = inner.history.len();
        match inner.gated {
            Some((asked, sure)) if asked == at => sure,
            _ => {
                let sure = gate.is_sure(candidates.as_mut_slice().iter().map(|c| c.logit));
                inner.gated = Some((at, sure));
                sure
            }
        }
    }

    fn steer(&self, history: &[Token], candidates: &mut Candidates<'_>) -> Result<(), StepError> {
        check_size(&self.plugin, candidates.as_mut_slice().len())?;
        let mut pool = self.plugin.pool();
        let guide = pool.lease(self.text.id, history)?;
        guide.steer_by(&self.text.weights);
        // ARMs that share a batch are decoded together.
        guide.prepare(history, 1);
        Ok(steer(guide, history, candidates)?)
    }
}

impl CustomSampler for HostSampler {
    const NAME: &'static CStr = c"genarm";

    fn accept(&mut self, token: Token) {
        self.text.inner().history.push(token);
    }

    fn apply(&mut self, candidates: &mut Candidates<'_>) {
        let mut inner = self.text.inner();
        if inner.history.is_empty() {
            return; // without a history an ARM has no logits
        }
        if self.is_gated(&mut inner, candidates) {
            return;
        }
        let Err(error) = self.steer(&inner.history, candidates) else { return };
        // Where the host's own logits are no numbers there is nothing to fall back to.
        let policy = match &error {
            StepError::Guide(error) if error.is_of_base() => FailurePolicy::Stop(self.plugin.eog_tokens()),
            _ => self.plugin.state().on_error.clone(),
        };
        if !std::mem::replace(&mut inner.warned, true) {
            let then =
                if policy == FailurePolicy::Base { "the text goes on without guidance" } else { "the text ends" };
            tracing::warn!(%error, "guidance failed; {then}");
        }
        if let FailurePolicy::Stop(eog) = policy {
            end_text(&eog, candidates);
        }
    }

    fn reset(&mut self) {
        let mut inner = self.text.inner();
        inner.history.clear();
        inner.warned = false;
        inner.gated = None;
    }

    fn fork(&self) -> Self {
        let text = self.plugin.text(Some(&self.text.weights), self.text.inner().history.clone());
        Self { plugin: Arc::clone(&self.plugin), text, address: None }
    }

    fn placed(&mut self, address: usize) {
        directory::enter(address, &self.plugin, &self.text);
        self.address = Some(address);
    }
}

impl Drop for HostSampler {
    fn drop(&mut self) {
        if let Some(address) = self.address {
            directory::leave(address, &self.text);
        }
        let mut pool = self.plugin.pool();
        pool.release(self.text.id);
        tracing::debug!(n_decoded = pool.n_decoded(), "a text has ended");
    }
}
