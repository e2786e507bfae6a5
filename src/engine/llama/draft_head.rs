//! A model's own head for drafting (multi-token prediction, MTP): a layer that guesses the token after the next one from the
//! model's last state and the next token. Its memory is a context of its own, of one sequence.

use std::ptr::NonNull;
use std::sync::Arc;

use llama_cpp_sys_2 as sys;

use super::backend::{abort_requested, interrupt_flag};
use super::context::ContextError;
use super::guarded::{genarm_guarded_add, genarm_guarded_decode, genarm_guarded_keep_states, genarm_guarded_states};
use super::model::Model;
use super::params::ContextParams;
use crate::engine::threads::Threads;
use crate::expert::{ExpertError, Token};

/// Tokens that it reads at once: of a text it lacks few, and a prompt comes in pieces.
const N_BATCH: u32 = 64;

/// A head with its memory of one text.
#[derive(Debug)]
pub struct DraftHead {
    raw: NonNull<sys::llama_context>,
    batch: NonNull<sys::llama_batch_ext>,
    n_pushed: usize,
    n_embd: usize,
    n_vocab: usize,
    /// Whether the last decode left a row of logits and a state.
    has_row: bool,
    threads: Threads,
    model: Arc<Model>,
}

// SAFETY: a context may move between threads; `&mut` keeps two from using it at once.
unsafe impl Send for DraftHead {}

impl DraftHead {
    /// Makes the memory of a head, for texts of as many tokens as `params` says. The model's file has a head
    /// ([`Model::lacks_draft_head`]).
    ///
    /// # Errors
    ///
    /// [`ContextError::Refused`].
    pub fn new(model: &Arc<Model>, params: &ContextParams) -> Result<Self, ContextError> {
        let refused = || ContextError::Refused {
            n_ctx: params.n_ctx,
            model: format!("the head for drafting of {}", model.file().path().display()),
        };
        if model.lacks_draft_head().is_some() {
            return Err(refused());
        }
        // SAFETY: no arguments.
        let mut raw = unsafe { sys::llama_context_default_params() };
        raw.ctx_type = sys::LLAMA_CONTEXT_TYPE_MTP;
        raw.n_ctx = params.n_ctx;
        (raw.n_batch, raw.n_ubatch) = (N_BATCH, N_BATCH);
        raw.n_seq_max = 1;
        raw.n_outputs_max = 1;
        raw.n_threads = i32::try_from(params.n_threads).unwrap_or(i32::MAX);
        raw.n_threads_batch = raw.n_threads;
        raw.type_k = params.type_k.raw();
        raw.type_v = params.type_v.raw();
        raw.flash_attn_type = params.flash_attention.raw();
        // The flag is never freed, so the pointer stays good.
        raw.abort_callback = Some(abort_requested);
        raw.abort_callback_data = Arc::as_ptr(&interrupt_flag()).cast_mut().cast();
        let guard = model.read_adapters();
        // SAFETY: the model is loaded with its head, and the parameters are llama.cpp's defaults but for the members set
        // above.
        let ctx = unsafe { sys::llama_init_from_model(model.as_ptr(), raw) };
        drop(guard);
        let ctx = NonNull::new(ctx).ok_or_else(refused)?;
        // SAFETY: a context, which lives as long as its batch.
        let batch = unsafe { sys::llama_batch_ext_init(ctx.as_ptr()) };
        let Some(batch) = NonNull::new(batch) else {
            // SAFETY: its last use.
            unsafe { sys::llama_free(ctx.as_ptr()) };
            return Err(refused());
        };
        // SAFETY: a context.
        unsafe { genarm_guarded_keep_states(ctx.as_ptr(), true, true) };
        Ok(Self {
            raw: ctx,
            batch,
            n_pushed: 0,
            n_embd: model.n_embd_out(),
            n_vocab: model.vocab().n_tokens(),
            has_row: false,
            threads: Threads::new(params.n_threads, params.fewer_threads && !model.is_on_device()),
            model: Arc::clone(model),
        })
    }

    /// Numbers of a state.
    pub fn n_embd(&self) -> usize {
        self.n_embd
    }

    /// Tokens that it reads at once.
    pub fn n_batch(&self) -> usize {
        N_BATCH as usize
    }

    /// Adds a token at a position, with the state of the token before it.
    ///
    /// # Panics
    ///
    /// When the state has another length than [`n_embd`](Self::n_embd).
    pub fn push(&mut self, token: Token, position: usize, state: &[f32]) {
        self.add(token, position, state, false);
    }

    fn add(&mut self, token: Token, position: usize, state: &[f32], output: bool) {
        assert_eq!(state.len(), self.n_embd, "numbers of a state");
        let position = i32::try_from(position).unwrap_or(i32::MAX);
        // SAFETY: a batch of this context, and a state of `n_embd` numbers, which is copied.
        let added =
            unsafe { genarm_guarded_add(self.batch.as_ptr(), token, position, state.as_ptr(), self.n_embd, output) };
        self.n_pushed += usize::from(added);
    }

    /// Decodes a token for its logits and its state. It is alone in its batch: where a graph computes the states of all tokens,
    /// llama.cpp takes the first for that of the token with logits.
    ///
    /// # Errors
    ///
    /// As [`decode`](Self::decode).
    pub fn decode_last(&mut self, token: Token, position: usize, state: &[f32]) -> Result<(), ExpertError> {
        self.add(token, position, state, true);
        self.decode()?;
        self.has_row = true;
        Ok(())
    }

    /// Decodes what was added.
    ///
    /// # Errors
    ///
    /// What llama.cpp answered; some of the tokens may then be in memory.
    pub fn decode(&mut self) -> Result<(), ExpertError> {
        self.has_row = false;
        let n_tokens = std::mem::take(&mut self.n_pushed);
        if let Some(n) = self.threads.changed() {
            // SAFETY: `raw` is a context.
            unsafe { sys::llama_set_n_threads(self.raw.as_ptr(), n, n) };
        }
        let guard = self.model.read_adapters();
        // SAFETY: a batch of this context.
        let code = self.threads.decode(|| unsafe { genarm_guarded_decode(self.raw.as_ptr(), self.batch.as_ptr()) });
        drop(guard);
        // SAFETY: a batch of this context.
        unsafe { sys::llama_batch_ext_clear(self.batch.as_ptr()) };
        match code {
            0 => Ok(()),
            2 => Err(ExpertError::Interrupted),
            code => Err(ExpertError::Decode { code, n_tokens }),
        }
    }

    /// The logits that [`decode_last`](Self::decode_last) left.
    pub fn row(&self) -> Option<&[f32]> {
        if !self.has_row {
            return None;
        }
        // SAFETY: `raw` is a context.
        let row = unsafe { sys::llama_get_logits(self.raw.as_ptr()) };
        // SAFETY: after a decode with one output, llama.cpp holds a row of n_vocab numbers until the next decode, which
        // needs `&mut self`.
        (!row.is_null()).then(|| unsafe { std::slice::from_raw_parts(row, self.n_vocab) })
    }

    /// The head's own state of that token: a stand-in for the model's, for drafting further.
    pub fn state(&self) -> Option<&[f32]> {
        if !self.has_row {
            return None;
        }
        // SAFETY: `raw` is a context.
        let state = unsafe { genarm_guarded_states(self.raw.as_ptr()) };
        // SAFETY: as for `row`.
        (!state.is_null()).then(|| unsafe { std::slice::from_raw_parts(state, self.n_embd) })
    }

    /// Drops all, and overwrites it.
    pub fn clear(&mut self) {
        self.has_row = false;
        // SAFETY: `raw` is a context.
        unsafe { sys::llama_memory_clear(sys::llama_get_memory(self.raw.as_ptr()), true) };
    }

    /// Drops the positions from `first` on.
    pub fn truncate(&mut self, first: usize) {
        let first = i32::try_from(first).unwrap_or(i32::MAX);
        // SAFETY: a context with a memory of keys and values, which can drop any end of its only sequence.
        unsafe { sys::llama_memory_seq_rm(sys::llama_get_memory(self.raw.as_ptr()), 0, first, -1) };
    }
}

impl Drop for DraftHead {
    fn drop(&mut self) {
        // SAFETY: both were made by the matching functions, and this is their last use.
        unsafe {
            sys::llama_batch_ext_free(self.batch.as_ptr());
            sys::llama_free(self.raw.as_ptr());
        }
    }
}

/// llama.cpp's own driver of a head, to compare drafts with: it takes the likeliest token each time.
#[cfg(test)]
pub(in crate::engine) struct Driver {
    target: super::Context,
    head: DraftHead,
    has_drafted: bool,
    raw: NonNull<sys::llama_rs_mtp_speculative>,
}

#[cfg(test)]
impl Driver {
    /// A driver that drafts `n` tokens.
    pub fn new(model: &Arc<Model>, params: &ContextParams, n: i32) -> Self {
        let target = super::Context::new(model, super::Adapters::All(Vec::new()), params).expect("a context");
        let head = DraftHead::new(model, params).expect("a head");
        // SAFETY: two contexts, which live longer: members are dropped in their order, after `Drop`.
        let raw = unsafe { sys::llama_rs_mtp_speculative_init(target.as_ptr(), head.raw.as_ptr(), n, 0, 0.0) };
        Self { target, head, has_drafted: false, raw: NonNull::new(raw).expect("a driver") }
    }

    /// Reads the tokens after the first `n` of `text`, in the place of what there was.
    pub fn read(&mut self, text: &[Token], n: usize) {
        // The first token after a draft is what the draft was verified with: none of it is kept.
        let first = if self.has_drafted { n + 1 } else { text.len() };
        self.process(&text[..first], n);
        if std::mem::take(&mut self.has_drafted) {
            // SAFETY: a driver, whose target has read what was drafted.
            let status = unsafe { sys::llama_rs_mtp_speculative_accept(self.raw.as_ptr(), 0) };
            assert_eq!(status, sys::LLAMA_RS_STATUS_OK);
        }
        if first < text.len() {
            self.process(text, first);
        }
    }

    fn process(&mut self, text: &[Token], n: usize) {
        assert!(self.target.truncate(0, n), "cannot take back");
        self.head.truncate(n);
        let n_tokens = i32::try_from(text.len() - n).expect("few tokens");
        // SAFETY: plain numbers.
        let mut batch = unsafe { sys::llama_batch_init(n_tokens, 0, 1) };
        batch.n_tokens = n_tokens;
        for (i, &token) in text[n..].iter().enumerate() {
            // SAFETY: the batch has room for so many tokens of one sequence each.
            unsafe {
                *batch.token.add(i) = token;
                *batch.pos.add(i) = (n + i) as i32;
                *batch.n_seq_id.add(i) = 1;
                **batch.seq_id.add(i) = 0;
                *batch.logits.add(i) = 1;
            }
        }
        // SAFETY: contexts, a driver and a batch that is filled.
        unsafe {
            assert_eq!(sys::llama_decode(self.target.as_ptr(), batch), 0);
            let status = sys::llama_rs_mtp_speculative_process(self.raw.as_ptr(), &raw const batch);
            assert_eq!(status, sys::LLAMA_RS_STATUS_OK);
            sys::llama_batch_free(batch);
        }
    }

    /// The head's state of the last token that it drafted from.
    pub fn state(&self) -> &[f32] {
        // SAFETY: it has decoded one token, whose state llama.cpp holds until the next decode, which needs `&mut self`.
        unsafe { std::slice::from_raw_parts(genarm_guarded_states(self.head.raw.as_ptr()), self.head.n_embd) }
    }

    /// What it drafts after `text`, all of which but the last token is read.
    pub fn draft(&mut self, text: &[Token]) -> Vec<Token> {
        let (last, before) = text.split_last().expect("a token");
        let (mut out, mut n) = (vec![0; 16], 0);
        // SAFETY: a driver, and buffers of the lengths that are said.
        unsafe {
            let n_past = before.len() as i32;
            let (tokens, len) = (before.as_ptr(), before.len());
            let (to, room) = (out.as_mut_ptr(), out.len());
            let raw = self.raw.as_ptr();
            let status = sys::llama_rs_mtp_speculative_draft(raw, n_past, *last, tokens, len, to, room, &raw mut n);
            assert_eq!(status, sys::LLAMA_RS_STATUS_OK);
        }
        self.has_drafted = true;
        out.truncate(n);
        out
    }
}

#[cfg(test)]
impl Drop for Driver {
    fn drop(&mut self) {
        // SAFETY: made by the matching function, and this is its last use.
        unsafe { sys::llama_rs_mtp_speculative_free(self.raw.as_ptr()) }
    }
}
