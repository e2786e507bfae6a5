//! Tests against llama.cpp and against interrupted runs.

mod data;
mod forward;
mod gradients;
mod runs;
mod tokens;

use super::Backbone;
use super::backbone::Packed;
use super::export::{Metadata, write_gguf};
use super::settings::{Settings, Wire};
use crate::engine::gguf::Value;
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

/// A small trained llama: the shared one, or else the repository's own base.
fn small_llama() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let shared = std::env::var_os("GENARM_SHARED").map_or_else(|| root.join("../shared"), PathBuf::from);
    let file = shared.join("models/stories260K.gguf");
    if file.exists() { file } else { root.join("models/base.gguf") }
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
    let base = Backbone::load(&small_llama(), &Device::Cpu, None).unwrap();
    let (d, ff, heads, kv, head_dim, n_vocab) =
        (64, 96, 4, 2, if arch == "qwen3" { 32 } else { 16 }, base.shape.n_vocab);
    let mut metadata: Metadata =
        base.file.metadata().iter().filter(|(k, _)| k.starts_with("tokenizer.")).cloned().collect();
    metadata.insert("general.architecture".into(), Value::String(arch.into()));
    let numbers = [
        ("context_length", 128),
        ("embedding_length", d),
        ("block_count", 2),
        ("feed_forward_length", ff),
        ("attention.head_count", heads),
        ("attention.head_count_kv", kv),
        ("attention.key_length", head_dim),
        ("attention.value_length", head_dim),
        ("rope.dimension_count", head_dim),
    ];
    for (key, value) in numbers {
        metadata.insert(format!("{arch}.{key}"), Value::U32(value as u32));
    }
    metadata.insert(format!("{arch}.attention.layer_norm_rms_epsilon"), Value::F32(1e-6));
    metadata.insert(format!("{arch}.rope.freq_base"), Value::F32(1e6));
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    let mut random = |shape: &[usize], around: f32| {
        let n = shape.iter().product();
        let values: Vec<f32> = (0..n).map(|_| around + rng.random_range(-0.2..0.2)).collect();
        Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
    };
    let mut tensors = BTreeMap::new();
    tensors.insert("token_embd.weight".to_string(), random(&[n_vocab, d], 0.0));
    tensors.insert("output.weight".to_string(), random(&[n_vocab, d], 0.0));
    tensors.insert("output_norm.weight".to_string(), random(&[d], 1.0));
    for i in 0..2 {
        let (q, k) = (heads * head_dim, kv * head_dim);
        for (name, rows, columns) in [
            ("attn_q", q, d),
            ("attn_k", k, d),
            ("attn_v", k, d),
            ("attn_output", d, q),
            ("ffn_gate", ff, d),
            ("ffn_up", ff, d),
            ("ffn_down", d, ff),
        ] {
            tensors.insert(format!("blk.{i}.{name}.weight"), random(&[rows, columns], 0.0));
        }
        for name in ["attn_norm", "ffn_norm"] {
            tensors.insert(format!("blk.{i}.{name}.weight"), random(&[d], 1.0));
        }
        if arch == "qwen2" {
            for (name, n) in [("attn_q", q), ("attn_k", k), ("attn_v", k)] {
                tensors.insert(format!("blk.{i}.{name}.bias"), random(&[n], 0.0));
            }
        }
        if arch == "qwen3" {
            tensors.insert(format!("blk.{i}.attn_q_norm.weight"), random(&[head_dim], 1.0));
            tensors.insert(format!("blk.{i}.attn_k_norm.weight"), random(&[head_dim], 1.0));
        }
    }
    write_gguf(path, &metadata, &tensors).unwrap();
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
        pairs: Some(pairs),
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
