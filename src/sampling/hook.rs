//! The sampler "genarm": first in a chain, it adds the ARMs' weighted logits to the candidates.

use std::ffi::CStr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::abi::llama_token_data;
use super::vtable::{Candidates, CustomSampler};
use crate::expert::{ExpertError, Token, is_number};
use crate::guidance::{Guide, GuideError, combine_one, scaled_one};

/// What becomes of the text when an ARM fails: a sampler cannot answer with an error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FailurePolicy {
    /// The base goes on alone; logged once.
    Base,
    /// Every candidate but these, the end-of-generation tokens, is forbidden.
    Stop(Arc<[Token]>),
}

/// The ARMs of one text, shared by the samplers that guide it and the loop that watches them.
#[derive(Clone)]
pub struct HookState(Arc<Mutex<Inner>>);

struct Inner {
    guide: Guide,
    on_error: FailurePolicy,
    error: Option<GuideError>,
    warned: bool,
}

impl HookState {
    /// A state for [`Hook`]s that steer by `guide`.
    pub fn new(guide: Guide, on_error: FailurePolicy) -> Self {
        Self(Arc::new(Mutex::new(Inner { guide, on_error, error: None, warned: false })))
    }

    /// Lets `f` use the guide: to begin a text, to explain a step, to read the timing.
    pub fn with_guide<T>(&self, f: impl FnOnce(&mut Guide) -> T) -> T {
        f(&mut self.lock().guide)
    }

    /// The failure of the last `apply`, if it failed and the policy does not cover it: the text should end.
    pub fn take_error(&self) -> Option<GuideError> {
        self.lock().error.take()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // A panic in an ARM leaves nothing half done: its next call compares histories again.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The sampler. It knows the text only through `accept`, as every llama.cpp sampler.
///
/// A fork shares ARMs and weights, and has a history of its own.
pub struct Hook {
    state: HookState,
    history: Vec<Token>,
    /// The length of the history at which the gate was last asked, and what it said: a second `apply` at a position, on
    /// candidates of which a grammar has forbidden some, must do as the first.
    gated: Option<(usize, bool)>,
}

impl Hook {
    /// A sampler at the beginning of a text.
    pub fn new(state: HookState) -> Self {
        Self { state, history: Vec::new(), gated: None }
    }
}

impl CustomSampler for Hook {
    const NAME: &'static CStr = c"genarm";

    fn accept(&mut self, token: Token) {
        self.history.push(token);
    }

    fn apply(&mut self, candidates: &mut Candidates<'_>) {
        if self.history.is_empty() {
            return; // without a history an ARM has no logits
        }
        let inner = &mut *self.state.lock();
        if let Some(gate) = inner.guide.gate() {
            let at = self.history.len();
            if self.gated.is_none_or(|(asked, _)| asked != at) {
                let sure = inner.guide.is_active() && gate.is_sure(candidates.as_mut_slice().iter().map(|c| c.logit));
                self.gated = Some((at, sure));
                inner.guide.count_gated(sure);
            }
            if self.gated == Some((at, true)) {
                return;
            }
        }
        if let Err(error) = steer(&mut inner.guide, &self.history, candidates) {
            inner.fail(error, candidates);
        }
    }

    fn reset(&mut self) {
        self.history.clear();
        self.gated = None;
    }

    fn fork(&self) -> Self {
        Self { state: self.state.clone(), history: self.history.clone(), gated: self.gated }
    }
}

/// Adds the ARMs' weighted logits after `history` to the candidates, by token id.
///
/// # Errors
///
/// [`GuideError`], also where logits are no numbers, the base's or an ARM's; the candidates' logits are then as before.
pub(crate) fn steer(guide: &mut Guide, history: &[Token], candidates: &mut Candidates<'_>) -> Result<(), GuideError> {
    let (mut changed, mut sound) = (false, true);
    let base = guide.base_row(candidates.as_mut_slice().iter().map(|candidate| (candidate.id, candidate.logit)));
    let of_base = guide.terms(history, 1, &base, |term| {
        let (row, floor) = term.row(0);
        for (i, candidate) in candidates.as_mut_slice().iter_mut().enumerate() {
            let id = candidate.id as usize;
            // Candidates mostly come in the order of their ids; then the reads run along the row.
            let term_logit = *(if id == i { row.get(i) } else { row.get(id) }).unwrap_or(&floor);
            if !changed {
                begin(candidate, term.base_factor);
            }
            candidate.logit = combine_one(candidate.logit, term_logit, term.factor);
            sound &= is_number(term_logit) & is_number(candidate.logit);
        }
        changed = true;
    });
    guide.keep_base_row(base);
    let of_base = of_base.inspect_err(|_| {
        if changed {
            candidates.as_mut_slice().iter_mut().for_each(|candidate| candidate.logit = candidate.p);
        }
    })?;
    // Experts may cancel each other, and limits still act.
    if !changed && (of_base != 1.0 || guide.is_limited()) {
        for candidate in candidates.as_mut_slice() {
            begin(candidate, of_base);
            sound &= is_number(candidate.logit);
        }
        changed = true;
    }
    if changed && !sound {
        candidates.as_mut_slice().iter_mut().for_each(|candidate| candidate.logit = candidate.p);
        return Err(fault(guide, history, candidates));
    }
    if changed {
        let both = candidates.as_mut_slice().iter().map(|candidate| (candidate.p, candidate.logit));
        if let Some(strength) = guide.strength(both).filter(|strength| strength.acts()) {
            for candidate in candidates.as_mut_slice() {
                candidate.logit = strength.apply(candidate.p, candidate.logit);
            }
        }
        candidates.clear_sorted();
    }
    Ok(())
}

/// At the head of a chain `p` is not in use yet: it keeps what the base's logit was, for the limits, and in case an
/// expert turns out to be broken.
#[inline(always)]
fn begin(candidate: &mut llama_token_data, of_base: f32) {
    candidate.p = candidate.logit;
    candidate.logit = scaled_one(candidate.logit, of_base);
}

/// Whose logits are no numbers.
fn fault(guide: &mut Guide, history: &[Token], candidates: &mut Candidates<'_>) -> GuideError {
    if let Some(bad) = candidates.as_mut_slice().iter().find(|candidate| !is_number(candidate.logit)) {
        let what = if bad.logit.is_nan() { "NaN" } else { "+inf" };
        return GuideError::of_base(ExpertError::NotFinite { what, token: bad.id });
    }
    guide.check(history, 1).err().unwrap_or_else(|| {
        // Each is sound and their sum is too large.
        let weighted =
            guide.weights().arm_names().iter().zip(guide.weights().get()).filter(|(_, weight)| *weight != 0.0);
        let arm = weighted.map(|(name, _)| name.as_str()).collect::<Vec<_>>().join("\", \"");
        GuideError { arm, source: ExpertError::NotFinite { what: "+inf", token: 0 } }
    })
}

/// Forbids every candidate but the end-of-generation tokens.
pub(crate) fn end_text(eog: &[Token], candidates: &mut Candidates<'_>) {
    for candidate in candidates.as_mut_slice().iter_mut().filter(|c| !eog.contains(&c.id)) {
        candidate.logit = f32::NEG_INFINITY;
    }
    // What is left must be something that can be drawn, whatever the base has made of it.
    for candidate in candidates.as_mut_slice().iter_mut().filter(|c| !is_number(c.logit)) {
        candidate.logit = 0.0;
    }
    candidates.clear_sorted();
}

impl Inner {
    fn fail(&mut self, error: GuideError, candidates: &mut Candidates<'_>) {
        // A full context or a Ctrl-C is no fault of the ARM, and a broken base cannot be fallen back to: these end the
        // text.
        let ends = matches!(error.source, ExpertError::ContextFull { .. } | ExpertError::Interrupted);
        let ends = ends || error.is_of_base() || self.on_error != FailurePolicy::Base;
        if !self.warned {
            self.warned = true;
            let then = if ends { "the text ends" } else { "the text goes on without guidance" };
            tracing::warn!(%error, "guidance failed; {then}");
        }
        match &self.on_error {
            FailurePolicy::Base if !ends => {}
            FailurePolicy::Base => self.error = Some(error),
            FailurePolicy::Stop(eog) => {
                end_text(eog, candidates);
                self.error = Some(error);
            }
        }
    }
}
