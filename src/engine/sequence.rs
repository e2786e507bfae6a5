//! An [`Expert`] on llama.cpp: one context with one sequence.

use std::mem;

use super::llama::Context;
use crate::expert::{Expert, ExpertError, Token, check_request, common_prefix};

/// A model as an expert.
///
/// It remembers which tokens its memory holds and which rows of logits llama.cpp still has, so a call decodes only
/// what is new, and nothing where the rows are there. A recurrent model cannot drop a part of its memory: it goes back to the
/// state that was saved after its last prompt, or starts again, behind the same call.
pub struct Sequence {
    ctx: Context,
    /// The tokens in memory.
    cached: Vec<Token>,
    /// Positions, ending with that of the last decoded token, whose logits llama.cpp holds.
    rows: usize,
    n_decoded: u64,
    checkpoint: Option<Checkpoint>,
    progress: Option<Progress>,
}

/// Told how many of how many tokens of a prompt are read.
pub type Progress = Box<dyn FnMut(usize, usize) + Send>;

/// The state of a recurrent model after some tokens.
#[derive(Default)]
struct Checkpoint {
    tokens: Vec<Token>,
    state: Vec<u8>,
}

impl Sequence {
    /// A sequence that has the context for itself.
    pub fn new(ctx: Context) -> Self {
        Self { ctx, cached: Vec::new(), rows: 0, n_decoded: 0, checkpoint: None, progress: None }
    }

    /// Tells `progress` about prompts that take more than one batch; `None` tells nobody.
    pub fn on_progress(&mut self, progress: Option<Progress>) {
        self.progress = progress;
    }

    /// Rows that one call can ask for at most.
    pub fn max_rows(&self) -> usize {
        self.ctx.n_batch()
    }

    /// Makes the memory hold exactly a prefix of `history`, at most `n` tokens of it, and returns how many.
    fn keep(&mut self, history: &[Token], n: usize) -> usize {
        if n == self.cached.len() || self.ctx.truncate(n) {
            self.cached.truncate(n);
            return n;
        }
        if let Some(Checkpoint { tokens, state }) = &self.checkpoint
            && tokens.len() <= n
            && history.starts_with(tokens)
            && self.ctx.restore(state)
        {
            self.cached.clone_from(tokens);
        } else {
            self.ctx.clear();
            self.cached.clear();
        }
        self.cached.len()
    }

    /// Decodes `history[first..]`, the last `k` tokens in one batch that gives logits.
    fn decode(&mut self, history: &[Token], first: usize, k: usize) -> Result<(), ExpertError> {
        let n_batch = self.ctx.n_batch();
        let (total, mut at) = (history.len() - first, first);
        while at < history.len() {
            // Every batch is full but for the last two, so that the last holds the k rows.
            let left = history.len() - at;
            let n = if left <= n_batch { left } else { n_batch.min(left - k) };
            let rows = if n == left { k } else { 0 };
            self.ctx.decode(&history[at..at + n], at, rows)?;
            self.cached.extend_from_slice(&history[at..at + n]);
            self.n_decoded += n as u64;
            at += n;
            if let Some(progress) = &mut self.progress
                && total > n_batch
            {
                progress(at - first, total);
            }
        }
        self.rows = k;
        Ok(())
    }

    /// A recurrent model keeps its state after each prompt: a second answer to it, or the next turn, starts there.
    fn save_checkpoint(&mut self, n_new: usize) {
        if n_new > 1 && self.ctx.model().is_recurrent() {
            let mut checkpoint = mem::take(&mut self.checkpoint).unwrap_or_default();
            if self.ctx.save(&mut checkpoint.state) {
                checkpoint.tokens.clone_from(&self.cached);
                self.checkpoint = Some(checkpoint);
            }
        }
    }
}

impl Expert for Sequence {
    fn n_vocab(&self) -> usize {
        self.ctx.n_vocab()
    }

    fn n_ctx(&self) -> usize {
        self.ctx.n_ctx()
    }

    fn advance(&mut self, history: &[Token], k: usize) -> Result<&[f32], ExpertError> {
        check_request(history, k, self.n_ctx(), self.n_vocab())?;
        if k > self.max_rows() {
            return Err(ExpertError::TooManyRows { k, max: self.max_rows() });
        }
        let common = common_prefix(history, &self.cached);
        // The rows that are there belong to the last positions in memory.
        let oldest = self.cached.len() - self.rows;
        if common == history.len() && history.len() - k >= oldest && self.rows > 0 {
            let n_vocab = self.n_vocab();
            let start = history.len() - k - oldest;
            return Ok(&self.ctx.logits(self.rows)[start * n_vocab..(start + k) * n_vocab]);
        }
        self.rows = 0;
        let kept = self.keep(history, common.min(history.len() - k));
        if let Err(error) = self.decode(history, kept, k) {
            // llama.cpp may have stored a part of the batch.
            let n = self.cached.len();
            if !self.ctx.truncate(n) {
                self.ctx.clear();
                self.cached.clear();
            }
            return Err(error);
        }
        self.save_checkpoint(history.len() - kept);
        Ok(self.ctx.logits(k))
    }

    fn n_decoded(&self) -> u64 {
        self.n_decoded
    }
}
