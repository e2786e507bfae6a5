//! The settings of a model and of a context.

use llama_cpp_sys_2 as sys;

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
    pub(super) fn raw(self) -> sys::ggml_type {
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

impl FlashAttention {
    pub(super) fn raw(self) -> sys::llama_flash_attn_type {
        match self {
            Self::Auto => sys::LLAMA_FLASH_ATTN_TYPE_AUTO,
            Self::On => sys::LLAMA_FLASH_ATTN_TYPE_ENABLED,
            Self::Off => sys::LLAMA_FLASH_ATTN_TYPE_DISABLED,
        }
    }
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
    /// Whether there may be fewer threads while other processes compete for the processors.
    pub fewer_threads: bool,
    /// Type of the K cache.
    pub type_k: CacheType,
    /// Type of the V cache.
    pub type_v: CacheType,
    /// Flash attention.
    pub flash_attention: FlashAttention,
    /// Whether layers with a sliding window keep all tokens. Otherwise they keep the window and `n_ubatch` tokens, and
    /// what is taken back further is read again.
    pub swa_full: bool,
    /// Tokens that a recurrent state can be taken back by, where llama.cpp can do that for the model: it keeps as many
    /// states more.
    pub n_snapshots: u32,
}

#[cfg(test)]
impl ContextParams {
    /// Small, on one thread, for tests.
    pub(in crate::engine) fn small(n_ctx: u32) -> Self {
        Self {
            n_ctx,
            n_seq: 1,
            n_batch: 32,
            n_ubatch: 32,
            n_threads: 1,
            n_threads_batch: 1,
            fewer_threads: false,
            type_k: CacheType::F16,
            type_v: CacheType::F16,
            flash_attention: FlashAttention::Auto,
            swa_full: true,
            n_snapshots: 0,
        }
    }
}

/// How to load a model (`llama_model_params`).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ModelParams {
    /// Read the vocabulary alone: no weights, so no contexts.
    pub vocab_only: bool,
    /// Layers on the GPU; `None` is as many as there are.
    pub n_gpu_layers: Option<u32>,
    /// Map the file into memory.
    pub use_mmap: bool,
    /// Keep the weights in RAM.
    pub use_mlock: bool,
    /// The devices that get the layers, as ggml names them, with commas between; `None` lets llama.cpp choose.
    pub device: Option<String>,
    /// How several devices share them.
    pub split_mode: SplitMode,
    /// The device that gets everything under [`SplitMode::None`], by its place in the list.
    pub main_gpu: u32,
    /// Shares of the devices; empty lets free memory decide.
    pub tensor_split: TensorSplit,
    /// Servers that get the layers, as `host:port`.
    pub rpc: Vec<String>,
}

impl Default for ModelParams {
    fn default() -> Self {
        Self {
            vocab_only: false,
            n_gpu_layers: None,
            use_mmap: true,
            use_mlock: false,
            device: None,
            split_mode: SplitMode::default(),
            main_gpu: 0,
            tensor_split: TensorSplit::default(),
            rpc: Vec::new(),
        }
    }
}

/// How several devices share a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum SplitMode {
    /// One device has all of it.
    None,
    /// Whole layers go to devices.
    #[default]
    Layer,
    /// Rows of each matrix go to devices, where the backend can.
    Row,
}

/// Shares of devices: finite numbers of at least 0.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct TensorSplit(pub Vec<f32>);

// Finite numbers equal themselves, and equal ones have equal bits but for the two zeros, which are told apart
// harmlessly.
impl Eq for TensorSplit {}

impl std::hash::Hash for TensorSplit {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.0.iter().for_each(|x| x.to_bits().hash(state));
    }
}
