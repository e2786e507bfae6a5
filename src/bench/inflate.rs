//! Models that compute what a small trained model computes, at a large model's cost.
//!
//! Speed needs size, and acceptance needs models that agree as trained ones do. A small llama model is grown without
//! changing its function: wider (the new dimensions of the residual stream stay 0, and the norms make up for the longer
//! mean), with more heads and hidden units whose outputs meet zeros, with further layers whose output projections are
//! 0, and with further tokens, which one new constant dimension keeps from ever being drawn. What is left of a
//! difference is quantisation.

use std::collections::HashMap;
use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use candle_core::quantized::gguf_file::Content;
use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{Device, Tensor};

use super::synthetic::{Shape, SyntheticError};
use crate::engine::gguf::{Array, GgufError, GgufFile, GgufWriter, TensorData, TensorType, Value};

/// Why a model cannot be grown.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InflateError {
    /// A file cannot be read or written.
    #[error(transparent)]
    Gguf(#[from] GgufError),
    /// No shape of that size.
    #[error(transparent)]
    Shape(#[from] SyntheticError),
    /// It is not a llama model that fits into the larger one.
    #[error("{path}: cannot be inflated: {reason}")]
    Unfit {
        /// The file.
        path: String,
        /// Why.
        reason: String,
    },
}

/// The sizes of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Dims {
    n_embd: usize,
    n_ff: usize,
    n_head: usize,
    n_head_kv: usize,
    head: usize,
    n_layer: usize,
    n_vocab: usize,
}

/// How a model was grown: what its adapters must follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Growth {
    from: Dims,
    to: Dims,
}

/// Where the rows or columns of a matrix lie in the larger one.
#[derive(Clone, Copy, PartialEq)]
enum Axis {
    Embd,
    Ff,
    Query,
    Key,
    Vocab,
}

/// Rows (outputs) and columns (inputs) of a layer's matrices.
const MATRICES: [(&str, Axis, Axis); 7] = [
    ("attn_q", Axis::Query, Axis::Embd),
    ("attn_k", Axis::Key, Axis::Embd),
    ("attn_v", Axis::Key, Axis::Embd),
    ("attn_output", Axis::Embd, Axis::Query),
    ("ffn_gate", Axis::Ff, Axis::Embd),
    ("ffn_up", Axis::Ff, Axis::Embd),
    ("ffn_down", Axis::Embd, Axis::Ff),
];

/// The constant that the last layer adds to one new dimension, small beside the others …
const CONSTANT: f32 = 1e-3;
/// … and what the last norm and the output make of it: logits of some −1000 for tokens that the small model lacks.
const CONSTANT_NORM: f32 = 1e4;
const CONSTANT_OUTPUT: f32 = -1e3;

impl Growth {
    fn size(&self, axis: Axis) -> (usize, usize) {
        let of = |d: &Dims| match axis {
            Axis::Embd => d.n_embd,
            Axis::Ff => d.n_ff,
            Axis::Query => d.n_head * d.head,
            Axis::Key => d.n_head_kv * d.head,
            Axis::Vocab => d.n_vocab,
        };
        (of(&self.from), of(&self.to))
    }

    /// Where row or column `i` goes. Query heads stay with their key heads, of which each has more of them now.
    fn place(&self, axis: Axis, i: usize) -> usize {
        if axis != Axis::Query {
            return i;
        }
        let (from, to) = (&self.from, &self.to);
        let (old, new) = (from.n_head / from.n_head_kv, to.n_head / to.n_head_kv);
        let (head, within) = (i / from.head, i % from.head);
        (head / old * new + head % old) * from.head + within
    }

    /// A matrix in the larger one, row by row; the rest is 0.
    fn matrix(&self, small: &[Vec<f32>], rows: Axis, columns: Axis) -> Vec<f32> {
        let (n_rows, n_columns) = (self.size(rows).1, self.size(columns).1);
        let mut out = vec![0.0; n_rows * n_columns];
        for (i, row) in small.iter().enumerate() {
            let start = self.place(rows, i) * n_columns;
            for (j, x) in row.iter().enumerate() {
                out[start + self.place(columns, j)] = *x;
            }
        }
        out
    }

    /// What a norm's longer mean takes from its output, the weights give back.
    fn norm(&self, small: &[f32]) -> Vec<f32> {
        let factor = (self.from.n_embd as f32 / self.to.n_embd as f32).sqrt();
        let mut out: Vec<f32> = small.iter().map(|w| w * factor).collect();
        out.resize(self.to.n_embd, 1.0);
        out
    }
}

fn unfit(path: &Path, reason: impl Into<String>) -> InflateError {
    InflateError::Unfit { path: path.display().to_string(), reason: reason.into() }
}

/// Tensors of a file as floats, by name.
struct SourceTensors<'a> {
    path: &'a Path,
    content: Content,
    file: BufReader<File>,
}

impl<'a> SourceTensors<'a> {
    fn open(path: &'a Path) -> Result<Self, InflateError> {
        let mut file = BufReader::new(File::open(path).map_err(|e| unfit(path, e.to_string()))?);
        let content = Content::read(&mut file).map_err(|e| unfit(path, e.to_string()))?;
        Ok(Self { path, content, file })
    }

    fn has(&self, name: &str) -> bool {
        self.content.tensor_infos.contains_key(name)
    }

    fn get(&mut self, name: &str) -> Result<Tensor, InflateError> {
        let tensor = self.content.tensor(&mut self.file, name, &Device::Cpu);
        let tensor = tensor.and_then(|tensor| tensor.dequantize(&Device::Cpu));
        tensor.map_err(|e| unfit(self.path, format!("tensor {name}: {e}")))
    }

    fn matrix(&mut self, name: &str) -> Result<Vec<Vec<f32>>, InflateError> {
        self.get(name)?.to_vec2().map_err(|e| unfit(self.path, format!("tensor {name}: {e}")))
    }

    fn vector(&mut self, name: &str) -> Result<Vec<f32>, InflateError> {
        self.get(name)?.to_vec1().map_err(|e| unfit(self.path, format!("tensor {name}: {e}")))
    }
}

fn dims(file: &GgufFile, path: &Path) -> Result<Dims, InflateError> {
    if file.architecture() != Some("llama") {
        return Err(unfit(path, "only llama models can be"));
    }
    let number = |name: &str| {
        let n = file.hparam_u64(name).and_then(|n| usize::try_from(n).ok());
        n.filter(|n| *n > 0).ok_or_else(|| unfit(path, format!("it has no {name}")))
    };
    let (n_embd, n_head) = (number("embedding_length")?, number("attention.head_count")?);
    Ok(Dims {
        n_embd,
        n_ff: number("feed_forward_length")?,
        n_head,
        n_head_kv: number("attention.head_count_kv").unwrap_or(n_head),
        head: n_embd / n_head,
        n_layer: number("block_count")?,
        n_vocab: file.vocabulary().map_or(0, |v| v.n_tokens()),
    })
}

/// Writes `source`, a llama model, as one of about `n_params` parameters and `n_vocab` tokens in Q4_0 to `target`.
///
/// # Errors
///
/// [`InflateError`].
///
/// # Cost
///
/// A 1.1B model is 0.7 GB and takes a few seconds.
pub fn inflate_model(source: &Path, target: &Path, n_params: u64, n_vocab: usize) -> Result<Growth, InflateError> {
    let file = GgufFile::open_model(source)?;
    let from = dims(&file, source)?;
    let n_vocab = n_vocab.max(from.n_vocab);
    let shape = Shape::of_size(n_params, n_vocab as u64)?;
    let n_embd = shape.n_embd as usize;
    let n_head = n_embd / from.head;
    let per_key = (from.n_head / from.n_head_kv).max(4);
    let to = Dims {
        n_embd,
        n_ff: shape.n_ff as usize,
        n_head,
        n_head_kv: n_head / per_key,
        head: from.head,
        n_layer: shape.n_layer as usize,
        n_vocab,
    };
    let larger = to.n_embd > from.n_embd && to.n_ff >= from.n_ff && to.n_layer >= from.n_layer;
    let blocks = from.n_embd.is_multiple_of(32) && from.n_ff.is_multiple_of(32);
    if !larger || to.n_head_kv < from.n_head_kv || !n_head.is_multiple_of(per_key) || !blocks {
        return Err(unfit(source, format!("it does not fit into {n_embd} dimensions and {} layers", to.n_layer)));
    }
    let growth = Growth { from, to };
    let mut out = metadata(&file, target, &growth);
    let mut weights = SourceTensors::open(source)?;
    let embedding = weights.matrix("token_embd.weight")?;
    let output = if weights.has("output.weight") { weights.matrix("output.weight")? } else { embedding.clone() };
    out = quantised(out, "token_embd.weight", growth.matrix(&embedding, Axis::Vocab, Axis::Embd), n_embd)?;
    let mut output = growth.matrix(&output, Axis::Vocab, Axis::Embd);
    output.chunks_exact_mut(n_embd).skip(from.n_vocab).for_each(|row| row[from.n_embd] = CONSTANT_OUTPUT);
    out = quantised(out, "output.weight", output, n_embd)?;
    let mut norm = growth.norm(&weights.vector("output_norm.weight")?);
    norm[from.n_embd] = CONSTANT_NORM;
    out = floats(out, "output_norm.weight", norm);
    for layer in 0..to.n_layer {
        for part in ["attn_norm", "ffn_norm"] {
            let name = format!("blk.{layer}.{part}.weight");
            let small = if layer < from.n_layer { weights.vector(&name)? } else { vec![1.0; from.n_embd] };
            out = floats(out, &name, growth.norm(&small));
        }
        for (part, rows, columns) in MATRICES {
            let name = format!("blk.{layer}.{part}.weight");
            let n_columns = growth.size(columns).1;
            if layer < from.n_layer {
                let matrix = growth.matrix(&weights.matrix(&name)?, rows, columns);
                out = quantised(out, &name, matrix, n_columns)?;
            } else {
                out = zeros(out, &name, growth.size(rows).1, n_columns);
            }
        }
    }
    let mut bias = vec![0.0; n_embd];
    bias[from.n_embd] = CONSTANT;
    out = floats(out, &format!("blk.{}.ffn_down.bias", to.n_layer - 1), bias);
    out.finish()?;
    Ok(growth)
}

/// Writes a LoRA adapter of a grown model.
///
/// # Errors
///
/// [`InflateError`].
pub fn inflate_adapter(source: &Path, target: &Path, growth: &Growth) -> Result<(), InflateError> {
    let file = GgufFile::open_adapter(source)?;
    let mut out = GgufWriter::new(target);
    for (key, value) in file.metadata() {
        out = out.meta(key, value.clone());
    }
    let mut weights = SourceTensors::open(source)?;
    for info in file.tensors() {
        let part = info.name.split('.').nth(2).unwrap_or_default();
        let Some((_, rows, columns)) = MATRICES.into_iter().find(|(name, ..)| *name == part) else {
            return Err(unfit(source, format!("tensor {} is on no matrix of a layer", info.name)));
        };
        let small = weights.matrix(&info.name)?;
        let rank = info.dims[usize::from(info.name.ends_with("lora_a"))];
        let (data, dims) = if info.name.ends_with("lora_a") {
            // [rank, inputs]
            let n = growth.size(columns).1;
            let mut data = vec![0.0; small.len() * n];
            for (i, row) in small.iter().enumerate() {
                row.iter().enumerate().for_each(|(j, x)| data[i * n + growth.place(columns, j)] = *x);
            }
            (data, [n as u64, rank])
        } else {
            // [outputs, rank]
            let (n, r) = (growth.size(rows).1, rank as usize);
            let mut data = vec![0.0; n * r];
            for (i, row) in small.iter().enumerate() {
                data[growth.place(rows, i) * r..][..r].copy_from_slice(row);
            }
            (data, [rank, n as u64])
        };
        out = out.tensor(&info.name, &dims, TensorType::F32, bytes(&data));
    }
    out.finish()?;
    Ok(())
}

/// The source's metadata with the new sizes.
fn metadata<'a>(file: &GgufFile, target: &Path, growth: &Growth) -> GgufWriter<'a> {
    let (from, to) = (&growth.from, &growth.to);
    let mut out = GgufWriter::new(target);
    for (key, value) in file.metadata() {
        let value = match (key.as_str(), value) {
            ("tokenizer.ggml.tokens", Value::Array(Array::Strings(tokens))) => {
                let more = (from.n_vocab..to.n_vocab).map(|i| format!("<unused{i}>").into_bytes());
                Value::Array(Array::Strings(tokens.iter().map(<[u8]>::to_vec).chain(more).collect()))
            }
            // llama.cpp's type 5: unused.
            ("tokenizer.ggml.token_type", Value::Array(Array::I32(types))) => {
                let more = std::iter::repeat_n(5, to.n_vocab - from.n_vocab);
                Value::Array(Array::I32(types.iter().copied().chain(more).collect()))
            }
            ("tokenizer.ggml.scores", Value::Array(Array::F32(scores))) => {
                let more = std::iter::repeat_n(-1e6, to.n_vocab - from.n_vocab);
                Value::Array(Array::F32(scores.iter().copied().chain(more).collect()))
            }
            _ => value.clone(),
        };
        out = out.meta(key, value);
    }
    let eps = file.hparam("attention.layer_norm_rms_epsilon").and_then(Value::as_f64).unwrap_or(1e-5);
    out.meta("general.file_type", 2u32)
        .meta("general.quantization_version", 2u32)
        .meta("llama.vocab_size", to.n_vocab as u32)
        .meta("llama.block_count", to.n_layer as u32)
        .meta("llama.embedding_length", to.n_embd as u32)
        .meta("llama.feed_forward_length", to.n_ff as u32)
        .meta("llama.attention.head_count", to.n_head as u32)
        .meta("llama.attention.head_count_kv", to.n_head_kv as u32)
        .meta("llama.rope.dimension_count", to.head as u32)
        .meta("llama.attention.key_length", to.head as u32)
        .meta("llama.attention.value_length", to.head as u32)
        .meta("llama.attention.layer_norm_rms_epsilon", (eps * from.n_embd as f64 / to.n_embd as f64) as f32)
}

/// Tables that meet every token in Q8_0, the rest in Q4_0.
fn quantised<'a>(
    out: GgufWriter<'a>,
    name: &str,
    data: Vec<f32>,
    n_columns: usize,
) -> Result<GgufWriter<'a>, InflateError> {
    let table = !name.starts_with("blk.");
    let (dtype, ty) = if table { (GgmlDType::Q8_0, TensorType::Q8_0) } else { (GgmlDType::Q4_0, TensorType::Q4_0) };
    let n_rows = data.len() / n_columns;
    let quantise = || {
        let tensor = Tensor::from_vec(data, (n_rows, n_columns), &Device::Cpu)?;
        Ok::<_, candle_core::Error>(QTensor::quantize(&tensor, dtype)?.data()?.into_owned())
    };
    let data = quantise().map_err(|e| InflateError::Unfit { path: name.to_owned(), reason: e.to_string() })?;
    Ok(out.tensor(name, &[n_columns as u64, n_rows as u64], ty, data))
}

fn floats<'a>(out: GgufWriter<'a>, name: &str, data: Vec<f32>) -> GgufWriter<'a> {
    out.tensor(name, &[data.len() as u64], TensorType::F32, bytes(&data))
}

fn bytes(data: &[f32]) -> Vec<u8> {
    data.iter().flat_map(|x| x.to_le_bytes()).collect()
}

/// A matrix of zeros costs what any other costs.
fn zeros<'a>(out: GgufWriter<'a>, name: &str, n_rows: usize, n_columns: usize) -> GgufWriter<'a> {
    let dims = [n_columns as u64, n_rows as u64];
    let n_bytes = TensorType::Q4_0.tensor_bytes(&dims).unwrap_or(0);
    let data = TensorData::stream(move |file| {
        std::io::copy(&mut std::io::Read::take(std::io::repeat(0), n_bytes), file).map(drop)
    });
    out.tensor(name, &dims, TensorType::Q4_0, data)
}

/// The models and adapters of a run, grown once each.
#[derive(Debug, Default)]
pub struct Inflated {
    models: HashMap<PathBuf, (PathBuf, Growth)>,
}

impl Inflated {
    /// Grows a model into `folder`, or gives the one that is there.
    ///
    /// # Errors
    ///
    /// [`InflateError`].
    pub fn model(
        &mut self,
        source: &Path,
        folder: &Path,
        n_params: u64,
        n_vocab: usize,
    ) -> Result<(PathBuf, Growth), InflateError> {
        if let Some(known) = self.models.get(source) {
            return Ok(known.clone());
        }
        let path = folder.join(format!("model-{}.gguf", self.models.len()));
        let growth = inflate_model(source, &path, n_params, n_vocab)?;
        self.models.insert(source.to_owned(), (path.clone(), growth));
        Ok((path, growth))
    }
}
