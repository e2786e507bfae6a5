//! What one file needs, layer by layer.

use crate::engine::gguf::{Array, GgufFile, Value};
use crate::engine::llama::{CacheType, ContextParams, FlashAttention};

/// Bytes of main memory that a context takes whatever its size: graphs, their schedule, batches. Seen: 7 to 9 million.
pub const CONTEXT: u64 = 8 << 20;

/// The sizes of a model that decide what it needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemoryParts {
    /// Bytes of the weights of each layer.
    pub layers: Vec<u64>,
    /// Bytes of the embedding of the input, which stays in main memory.
    pub input: u64,
    /// Bytes of the matrix that gives the logits, and what belongs to no layer.
    pub output: u64,
    /// Whether `output` is the embedding: on the same device it is there once.
    pub tied: bool,
    /// Whether it is a recurrent model, whose rows share no batch.
    pub recurrent: bool,
    /// Numbers in a row of the K cache of each layer, then of the V cache.
    rows: Vec<(u64, u64)>,
    n_vocab: u64,
    n_embd: u64,
    n_ff: u64,
    n_head: u64,
    /// Width of all query heads together.
    n_embd_q: u64,
}

impl MemoryParts {
    /// Reads the sizes from a header.
    pub fn of(file: &GgufFile) -> Self {
        let hparam = |name| file.hparam_u64(name);
        let n_layer = usize::try_from(hparam("block_count").unwrap_or(0)).unwrap_or(0).min(file.all_tensors().count());
        let (mut layers, mut input, mut output) = (vec![0u64; n_layer], 0u64, 0u64);
        for tensor in file.all_tensors() {
            let layer = tensor.name.strip_prefix("blk.").and_then(|rest| rest.split('.').next()?.parse::<usize>().ok());
            let part = match layer.and_then(|layer| layers.get_mut(layer)) {
                Some(layer) => layer,
                None if tensor.name.starts_with("token_embd") => &mut input,
                None => &mut output,
            };
            *part = part.saturating_add(tensor.n_bytes);
        }
        let tied = file.any_tensor("output.weight").is_none();
        let n_head = hparam("attention.head_count").unwrap_or(1).max(1);
        let head = hparam("embedding_length").unwrap_or(0) / n_head;
        let n_k = hparam("attention.key_length").unwrap_or(head);
        let n_v = hparam("attention.value_length").unwrap_or(head);
        let row = |layer| {
            let heads = heads_kv(file, layer, n_head);
            (n_k.saturating_mul(heads), n_v.saturating_mul(heads))
        };
        Self {
            rows: (0..n_layer).map(row).collect(),
            layers,
            output: if tied { output.saturating_add(input) } else { output },
            input,
            tied,
            recurrent: file.is_recurrent(),
            n_vocab: file.vocabulary().map_or(0, |v| v.n_tokens() as u64),
            n_embd: hparam("embedding_length").unwrap_or(0),
            n_ff: match file.hparam("feed_forward_length") {
                Some(Value::Array(array)) => (0..array.len()).filter_map(|l| layer_value(array, l)).max().unwrap_or(0),
                _ => hparam("feed_forward_length").unwrap_or(0),
            },
            n_head,
            n_embd_q: n_k.saturating_mul(n_head),
        }
    }

    /// Bytes of all weights, in one place.
    pub fn weights(&self) -> u64 {
        let layers = self.layers.iter().fold(0u64, |sum, layer| sum.saturating_add(*layer));
        layers.saturating_add(self.output).saturating_add(if self.tied { 0 } else { self.input })
    }

    /// Bytes of the K and V caches of all layers.
    pub fn kv(&self, params: &ContextParams) -> u64 {
        (0..self.rows.len()).map(|layer| self.kv_layer(layer, params)).fold(0, u64::saturating_add)
    }

    /// Bytes of the K and V caches of a layer.
    pub fn kv_layer(&self, layer: usize, params: &ContextParams) -> u64 {
        // llama.cpp rounds the cells of a cache up to a multiple of 256.
        let n_cells = u64::from(params.n_ctx).next_multiple_of(256);
        let row = |ty: CacheType, n: u64| ty.bytes(n.next_multiple_of(32));
        let (k, v) = self.rows[layer];
        n_cells.saturating_mul(row(params.type_k, k).saturating_add(row(params.type_v, v)))
    }

    /// Bytes for intermediate results: the widest moment of the graph, and what lives all through it.
    pub fn compute(&self, params: &ContextParams) -> u64 {
        let n = u64::from(params.n_ubatch.min(params.n_ctx));
        let n_cells = u64::from(params.n_ctx).next_multiple_of(256);
        let cells_batch = n.saturating_mul(n_cells);
        let flash = params.flash_attention != FlashAttention::Off;
        // Which key a token may see; flash attention reads it in 16 bits.
        let mask = cells_batch.saturating_mul(if flash { 2 } else { 4 });
        let scores = if flash { 0 } else { cells_batch.saturating_mul(self.n_head) };
        let logits = n.saturating_mul(self.n_vocab + 5 * self.n_embd);
        let attention = n.saturating_mul(3 * self.n_embd_q + 3 * self.n_embd).saturating_add(scores);
        let feed_forward = n.saturating_mul(2 * self.n_ff + 3 * self.n_embd);
        logits.max(attention).max(feed_forward).saturating_mul(4).saturating_add(mask)
    }

    /// Bytes that main memory needs for intermediate results where every layer is elsewhere: the inputs.
    pub fn compute_inputs(&self, params: &ContextParams) -> u64 {
        let n = u64::from(params.n_ubatch.min(params.n_ctx));
        n.saturating_mul(2 * self.n_embd * 4 + u64::from(params.n_ctx) * 4)
    }
}

/// Key-value heads of a layer; zero in layers without attention.
fn heads_kv(file: &GgufFile, layer: usize, n_head: u64) -> u64 {
    match file.hparam("attention.head_count_kv") {
        Some(Value::Array(array)) => layer_value(array, layer).unwrap_or(0),
        Some(value) => value.as_u64().unwrap_or(n_head),
        None => n_head,
    }
}

fn layer_value(array: &Array, layer: usize) -> Option<u64> {
    match array {
        Array::I32(values) => values.get(layer).and_then(|n| u64::try_from(*n).ok()),
        Array::U32(values) => values.get(layer).map(|n| u64::from(*n)),
        _ => None,
    }
}
