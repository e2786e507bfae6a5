//! An [`Expert`] on llama.cpp: one sequence of a context.
#![allow(unsafe_code)]

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::llama::{Adapters, ContextError, ContextParams, Model};
use super::origin::OriginFiles;
use super::shared_context::{Progress, SharedContext};
use super::stack::Part;
use super::threads;
use crate::expert::{CheckedState, Expert, ExpertError, ExpertState, Origin, StateError, Token};

/// A model as an expert.
///
/// It remembers which tokens its memory holds and which rows of logits are still there, so a call decodes only what is
/// new, and nothing where the rows are there. A recurrent model cannot drop a part of its memory: it goes back to the
/// state at the beginning of a message, or starts again, behind the same call. Where llama.cpp keeps snapshots of a state, it
/// drops a draft as others do.
///
/// Sequences made together share a context: those that are [prepared](Expert::prepare) are decoded in one batch.
pub struct Sequence {
    rows: Arc<Mutex<SharedContext>>,
    row: usize,
    /// The rows of logits last handed over, where others use the context too.
    logits: Vec<f32>,
    n_vocab: usize,
    n_ctx: usize,
    max_rows: usize,
    n_undo_max: usize,
    /// What it was made of, where that is known.
    files: Option<Arc<OriginFiles>>,
}

impl Sequence {
    /// A sequence that has a context for itself.
    ///
    /// # Errors
    ///
    /// [`ContextError`].
    pub fn alone(model: &Arc<Model>, adapters: Adapters, params: &ContextParams) -> Result<Self, ContextError> {
        let mut one = Self::together(model, adapters, params, &[None])?;
        Ok(one.remove(0))
    }

    /// Sequences of one context, one for each of `parts`: the part of a [stack](Adapters::Stack) of adapters that it is
    /// read with. Each may have `params.n_ctx` tokens.
    ///
    /// # Errors
    ///
    /// [`ContextError`].
    pub fn together(
        model: &Arc<Model>,
        adapters: Adapters,
        params: &ContextParams,
        parts: &[Option<Part>],
    ) -> Result<Vec<Self>, ContextError> {
        let rows = SharedContext::new(model, adapters, params, parts)?;
        let (n_vocab, n_ctx) = (rows.context().n_vocab(), rows.context().n_ctx());
        let max_rows = rows.context().n_batch();
        let n_undo_max = if model.is_recurrent() { rows.context().n_snapshots() } else { usize::MAX };
        let rows = Arc::new(Mutex::new(rows));
        let one = |row| Self {
            rows: Arc::clone(&rows),
            row,
            logits: Vec::new(),
            n_vocab,
            n_ctx,
            max_rows,
            n_undo_max,
            files: None,
        };
        Ok((0..parts.len()).map(one).collect())
    }

    /// Notes the files that it was made of, so that its state can go to another process.
    pub(super) fn set_files(&mut self, files: &Arc<OriginFiles>) {
        self.files = Some(Arc::clone(files));
    }

    /// See [`Context::rope_factors`](super::llama::Context::rope_factors).
    pub(super) fn rope_factors(&self) -> Option<String> {
        self.lock().context().rope_factors()
    }

    /// Tokens that it holds.
    pub fn n_held(&self) -> usize {
        self.lock().n_held(self.row)
    }

    /// Calls `progress` for prompts that take more than one batch; `None` turns it off.
    pub fn on_progress(&mut self, progress: Option<Progress>) {
        self.lock().on_progress(self.row, progress);
    }

    /// Batches that its context has decoded, for this sequence and the others.
    pub fn n_batches(&self) -> u64 {
        self.lock().n_batches()
    }

    /// Tokens of a draft that it can take back at most, `usize::MAX` where it can take back any.
    pub fn n_undo_max(&self) -> usize {
        self.n_undo_max
    }

    /// Lets the model's own head draft ([`Expert::draft_row`]), from the next token that it reads on. Does nothing where it
    /// does already.
    ///
    /// # Errors
    ///
    /// [`ContextError`].
    pub fn open_head(&mut self) -> Result<(), ContextError> {
        self.lock().open_head(self.row)
    }

    /// Takes the head away again.
    pub fn close_head(&mut self) {
        self.lock().close_head(self.row);
    }

    fn lock(&self) -> MutexGuard<'_, SharedContext> {
        // A panic leaves nothing half done that the next call would not compare again.
        self.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Expert for Sequence {
    fn max_rows(&self) -> usize {
        self.max_rows
    }

    fn n_vocab(&self) -> usize {
        self.n_vocab
    }

    fn n_ctx(&self) -> usize {
        self.n_ctx
    }

    fn advance(&mut self, history: &[Token], k: usize) -> Result<&[f32], ExpertError> {
        // Not `lock`, which would borrow all of `self` for the answer's life.
        let mut rows = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
        let start = rows.advance(self.row, history, k)? * self.n_vocab;
        let held = match rows.held_alone() {
            Some(held) => {
                let held = std::ptr::from_ref(held);
                // SAFETY: this is the only sequence of its context, so the buffer stays as it is until the next call of
                // `advance`, which needs `&mut self`; the context lives as long as `self.rows`.
                unsafe { &*held }
            }
            None => {
                rows.hand_over(self.row, &mut self.logits);
                &self.logits[..]
            }
        };
        Ok(&held[start..start + k * self.n_vocab])
    }

    fn prepare(&mut self, history: &[Token], k: usize) {
        self.lock().prepare(self.row, history, k);
    }

    fn start(&mut self) -> bool {
        self.lock().start(self.row)
    }

    fn n_cached(&self, history: &[Token]) -> usize {
        self.lock().n_cached(self.row, history)
    }

    fn read(&mut self) -> Result<(), ExpertError> {
        self.lock().flush()
    }

    fn draft_row(&mut self, history: &[Token], row: &mut [f32]) -> Result<bool, ExpertError> {
        self.lock().draft_row(self.row, history, row)
    }

    fn set_prompt_len(&mut self, n_prompt: usize) -> bool {
        self.lock().set_prompt_len(self.row, n_prompt)
    }

    fn set_coefficients(&mut self, coefficients: &[f32]) -> bool {
        self.lock().set_coefficients(self.row, coefficients)
    }

    fn forget(&mut self) {
        self.lock().forget(self.row);
    }

    fn n_decoded(&self) -> u64 {
        self.lock().n_decoded(self.row)
    }

    fn pace(&self) -> u64 {
        threads::n_changes()
    }

    fn origin(&self) -> Result<Origin, StateError> {
        self.files.as_ref().map_or_else(|| Ok(Origin::default()), |files| files.origin())
    }

    fn save(&mut self) -> Result<ExpertState, StateError> {
        self.lock().save(self.row)
    }

    fn check<'a>(&self, state: &'a ExpertState) -> Result<CheckedState<'a>, StateError> {
        self.lock().check_state(state).map(|found| CheckedState::new(state, found))
    }

    fn restore_checked(&mut self, state: &CheckedState<'_>) -> Result<(), StateError> {
        self.lock().restore(self.row, state)
    }
}
