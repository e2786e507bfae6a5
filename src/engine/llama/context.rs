//! A context: the memory of sequences over a model, and the batches that fill it.

use std::ptr::NonNull;
use std::sync::Arc;

use llama_cpp_sys_2 as sys;

use super::backend::{abort_requested, interrupt_flag};
use super::lora::Lora;
use super::model::Model;
use crate::expert::{ExpertError, Token};

/// Type of the K or V cache. The names are ggml's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[allow(missing_docs, non_camel_case_types)]
pub enum CacheType {
    F32,
    #[default]
    F16,
    BF16,
    Q8_0,
    Q4_0,
    Q4_1,
    IQ4_NL,
    Q5_0,
    Q5_1,
}

impl CacheType {
    fn raw(self) -> sys::ggml_type {
        match self {
            Self::F32 => sys::GGML_TYPE_F32,
            Self::F16 => sys::GGML_TYPE_F16,
            Self::BF16 => sys::GGML_TYPE_BF16,
            Self::Q8_0 => sys::GGML_TYPE_Q8_0,
            Self::Q4_0 => sys::GGML_TYPE_Q4_0,
            Self::Q4_1 => sys::GGML_TYPE_Q4_1,
            Self::IQ4_NL => sys::GGML_TYPE_IQ4_NL,
            Self::Q5_0 => sys::GGML_TYPE_Q5_0,
            Self::Q5_1 => sys::GGML_TYPE_Q5_1,
        }
    }

    /// Bytes of `n` numbers, a multiple of 32.
    pub fn bytes(self, n: u64) -> u64 {
        match self {
            Self::F32 => n * 4,
            Self::F16 | Self::BF16 => n * 2,
            Self::Q8_0 => n / 32 * 34,
            Self::Q4_0 | Self::IQ4_NL => n / 32 * 18,
            Self::Q4_1 => n / 32 * 20,
            Self::Q5_0 => n / 32 * 22,
            Self::Q5_1 => n / 32 * 24,
        }
    }

    /// Whether it is made of blocks, which a V cache takes only under flash attention.
    pub fn is_quantised(self) -> bool {
        !matches!(self, Self::F32 | Self::F16 | Self::BF16)
    }
}

/// Flash attention.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum FlashAttention {
    /// Where the backend can.
    #[default]
    Auto,
    /// Always.
    On,
    /// Never.
    Off,
}

/// Settings of a context (`llama_context_params`).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ContextParams {
    /// Tokens that a sequence may have.
    pub n_ctx: u32,
    /// Tokens that one call decodes at most.
    pub n_batch: u32,
    /// Tokens that the graph computes at once.
    pub n_ubatch: u32,
    /// Threads for one token.
    pub n_threads: u32,
    /// Threads for a prompt.
    pub n_threads_batch: u32,
    /// Type of the K cache.
    pub type_k: CacheType,
    /// Type of the V cache.
    pub type_v: CacheType,
    /// Flash attention.
    pub flash_attention: FlashAttention,
}

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
}

/// A llama.cpp context with one sequence.
#[derive(Debug)]
pub struct Context {
    raw: NonNull<sys::llama_context>,
    batch: sys::llama_batch,
    n_vocab: usize,
    n_ctx: usize,
    /// Adapters outlive the context that applies them.
    _loras: Vec<Lora>,
    model: Arc<Model>,
}

// SAFETY: a context may move between threads; `&mut` keeps two from using it at once.
unsafe impl Send for Context {}

impl Context {
    /// Makes a context, with `loras` applied to all that it computes.
    ///
    /// # Errors
    ///
    /// [`ContextError`].
    pub fn new(model: &Arc<Model>, loras: Vec<Lora>, params: &ContextParams) -> Result<Self, ContextError> {
        // SAFETY: no arguments.
        let mut raw = unsafe { sys::llama_context_default_params() };
        raw.n_ctx = params.n_ctx;
        raw.n_batch = params.n_batch;
        raw.n_ubatch = params.n_ubatch;
        raw.n_seq_max = 1;
        raw.n_threads = i32::try_from(params.n_threads).unwrap_or(i32::MAX);
        raw.n_threads_batch = i32::try_from(params.n_threads_batch).unwrap_or(i32::MAX);
        raw.type_k = params.type_k.raw();
        raw.type_v = params.type_v.raw();
        raw.flash_attn_type = match params.flash_attention {
            FlashAttention::Auto => sys::LLAMA_FLASH_ATTN_TYPE_AUTO,
            FlashAttention::On => sys::LLAMA_FLASH_ATTN_TYPE_ENABLED,
            FlashAttention::Off => sys::LLAMA_FLASH_ATTN_TYPE_DISABLED,
        };
        // The flag is never freed, so the pointer stays good.
        raw.abort_callback = Some(abort_requested);
        raw.abort_callback_data = Arc::as_ptr(&interrupt_flag()).cast_mut().cast();
        let name = || model.file().path().display().to_string();
        // SAFETY: the model is loaded, and the parameters are llama.cpp's defaults but for the members set above.
        let ctx = unsafe { sys::llama_init_from_model(model.as_ptr(), raw) };
        let ctx = NonNull::new(ctx).ok_or_else(|| ContextError::Refused { n_ctx: params.n_ctx, model: name() })?;
        // SAFETY: plain numbers. It aborts only where malloc fails for these few kilobytes.
        let batch = unsafe { sys::llama_batch_init(i32::try_from(params.n_batch).unwrap_or(i32::MAX), 0, 1) };
        let n_vocab = model.vocab().n_tokens();
        let n_ctx = params.n_ctx as usize;
        let context = Self { raw: ctx, batch, n_vocab, n_ctx, _loras: loras, model: Arc::clone(model) };
        context.apply_loras().map_err(|()| ContextError::Lora { model: name() })?;
        Ok(context)
    }

    fn apply_loras(&self) -> Result<(), ()> {
        if self._loras.is_empty() {
            return Ok(());
        }
        let mut adapters: Vec<_> = self._loras.iter().map(Lora::as_ptr).collect();
        let mut scales: Vec<_> = self._loras.iter().map(Lora::scale).collect();
        // SAFETY: both arrays have as many members as said; the adapters live in `self`.
        let code = unsafe {
            sys::llama_set_adapters_lora(self.raw.as_ptr(), adapters.as_mut_ptr(), adapters.len(), scales.as_mut_ptr())
        };
        if code == 0 { Ok(()) } else { Err(()) }
    }

    /// The model under it.
    pub fn model(&self) -> &Arc<Model> {
        &self.model
    }

    /// Length of a row of logits.
    pub fn n_vocab(&self) -> usize {
        self.n_vocab
    }

    /// Tokens that the sequence may have.
    pub fn n_ctx(&self) -> usize {
        // llama.cpp rounds what was asked for up to whole cells of its cache; the user's number holds.
        // SAFETY: `raw` is a context; so in every function below.
        self.n_ctx.min(unsafe { sys::llama_n_ctx_seq(self.raw.as_ptr()) as usize })
    }

    /// Tokens that one [`decode`](Self::decode) takes at most.
    pub fn n_batch(&self) -> usize {
        // SAFETY: see `n_ctx`. llama.cpp may have lowered what was asked for; the batch has room for that.
        unsafe { sys::llama_n_batch(self.raw.as_ptr()) as usize }
    }

    /// Decodes `tokens` at the positions from `first` on; the last `k` of them get logits.
    ///
    /// # Errors
    ///
    /// What llama.cpp answered; some of the tokens may then be in memory.
    ///
    /// # Panics
    ///
    /// When there are more tokens than [`n_batch`](Self::n_batch), or fewer than `k`.
    pub fn decode(&mut self, tokens: &[Token], first: usize, k: usize) -> Result<(), ExpertError> {
        assert!(tokens.len() <= self.n_batch() && k <= tokens.len(), "a batch of {} tokens, {k} rows", tokens.len());
        self.batch.n_tokens = tokens.len() as i32;
        for (i, &token) in tokens.iter().enumerate() {
            // SAFETY: `llama_batch_init` made room for `n_batch` tokens of one sequence each, and i < n_batch.
            unsafe {
                *self.batch.token.add(i) = token;
                *self.batch.pos.add(i) = (first + i) as i32;
                *self.batch.n_seq_id.add(i) = 1;
                **self.batch.seq_id.add(i) = 0;
                *self.batch.logits.add(i) = i8::from(i + k >= tokens.len());
            }
        }
        self.check_servers()?;
        // SAFETY: the batch is filled as llama_decode reads it, and token ids were checked by the caller's `check_request`.
        match unsafe { sys::llama_decode(self.raw.as_ptr(), self.batch) } {
            0 => self.check_servers(),
            2 => Err(ExpertError::Interrupted),
            code => Err(ExpertError::Decode { code, n_tokens: tokens.len() }),
        }
    }

    /// Refuses what was computed with a server that is lost: its numbers are made up. Costs nothing without servers.
    fn check_servers(&self) -> Result<(), ExpertError> {
        if self.model.has_servers() {
            // SAFETY: see `n_ctx`. A loss is known only when everything has been answered.
            unsafe { sys::llama_synchronize(self.raw.as_ptr()) }
        }
        match self.model.lost_server() {
            Some((endpoint, reason)) => Err(ExpertError::Server { endpoint, reason }),
            None => Ok(()),
        }
    }

    /// The rows of the last successful [`decode`](Self::decode): `k × n_vocab`, oldest first.
    pub fn logits(&self, k: usize) -> &[f32] {
        // SAFETY: after a decode with k outputs, llama.cpp holds k rows of n_vocab numbers in one buffer, in the order of the batch,
        // until the next decode, which needs `&mut self`.
        unsafe {
            let logits = sys::llama_get_logits(self.raw.as_ptr());
            if logits.is_null() { &[] } else { std::slice::from_raw_parts(logits, k * self.n_vocab) }
        }
    }

    /// Drops the positions from `first` on. Returns whether the memory could; if not, it is as before.
    pub fn truncate(&mut self, first: usize) -> bool {
        // SAFETY: see `n_ctx`; a context of a model with a decoder has memory.
        unsafe { sys::llama_memory_seq_rm(sys::llama_get_memory(self.raw.as_ptr()), 0, first as i32, -1) }
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        // SAFETY: see `truncate`.
        unsafe { sys::llama_memory_clear(sys::llama_get_memory(self.raw.as_ptr()), false) }
    }

    /// A copy of the sequence's state, for memories that cannot be truncated.
    pub fn save(&mut self, state: &mut Vec<u8>) -> bool {
        // SAFETY: the buffer has the size that llama.cpp asks for.
        unsafe {
            state.resize(sys::llama_state_seq_get_size(self.raw.as_ptr(), 0), 0);
            sys::llama_state_seq_get_data(self.raw.as_ptr(), state.as_mut_ptr(), state.len(), 0) == state.len()
        }
    }

    /// Puts a saved state in the place of what is there.
    pub fn restore(&mut self, state: &[u8]) -> bool {
        self.clear();
        // SAFETY: the bytes come from `save` on this context.
        unsafe { sys::llama_state_seq_set_data(self.raw.as_ptr(), state.as_ptr(), state.len(), 0) > 0 }
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
