//! The sequences of one context, brought to their histories in common batches.
//!
//! A sequence is what one expert knows of one text, read with that expert's part of the adapters. Callers ask for
//! sequences one after the other, but what was announced is decoded together: the first request that needs anything new
//! decodes everything that is due.

mod checkpoints;
mod drafting;
mod fill;
mod head;
mod read_with;
mod saved;

use std::mem;

use super::llama::{Adapters, Context, ContextError, ContextParams, Model};
use super::stack::Part;
use crate::expert::{ExpertError, Token, check_request, common_prefix};
use checkpoints::Checkpoints;
pub(super) use checkpoints::most as most_checkpoints;
use drafting::FreshStates;
use head::Head;
use read_with::ReadWith;
use std::sync::Arc;

/// Called with how many of how many tokens of a prompt are read.
pub type Progress = Box<dyn FnMut(usize, usize) + Send>;

/// A context and the state of its sequences.
pub(super) struct SharedContext {
    ctx: Context,
    seqs: Vec<Seq>,
    params: ContextParams,
    /// Of the batch being decoded; kept to be reused.
    batch: Vec<BatchPart>,
    /// What the last batch brought to sequences with a head, whose states are not asked for yet: that waits for a device.
    fresh_states: Vec<FreshStates>,
    n_batches: u64,
    /// A row came out as NaN: its keys and values are in memory, and masking does not keep NaN from others.
    poisoned: bool,
}

/// One sequence.
#[derive(Default)]
struct Seq {
    /// The part of a stack of adapters that it is read with.
    part: Option<Part>,
    /// Tokens of its histories that are a prompt.
    n_prompt: usize,
    /// Where the adapter begins to act, once the whole prompt has been seen.
    border: Option<usize>,
    /// The tokens in memory.
    cached: Vec<Token>,
    /// Those before this one are in memory as the base reads them, without the adapter.
    adapted_from: usize,
    /// The coefficients of the adapter's blocks.
    read_with: ReadWith,
    /// Positions, ending with that of the last decoded token, whose logits are there.
    held: usize,
    /// Those logits until they are handed over, where other sequences use the context too: llama.cpp's own buffer is
    /// then soon overwritten.
    logits: Vec<f32>,
    fresh: bool,
    /// What it is to be brought to by the next batch.
    wanted: Vec<Token>,
    /// The rows of logits wanted; 0 when nothing is due.
    due: usize,
    n_decoded: u64,
    checkpoints: Checkpoints,
    /// Tokens at the end that a recurrent model can take back without a checkpoint.
    n_undo: usize,
    /// Where in `wanted` further ones are saved; the next one last.
    places: Vec<usize>,
    /// Shorter prefixes cannot be kept: a restored memory lacks what a window left out.
    min_prefix: usize,
    progress: Option<Progress>,
    /// The model's own head for drafting, where it drafts.
    head: Option<Head>,
}

/// What one sequence has in a batch.
#[derive(Clone, Copy)]
struct BatchPart {
    at: usize,
    n_tokens: usize,
    /// First row of logits, if the sequence is then where it should be.
    first: Option<usize>,
}

impl SharedContext {
    /// A context with one sequence for each of `parts`.
    pub(super) fn new(
        model: &Arc<Model>,
        adapters: Adapters,
        params: &ContextParams,
        parts: &[Option<Part>],
    ) -> Result<Self, ContextError> {
        let n_seq = u32::try_from(parts.len()).unwrap_or(u32::MAX);
        let ctx = Context::new(model, adapters, &ContextParams { n_seq, ..params.clone() })?;
        let seqs = parts.iter().map(|part| Seq { part: *part, ..Seq::default() }).collect();
        Ok(Self {
            ctx,
            seqs,
            params: params.clone(),
            batch: Vec::new(),
            fresh_states: Vec::new(),
            n_batches: 0,
            poisoned: false,
        })
    }

    pub(super) fn context(&self) -> &Context {
        &self.ctx
    }

    pub(super) fn n_batches(&self) -> u64 {
        self.n_batches
    }

    pub(super) fn n_decoded(&self, at: usize) -> u64 {
        self.seqs[at].n_decoded
    }

    pub(super) fn on_progress(&mut self, at: usize, progress: Option<Progress>) {
        self.seqs[at].progress = progress;
    }

    /// Tokens at the beginning of `history` that a sequence need not decode.
    pub(super) fn n_cached(&self, at: usize, history: &[Token]) -> usize {
        let seq = &self.seqs[at];
        let common = seq.kept(common_prefix(history, &seq.cached).min(self.n_valid(at, history)));
        if common < seq.cached.len() && !self.ctx.can_go_on_from(at, common) {
            return 0;
        }
        if self.can_drop(at, seq.cached.len() - common) {
            return common;
        }
        seq.kept(seq.checkpoints.within(common))
    }

    /// Whether the last `n` tokens of a sequence can be dropped from its memory.
    fn can_drop(&self, at: usize, n: usize) -> bool {
        n == 0 || !self.ctx.model().is_recurrent() || n <= self.seqs[at].n_undo
    }

    /// Says how many tokens of a sequence's histories are a prompt. Returns whether its logits may be others now.
    pub(super) fn set_prompt_len(&mut self, at: usize, n_prompt: usize) -> bool {
        let seq = &mut self.seqs[at];
        seq.border = None;
        seq.read_with.begin();
        let changes = mem::replace(&mut seq.n_prompt, n_prompt) != n_prompt;
        changes && seq.part.is_some_and(|part| part.response_only)
    }

    /// Changes the coefficients of the blocks of a sequence's adapter for the tokens to come. Returns whether its logits
    /// may be others now.
    pub(super) fn set_coefficients(&mut self, at: usize, coefficients: &[f32]) -> bool {
        let seq = &mut self.seqs[at];
        let changes = seq.read_with.set(coefficients);
        if changes {
            // The rows that are held belong to the coefficients of before.
            (seq.held, seq.fresh) = (0, false);
        }
        changes
    }

    /// The first token of `history` that a sequence reads with its adapter: where that acts on the response alone, the
    /// end of the prompt.
    fn adapted_from(&self, at: usize, history: &[Token]) -> usize {
        let seq = &self.seqs[at];
        match seq.part {
            Some(part) if part.response_only => match history.get(..seq.n_prompt) {
                Some(prompt) => seq.border.unwrap_or_else(|| self.ctx.model().vocab().response_start(prompt)),
                // A part of the prompt: where it ends is not known yet.
                None => history.len(),
            },
            _ => 0,
        }
    }

    /// Tokens in memory that are read as `history` wants them: with or without the adapter, and with its coefficients.
    fn n_valid(&self, at: usize, history: &[Token]) -> usize {
        self.seqs[at].n_valid(history.len(), self.adapted_from(at, history))
    }

    /// Where the logits of the last `k` positions of `history` begin among the rows that a sequence holds, if it holds
    /// them.
    fn start_of(&self, at: usize, history: &[Token], k: usize) -> Option<usize> {
        self.seqs[at].start_of(history, k).filter(|_| self.n_valid(at, history) >= history.len())
    }

    /// Notes what a sequence is to be brought to. What cannot be served is left for [`advance`](Self::advance) to
    /// refuse.
    pub(super) fn prepare(&mut self, at: usize, history: &[Token], k: usize) {
        self.note(at, history, k);
    }

    /// Starts what is due on a device, and returns whether it computes there now: llama.cpp returns from a decode on a
    /// device before it is done. A context with several sequences hands their logits over at once, so it would only
    /// wait here.
    pub(super) fn start(&mut self, at: usize) -> bool {
        let alone = self.seqs.len() == 1;
        // An error leaves nothing due; `advance` meets it again.
        alone && self.seqs[at].due > 0 && self.ctx.model().is_on_device() && self.flush().is_ok()
    }

    fn note(&mut self, at: usize, history: &[Token], k: usize) {
        if self.check(history, k).is_err() || self.start_of(at, history, k).is_some() {
            return;
        }
        let seq = &mut self.seqs[at];
        // A history mostly grows at its end.
        let common = common_prefix(&seq.wanted, history);
        seq.wanted.truncate(common);
        seq.wanted.extend_from_slice(&history[common..]);
        seq.due = k;
    }

    /// Empties a sequence.
    pub(super) fn forget(&mut self, at: usize) {
        self.ctx.truncate(at, 0);
        self.fresh_states.retain(|fresh| fresh.at != at);
        let seq = &mut self.seqs[at];
        seq.due = 0;
        seq.empty();
    }

    /// Brings a sequence to `history`, and with it all that are due. Returns the place of the wanted rows among those
    /// that it holds.
    pub(super) fn advance(&mut self, at: usize, history: &[Token], k: usize) -> Result<usize, ExpertError> {
        self.check(history, k)?;
        if let Some(start) = self.start_of(at, history, k) {
            return Ok(start);
        }
        self.note(at, history, k);
        self.flush()?;
        // A sequence that is due is decoded with its k rows at the end, whatever else the batches held.
        Ok(self.seqs[at].held - k)
    }

    /// The logits that the only sequence of the context holds, oldest first; `None` where there are several.
    pub(super) fn held_alone(&mut self) -> Option<&[f32]> {
        let [seq] = &self.seqs[..] else { return None };
        // Asked here and not after the decode: that may still run on a device, and this waits for it.
        let held = self.ctx.logits(0, seq.held)?;
        self.poisoned |= holds_nan(held, self.ctx.n_vocab());
        Some(held)
    }

    /// Swaps the logits that a sequence holds into `logits`, if they are not there yet.
    pub(super) fn hand_over(&mut self, at: usize, logits: &mut Vec<f32>) {
        let seq = &mut self.seqs[at];
        if mem::take(&mut seq.fresh) {
            mem::swap(&mut seq.logits, logits);
        }
    }

    fn check(&self, history: &[Token], k: usize) -> Result<(), ExpertError> {
        check_request(history, k, self.ctx.n_ctx(), self.ctx.n_vocab())?;
        match self.ctx.n_batch() {
            max if k > max => Err(ExpertError::TooManyRows { k, max }),
            _ => Ok(()),
        }
    }

    /// Decodes everything that is due, in as few batches as it takes.
    pub(super) fn flush(&mut self) -> Result<(), ExpertError> {
        if mem::take(&mut self.poisoned) {
            self.clear();
        }
        self.take_states();
        for at in 0..self.seqs.len() {
            self.begin(at);
        }
        loop {
            let mut batch = mem::take(&mut self.batch);
            batch.clear();
            (0..self.seqs.len()).for_each(|at| self.share(at));
            self.fill(&mut batch);
            let result = if batch.is_empty() { Ok(false) } else { self.ctx.decode().map(|()| true) };
            self.n_batches += u64::from(!batch.is_empty());
            match result {
                Ok(_) => self.take(&batch),
                Err(_) => self.undo(&batch),
            }
            self.batch = batch;
            if !result? {
                return Ok(());
            }
            self.take_states();
        }
    }

    /// Empties all memory, to the last number.
    fn clear(&mut self) {
        self.ctx.clear();
        self.fresh_states.clear();
        self.seqs.iter_mut().for_each(Seq::empty);
    }

    /// Makes a sequence's memory hold a prefix of what is wanted.
    fn begin(&mut self, at: usize) {
        if self.seqs[at].due == 0 {
            return;
        }
        let adapted_from = self.adapted_from(at, &self.seqs[at].wanted);
        let is_recurrent = self.ctx.model().is_recurrent();
        let Self { ctx, seqs, .. } = self;
        let seq = &mut seqs[at];
        let n_valid = seq.n_valid(seq.wanted.len(), adapted_from);
        seq.adapted_from = adapted_from;
        if seq.wanted.len() >= seq.n_prompt {
            seq.border = Some(adapted_from);
            seq.read_with.has_read_prompt();
        }
        // Checkpoints were read with the same coefficients as what is no longer valid.
        seq.checkpoints.truncate(n_valid);
        seq.held = 0;
        // The last k tokens must be decoded for their logits.
        let common = common_prefix(&seq.wanted, &seq.cached).min(seq.wanted.len() - seq.due).min(n_valid);
        let n = if common == seq.cached.len() || ctx.can_go_on_from(at, common) { seq.kept(common) } else { 0 };
        if n < seq.min_prefix {
            seq.min_prefix = 0;
        }
        let n_dropped = seq.cached.len() - n;
        // llama.cpp also takes a state back that it has not kept.
        let can_drop = n > 0 && (!is_recurrent || n_dropped <= seq.n_undo);
        if n_dropped == 0 || (can_drop && ctx.truncate(at, n)) {
            seq.cached.truncate(n);
        } else {
            seq.go_back(ctx, at, n);
        }
        if is_recurrent {
            seq.plan_checkpoints(ctx, at);
        }
    }

    /// Where a sequence lacks tokens that it reads without its adapter, takes over the keys and values of one that has
    /// them: of the base's own, as a rule. Nothing is copied: cells of the pool get another owner.
    fn share(&mut self, at: usize) {
        let seq = &self.seqs[at];
        if !seq.lacks_plain() {
            return;
        }
        let end = seq.adapted_from.min(seq.wanted.len() - seq.due);
        let plain = self.seqs.iter().enumerate().filter(|(other, seq)| *other != at && seq.part.is_none());
        let n_of = |other: &Seq| other.kept(common_prefix(&other.cached, &seq.wanted).min(end));
        let Some((n, from)) = plain.map(|(from, other)| (n_of(other), from)).max() else { return };
        let first = seq.cached.len();
        if n > first && self.ctx.share(from, at, first, n) {
            // What a restored memory lacks, is missing here too.
            let min_prefix = self.seqs[from].min_prefix;
            let seq = &mut self.seqs[at];
            seq.cached.extend_from_slice(&seq.wanted[first..n]);
            seq.min_prefix = seq.min_prefix.max(min_prefix);
        }
    }

    /// Notes what a batch has brought.
    fn take(&mut self, batch: &[BatchPart]) {
        let Self { ctx, seqs, poisoned, fresh_states, .. } = self;
        let (alone, n_batch) = (seqs.len() == 1, ctx.n_batch());
        // A further batch moves states, and snapshots stay where they are.
        let n_snapshots = if batch.len() == 1 || ctx.is_in_step() { ctx.n_snapshots() } else { 0 };
        if !batch.is_empty() {
            seqs.iter_mut().for_each(|seq| seq.n_undo = 0);
        }
        let mut first_token = 0;
        for part in batch {
            let seq = &mut seqs[part.at];
            let start = seq.cached.len();
            seq.read_with.note(start);
            seq.cached.extend_from_slice(&seq.wanted[start..start + part.n_tokens]);
            if seq.head.is_some() {
                fresh_states.push(FreshStates { at: part.at, start, first: first_token, n: part.n_tokens });
            }
            first_token += part.n_tokens;
            seq.n_decoded += part.n_tokens as u64;
            seq.n_undo = n_snapshots.min(part.n_tokens - 1);
            if let Some(progress) = &mut seq.progress
                && seq.wanted.len() > n_batch
            {
                progress(seq.cached.len(), seq.wanted.len());
            }
            if let Some(first) = part.first {
                seq.held = mem::take(&mut seq.due);
                if !alone {
                    seq.logits.clear();
                    seq.logits.extend_from_slice(ctx.logits(first, seq.held).unwrap_or_default());
                    *poisoned |= holds_nan(&seq.logits, ctx.n_vocab());
                    seq.fresh = true;
                }
            }
            if seq.places.last() == Some(&seq.cached.len()) {
                seq.places.pop();
                seq.checkpoints.save(ctx, part.at, seq.cached.len());
            }
        }
    }

    /// After a failed batch llama.cpp may have stored a part of it; nothing is due any more.
    fn undo(&mut self, batch: &[BatchPart]) {
        let Self { ctx, seqs, .. } = self;
        if ctx.model().is_recurrent() {
            // llama.cpp moves states while it computes, also those of sequences that are not in the batch.
            seqs.iter_mut().enumerate().for_each(|(at, seq)| seq.go_back(ctx, at, seq.cached.len()));
        } else {
            for part in batch {
                let seq = &mut seqs[part.at];
                let n = seq.cached.len();
                // What was stored may lie where the end of the window was.
                if !(ctx.truncate(part.at, n) && ctx.can_go_on_from(part.at, n)) {
                    seq.go_back(ctx, part.at, 0);
                }
            }
        }
        seqs.iter_mut().for_each(|seq| seq.due = 0);
    }
}

/// Whether any row came out as NaN. NaN anywhere in a token's states is NaN in all of its logits: one of them shows it.
fn holds_nan(rows: &[f32], n_vocab: usize) -> bool {
    rows.iter().step_by(n_vocab.max(1)).any(|logit| logit.is_nan())
}

impl Seq {
    /// Forgets what was in memory.
    fn empty(&mut self) {
        (self.held, self.n_undo, self.min_prefix, self.adapted_from) = (0, 0, 0, 0);
        self.checkpoints.truncate(0);
        self.cached.clear();
        self.read_with.forget();
        if let Some(head) = &mut self.head {
            head.empty();
        }
    }

    /// Goes back to the longest earlier state within the first `n` tokens in memory; to nothing where there is none.
    fn go_back(&mut self, ctx: &mut Context, at: usize, n: usize) {
        let n = self.checkpoints.go_back(ctx, at, self.kept(n));
        // What a window left out is missing in an earlier state too.
        let n = if self.kept(n) == n { n } else { self.checkpoints.go_back(ctx, at, 0) };
        self.cached.truncate(n);
        (self.held, self.n_undo, self.places) = (0, 0, Vec::new());
    }

    /// Chooses where states are saved while what is wanted is read, and saves the first where reading begins there.
    fn plan_checkpoints(&mut self, ctx: &mut Context, at: usize) {
        self.checkpoints.truncate(self.cached.len());
        let read = self.cached.len()..self.wanted.len() - self.due;
        self.places.clear();
        if read.is_empty() {
            return;
        }
        let vocab = ctx.model().vocab();
        self.places = checkpoints::places(&self.wanted, read, |token| vocab.is_control(token));
        if self.places.last() == Some(&self.cached.len()) {
            self.places.pop();
            self.checkpoints.save(ctx, at, self.cached.len());
        }
    }

    /// Tokens in memory that are read as a history of `len` tokens wants them, where the adapter acts from `wanted` on.
    fn n_valid(&self, len: usize, wanted: usize) -> usize {
        let as_wanted = if self.adapted_from == wanted { usize::MAX } else { self.adapted_from.min(wanted) };
        as_wanted.min(self.read_with.n_valid(len, self.n_prompt, wanted))
    }

    /// Whether tokens are missing that it reads without its adapter.
    fn lacks_plain(&self) -> bool {
        self.due > 0 && self.cached.len() < self.adapted_from
    }

    /// Of `n` tokens from `start` on, those at the beginning that are read without the adapter.
    fn n_plain(&self, start: usize, n: usize) -> usize {
        self.adapted_from.saturating_sub(start).min(n)
    }

    /// What of a prefix of the memory can stay.
    fn kept(&self, n: usize) -> usize {
        if n < self.min_prefix { 0 } else { n }
    }

    /// Where the logits of the last `k` positions of `history` begin among the rows that are held, if they are.
    fn start_of(&self, history: &[Token], k: usize) -> Option<usize> {
        // The rows that are held belong to the last positions in memory.
        let oldest = self.cached.len() - self.held;
        let is_held = self.held > 0 && history.len() - k >= oldest && self.cached.starts_with(history);
        is_held.then(|| history.len() - k - oldest)
    }
}
