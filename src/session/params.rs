//! A configuration in llama.cpp's terms.

use crate::config::{self, ExpertSpec, GpuLayers, SplitMode, Switch};
use crate::engine::gguf::GgufFile;
use crate::engine::llama::{self, CacheType, ContextParams, FlashAttention, ModelParams};
use crate::engine::threads::n_cores;

/// How to load the model of an expert.
pub(super) fn model_params(spec: &ExpertSpec) -> ModelParams {
    let n_gpu_layers = match spec.n_gpu_layers {
        GpuLayers::Auto | GpuLayers::All => None,
        GpuLayers::Count(n) => Some(n),
    };
    ModelParams {
        vocab_only: false,
        n_gpu_layers,
        use_mmap: spec.use_mmap,
        use_mlock: spec.use_mlock,
        device: spec.device.clone(),
        split_mode: match spec.split_mode {
            SplitMode::None => llama::SplitMode::None,
            SplitMode::Layer => llama::SplitMode::Layer,
            SplitMode::Row => llama::SplitMode::Row,
        },
        main_gpu: spec.main_gpu,
        tensor_split: llama::TensorSplit(spec.tensor_split.clone()),
        rpc: spec.rpc.clone(),
    }
}

/// Where a configuration names no context size: the model's own, but not above this.
const DEFAULT_N_CTX: u32 = 4096;

/// The settings of a context, with everything filled in that the configuration leaves open.
pub fn context_params(spec: &ExpertSpec, file: &GgufFile) -> ContextParams {
    let trained = u32::try_from(file.n_ctx_train().unwrap_or(0)).unwrap_or(u32::MAX).max(1);
    let n_ctx = match spec.n_ctx {
        Some(0) => trained,
        Some(n) => n,
        None => trained.min(DEFAULT_N_CTX),
    };
    let n_batch = spec.n_batch.unwrap_or(512).min(n_ctx);
    let n_threads = spec.threads.unwrap_or_else(n_cores);
    ContextParams {
        n_ctx,
        n_seq: 1,
        n_batch,
        n_ubatch: spec.n_ubatch.unwrap_or(512).min(n_batch),
        n_threads,
        n_threads_batch: spec.threads_batch.unwrap_or(n_threads),
        // What the user names holds.
        fewer_threads: spec.threads.is_none() && spec.threads_batch.is_none(),
        type_k: cache_type(spec.cache_type_k),
        type_v: cache_type(spec.cache_type_v),
        flash_attention: match spec.flash_attn {
            Switch::Auto => FlashAttention::Auto,
            Switch::On => FlashAttention::On,
            Switch::Off => FlashAttention::Off,
        },
        swa_full: spec.swa_full != Switch::Off,
        n_snapshots: 0,
    }
}

fn cache_type(ty: config::CacheType) -> CacheType {
    match ty {
        config::CacheType::F32 => CacheType::F32,
        config::CacheType::F16 => CacheType::F16,
        config::CacheType::BF16 => CacheType::BF16,
        config::CacheType::Q8_0 => CacheType::Q8_0,
        config::CacheType::Q4_0 => CacheType::Q4_0,
        config::CacheType::Q4_1 => CacheType::Q4_1,
        config::CacheType::IQ4_NL => CacheType::IQ4_NL,
        config::CacheType::Q5_0 => CacheType::Q5_0,
        config::CacheType::Q5_1 => CacheType::Q5_1,
    }
}
