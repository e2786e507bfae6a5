//! Small models of random weights whose memory is not that of keys and values alone.

use std::path::Path;

use genarm::engine::gguf::{Array, GgufFile, GgufWriter, TensorType, Value};

use super::models;
use super::random::{Noise, SHAPE};

/// A tensor of a layer: name, dimensions, and the number around which its numbers are.
type Tensor = (&'static str, Vec<u64>, f32);

/// Writes a model: `mamba`, which keeps a state of its own; `jamba`, one layer of that and one of attention; `lfm2`, two
/// of short convolutions around one of attention, which llama.cpp takes back by a few tokens; `cohere2`, three of whose
/// four layers see the last 16 tokens.
pub fn model(path: &Path, arch: &str) {
    let file = GgufFile::open_model(&models().base).expect("a model");
    let n_vocab = file.vocabulary().expect("a vocabulary").n_tokens() as u64;
    let layers = match arch {
        "mamba" => vec![state(false); 2],
        "jamba" => vec![[state(true), normed_mlp()].concat(), [attention(), normed_mlp()].concat()],
        "lfm2" => {
            let attention = [attention(), head_norms()].concat();
            [convolution(), attention, convolution()].map(|layer| [layer, normed_mlp()].concat()).into()
        }
        _ => vec![[attention(), mlp()].concat(); 4],
    };
    let of_tokenizer = file.metadata().iter().filter(|(key, _)| key.starts_with("tokenizer."));
    let begin = GgufWriter::new(path).meta("general.architecture", arch);
    let mut writer = of_tokenizer.fold(begin, |writer, (key, value)| writer.meta(key, value.clone()));
    for (key, value) in metadata(arch, layers.len() as u32) {
        writer = writer.meta(&format!("{arch}.{key}"), value);
    }
    let mut noise = Noise(7);
    let [d, ..] = SHAPE;
    let norm = if arch == "lfm2" { "token_embd_norm.weight" } else { "output_norm.weight" };
    for (name, dims, around) in [("token_embd.weight", vec![d, n_vocab], 0.0), (norm, vec![d], 1.0)] {
        writer = writer.tensor(name, &dims, TensorType::F32, noise.bytes(&dims, around, 0.2));
    }
    for (at, layer) in layers.iter().enumerate() {
        for (name, dims, around) in layer {
            let data = noise.bytes(dims, *around, 0.2);
            writer = writer.tensor(&format!("blk.{at}.{name}"), dims, TensorType::F32, data);
        }
    }
    writer.finish().expect("the model is written");
}

fn metadata(arch: &str, n_layers: u32) -> Vec<(&'static str, Value)> {
    let [d, ff, _] = SHAPE;
    let mut all: Vec<(&str, Value)> = vec![
        ("context_length", 512u32.into()),
        ("embedding_length", (d as u32).into()),
        ("block_count", n_layers.into()),
        ("feed_forward_length", (ff as u32).into()),
    ];
    if matches!(arch, "mamba" | "jamba") {
        all.extend([
            ("ssm.conv_kernel", 4u32.into()),
            ("ssm.inner_size", (2 * d as u32).into()),
            ("ssm.state_size", 8u32.into()),
            ("ssm.time_step_rank", 4u32.into()),
            ("attention.layer_norm_rms_epsilon", 1e-6f32.into()),
        ]);
    }
    match arch {
        "mamba" => {}
        "jamba" => all.extend([
            ("attention.head_count", 4u32.into()),
            ("attention.head_count_kv", Value::Array(Array::U32(vec![0, 2]))),
        ]),
        "lfm2" => all.extend([
            ("attention.head_count", 4u32.into()),
            ("attention.head_count_kv", Value::Array(Array::U32(vec![0, 2, 0]))),
            ("shortconv.l_cache", 3u32.into()),
            ("attention.layer_norm_rms_epsilon", 1e-6f32.into()),
        ]),
        _ => all.extend([
            ("attention.head_count", 4u32.into()),
            ("attention.head_count_kv", 2u32.into()),
            ("attention.sliding_window", 16u32.into()),
            ("attention.layer_norm_epsilon", 1e-6f32.into()),
            ("logit_scale", 1.0f32.into()),
        ]),
    }
    all
}

fn state(with_norms: bool) -> Vec<Tensor> {
    let [d, ..] = SHAPE;
    let mut all = vec![
        ("attn_norm.weight", vec![d], 1.0),
        ("ssm_in.weight", vec![d, 4 * d], 0.0),
        ("ssm_conv1d.weight", vec![4, 2 * d], 0.0),
        ("ssm_conv1d.bias", vec![2 * d], 0.0),
        ("ssm_x.weight", vec![2 * d, 4 + 16], 0.0),
        ("ssm_dt.weight", vec![4, 2 * d], 0.0),
        ("ssm_dt.bias", vec![2 * d], 0.0),
        ("ssm_a", vec![8, 2 * d], -1.0),
        ("ssm_d", vec![2 * d], 1.0),
        ("ssm_out.weight", vec![2 * d, d], 0.0),
    ];
    if with_norms {
        all.extend([
            ("ssm_dt_norm.weight", vec![4], 1.0),
            ("ssm_b_norm.weight", vec![8], 1.0),
            ("ssm_c_norm.weight", vec![8], 1.0),
        ]);
    }
    all
}

fn attention() -> Vec<Tensor> {
    let [d, _, kv] = SHAPE;
    vec![
        ("attn_norm.weight", vec![d], 1.0),
        ("attn_q.weight", vec![d, d], 0.0),
        ("attn_k.weight", vec![d, kv], 0.0),
        ("attn_v.weight", vec![d, kv], 0.0),
        ("attn_output.weight", vec![d, d], 0.0),
    ]
}

fn head_norms() -> Vec<Tensor> {
    vec![("attn_q_norm.weight", vec![16], 1.0), ("attn_k_norm.weight", vec![16], 1.0)]
}

fn convolution() -> Vec<Tensor> {
    let [d, ..] = SHAPE;
    vec![
        ("attn_norm.weight", vec![d], 1.0),
        ("shortconv.conv.weight", vec![3, d], 0.0),
        ("shortconv.in_proj.weight", vec![d, 3 * d], 0.0),
        ("shortconv.out_proj.weight", vec![d, d], 0.0),
    ]
}

fn mlp() -> Vec<Tensor> {
    let [d, ff, _] = SHAPE;
    vec![
        ("ffn_gate.weight", vec![d, ff], 0.0),
        ("ffn_up.weight", vec![d, ff], 0.0),
        ("ffn_down.weight", vec![ff, d], 0.0),
    ]
}

fn normed_mlp() -> Vec<Tensor> {
    [vec![("ffn_norm.weight", vec![SHAPE[0]], 1.0)], mlp()].concat()
}
