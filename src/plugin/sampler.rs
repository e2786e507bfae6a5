//! The sampler that a host's chain holds.

use std::ffi::CStr;
use std::sync::Arc;

use super::text::{HostText, Inner, StepError, check_size};
use super::{Plugin, directory};
use crate::expert::Token;
use crate::sampling::vtable::{Candidates, CustomSampler};
use crate::sampling::{FailurePolicy, end_text, steer};

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

    fn steer(&self, history: &[Token], n_prompt: usize, candidates: &mut Candidates<'_>) -> Result<(), StepError> {
        check_size(&self.plugin, candidates.as_mut_slice().len())?;
        let mut pool = self.plugin.pool();
        let guide = pool.lease(self.text.id, history, n_prompt)?;
        guide.steer_by(&self.text.weights);
        guide.set_limits(self.plugin.state().config.guidance.limits);
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
        let n_prompt = inner.prompt_len();
        if self.is_gated(&mut inner, candidates) {
            return;
        }
        let Err(error) = self.steer(&inner.history, n_prompt, candidates) else { return };
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
        inner.n_prompt = None;
        inner.warned = false;
        inner.gated = None;
    }

    fn fork(&self) -> Self {
        let (history, n_prompt) = {
            let inner = self.text.inner();
            (inner.history.clone(), inner.n_prompt)
        };
        let text = self.plugin.text(Some(&self.text.weights), history);
        text.inner().n_prompt = n_prompt;
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
