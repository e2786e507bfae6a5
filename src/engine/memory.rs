//! What a model will need in memory, told from its header before anything is loaded.

use serde::Serialize;

use super::gguf::{Array, GgufFile, Value};
use super::llama::{CacheType, ContextParams};

/// Bytes that a model and one context on it take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct MemoryNeed {
    /// The weights. Mapped from the file, they are the system's page cache; experts on one file share them.
    pub weights: u64,
    /// K and V caches at the context's size.
    pub kv: u64,
    /// Buffers for intermediate results, an estimate.
    pub compute: u64,
}

impl MemoryNeed {
    /// The need of `file` in a context with `params`.
    pub fn of(file: &GgufFile, params: &ContextParams) -> Self {
        let hparam = |name| file.hparam_u64(name).unwrap_or(0);
        let (n_embd, n_ff) = (hparam("embedding_length"), hparam("feed_forward_length"));
        let n_vocab = file.vocabulary().map_or(0, |v| v.n_tokens() as u64);
        let n_ubatch = u64::from(params.n_ubatch.min(params.n_ctx));
        // The widest moment of the graph: logits of a whole batch beside the last hidden state, or one layer's inner products.
        let widest = (n_vocab + 2 * n_embd).max(3 * n_ff + 4 * n_embd);
        let compute = n_ubatch.saturating_mul(widest).saturating_mul(4);
        Self { weights: file.n_tensor_bytes(), kv: kv_bytes(file, params), compute }
    }

    /// All of it.
    pub fn total(&self) -> u64 {
        self.weights.saturating_add(self.kv).saturating_add(self.compute)
    }
}

fn kv_bytes(file: &GgufFile, params: &ContextParams) -> u64 {
    let hparam = |name| file.hparam_u64(name);
    let n_layer = hparam("block_count").unwrap_or(0);
    let n_head = hparam("attention.head_count").unwrap_or(1).max(1);
    let n_head_kv = |layer| match file.hparam("attention.head_count_kv") {
        Some(Value::Array(array)) => layer_value(array, layer).unwrap_or(0),
        Some(value) => value.as_u64().unwrap_or(n_head),
        None => n_head,
    };
    let default = hparam("embedding_length").unwrap_or(0) / n_head;
    let n_k = hparam("attention.key_length").unwrap_or(default);
    let n_v = hparam("attention.value_length").unwrap_or(default);
    // llama.cpp rounds the cells of a cache up to a multiple of 256.
    let n_cells = u64::from(params.n_ctx).next_multiple_of(256);
    let row = |ty: CacheType, n: u64| ty.bytes(n.next_multiple_of(32));
    let layer =
        |l| n_cells.saturating_mul(row(params.type_k, n_k * n_head_kv(l)) + row(params.type_v, n_v * n_head_kv(l)));
    (0..n_layer).map(layer).fold(0, u64::saturating_add)
}

fn layer_value(array: &Array, layer: u64) -> Option<u64> {
    let layer = usize::try_from(layer).ok()?;
    match array {
        Array::I32(values) => values.get(layer).and_then(|n| u64::try_from(*n).ok()),
        Array::U32(values) => values.get(layer).map(|n| u64::from(*n)),
        _ => None,
    }
}

/// Bytes of memory that the machine, or the control group that this process is in, has left.
pub fn available_memory() -> u64 {
    let mut system = sysinfo::System::new();
    system.refresh_memory();
    let free = system.available_memory();
    system.cgroup_limits().map_or(free, |limits| free.min(limits.free_memory))
}

/// Cores that compute: hyper-threads of one core share its vector units and gain nothing.
pub fn n_physical_cores() -> u32 {
    let allowed = std::thread::available_parallelism().map_or(1, usize::from);
    let physical = sysinfo::System::physical_core_count().unwrap_or(allowed);
    u32::try_from(physical.min(allowed)).unwrap_or(1).max(1)
}
