//! The weights of a GGUF file, of whatever types, as floats; and whether they are those of the graph that is trained.

use super::TrainError;
use super::shape::Shape;
use crate::engine::dequantize;
use crate::engine::gguf::{GgufFile, TensorInfo};
use candle_core::{Device, Tensor};
use std::collections::BTreeMap;

/// Reads every tensor that the graph has, on `device`.
///
/// # Errors
///
/// [`TrainError::Gguf`] where a tensor is missing, of another shape, or none of this graph's.
pub(super) fn read(file: &GgufFile, shape: &Shape, device: &Device) -> Result<BTreeMap<String, Tensor>, TrainError> {
    let bad = |reason: String| TrainError::Gguf { path: file.path().into(), reason };
    if file.u64("split.count").is_some_and(|n| n > 1) {
        return Err(bad("the model is split over several files; merge them first (llama-gguf-split --merge)".into()));
    }
    let graph = Graph { file, shape };
    if let Some(missing) = graph.required().find(|name| file.tensor(name).is_none()) {
        return Err(bad(format!("tensor {missing} is missing; a whole model is needed")));
    }
    let mut weights = BTreeMap::new();
    for info in file.tensors() {
        // llama.cpp computes the angles of a head, which old conversions wrote down, and reads no scales of inputs.
        if info.name.contains("rot_embd") || info.name.contains("rotary_emb") || info.name.ends_with(".input_scale") {
            continue;
        }
        graph.check(info).map_err(bad)?;
        let numbers = dequantize::read(file, info).map_err(|e| bad(format!("tensor {}: {e}", info.name)))?;
        let dims: Vec<usize> = info.dims.iter().rev().map(|n| *n as usize).collect();
        weights.insert(info.name.clone(), Tensor::from_vec(numbers, dims, &Device::Cpu)?.to_device(device)?);
    }
    Ok(weights)
}

struct Graph<'a> {
    file: &'a GgufFile,
    shape: &'a Shape,
}

impl Graph<'_> {
    /// Tensors without which there is no model.
    fn required(&self) -> impl Iterator<Item = String> {
        let per_layer =
            ["attn_norm", "attn_q", "attn_k", "attn_v", "attn_output", "ffn_norm", "ffn_gate", "ffn_up", "ffn_down"];
        let of_heads: &[&str] = if self.shape.has_head_norms() { &["attn_q_norm", "attn_k_norm"] } else { &[] };
        let after: &[&str] = if self.shape.is_gemma() { &["post_attention_norm", "post_ffw_norm"] } else { &[] };
        let names: Vec<&str> = per_layer.iter().chain(of_heads).chain(after).copied().collect();
        let blocks = (0..self.shape.n_layer)
            .flat_map(move |i| names.clone().into_iter().map(move |name| format!("blk.{i}.{name}.weight")));
        ["token_embd.weight", "output_norm.weight"].map(String::from).into_iter().chain(blocks)
    }

    /// Refuses a tensor that the graph has not, or has in another shape: it would be left out in silence.
    fn check(&self, info: &TensorInfo) -> Result<(), String> {
        let Some(dims) = self.dims(&info.name) else {
            return Err(format!("tensor {} has no part in a {} model that can be trained", info.name, self.shape.arch));
        };
        let found: Vec<u64> = info.dims.iter().copied().filter(|n| *n != 1).collect();
        if found.iter().copied().ne(dims.iter().map(|n| *n as u64).filter(|n| *n != 1)) {
            return Err(format!("tensor {} has the shape {:?}; {dims:?} is expected", info.name, info.dims));
        }
        Ok(())
    }

    /// Sizes of a tensor of the graph, the fastest running first.
    fn dims(&self, name: &str) -> Option<Vec<usize>> {
        let s = self.shape;
        let (d, q, k) = (s.n_embd, s.heads * s.head_dim, s.kv_heads * s.head_dim);
        match name {
            "token_embd.weight" | "output.weight" => return Some(vec![d, s.n_vocab]),
            "output_norm.weight" => return Some(vec![d]),
            "output.bias" if s.arch == "qwen2" => return Some(vec![s.n_vocab]),
            "output.scale" => return Some(vec![1]),
            "rope_freqs.weight" | "rope_factors_long.weight" | "rope_factors_short.weight" if s.arch == "llama" => {
                return Some(vec![s.head_dim / 2]);
            }
            _ => {}
        }
        let (block, name) = name.strip_prefix("blk.")?.split_once('.')?;
        block.parse::<usize>().ok().filter(|i| *i < s.n_layer)?;
        let ff = self.file.tensor(&format!("blk.{block}.ffn_up.weight"))?.dims.get(1).copied()? as usize;
        let (name, part) = name.split_once('.')?;
        let (n_in, n_out) = match name {
            "attn_norm" | "ffn_norm" => return (part == "weight").then(|| vec![d]),
            "post_attention_norm" | "post_ffw_norm" => return (part == "weight" && s.is_gemma()).then(|| vec![d]),
            "attn_q_norm" | "attn_k_norm" => {
                return (part == "weight" && s.has_head_norms()).then(|| vec![s.head_dim]);
            }
            "attn_q" => (d, q),
            "attn_k" | "attn_v" => (d, k),
            "attn_output" => (q, d),
            "ffn_gate" | "ffn_up" => (d, ff),
            "ffn_down" => (ff, d),
            _ => return None,
        };
        let has_bias = match name {
            "attn_q" | "attn_k" | "attn_v" => !s.is_gemma(),
            _ => s.arch == "llama",
        };
        match part {
            "weight" => Some(vec![n_in, n_out]),
            "scale" => Some(vec![1]),
            "bias" => has_bias.then(|| vec![n_out]),
            _ => None,
        }
    }
}
