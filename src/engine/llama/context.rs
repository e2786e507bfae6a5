//! A context: the memory of sequences over a model, and the batches that fill it.

use std::ptr::NonNull;
use std::sync::Arc;

use llama_cpp_sys_2 as sys;

use super::backend::{abort_requested, interrupt_flag};
use super::lora::Lora;
use super::mask::{Blocks, Mask, mask_node};
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
    /// Sequences that the memory has room for, each of `n_ctx` tokens.
    pub n_seq: u32,
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
    batch: sys::llama_batch,
    n_vocab: usize,
    n_ctx: usize,
    /// Adapters outlive the context that applies them.
    adapters: Vec<Lora>,
    applied: bool,
    /// llama.cpp holds a pointer to it.
    mask: Option<Box<Mask>>,
    model: Arc<Model>,
}

// SAFETY: a context may move between threads; `&mut` keeps two from using it at once.
unsafe impl Send for Context {}

/// Above so many tokens of experts without an adapter, taking the adapters off costs less than computing them to be masked.
const N_UNADAPTED: usize = 32;

impl Context {
    /// Makes a context.
    ///
    /// # Errors
    ///
    /// [`ContextError`].
    pub fn new(model: &Arc<Model>, adapters: Adapters, params: &ContextParams) -> Result<Self, ContextError> {
        let (adapters, mut mask) = match adapters {
            Adapters::All(loras) => (loras, None),
            Adapters::Stack(stack, blocks) => (vec![stack], Some(Box::new(Mask::new(blocks)))),
        };
        // A masked batch is computed as a whole, so that the columns of its nodes are the batch's tokens.
        let n_batch = if mask.is_some() { params.n_batch.min(params.n_ubatch) } else { params.n_batch };
        // SAFETY: no arguments.
        let mut raw = unsafe { sys::llama_context_default_params() };
        raw.n_ctx = params.n_ctx.saturating_mul(params.n_seq);
        raw.n_batch = n_batch;
        raw.n_ubatch = params.n_ubatch;
        raw.n_seq_max = params.n_seq;
        // In one pool of cells llama.cpp computes the tokens of a batch in the batch's order, as a mask needs it. Elsewhere each
        // sequence has cells of its own: in a pool every token attends over the cells of all sequences, most of them masked.
        raw.kv_unified = mask.is_some();
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
        if let Some(mask) = &mut mask {
            raw.cb_eval = Some(mask_node);
            raw.cb_eval_user_data = (&raw mut **mask).cast();
        }
        let name = || model.file().path().display().to_string();
        // SAFETY: the model is loaded, and the parameters are llama.cpp's defaults but for the members set above.
        let ctx = unsafe { sys::llama_init_from_model(model.as_ptr(), raw) };
        let ctx = NonNull::new(ctx).ok_or_else(|| ContextError::Refused { n_ctx: params.n_ctx, model: name() })?;
        // SAFETY: plain numbers. It aborts only where malloc fails for these few kilobytes.
        let batch = unsafe { sys::llama_batch_init(i32::try_from(n_batch).unwrap_or(i32::MAX), 0, 1) };
        let n_vocab = model.vocab().n_tokens();
        let n_ctx = params.n_ctx as usize;
        let model = Arc::clone(model);
        let mut context = Self { raw: ctx, batch, n_vocab, n_ctx, adapters, applied: false, mask, model };
        context.apply_adapters(true).map_err(|()| ContextError::Lora { model: name() })?;
        Ok(context)
    }

    fn apply_adapters(&mut self, on: bool) -> Result<(), ()> {
        if self.adapters.is_empty() || self.applied == on {
            return Ok(());
        }
        let mut adapters: Vec<_> = self.adapters.iter().map(Lora::as_ptr).collect();
        let mut scales: Vec<_> = self.adapters.iter().map(|lora| if on { lora.scale() } else { 0.0 }).collect();
        // SAFETY: both arrays have as many members as said; the adapters live in `self`.
        let code = unsafe {
            sys::llama_set_adapters_lora(self.raw.as_ptr(), adapters.as_mut_ptr(), adapters.len(), scales.as_mut_ptr())
        };
        self.applied = on;
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

    /// Tokens that a sequence may have.
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

    /// Tokens that still fit into the batch.
    pub fn room(&self) -> usize {
        self.n_batch().saturating_sub(self.batch.n_tokens as usize)
    }

    /// Adds `tokens` to the batch, at the positions of sequence `seq` from `first` on; the last `k` of them get logits. `part` is the
    /// part of a [stack](Adapters::Stack) of adapters that they are read with; `None` is none.
    ///
    /// # Panics
    ///
    /// When there are more tokens than [`room`](Self::room), or fewer than `k`.
    pub fn push(&mut self, seq: usize, tokens: &[Token], first: usize, k: usize, part: Option<u8>) {
        assert!(tokens.len() <= self.room() && k <= tokens.len(), "a batch of {} tokens, {k} rows", tokens.len());
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
            if let Some(mask) = &mut self.mask {
                mask.push(part, output);
            }
        }
        self.batch.n_tokens += tokens.len() as i32;
    }

    /// Decodes the batch, and empties it.
    ///
    /// # Errors
    ///
    /// What llama.cpp answered; some of the tokens may then be in memory.
    pub fn decode(&mut self) -> Result<(), ExpertError> {
        let n_tokens = self.batch.n_tokens as usize;
        let failed = |code| ExpertError::Decode { code, n_tokens };
        if let Some(mask) = &mut self.mask {
            let adapted = mask.begin();
            if adapted || n_tokens > N_UNADAPTED {
                self.apply_adapters(adapted).map_err(|()| failed(-1))?;
            }
        }
        self.check_servers()?;
        // SAFETY: the batch is filled as llama_decode reads it, and token ids were checked by the caller's `check_request`.
        let code = unsafe { sys::llama_decode(self.raw.as_ptr(), self.batch) };
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
        if self.model.has_servers() {
            // SAFETY: see `n_ctx`. A loss is known only when everything has been answered.
            unsafe { sys::llama_synchronize(self.raw.as_ptr()) }
        }
        match self.model.lost_server() {
            Some((endpoint, reason)) => Err(ExpertError::Server { endpoint, reason }),
            None => Ok(()),
        }
    }

    /// Rows `first..first + k` of the last successful [`decode`](Self::decode), in the order in which they were pushed: `k × n_vocab`.
    pub fn logits(&self, first: usize, k: usize) -> &[f32] {
        // SAFETY: after a decode with first + k outputs, llama.cpp holds as many rows of n_vocab numbers in one buffer, in the order of
        // the batch, until the next decode, which needs `&mut self`.
        unsafe {
            let logits = sys::llama_get_logits(self.raw.as_ptr());
            if logits.is_null() {
                &[]
            } else {
                std::slice::from_raw_parts(logits.add(first * self.n_vocab), k * self.n_vocab)
            }
        }
    }

    /// Drops the positions of a sequence from `first` on. Returns whether the memory could; if not, it is as before.
    pub fn truncate(&mut self, seq: usize, first: usize) -> bool {
        // SAFETY: see `n_ctx`; a context of a model with a decoder has memory.
        unsafe { sys::llama_memory_seq_rm(sys::llama_get_memory(self.raw.as_ptr()), seq as i32, first as i32, -1) }
    }

    /// A copy of a sequence's state, for memories that cannot be truncated.
    pub fn save(&mut self, seq: usize, state: &mut Vec<u8>) -> bool {
        let seq = seq as i32;
        // SAFETY: the buffer has the size that llama.cpp asks for.
        unsafe {
            state.resize(sys::llama_state_seq_get_size(self.raw.as_ptr(), seq), 0);
            sys::llama_state_seq_get_data(self.raw.as_ptr(), state.as_mut_ptr(), state.len(), seq) == state.len()
        }
    }

    /// Puts a saved state in the place of what is there.
    pub fn restore(&mut self, seq: usize, state: &[u8]) -> bool {
        self.truncate(seq, 0);
        // SAFETY: the bytes come from `save` on this context.
        unsafe { sys::llama_state_seq_set_data(self.raw.as_ptr(), state.as_ptr(), state.len(), seq as i32) > 0 }
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
