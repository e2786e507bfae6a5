//! What one file needs, layer by layer.

use super::windows::windows;
use crate::engine::gguf::{GgufFile, Value};
use crate::engine::llama::{CacheType, ContextParams, FlashAttention};
use crate::engine::shared_context::most_checkpoints;

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
    /// Numbers in a row of the K cache of each layer, then of the V cache.
    rows: Vec<(u64, u64)>,
    /// Bytes of the recurrent state of each layer; 0 where it has none.
    states: Vec<u64>,
    /// Tokens of the window of each layer; 0 where it attends to all.
    windows: Vec<u64>,
    /// The row of the layer of the head for drafting, which has caches only where it drafts, and whether it does.
    head: Option<(usize, (u64, u64))>,
    drafts: bool,
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
        let mut memories = vec![LayerMemory::default(); n_layer];
        for tensor in file.all_tensors() {
            let inner = tensor.name.strip_prefix("blk.").and_then(|rest| rest.split_once('.'));
            let layer = inner.and_then(|(layer, _)| layer.parse::<usize>().ok());
            if let (Some((_, name)), Some(memory)) = (inner, layer.and_then(|layer| memories.get_mut(layer))) {
                memory.note(name);
            }
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
        // Multi-head latent attention computes the values from the keys.
        let is_latent = ["attention.key_length_mla", "attention.value_length_mla"]
            .iter()
            .all(|name| hparam(name).is_some_and(|n| n > 0));
        let n_v = if is_latent { 0 } else { hparam("attention.value_length").unwrap_or(head) };
        let row = |(layer, memory): (usize, &LayerMemory)| {
            let heads = if memory.keys || !memory.state { heads_kv(file, layer, n_head) } else { 0 };
            (n_k.saturating_mul(heads), n_v.saturating_mul(heads))
        };
        let state = state_bytes(file);
        let mut rows: Vec<_> = memories.iter().enumerate().map(row).collect();
        let n_heads = usize::try_from(hparam("nextn_predict_layers").unwrap_or(0)).unwrap_or(0).min(n_layer);
        let heads = rows.split_at_mut(n_layer - n_heads).1;
        let head = heads.first().map(|row| (n_layer - n_heads, *row)).filter(|_| file.lacks_draft_head().is_none());
        if head.is_some() {
            heads.fill((0, 0));
        }
        Self {
            rows,
            head,
            drafts: false,
            states: memories.iter().map(|memory| if memory.state { state } else { 0 }).collect(),
            windows: windows(file, n_layer),
            layers,
            output: if tied { output.saturating_add(input) } else { output },
            input,
            tied,
            n_vocab: file.vocabulary().map_or(0, |v| v.n_tokens() as u64),
            n_embd: hparam("embedding_length").unwrap_or(0),
            n_ff: match file.hparam("feed_forward_length") {
                Some(Value::Array(array)) => {
                    (0..array.len()).filter_map(|layer| array.u64_at(layer)).max().unwrap_or(0)
                }
                _ => hparam("feed_forward_length").unwrap_or(0),
            },
            n_head,
            n_embd_q: n_k.saturating_mul(n_head),
        }
    }

    /// The same where the model's own head drafts, if it has one.
    #[must_use]
    pub fn drafting(mut self) -> Self {
        if let Some((layer, row)) = self.head {
            self.rows[layer] = row;
            self.drafts = true;
        }
        self
    }

    /// Bytes beside the caches that a head for drafting takes for a sequence: a context that reads a few tokens at once, and
    /// the states of a batch.
    pub(super) fn head(&self, params: &ContextParams) -> u64 {
        let n_ubatch = params.n_ubatch.min(64);
        let few = self.compute(&ContextParams { n_ubatch, ..params.clone() });
        let states = u64::from(params.n_batch).saturating_mul(self.n_embd * 4);
        if self.drafts { CONTEXT.saturating_add(few).saturating_add(states) } else { 0 }
    }

    /// Bytes of all weights, in one place.
    pub fn weights(&self) -> u64 {
        let layers = self.layers.iter().fold(0u64, |sum, layer| sum.saturating_add(*layer));
        layers.saturating_add(self.output).saturating_add(if self.tied { 0 } else { self.input })
    }

    /// Bytes of the memory of a sequence: the caches of all layers, and the earlier states that it can go back to.
    pub fn kv(&self, params: &ContextParams) -> u64 {
        let layers = (0..self.rows.len()).map(|layer| self.kv_layer(layer, params)).fold(0, u64::saturating_add);
        layers.saturating_add(self.checkpoints())
    }

    /// Bytes of the K and V caches of a layer, or of its recurrent state.
    pub fn kv_layer(&self, layer: usize, params: &ContextParams) -> u64 {
        let n_ctx = u64::from(params.n_ctx);
        let n = match self.windows[layer] {
            window if window > 0 && !self.keeps_windows(params) => n_ctx.min(window + u64::from(params.n_ubatch)),
            _ => n_ctx,
        };
        // llama.cpp rounds the cells of a cache up to a multiple of 256.
        let n_cells = n.next_multiple_of(256);
        let row = |ty: CacheType, n: u64| ty.bytes(n.next_multiple_of(32));
        let (k, v) = self.rows[layer];
        let cells = n_cells.saturating_mul(row(params.type_k, k).saturating_add(row(params.type_v, v)));
        cells.saturating_add(self.states[layer].saturating_mul(1 + u64::from(params.n_snapshots)))
    }

    /// Whether layers with a window keep all tokens: those of a model with a recurrent state always do.
    fn keeps_windows(&self, params: &ContextParams) -> bool {
        params.swa_full || self.state() > 0
    }

    /// Bytes of the recurrent state of a sequence; 0 where it has none.
    pub fn state(&self) -> u64 {
        self.states.iter().fold(0, |sum, state| sum.saturating_add(*state))
    }

    /// Bytes of main memory that the earlier states of a sequence may take.
    pub fn checkpoints(&self) -> u64 {
        let state = self.state();
        state.saturating_mul(most_checkpoints(usize::try_from(state).unwrap_or(usize::MAX)) as u64)
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

/// What a layer keeps of the tokens that it has read, by its tensors.
#[derive(Debug, Clone, Default)]
struct LayerMemory {
    /// Keys and values of each.
    keys: bool,
    /// A state of all together.
    state: bool,
}

impl LayerMemory {
    fn note(&mut self, tensor: &str) {
        self.keys |= tensor.starts_with("attn_k.");
        self.state |= ["ssm_", "shortconv.", "time_mix_"].iter().any(|kind| tensor.starts_with(kind));
    }
}

/// Bytes of the recurrent state of a layer, as llama.cpp lays it out: the end of the input of a convolution, and what is
/// summed up of all before.
fn state_bytes(file: &GgufFile) -> u64 {
    let hparam = |name| file.hparam_u64(name).unwrap_or(0);
    let n_embd = hparam("embedding_length");
    let numbers = if let Some(head) = file.hparam_u64("wkv.head_size") {
        n_embd.saturating_mul(head.saturating_add(file.hparam_u64("token_shift_count").unwrap_or(2)))
    } else if let Some(length) = file.hparam_u64("shortconv.l_cache") {
        n_embd.saturating_mul(length.saturating_sub(1))
    } else if let Some(head) = file.hparam_u64("kda.head_dim") {
        let width = hparam("attention.head_count").saturating_mul(head);
        width.saturating_mul(head.saturating_add(3 * hparam("ssm.conv_kernel").saturating_sub(1)))
    } else {
        let (inner, state) = (hparam("ssm.inner_size"), hparam("ssm.state_size"));
        let channels = inner.saturating_add(hparam("ssm.group_count").saturating_mul(state).saturating_mul(2));
        let convolution = hparam("ssm.conv_kernel").saturating_sub(1).saturating_mul(channels);
        convolution.saturating_add(inner.saturating_mul(state))
    };
    numbers.saturating_mul(size_of::<f32>() as u64)
}

/// Key-value heads of a layer; zero in layers without attention.
fn heads_kv(file: &GgufFile, layer: usize, n_head: u64) -> u64 {
    match file.hparam("attention.head_count_kv") {
        Some(Value::Array(array)) => array.u64_at(layer).unwrap_or(0),
        Some(value) => value.as_u64().unwrap_or(n_head),
        None => n_head,
    }
}
