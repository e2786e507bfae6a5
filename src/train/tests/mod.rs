//! Tests against llama.cpp and against interrupted runs.

mod cases;
mod data;
mod files;
mod forward;
mod gradients;
mod imports;
mod parm;
mod rope;
mod runs;
mod settings;
mod tables;
mod tokens;
mod weights;

use super::Backbone;
use super::backbone::Packed;
use super::export::Metadata;
use super::settings::{Settings, Wire};
use crate::engine::dequantize::tests::quantized;
use crate::engine::gguf::{GgufWriter, TensorType, Value};
use crate::engine::llama::backend;
use candle_core::{Device, Tensor};
use llama_cpp_2::context::params::{KvCacheType, LlamaContextParams};
use llama_cpp_2::llama_batch::LlamaBatch;
use llama_cpp_2::model::LlamaModel;
use llama_cpp_2::model::params::LlamaModelParams;
use llama_cpp_2::token::LlamaToken;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};

/// A small trained llama.
fn small_llama() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/models/stories260K.gguf")
}

/// Logits of llama.cpp after each token, with 32-bit caches.
fn llama_cpp_logits(model: &Path, lora: Option<&Path>, tokens: &[u32]) -> Vec<f32> {
    let backend = backend().unwrap();
    let mut model = LlamaModel::load_from_file(backend, model, &LlamaModelParams::default()).unwrap();
    let lora = lora.map(|path| model.lora_adapter_init(path).unwrap());
    let params = LlamaContextParams::default()
        .with_n_ctx(NonZeroU32::new(256))
        .with_type_k(KvCacheType::F32)
        .with_type_v(KvCacheType::F32)
        .with_flash_attention_policy(llama_cpp_sys_2::LLAMA_FLASH_ATTN_TYPE_DISABLED)
        .with_n_threads(2);
    let mut context = model.new_context(backend, params).unwrap();
    if let Some(mut lora) = lora {
        context.lora_adapter_set(&mut lora, 1.0).unwrap();
    }
    let mut batch = LlamaBatch::new(tokens.len(), 1);
    for (i, t) in tokens.iter().enumerate() {
        batch.add(LlamaToken(*t as i32), i as i32, &[0], true).unwrap();
    }
    context.decode(&mut batch).unwrap();
    (0..tokens.len()).flat_map(|i| context.get_logits_ith(i as i32).to_vec()).collect()
}

/// Logits of the trained graph after each token.
fn our_logits(backbone: &Backbone, tokens: &[u32]) -> Vec<f32> {
    let mut packed = Packed::default();
    // The last token is not read, so one more is appended.
    packed.push(&[tokens, &[0]].concat(), 1);
    backbone.logits(&packed).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

fn largest_difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

/// A model of random weights with the small llama's vocabulary.
fn random_model(path: &Path, arch: &str) {
    RandomModel::new(arch).write(path);
}

/// A model of random weights, and what a test wants to be different in it.
struct RandomModel {
    arch: String,
    /// Numbers in an embedding; a head has a quarter of them, qwen3's half.
    width: usize,
    /// More keys of the architecture, in place of those of that name.
    keys: Vec<(&'static str, Value)>,
    /// More tensors, or others of that name.
    tensors: Vec<(&'static str, Vec<f32>)>,
    /// The type of every matrix in the blocks.
    ty: TensorType,
}

impl RandomModel {
    fn new(arch: &str) -> Self {
        Self { arch: arch.into(), width: 64, keys: Vec::new(), tensors: Vec::new(), ty: TensorType::F32 }
    }

    fn with(arch: &str, keys: &[(&'static str, Value)]) -> Self {
        Self { keys: keys.to_vec(), ..Self::new(arch) }
    }

    fn head_dim(&self) -> usize {
        self.width / if ["qwen3", "gemma3"].contains(&self.arch.as_str()) { 2 } else { 4 }
    }

    fn metadata(&self, base: &Backbone) -> Metadata {
        let mut metadata: Metadata =
            base.file.metadata().iter().filter(|(k, _)| k.starts_with("tokenizer.")).cloned().collect();
        let arch = &self.arch;
        metadata.insert("general.architecture".into(), Value::String(arch.clone()));
        let numbers = [
            ("context_length", 128),
            ("embedding_length", self.width),
            ("block_count", 2),
            ("feed_forward_length", self.width * 2),
            ("attention.head_count", 4),
            ("attention.head_count_kv", 2),
            ("attention.key_length", self.head_dim()),
            ("attention.value_length", self.head_dim()),
            ("rope.dimension_count", self.head_dim()),
        ];
        for (key, value) in numbers {
            metadata.insert(format!("{arch}.{key}"), Value::U32(value as u32));
        }
        metadata.insert(format!("{arch}.attention.layer_norm_rms_epsilon"), Value::F32(1e-6));
        metadata.insert(format!("{arch}.rope.freq_base"), Value::F32(1e6));
        for (key, value) in &self.keys {
            metadata.insert(format!("{arch}.{key}"), value.clone());
        }
        metadata
    }

    fn tensors(&self, n_vocab: usize) -> BTreeMap<String, (Vec<usize>, Vec<f32>)> {
        let mut rng = ChaCha8Rng::seed_from_u64(7);
        let mut tensors = BTreeMap::new();
        let mut add = |name: String, shape: &[usize], around: f32| {
            // Wide models sum more numbers.
            let reach = 1.6 / (self.width as f32).sqrt();
            let values = (0..shape.iter().product()).map(|_| around + rng.random_range(-reach..reach)).collect();
            tensors.insert(name, (shape.to_vec(), values));
        };
        let (d, ff, q, k) = (self.width, self.width * 2, 4 * self.head_dim(), 2 * self.head_dim());
        add("token_embd.weight".into(), &[n_vocab, d], 0.0);
        add("output.weight".into(), &[n_vocab, d], 0.0);
        add("output_norm.weight".into(), &[d], 1.0);
        for i in 0..2 {
            for (name, rows, columns) in [
                ("attn_q", q, d),
                ("attn_k", k, d),
                ("attn_v", k, d),
                ("attn_output", d, q),
                ("ffn_gate", ff, d),
                ("ffn_up", ff, d),
                ("ffn_down", d, ff),
            ] {
                add(format!("blk.{i}.{name}.weight"), &[rows, columns], 0.0);
            }
            let norms: &[&str] = match self.arch.as_str() {
                "gemma3" => &["attn_norm", "ffn_norm", "post_attention_norm", "post_ffw_norm"],
                _ => &["attn_norm", "ffn_norm"],
            };
            for name in norms {
                add(format!("blk.{i}.{name}.weight"), &[d], 1.0);
            }
            let biases: &[(&str, usize)] = match self.arch.as_str() {
                "qwen2" => &[("attn_q.bias", q), ("attn_k.bias", k), ("attn_v.bias", k)],
                "qwen3" | "gemma3" => {
                    &[("attn_q_norm.weight", self.head_dim()), ("attn_k_norm.weight", self.head_dim())]
                }
                _ => &[],
            };
            for (name, n) in biases {
                add(format!("blk.{i}.{name}"), &[*n], f32::from(u8::from(name.ends_with("weight"))));
            }
        }
        for (name, values) in &self.tensors {
            tensors.insert((*name).into(), (vec![values.len()], values.clone()));
        }
        tensors
    }

    fn write(&self, path: &Path) {
        let base = Backbone::load(&small_llama(), &Device::Cpu, None).unwrap();
        let tensors = self.tensors(base.shape.n_vocab);
        let mut writer = GgufWriter::new(path);
        for (key, value) in self.metadata(&base) {
            writer = writer.meta(&key, value);
        }
        for (name, (shape, values)) in &tensors {
            let dims: Vec<u64> = shape.iter().rev().map(|n| *n as u64).collect();
            let whole = || writer_bytes(values);
            let quantised =
                (name.starts_with("blk.") && shape.len() == 2).then(|| quantized(self.ty, values, shape[1]));
            let (ty, bytes) = match quantised.flatten() {
                Some(bytes) => (self.ty, bytes),
                None => (TensorType::F32, whole()),
            };
            writer = writer.tensor(name, &dims, ty, bytes);
        }
        writer.finish().unwrap();
    }
}

fn writer_bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

/// Forty pairs that tell happy from sad words.
fn write_pairs(path: &Path) {
    let happy = ["was very happy", "smiled and played", "loved the sun", "had a good day"];
    let sad = ["was very sad", "cried and fell", "hated the rain", "had a bad day"];
    let lines: String = (0..40)
        .map(|i| {
            let names = ["Tom", "Lily", "The dog", "A bird", "Mom"];
            let (name, h, s) = (names[i % 5], happy[i % 4], sad[(i + i / 4) % 4]);
            format!("{{\"prompt\":\"{name} number {i}\",\"chosen\":\" {h}.\",\"rejected\":\" {s}.\"}}\n")
        })
        .collect();
    std::fs::write(path, lines).unwrap();
}

/// Settings of a run of a few seconds.
fn quick(folder: &Path, out: &str) -> Wire {
    let pairs = folder.join("pairs.jsonl");
    write_pairs(&pairs);
    Wire {
        backbone: Some(small_llama()),
        pairs: Some(vec![pairs.into()]),
        out: Some(folder.join(out)),
        beta: Some(0.2),
        batch: Some(8),
        micro_batch: Some(4),
        epochs: Some(4),
        held_out: Some(0.2),
        ..Wire::default()
    }
}

fn settings(wire: Wire) -> Settings {
    Settings::try_from(wire).unwrap()
}
