//! The shape of a transformer, from the header of its file.

use super::TrainError;
use crate::engine::gguf::{Array, GgufFile};

/// The numbers of a GGUF header that shape the graph.
#[derive(Debug, Clone)]
pub struct Shape {
    /// `general.architecture`: llama, qwen2, qwen3 or gemma3.
    pub arch: String,
    /// Transformer blocks.
    pub n_layer: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads.
    pub kv_heads: usize,
    /// Numbers in a head.
    pub head_dim: usize,
    /// Numbers in an embedding.
    pub n_embd: usize,
    /// Added to the mean square in every norm.
    pub eps: f32,
    /// Scores of attention are multiplied by it.
    pub attention_scale: f32,
    /// Layers that look back only so far; `None` where all see everything.
    pub window: Option<Window>,
    /// Longest sequence the rope tables cover, in tokens.
    pub n_ctx: usize,
    /// Rows of the output matrix.
    pub n_vocab: usize,
}

/// Sliding-window attention: of each `pattern` layers the last one sees everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// Tokens that a layer sees, its own included.
    pub n_tokens: usize,
    /// Layers from one that sees everything to the next.
    pub pattern: usize,
}

impl Window {
    /// Whether layer `i` looks back only so far.
    pub fn holds_in(self, i: usize) -> bool {
        self.pattern == 0 || i % self.pattern < self.pattern - 1
    }
}

impl Shape {
    /// Whether it is Gemma 3: scaled embeddings, norms before and after each part, GELU.
    pub fn is_gemma(&self) -> bool {
        self.arch == "gemma3"
    }

    /// Whether q and k have a norm per head.
    pub fn has_head_norms(&self) -> bool {
        self.arch == "qwen3" || self.is_gemma()
    }

    /// What a checked header says of the graph; `n_ctx` bounds the length of a sequence.
    ///
    /// # Errors
    ///
    /// [`TrainError::Architecture`] and [`TrainError::Gguf`].
    pub fn read(file: &GgufFile, n_ctx: Option<usize>) -> Result<Self, TrainError> {
        let path = file.path();
        let bad = |reason: String| TrainError::Gguf { path: path.into(), reason };
        let arch = file.architecture().unwrap_or_default().to_string();
        let get = |key: &str| number(file, key);
        let has_experts = get("expert_count").is_some_and(|n| n > 0.0);
        if !["llama", "qwen2", "qwen3", "gemma3"].contains(&arch.as_str()) || has_experts {
            let arch = if has_experts { format!("{arch} with experts") } else { arch };
            return Err(TrainError::Architecture { path: path.into(), arch });
        }
        let need = |key: &str| {
            get(key).map(|v| v as usize).ok_or_else(|| bad(format!("{arch}.{key} is missing; a whole model is needed")))
        };
        for key in ["attention.head_count", "attention.head_count_kv"] {
            if file.hparam(key).is_some() && get(key).is_none() {
                return Err(bad(format!("{arch}.{key} differs from layer to layer, which cannot be trained")));
            }
        }
        let heads = need("attention.head_count")?;
        let n_embd = need("embedding_length")?;
        if heads == 0 || n_embd == 0 {
            return Err(bad("head count or embedding length is 0".into()));
        }
        if arch == "gemma3" && get("final_logit_softcapping").is_some_and(|cap| cap != 0.0) {
            return Err(bad("its logits are capped (final_logit_softcapping), which cannot be trained".into()));
        }
        if file.hparam("attention.sliding_window_pattern").is_some()
            && get("attention.sliding_window_pattern").is_none()
        {
            return Err(bad("its sliding window differs from layer to layer, which cannot be trained".into()));
        }
        let n_layer = need("block_count")?;
        let head_dim = get("attention.key_length").map_or(n_embd / heads, |v| v as usize);
        // llama.cpp knows the 27B model by its layers.
        let scaled_by = if arch == "gemma3" && n_layer == 62 { n_embd / heads } else { head_dim };
        let window = get("attention.sliding_window").map(|n| n as usize).filter(|n| *n > 0 && arch == "gemma3");
        let pattern = get("attention.sliding_window_pattern").map_or(6, |n| n as usize);
        let n_vocab = file.tensor("token_embd.weight").and_then(|t| t.dims.get(1)).map(|n| *n as usize);
        let trained = need("context_length")?;
        Ok(Self {
            n_layer,
            heads,
            kv_heads: get("attention.head_count_kv").map_or(heads, |v| v as usize).max(1),
            head_dim,
            attention_scale: 1.0 / (scaled_by as f32).sqrt(),
            window: window.map(|n_tokens| Window { n_tokens, pattern }),
            n_embd,
            eps: get("attention.layer_norm_rms_epsilon").unwrap_or(1e-5) as f32,
            n_ctx: n_ctx.map_or(trained, |n| n.min(trained)),
            n_vocab: n_vocab.ok_or_else(|| bad("no tensors; a whole model is needed, not a vocabulary".into()))?,
            arch,
        })
    }
}

/// A hyper-parameter, whatever its integer or float type; of a list with a number per layer the one that all layers
/// share.
pub(super) fn number(file: &GgufFile, name: &str) -> Option<f64> {
    let value = file.hparam(name)?;
    let shared = || {
        let numbers: Vec<i64> = match value.as_array()? {
            Array::U32(list) => list.iter().map(|n| i64::from(*n)).collect(),
            Array::I32(list) => list.iter().map(|n| i64::from(*n)).collect(),
            _ => return None,
        };
        let first = *numbers.first()?;
        numbers.iter().all(|n| *n == first && first >= 0).then_some(first as f64)
    };
    value.as_f64().or_else(|| value.as_u64().map(|v| v as f64)).or_else(shared)
}
