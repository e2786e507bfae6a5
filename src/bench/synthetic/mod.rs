//! Random-weight models of a given size, so that speed can be measured without a download.
//!
//! The files have a real architecture, a real vocabulary and real quantised blocks: a token costs exactly what it costs
//! with a trained model of that shape. Their text is noise. The same seed gives the same bytes.

mod blocks;
mod lora;
mod request;
mod shape;
mod vocabulary;

pub use lora::SyntheticLora;
pub use request::{ModelRequest, RequestError, Size, parse_shapes};
pub use shape::{Architecture, Shape};
pub use vocabulary::SyntheticVocabulary;

use crate::engine::gguf::{Array, GgufError, GgufWriter, TensorData, TensorType, Value};
use shape::N_CONV;
use std::path::Path;
use std::str::FromStr;
use thiserror::Error;

/// How the weights are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(non_camel_case_types)] // llama.cpp's names
pub enum Quantization {
    /// 4-bit blocks of 32; the output in Q6_K.
    Q4_0,
    /// 4-bit super-blocks; the output, and in some layers attn_v and ffn_down, in Q6_K.
    Q4_K_M,
}

/// Why a synthetic model cannot be made.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SyntheticError {
    /// Not even one layer fits.
    #[error(
        "a model of {n_params} parameters is too small for a vocabulary of {n_vocab} tokens; \
         ask for at least {smallest}"
    )]
    TooSmall {
        /// Parameters asked for.
        n_params: u64,
        /// Tokens in the vocabulary.
        n_vocab: u64,
        /// The smallest size that can be made.
        smallest: u64,
    },
    /// The file that should lend its vocabulary has none.
    #[error("{path} has no vocabulary to copy; give a GGUF file that has one")]
    NoVocabulary {
        /// The file.
        path: String,
    },
    /// An unknown quantisation.
    #[error("unknown quantisation {name}; give Q4_0 or Q4_K_M")]
    UnknownQuantization {
        /// The name as given.
        name: String,
    },
    /// An unknown architecture.
    #[error("unknown architecture {name}; give llama or lfm2")]
    UnknownArchitecture {
        /// The name as given.
        name: String,
    },
    /// A file could not be read or written.
    #[error(transparent)]
    Gguf(#[from] GgufError),
}

impl FromStr for Quantization {
    type Err = SyntheticError;

    fn from_str(name: &str) -> Result<Self, SyntheticError> {
        match name.to_ascii_uppercase().as_str() {
            "Q4_0" => Ok(Quantization::Q4_0),
            "Q4_K_M" => Ok(Quantization::Q4_K_M),
            _ => Err(SyntheticError::UnknownQuantization { name: name.to_owned() }),
        }
    }
}

impl Quantization {
    /// llama.cpp's `llama_ftype`.
    fn file_type(self) -> u32 {
        match self {
            Quantization::Q4_0 => 2,
            Quantization::Q4_K_M => 15,
        }
    }

    /// The type of the matrix that gives the logits.
    fn output(self) -> TensorType {
        TensorType::Q6_K
    }

    /// The type of most matrices.
    fn bulk(self) -> TensorType {
        match self {
            Quantization::Q4_0 => TensorType::Q4_0,
            Quantization::Q4_K_M => TensorType::Q4_K,
        }
    }

    /// The type of attn_v and ffn_down in a layer: Q4_K_M stores them in Q6_K in the first and last eighth of the
    /// layers and in each third one between, as `llama-quantize` does.
    fn delicate(self, layer: u64, n_layer: u64) -> TensorType {
        let eighth = n_layer / 8;
        let more_bits = layer < eighth || layer >= 7 * n_layer / 8 || (layer - eighth) % 3 == 2;
        match self {
            Quantization::Q4_K_M if more_bits => TensorType::Q6_K,
            _ => self.bulk(),
        }
    }
}

/// A model to be made.
#[derive(Debug, Clone)]
pub struct SyntheticModel<'a> {
    /// `general.name`.
    pub name: &'a str,
    /// Layers and their sizes.
    pub shape: Shape,
    /// How the weights are stored.
    pub quantization: Quantization,
    /// The vocabulary; base and ARMs must have the same.
    pub vocabulary: &'a SyntheticVocabulary,
    /// The context length that the file claims, in tokens.
    pub n_ctx_train: u32,
    /// Same seed, same bytes.
    pub seed: u64,
}

impl SyntheticModel<'_> {
    /// Writes the model to `path`, and returns the size of the file in bytes.
    ///
    /// # Errors
    ///
    /// [`SyntheticError::Gguf`] when the file cannot be written.
    ///
    /// # Cost
    ///
    /// A 1.2B model in Q4_0 is 0.8 GB and takes about 3 s on two cores; no more memory than one buffer.
    pub fn write(&self, path: &Path) -> Result<u64, SyntheticError> {
        let shape = &self.shape;
        let architecture = shape.architecture.name();
        let mut out = GgufWriter::new(path)
            .meta("general.architecture", architecture)
            .meta("general.name", self.name)
            .meta("general.file_type", self.quantization.file_type())
            .meta("general.quantization_version", 2u32);
        for (key, value) in self.hparams() {
            out = out.meta(&format!("{architecture}.{key}"), value);
        }
        for (key, value) in self.vocabulary.metadata() {
            out = out.meta(key, value.clone());
        }
        for (index, (name, dims, ty)) in self.tensors().into_iter().enumerate() {
            let n: u64 = dims.iter().product();
            // Each tensor has a random stream of its own, so that its bytes do not depend on the others' sizes.
            let seed = self.seed.wrapping_add((index as u64).wrapping_mul(0xA076_1D64_78BD_642F));
            let data = TensorData::stream(move |file| match ty {
                TensorType::F32 => (0..n).try_for_each(|_| file.write_all(&1.0f32.to_le_bytes())),
                _ => blocks::write(file, ty, n, seed),
            });
            out = out.tensor(&name, &dims, ty, data);
        }
        Ok(out.finish()?)
    }

    fn hparams(&self) -> Vec<(&'static str, Value)> {
        let shape = &self.shape;
        let mut hparams = vec![
            ("context_length", Value::from(self.n_ctx_train)),
            ("vocab_size", (self.vocabulary.n_tokens() as u32).into()),
            ("block_count", (shape.n_layer as u32).into()),
            ("embedding_length", (shape.n_embd as u32).into()),
            ("feed_forward_length", (shape.n_ff as u32).into()),
            ("attention.head_count", (shape.n_head as u32).into()),
            ("attention.layer_norm_rms_epsilon", 1e-5f32.into()),
            ("rope.dimension_count", ((shape.n_embd / shape.n_head) as u32).into()),
            ("rope.freq_base", 500_000.0f32.into()),
        ];
        let n_head_kv = |layer| if shape.attends(layer) { shape.n_head_kv as u32 } else { 0 };
        match shape.architecture {
            Architecture::Llama => hparams.push(("attention.head_count_kv", n_head_kv(0).into())),
            Architecture::Lfm2 => {
                let n_head_kv = Array::U32((0..shape.n_layer).map(n_head_kv).collect());
                hparams.push(("attention.head_count_kv", Value::Array(n_head_kv)));
                hparams.push(("shortconv.l_cache", (N_CONV as u32).into()));
            }
        }
        hparams
    }

    /// Name, dimensions and type of every tensor.
    fn tensors(&self) -> Vec<(String, Vec<u64>, TensorType)> {
        let Shape { architecture, n_embd, n_layer, n_ff, n_head, n_head_kv, tied } = self.shape;
        let (n_vocab, head) = (self.vocabulary.n_tokens() as u64, n_embd / n_head);
        let n_embd_kv = head * n_head_kv;
        let (bulk, output) = (self.quantization.bulk(), self.quantization.output());
        let embedding = if tied { output } else { bulk };
        // llama.cpp calls LFM2's last norm by another name.
        let last_norm = match architecture {
            Architecture::Llama => "output_norm.weight",
            Architecture::Lfm2 => "token_embd_norm.weight",
        };
        let mut tensors = vec![
            ("token_embd.weight".to_owned(), vec![n_embd, n_vocab], embedding),
            (last_norm.to_owned(), vec![n_embd], TensorType::F32),
        ];
        if !tied {
            tensors.push(("output.weight".to_owned(), vec![n_embd, n_vocab], output));
        }
        for layer in 0..n_layer {
            let delicate = self.quantization.delicate(layer, n_layer);
            let mut of_layer = vec![
                ("attn_norm", vec![n_embd], TensorType::F32),
                ("ffn_norm", vec![n_embd], TensorType::F32),
                ("ffn_gate", vec![n_embd, n_ff], bulk),
                ("ffn_up", vec![n_embd, n_ff], bulk),
                ("ffn_down", vec![n_ff, n_embd], delicate),
            ];
            if self.shape.attends(layer) {
                of_layer.push(("attn_q", vec![n_embd, n_embd], bulk));
                of_layer.push(("attn_k", vec![n_embd, n_embd_kv], bulk));
                of_layer.push(("attn_v", vec![n_embd, n_embd_kv], delicate));
                of_layer.push(("attn_output", vec![n_embd, n_embd], bulk));
                if architecture == Architecture::Lfm2 {
                    of_layer.extend(["attn_q_norm", "attn_k_norm"].map(|name| (name, vec![head], TensorType::F32)));
                }
            } else {
                of_layer.push(("shortconv.conv", vec![N_CONV, n_embd], TensorType::F32));
                of_layer.push(("shortconv.in_proj", vec![n_embd, 3 * n_embd], bulk));
                of_layer.push(("shortconv.out_proj", vec![n_embd, n_embd], bulk));
            }
            let name = |name| format!("blk.{layer}.{name}.weight");
            tensors.extend(of_layer.into_iter().map(|(tensor, dims, ty)| (name(tensor), dims, ty)));
        }
        tensors
    }
}

#[cfg(test)]
mod tests;
