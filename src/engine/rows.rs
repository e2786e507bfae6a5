//! The sequences of one context, brought to their histories in common batches.
//!
//! A row is what one expert knows of one text: a sequence of the context, read with that expert's part of the adapters. Rows are
//! asked for one after the other, but what has been announced is decoded together: the first request that needs
//! anything new decodes everything that is due.

use std::mem;

use super::llama::{Adapters, Context, ContextError, ContextParams, Model, SavedState};
use crate::expert::{ExpertError, Token, check_request, common_prefix};
use std::sync::Arc;

/// Told how many of how many tokens of a prompt are read.
pub type Progress = Box<dyn FnMut(usize, usize) + Send>;

/// A context and the state of its rows.
pub(super) struct Rows {
    ctx: Context,
    rows: Vec<Row>,
    /// Of the batch being decoded; kept to be reused.
    shares: Vec<Share>,
    n_batches: u64,
    /// A row came out as NaN: its keys and values are in memory, and masking does not keep NaN from others.
    poisoned: bool,
}

/// One sequence.
#[derive(Default)]
struct Row {
    /// The part of a stack of adapters that it is read with.
    part: Option<u8>,
    /// The tokens in memory.
    cached: Vec<Token>,
    /// Positions, ending with that of the last decoded token, whose logits are there.
    held: usize,
    /// Those logits until they are handed over, where other rows use the context too: llama.cpp's own buffer is then soon
    /// overwritten.
    logits: Vec<f32>,
    fresh: bool,
    /// What it is to be brought to by the next batch.
    wanted: Vec<Token>,
    /// The rows of logits wanted; 0 when nothing is due.
    due: usize,
    n_decoded: u64,
    checkpoint: Option<Checkpoint>,
    progress: Option<Progress>,
}

/// The state of a recurrent model after some tokens.
#[derive(Default)]
struct Checkpoint {
    tokens: Vec<Token>,
    state: SavedState,
}

/// What one row has in a batch.
#[derive(Clone, Copy)]
struct Share {
    row: usize,
    n_tokens: usize,
    /// First row of logits, if the row is then where it should be.
    first: Option<usize>,
}

impl Rows {
    /// A context with one row for each of `parts`.
    pub(super) fn new(
        model: &Arc<Model>,
        adapters: Adapters,
        params: &ContextParams,
        parts: &[Option<u8>],
    ) -> Result<Self, ContextError> {
        let n_seq = u32::try_from(parts.len()).unwrap_or(u32::MAX);
        let ctx = Context::new(model, adapters, &ContextParams { n_seq, ..params.clone() })?;
        let rows = parts.iter().map(|part| Row { part: *part, ..Row::default() }).collect();
        Ok(Self { ctx, rows, shares: Vec::new(), n_batches: 0, poisoned: false })
    }

    pub(super) fn context(&self) -> &Context {
        &self.ctx
    }

    pub(super) fn n_batches(&self) -> u64 {
        self.n_batches
    }

    pub(super) fn n_decoded(&self, row: usize) -> u64 {
        self.rows[row].n_decoded
    }

    pub(super) fn on_progress(&mut self, row: usize, progress: Option<Progress>) {
        self.rows[row].progress = progress;
    }

    /// Tokens at the beginning of `history` that a row need not decode.
    pub(super) fn n_cached(&self, row: usize, history: &[Token]) -> usize {
        let row = &self.rows[row];
        let common = common_prefix(history, &row.cached);
        if common == row.cached.len() || !self.ctx.model().is_recurrent() {
            return common;
        }
        row.checkpoint
            .as_ref()
            .map_or(0, |saved| if history.starts_with(&saved.tokens) { saved.tokens.len() } else { 0 })
    }

    /// Notes what a row is to be brought to. What cannot be served is left for [`advance`](Self::advance) to refuse.
    pub(super) fn prepare(&mut self, row: usize, history: &[Token], k: usize) {
        self.note(row, history, k);
    }

    /// Starts what is due on a device, and returns whether it computes there now: llama.cpp returns from a decode on a device
    /// before it is done. A context with several rows hands their logits over at once, so it would only wait here.
    pub(super) fn start(&mut self, row: usize) -> bool {
        let alone = self.rows.len() == 1;
        // An error leaves nothing due; `advance` meets it again.
        alone && self.rows[row].due > 0 && self.ctx.model().is_on_device() && self.flush().is_ok()
    }

    fn note(&mut self, row: usize, history: &[Token], k: usize) {
        if self.check(history, k).is_err() || self.rows[row].start_of(history, k).is_some() {
            return;
        }
        let row = &mut self.rows[row];
        // A history mostly grows at its end.
        let common = common_prefix(&row.wanted, history);
        row.wanted.truncate(common);
        row.wanted.extend_from_slice(&history[common..]);
        row.due = k;
    }

    /// Empties a row.
    pub(super) fn forget(&mut self, row: usize) {
        self.ctx.truncate(row, 0);
        let row = &mut self.rows[row];
        (row.held, row.due, row.checkpoint) = (0, 0, None);
        row.cached.clear();
    }

    /// Brings a row to `history`, and with it all rows that are due. Returns the place of the wanted rows among those that it
    /// holds.
    pub(super) fn advance(&mut self, row: usize, history: &[Token], k: usize) -> Result<usize, ExpertError> {
        self.check(history, k)?;
        if let Some(start) = self.rows[row].start_of(history, k) {
            return Ok(start);
        }
        self.note(row, history, k);
        self.flush()?;
        // A row that is due is decoded with its k rows at the end, whatever else the batches held.
        Ok(self.rows[row].held - k)
    }

    /// The logits that the only row of the context holds, oldest first; `None` where there are several rows.
    pub(super) fn held_alone(&mut self) -> Option<&[f32]> {
        let [row] = &self.rows[..] else { return None };
        // Asked here and not after the decode: that may still run on a device, and this waits for it.
        let held = self.ctx.logits(0, row.held)?;
        self.poisoned |= holds_nan(held, self.ctx.n_vocab());
        Some(held)
    }

    /// Swaps the logits that a row holds into `logits`, if they are not there yet.
    pub(super) fn hand_over(&mut self, row: usize, logits: &mut Vec<f32>) {
        let row = &mut self.rows[row];
        if mem::take(&mut row.fresh) {
            mem::swap(&mut row.logits, logits);
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
        for row in 0..self.rows.len() {
            self.begin(row);
        }
        loop {
            let mut shares = mem::take(&mut self.shares);
            shares.clear();
            self.fill(&mut shares);
            let result = if shares.is_empty() { Ok(false) } else { self.ctx.decode().map(|()| true) };
            self.n_batches += u64::from(!shares.is_empty());
            match result {
                Ok(_) => self.take(&shares),
                Err(_) => self.undo(&shares),
            }
            self.shares = shares;
            if !result? {
                return Ok(());
            }
        }
    }

    /// Empties all memory, to the last number.
    fn clear(&mut self) {
        self.ctx.clear();
        for row in &mut self.rows {
            (row.held, row.checkpoint) = (0, None);
            row.cached.clear();
        }
    }

    /// Makes a row's memory hold a prefix of what is wanted.
    fn begin(&mut self, at: usize) {
        let Self { ctx, rows, .. } = self;
        let row = &mut rows[at];
        if row.due == 0 {
            return;
        }
        row.held = 0;
        // The last k tokens must be decoded for their logits.
        let n = common_prefix(&row.wanted, &row.cached).min(row.wanted.len() - row.due);
        if n == row.cached.len() || ctx.truncate(at, n) {
            row.cached.truncate(n);
            return;
        }
        match &row.checkpoint {
            Some(Checkpoint { tokens, state })
                if tokens.len() <= n && row.wanted.starts_with(tokens) && ctx.restore(at, state) =>
            {
                row.cached.clone_from(tokens);
            }
            _ => {
                ctx.truncate(at, 0);
                row.cached.clear();
            }
        }
    }

    /// Puts a batch together from the rows that are due.
    fn fill(&mut self, shares: &mut Vec<Share>) {
        let mut n_logits = 0;
        for (at, row) in self.rows.iter().enumerate().filter(|(_, row)| row.due > 0) {
            let (left, room) = (row.wanted.len() - row.cached.len(), self.ctx.room());
            // The last k tokens go into one batch.
            let n_tokens = if left <= room { left } else { room.min(left - row.due) };
            if n_tokens == 0 {
                continue;
            }
            let last = n_tokens == left;
            let start = row.cached.len();
            let k = if last { row.due } else { 0 };
            self.ctx.push(at, &row.wanted[start..start + n_tokens], start, k, row.part);
            shares.push(Share { row: at, n_tokens, first: last.then_some(n_logits) });
            n_logits += k;
        }
    }

    /// Notes what a batch has brought.
    fn take(&mut self, shares: &[Share]) {
        let Self { ctx, rows, poisoned, .. } = self;
        let (alone, n_batch) = (rows.len() == 1, ctx.n_batch());
        for share in shares {
            let row = &mut rows[share.row];
            let start = row.cached.len();
            row.cached.extend_from_slice(&row.wanted[start..start + share.n_tokens]);
            row.n_decoded += share.n_tokens as u64;
            if let Some(progress) = &mut row.progress
                && row.wanted.len() > n_batch
            {
                progress(row.cached.len(), row.wanted.len());
            }
            if let Some(first) = share.first {
                row.held = mem::take(&mut row.due);
                if !alone {
                    row.logits.clear();
                    row.logits.extend_from_slice(ctx.logits(first, row.held).unwrap_or_default());
                    *poisoned |= holds_nan(&row.logits, ctx.n_vocab());
                    row.fresh = true;
                }
                save_checkpoint(ctx, share.row, row, share.n_tokens);
            }
        }
    }

    /// After a failed batch llama.cpp may have stored a part of it; nothing is due any more.
    fn undo(&mut self, shares: &[Share]) {
        for share in shares {
            let n = self.rows[share.row].cached.len();
            if !self.ctx.truncate(share.row, n) {
                self.ctx.truncate(share.row, 0);
                self.rows[share.row].cached.clear();
            }
        }
        self.rows.iter_mut().for_each(|row| row.due = 0);
    }
}

/// Whether any row came out as NaN. NaN anywhere in a token's states is NaN in all of its logits: one of them shows it.
fn holds_nan(rows: &[f32], n_vocab: usize) -> bool {
    rows.iter().step_by(n_vocab.max(1)).any(|logit| logit.is_nan())
}

impl Row {
    /// Where the logits of the last `k` positions of `history` begin among the rows that are held, if they are.
    fn start_of(&self, history: &[Token], k: usize) -> Option<usize> {
        // The rows that are held belong to the last positions in memory.
        let oldest = self.cached.len() - self.held;
        let is_held = self.held > 0 && history.len() - k >= oldest && self.cached.starts_with(history);
        is_held.then(|| history.len() - k - oldest)
    }
}

/// A recurrent model keeps its state after each prompt: a second answer to it, or the next turn, starts there.
fn save_checkpoint(ctx: &mut Context, at: usize, row: &mut Row, n_new: usize) {
    if n_new > 1 && ctx.model().is_recurrent() {
        let mut checkpoint = mem::take(&mut row.checkpoint).unwrap_or_default();
        if ctx.save(at, &mut checkpoint.state) {
            checkpoint.tokens.clone_from(&row.cached);
            row.checkpoint = Some(checkpoint);
        }
    }
}
