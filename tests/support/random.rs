//! Small models and adapters of random weights, in F32: any architecture, rank and target.

use std::ops::Range;
use std::path::Path;

use genarm::engine::gguf::{GgufFile, GgufWriter, TensorType, Value};

use super::models;

/// Numbers in -1..1 that a seed decides.
pub struct Noise(pub u64);

impl Noise {
    /// The next one.
    pub fn next(&mut self) -> f32 {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }

    pub fn bytes(&mut self, dims: &[u64], around: f32, spread: f32) -> Vec<u8> {
        let n: u64 = dims.iter().product();
        (0..n).flat_map(|_| (around + spread * self.next()).to_le_bytes()).collect()
    }
}

/// Width, inner width, width of all keys: of every model here.
pub const SHAPE: [u64; 3] = [64, 96, 32];

/// Writes a model of two layers, `llama` or `qwen2`, with the vocabulary of the test models.
pub fn model(path: &Path, arch: &str) {
    let file = GgufFile::open_model(&models().base).expect("a model");
    let n_vocab = file.vocabulary().expect("a vocabulary").n_tokens();
    let of_tokenizer = |(key, _): &&(String, Value)| key.starts_with("tokenizer.");
    model_that_reads(path, arch, file.metadata().iter().filter(of_tokenizer).cloned(), n_vocab);
}

/// The same with a vocabulary of `n_vocab` tokens: what a file says under `tokenizer.`.
pub fn model_that_reads(path: &Path, arch: &str, tokenizer: impl IntoIterator<Item = (String, Value)>, n_vocab: usize) {
    let n_vocab = n_vocab as u64;
    let [d, ff, kv] = SHAPE;
    let mut writer = GgufWriter::new(path).meta("general.architecture", arch);
    for (key, value) in tokenizer {
        writer = writer.meta(&key, value);
    }
    for (key, value) in [
        ("context_length", 512u32),
        ("embedding_length", d as u32),
        ("block_count", 2),
        ("feed_forward_length", ff as u32),
        ("attention.head_count", 4),
        ("attention.head_count_kv", 2),
        ("rope.dimension_count", 16),
    ] {
        writer = writer.meta(&format!("{arch}.{key}"), value);
    }
    writer = writer.meta(&format!("{arch}.attention.layer_norm_rms_epsilon"), 1e-6f32);
    let mut noise = Noise(7);
    let mut tensors = vec![
        ("token_embd.weight".to_owned(), vec![d, n_vocab], 0.0),
        ("output.weight".to_owned(), vec![d, n_vocab], 0.0),
        ("output_norm.weight".to_owned(), vec![d], 1.0),
    ];
    for layer in 0..2 {
        let mut add =
            |name: &str, dims: &[u64], around| tensors.push((format!("blk.{layer}.{name}"), dims.to_vec(), around));
        for (name, dims) in matrices() {
            add(&format!("{name}.weight"), &dims, 0.0);
        }
        add("attn_norm.weight", &[d], 1.0);
        add("ffn_norm.weight", &[d], 1.0);
        if arch == "qwen2" {
            add("attn_q.bias", &[d], 0.0);
            add("attn_k.bias", &[kv], 0.0);
            add("attn_v.bias", &[kv], 0.0);
        }
    }
    for (name, dims, around) in &tensors {
        writer = writer.tensor(name, dims, TensorType::F32, noise.bytes(dims, *around, 0.2));
    }
    writer.finish().expect("the model is written");
}

/// The matrices of a layer, with their columns and rows.
fn matrices() -> [(&'static str, [u64; 2]); 7] {
    let [d, ff, kv] = SHAPE;
    [
        ("attn_q", [d, d]),
        ("attn_k", [d, kv]),
        ("attn_v", [d, kv]),
        ("attn_output", [d, d]),
        ("ffn_gate", [d, ff]),
        ("ffn_up", [d, ff]),
        ("ffn_down", [ff, d]),
    ]
}

/// Writes an adapter of a [`model`] on some of its matrices in both layers; with `n_vocab` on its embedding too, of
/// which A and B change places.
pub fn lora(path: &Path, arch: &str, rank: u64, targets: &[&str], seed: u64, n_vocab: Option<u64>) {
    write_lora(GgufWriter::new(path), arch, rank, targets, seed, n_vocab);
}

/// The same, with these texts in its metadata.
pub fn lora_that_says(path: &Path, arch: &str, texts: &[(&str, &str)]) {
    let writer = texts.iter().fold(GgufWriter::new(path), |writer, (key, text)| writer.meta(key, *text));
    write_lora(writer, arch, 4, &["attn_q"], 1, None);
}

/// The same, acting on responses alone, or wherever `adapt` says.
pub fn response_lora(path: &Path, arch: &str, rank: u64, targets: &[&str], seed: u64, adapt: &str) {
    write_lora(GgufWriter::new(path).meta(genarm::engine::ADAPT, adapt), arch, rank, targets, seed, None);
}

fn write_lora(writer: GgufWriter<'_>, arch: &str, rank: u64, targets: &[&str], seed: u64, n_vocab: Option<u64>) {
    let mut noise = Noise(seed);
    let mut writer = writer
        .meta("general.architecture", arch)
        .meta("general.type", "adapter")
        .meta("adapter.type", "lora")
        .meta("adapter.lora.alpha", 2.0 * rank as f32);
    let layers = (0..2).flat_map(|layer| matrices().map(|(name, dims)| (format!("blk.{layer}.{name}.weight"), dims)));
    let wanted = layers.filter(|(name, _)| targets.iter().any(|target| name.contains(target)));
    let pairs = wanted.map(|(name, [n_in, n_out])| (name, [n_in, rank], [rank, n_out]));
    let embedding = n_vocab.map(|n| ("token_embd.weight".to_owned(), [rank, n], [rank, SHAPE[0]]));
    for (name, a, b) in pairs.chain(embedding) {
        writer = writer.tensor(&format!("{name}.lora_a"), &a, TensorType::F32, noise.bytes(&a, 0.0, 0.3)).tensor(
            &format!("{name}.lora_b"),
            &b,
            TensorType::F32,
            noise.bytes(&b, 0.0, 0.3),
        );
    }
    writer.finish().expect("the adapter is written");
}

/// Writes a LoRA of random numbers within `spread` on the attention of any model; `adapt` says where it acts.
pub fn lora_on(model: &Path, path: &Path, seed: u64, spread: f32, adapt: &str) {
    lora_on_matrices(model, path, seed, spread, adapt, &["attn_q", "attn_k", "attn_v", "attn_output"]);
}

/// The same on these matrices of the layers.
pub fn lora_on_matrices(model: &Path, path: &Path, seed: u64, spread: f32, adapt: &str, matrices: &[&str]) {
    const RANK: u64 = 4;
    let file = GgufFile::open_model(model).expect("a model");
    let mut noise = Noise(seed);
    let mut writer = GgufWriter::new(path)
        .meta("general.architecture", file.architecture().expect("an architecture"))
        .meta("general.type", "adapter")
        .meta("adapter.type", "lora")
        .meta("adapter.lora.alpha", 2.0 * RANK as f32)
        .meta(genarm::engine::ADAPT, adapt);
    let is_wanted = |name: &str| matrices.iter().any(|matrix| name.ends_with(&format!(".{matrix}.weight")));
    for tensor in file.tensors().iter().filter(|tensor| is_wanted(&tensor.name)) {
        let (a, b) = ([tensor.dims[0], RANK], [RANK, tensor.dims[1]]);
        for (half, dims) in [("lora_a", a), ("lora_b", b)] {
            let name = format!("{}.{half}", tensor.name);
            writer = writer.tensor(&name, &dims, TensorType::F32, noise.bytes(&dims, 0.0, spread));
        }
    }
    writer.finish().expect("the adapter is written");
}

/// Writes `value` over some numbers of an F32 tensor: what damage, or a model that overflows, leaves in a file.
pub fn poison(path: &Path, tensor: &str, numbers: Range<usize>, value: f32) {
    let file = GgufFile::open(path).expect("a sound file");
    let info = file.tensor(tensor).expect("the tensor");
    assert_eq!(info.ty, TensorType::F32);
    let start = usize::try_from(info.offset).expect("an offset");
    let mut bytes = std::fs::read(path).expect("the file");
    for i in numbers {
        bytes[start + 4 * i..][..4].copy_from_slice(&value.to_le_bytes());
    }
    std::fs::write(path, bytes).expect("the file is written");
}

/// Writes a copy of a `llama` [`model`] with RoPE factors for contexts of up to `n_short` tokens, and others for longer
/// ones.
pub fn with_two_sets_of_rope_factors(from: &Path, to: &Path, n_short: u32) {
    let keys = [
        ("llama.rope.scaling.type", "longrope".into()),
        ("llama.rope.scaling.original_context_length", n_short.into()),
    ];
    let factors = [("rope_factors_long.weight", 4.0), ("rope_factors_short.weight", 1.0)];
    let factors = factors.map(|(name, factor)| (name, vec![8], Noise(7).bytes(&[8], factor, 0.0)));
    copy(from, to, &keys, factors.into());
}

/// Writes a copy of a model of F32 tensors with other or further metadata.
pub fn copy_with(from: &Path, to: &Path, keys: &[(&str, Value)]) {
    copy(from, to, keys, Vec::new());
}

/// The same with further tensors of F32: their names, dimensions and numbers.
pub fn copy(from: &Path, to: &Path, keys: &[(&str, Value)], more: Vec<(&str, Vec<u64>, Vec<u8>)>) {
    let file = GgufFile::open(from).expect("a sound file");
    let bytes = std::fs::read(from).expect("the file");
    let kept = file.metadata().iter().filter(|(key, _)| keys.iter().all(|(other, _)| key != other));
    let mut writer = kept.fold(GgufWriter::new(to), |writer, (key, value)| writer.meta(key, value.clone()));
    writer = keys.iter().fold(writer, |writer, (key, value)| writer.meta(key, value.clone()));
    for tensor in file.tensors() {
        let start = usize::try_from(tensor.offset).expect("an offset");
        let data = bytes[start..][..usize::try_from(tensor.n_bytes).expect("a length")].to_vec();
        writer = writer.tensor(&tensor.name, &tensor.dims, tensor.ty, data);
    }
    for (name, dims, data) in more {
        writer = writer.tensor(name, &dims, TensorType::F32, data);
    }
    writer.finish().expect("the copy is written");
}
