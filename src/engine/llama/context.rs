//! A context: the memory of sequences over a model, and the batches that fill it.

use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use llama_cpp_sys_2 as sys;

use super::backend::{abort_requested, interrupt_flag};
use super::blocks::Blocks;
use super::guarded::{genarm_guarded_keep_states, genarm_guarded_states};
use super::lora::Lora;
use super::mask::{Mask, mask_node};
use super::model::Model;
use super::params::ContextParams;
use crate::engine::threads::Threads;
use crate::expert::{ExpertError, Token};

/// Why there is no context.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ContextError {
    /// llama.cpp made none: as a rule for want of memory.
    #[error(
        "llama.cpp cannot make a context of {n_ctx} tokens on {model}; if memory is short, give a smaller --n-ctx (see --verbose)"
    )]
    Refused {
        /// Context size asked for, in tokens.
        n_ctx: u32,
        /// The model's file.
        model: String,
    },
    /// The adapters do not go on this model.
    #[error("llama.cpp cannot apply the LoRA adapters of {model} (see --verbose)")]
    Lora {
        /// The model's file.
        model: String,
    },
    /// An adapter was loaded on another model.
    #[error("a LoRA adapter of {other} cannot be applied to {model}: load it on that model")]
    ForeignLora {
        /// The model's file.
        model: String,
        /// The file of the adapter's model.
        other: String,
    },
}

/// The adapters of a context.
#[derive(Debug)]
pub enum Adapters {
    /// All of them on everything that the context computes; perhaps none.
    All(Vec<Lora>),
    /// A stack of several experts' adapters, of which each token gets its own part alone.
    Stack(Lora, Blocks),
}

/// A llama.cpp context: the memory of some sequences, and the batch that is being put together for them.
#[derive(Debug)]
pub struct Context {
    raw: NonNull<sys::llama_context>,
    /// A number that no other context of the process has.
    id: u64,
    batch: sys::llama_batch,
    n_vocab: usize,
    n_ctx: usize,
    n_seq: usize,
    threads: Threads,
    /// Tokens of the batch that get logits.
    n_pushed: usize,
    /// Rows of logits that the last decode has left.
    n_rows: usize,
    /// Tokens of the last decode whose states are there for a [head](super::DraftHead), and whether any are kept.
    n_states: usize,
    keeps_states: bool,
    /// Adapters outlive the context that applies them.
    adapters: Vec<Lora>,
    applied: bool,
    /// Of the adapters that have one, where there is no mask.
    coefficients: Vec<f32>,
    /// llama.cpp holds a pointer to it.
    mask: Option<Box<Mask>>,
    model: Arc<Model>,
}

// SAFETY: a context may move between threads; `&mut` keeps two from using it at once.
unsafe impl Send for Context {}

static NEXT_ID: AtomicU64 = AtomicU64::new(1);

/// Above so many tokens of experts without an adapter, taking the adapters off costs less than computing them to be
/// masked.
const N_UNADAPTED: usize = 32;

impl Context {
    /// Makes a context.
    ///
    /// # Errors
    ///
    /// [`ContextError`].
    pub fn new(model: &Arc<Model>, adapters: Adapters, params: &ContextParams) -> Result<Self, ContextError> {
        let name = || model.file().path().display().to_string();
        let (adapters, mut mask) = match adapters {
            Adapters::All(loras) => (loras, None),
            Adapters::Stack(stack, blocks) => (vec![stack], Some(Box::new(Mask::new(blocks)))),
        };
        if let Some(foreign) = adapters.iter().find(|lora| !Arc::ptr_eq(lora.model(), model)) {
            let other = foreign.model().file().path().display().to_string();
            return Err(ContextError::ForeignLora { model: name(), other });
        }
        model.warn_of_context(params.n_ctx);
        // A masked batch is computed as a whole, so that the columns of its nodes are the batch's tokens.
        let n_batch = if mask.is_some() { params.n_batch.min(params.n_ubatch) } else { params.n_batch };
        // SAFETY: no arguments.
        let mut raw = unsafe { sys::llama_context_default_params() };
        raw.n_ctx = params.n_ctx.saturating_mul(params.n_seq);
        raw.n_batch = n_batch;
        raw.n_ubatch = params.n_ubatch;
        raw.n_seq_max = params.n_seq;
        // In one pool of cells llama.cpp computes the tokens of a batch in the batch's order, as a mask needs it.
        // Elsewhere each sequence has cells of its own: in a pool every token attends over the cells of all sequences,
        // most of them masked.
        raw.kv_unified = mask.is_some();
        // In a pool, cells that two sequences share are never given to others; and of a model that also has a recurrent
        // state, what was far back is taken up again.
        raw.swa_full = params.swa_full || mask.is_some() || model.is_recurrent();
        // The tokens that can be taken back, and the one before them, are computed at once.
        raw.n_rs_seq = params.n_snapshots.min(params.n_ubatch.min(n_batch).saturating_sub(2));
        raw.n_threads = i32::try_from(params.n_threads).unwrap_or(i32::MAX);
        raw.n_threads_batch = i32::try_from(params.n_threads_batch).unwrap_or(i32::MAX);
        raw.type_k = params.type_k.raw();
        raw.type_v = params.type_v.raw();
        raw.flash_attn_type = params.flash_attention.raw();
        // The flag is never freed, so the pointer stays good.
        raw.abort_callback = Some(abort_requested);
        raw.abort_callback_data = Arc::as_ptr(&interrupt_flag()).cast_mut().cast();
        if let Some(mask) = &mut mask {
            raw.cb_eval = Some(mask_node);
            raw.cb_eval_user_data = (&raw mut **mask).cast();
        }
        let guard = model.read_adapters();
        // SAFETY: the model is loaded, and the parameters are llama.cpp's defaults but for the members set above.
        let ctx = unsafe { sys::llama_init_from_model(model.as_ptr(), raw) };
        drop(guard);
        let ctx = NonNull::new(ctx).ok_or_else(|| ContextError::Refused { n_ctx: params.n_ctx, model: name() })?;
        // SAFETY: a context. llama.cpp may have changed what was asked for, and the batch needs room for as many.
        let n_batch = unsafe { sys::llama_n_batch(ctx.as_ptr()) };
        // SAFETY: plain numbers. It aborts only where malloc fails for these few kilobytes.
        let batch = unsafe { sys::llama_batch_init(i32::try_from(n_batch).unwrap_or(i32::MAX), 0, 1) };
        let mut context = Self {
            raw: ctx,
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            batch,
            n_vocab: model.vocab().n_tokens(),
            n_ctx: params.n_ctx as usize,
            n_seq: params.n_seq as usize,
            // Where a device computes, its driver's waiting is no sign of a busy machine.
            threads: Threads::new(params.n_threads, params.fewer_threads && !model.is_on_device()),
            n_pushed: 0,
            n_rows: 0,
            n_states: 0,
            keeps_states: false,
            adapters,
            applied: false,
            coefficients: Vec::new(),
            mask,
            model: Arc::clone(model),
        };
        context.apply_adapters(true).map_err(|()| ContextError::Lora { model: name() })?;
        Ok(context)
    }

    fn apply_adapters(&mut self, on: bool) -> Result<(), ()> {
        if self.adapters.is_empty() || self.applied == on {
            return Ok(());
        }
        let mut adapters: Vec<_> = self.adapters.iter().map(Lora::as_ptr).collect();
        let scale = |lora: &Lora| if on { lora.scale_under(&self.coefficients) } else { 0.0 };
        let mut scales: Vec<_> = self.adapters.iter().map(scale).collect();
        // SAFETY: both arrays have as many members as said; the adapters live in `self`.
        let code = unsafe {
            sys::llama_set_adapters_lora(self.raw.as_ptr(), adapters.as_mut_ptr(), adapters.len(), scales.as_mut_ptr())
        };
        if code != 0 {
            return Err(());
        }
        self.applied = on;
        Ok(())
    }

    /// The model under it.
    pub fn model(&self) -> &Arc<Model> {
        &self.model
    }

    /// Length of a row of logits.
    pub fn n_vocab(&self) -> usize {
        self.n_vocab
    }

    /// Tokens that a sequence may have.
    pub fn n_ctx(&self) -> usize {
        // llama.cpp rounds what was asked for up to whole cells of its cache; the user's number holds.
        // SAFETY: `raw` is a context; so in every function below.
        self.n_ctx.min(unsafe { sys::llama_n_ctx_seq(self.raw.as_ptr()) as usize })
    }

    /// Of a model with one set of RoPE factors for short contexts and one for long ones: for which contexts, in tokens,
    /// those are that this one computes with. A pool of cells counts as one context.
    pub fn rope_factors(&self) -> Option<String> {
        let n_short = self.model.n_ctx_of_short_factors()?;
        // SAFETY: see `n_ctx`.
        let n_ctx = u64::from(unsafe { sys::llama_n_ctx_seq(self.raw.as_ptr()) });
        Some(if n_ctx > n_short { format!("more than {n_short}") } else { format!("1 to {n_short}") })
    }

    /// Tokens that a recurrent state can be taken back by, as llama.cpp says: of those that the last batch brought.
    pub fn n_snapshots(&self) -> usize {
        // SAFETY: see `n_ctx`.
        unsafe { sys::llama_n_rs_seq(self.raw.as_ptr()) as usize }
    }

    /// Tokens that one [`decode`](Self::decode) takes at most.
    pub fn n_batch(&self) -> usize {
        // SAFETY: see `n_ctx`.
        unsafe { sys::llama_n_batch(self.raw.as_ptr()) as usize }
    }

    /// Tokens that still fit into the batch.
    pub fn room(&self) -> usize {
        self.n_batch().saturating_sub(self.batch.n_tokens as usize)
    }

    /// Adds `tokens` to the batch, at the positions of sequence `seq` from `first` on; the last `k` of them get logits.
    /// `part` is the part of a [stack](Adapters::Stack) of adapters that they are read with; `None` is none.
    /// `coefficients` are those of its blocks; a coefficient that is missing is 1. Without a stack, the whole batch is
    /// read with those of the last call.
    ///
    /// # Panics
    ///
    /// When there are more tokens than [`room`](Self::room), or fewer than `k`, or there is no such sequence.
    pub fn push(
        &mut self,
        seq: usize,
        tokens: &[Token],
        first: usize,
        k: usize,
        part: Option<u8>,
        coefficients: &[f32],
    ) {
        assert!(tokens.len() <= self.room() && k <= tokens.len(), "a batch of {} tokens, {k} rows", tokens.len());
        assert!(seq < self.n_seq, "sequence {seq} of {}", self.n_seq);
        let start = self.batch.n_tokens as usize;
        for (i, &token) in tokens.iter().enumerate() {
            let output = i + k >= tokens.len();
            // SAFETY: `llama_batch_init` made room for `n_batch` tokens of one sequence each, and start + i < n_batch.
            unsafe {
                *self.batch.token.add(start + i) = token;
                *self.batch.pos.add(start + i) = (first + i) as i32;
                *self.batch.n_seq_id.add(start + i) = 1;
                **self.batch.seq_id.add(start + i) = seq as i32;
                *self.batch.logits.add(start + i) = i8::from(output);
            }
        }
        match &mut self.mask {
            Some(mask) => mask.push(tokens.len(), k, part, coefficients),
            None if self.coefficients != coefficients => {
                self.coefficients.clear();
                self.coefficients.extend_from_slice(coefficients);
                self.applied = false;
            }
            None => {}
        }
        self.batch.n_tokens += tokens.len() as i32;
        self.n_pushed += k;
    }

    /// Decodes the batch, and empties it.
    ///
    /// # Errors
    ///
    /// What llama.cpp answered; some of the tokens may then be in memory.
    pub fn decode(&mut self) -> Result<(), ExpertError> {
        let n_tokens = self.batch.n_tokens as usize;
        let n_pushed = std::mem::take(&mut self.n_pushed);
        (self.n_rows, self.n_states) = (0, 0);
        let result = self.decode_batch(n_tokens);
        // Also where it was not begun: nothing of it may be left for the next batch.
        if std::mem::take(&mut self.batch.n_tokens) > 0
            && let Some(mask) = &mut self.mask
        {
            mask.end(false);
        }
        result?;
        (self.n_rows, self.n_states) = (n_pushed, n_tokens);
        Ok(())
    }

    fn decode_batch(&mut self, n_tokens: usize) -> Result<(), ExpertError> {
        let failed = |code| ExpertError::Decode { code, n_tokens };
        let adapted = self.mask.as_mut().is_none_or(|mask| mask.begin());
        if adapted || n_tokens > N_UNADAPTED {
            self.apply_adapters(adapted).map_err(|()| failed(-1))?;
        }
        self.check_servers()?;
        if let Some(n) = self.threads.changed() {
            // SAFETY: see `n_ctx`.
            unsafe { sys::llama_set_n_threads(self.raw.as_ptr(), n, n) };
        }
        let guard = self.model.read_adapters();
        // SAFETY: the batch is filled as llama_decode reads it; it refuses token ids outside the vocabulary.
        let code = self.threads.decode(|| unsafe { sys::llama_decode(self.raw.as_ptr(), self.batch) });
        drop(guard);
        self.batch.n_tokens = 0;
        // A device may still be computing: the mask is part of that.
        let masked = match &mut self.mask {
            Some(mask) => {
                // SAFETY: see `n_ctx`.
                unsafe { sys::llama_synchronize(self.raw.as_ptr()) };
                mask.end(self.applied)
            }
            None => true,
        };
        match code {
            0 if masked => self.check_servers(),
            0 => Err(ExpertError::Unmasked),
            2 => Err(ExpertError::Interrupted),
            code => Err(failed(code)),
        }
    }

    /// Refuses what was computed with a server that is lost: its numbers are made up. Costs nothing without servers.
    fn check_servers(&self) -> Result<(), ExpertError> {
        match self.lost_server() {
            Some((endpoint, reason)) => Err(ExpertError::Server { endpoint, reason }),
            None => Ok(()),
        }
    }

    /// A server that holds a part of the model and is lost, once everything has been answered.
    pub(super) fn lost_server(&self) -> Option<(String, String)> {
        if self.model.has_servers() {
            // SAFETY: see `n_ctx`. A loss is known only when everything has been answered.
            unsafe { sys::llama_synchronize(self.raw.as_ptr()) }
        }
        self.model.lost_server()
    }

    /// Rows `first..first + k` of the last [`decode`](Self::decode), in the order in which they were pushed: `k ×
    /// n_vocab`. `None` where it left fewer rows: after one that failed there are none.
    pub fn logits(&self, first: usize, k: usize) -> Option<&[f32]> {
        if first.checked_add(k)? > self.n_rows {
            return None;
        }
        // SAFETY: see `n_ctx`.
        let logits = unsafe { sys::llama_get_logits(self.raw.as_ptr()) };
        // SAFETY: after a decode with `n_rows` outputs, llama.cpp holds as many rows of n_vocab numbers in one buffer,
        // in the order of the batch, until the next decode, which needs `&mut self`.
        (!logits.is_null())
            .then(|| unsafe { std::slice::from_raw_parts(logits.add(first * self.n_vocab), k * self.n_vocab) })
    }

    /// From now on keeps the states that the model's own head reads, or does not.
    pub(in crate::engine) fn keep_states(&mut self, keep: bool) {
        self.keeps_states = keep;
        // SAFETY: see `n_ctx`.
        unsafe { genarm_guarded_keep_states(self.raw.as_ptr(), keep, false) }
    }

    /// The states of the tokens `first..first + k` of the last batch: `k × n_embd`. `None` where they are not kept.
    pub(in crate::engine) fn states(&self, first: usize, k: usize) -> Option<&[f32]> {
        if !self.keeps_states || first.checked_add(k)? > self.n_states {
            return None;
        }
        let n_embd = self.model.n_embd_out();
        // SAFETY: see `n_ctx`.
        let states = unsafe { genarm_guarded_states(self.raw.as_ptr()) };
        // SAFETY: after a decode of `n_states` tokens, llama.cpp holds as many rows of n_embd numbers, in the order of the
        // batch, until the next decode, which needs `&mut self`.
        (!states.is_null()).then(|| unsafe { std::slice::from_raw_parts(states.add(first * n_embd), k * n_embd) })
    }

    /// Drops the positions of a sequence from `first` on. Returns whether the memory could; if not, it is as before. A
    /// context has nothing to drop of a sequence that it does not have.
    pub fn truncate(&mut self, seq: usize, first: usize) -> bool {
        let (Some(seq), Ok(first)) = (self.seq(seq), i32::try_from(first)) else { return false };
        // SAFETY: see `n_ctx`; a context of a model with a decoder has memory, and this sequence.
        unsafe { sys::llama_memory_seq_rm(sys::llama_get_memory(self.raw.as_ptr()), seq, first, -1) }
    }

    /// Whether every layer has what it needs of the first `n` positions of a sequence to go on from there. In a pool
    /// llama.cpp gives cells that lie outside of a sequence's window to others, so that it cannot be taken back.
    pub fn can_go_on_from(&self, seq: usize, n: usize) -> bool {
        n == 0 || self.first_in_windows(seq) <= (n + 1).saturating_sub(self.model.window())
    }

    /// The first position of a sequence from which on layers with a window have all that they were given.
    fn first_in_windows(&self, seq: usize) -> usize {
        let Some(seq) = self.seq(seq).filter(|_| self.model.has_window() && !self.model.is_recurrent()) else {
            return 0;
        };
        // SAFETY: see `truncate`.
        let first = unsafe { sys::llama_memory_seq_pos_min(sys::llama_get_memory(self.raw.as_ptr()), seq) };
        usize::try_from(first).unwrap_or(0)
    }

    /// Lets sequence `to`, which ends at `first`, have the positions `first..end` of sequence `from` as well, if both
    /// lie in one pool of cells. Nothing is copied.
    pub fn share(&mut self, from: usize, to: usize, first: usize, end: usize) -> bool {
        // Elsewhere llama.cpp copies whole sequences only, and ends the process on a part of one. Of a recurrent state
        // there are no parts.
        let is_pool = self.mask.is_some() && !self.model.is_recurrent();
        let is_gone = self.first_in_windows(from) > first;
        let (Some(from), Some(to)) = (self.seq(from), self.seq(to)) else { return false };
        let (Ok(first), Ok(end)) = (i32::try_from(first), i32::try_from(end)) else { return false };
        if !is_pool || from == to || first >= end || is_gone {
            return false;
        }
        // SAFETY: see `truncate`; both are sequences of this context, whose cells are one pool (`kv_unified`).
        unsafe { sys::llama_memory_seq_cp(sys::llama_get_memory(self.raw.as_ptr()), from, to, first, end) }
        true
    }

    /// Whether the sequences of a batch must bring equally many tokens. llama.cpp computes a recurrent state for equal
    /// pieces of the sequences, and reorders a batch into such; a mask needs the batch as it is.
    pub fn is_in_step(&self) -> bool {
        self.mask.is_some() && self.model.is_recurrent()
    }

    /// Whether sequence `next` can come after sequence `last` in a batch [in step](Self::is_in_step): without attention,
    /// llama.cpp takes runs of their numbers together.
    pub fn can_follow(&self, last: usize, next: usize) -> bool {
        !self.is_in_step() || self.model.has_attention() || next == last + 1
    }

    /// Drops all sequences, and overwrites what they held.
    pub fn clear(&mut self) {
        // SAFETY: see `truncate`.
        unsafe { sys::llama_memory_clear(sys::llama_get_memory(self.raw.as_ptr()), true) }
    }

    /// The id of a sequence in C, if the context has it: llama.cpp ends the process on others.
    pub(super) fn seq(&self, seq: usize) -> Option<i32> {
        i32::try_from(seq).ok().filter(|_| seq < self.n_seq)
    }

    pub(super) fn as_ptr(&self) -> *mut sys::llama_context {
        self.raw.as_ptr()
    }

    /// A number that no other context of the process has.
    pub(super) fn id(&self) -> u64 {
        self.id
    }

    /// Parts of the cache that hold different sequences: one for each, or a pool for all.
    pub(super) fn n_streams(&self) -> usize {
        if self.mask.is_some() { 1 } else { self.n_seq }
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        // SAFETY: both were made by the matching functions, and this is their last use.
        unsafe {
            sys::llama_batch_free(self.batch);
            sys::llama_free(self.raw.as_ptr());
        }
    }
}
