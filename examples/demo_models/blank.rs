//! A tokenizer and a llama model with random weights, as GGUF.

use anyhow::{Context, anyhow};
use candle_core::{Device, Tensor};
use genarm::engine::gguf::{Strings, Value};
use genarm::train::export::{Metadata, write_gguf};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::collections::BTreeMap;
use std::io::BufRead;
use std::path::{Path, PathBuf};
use tokenizers::models::TrainerWrapper;
use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{AddedToken, Tokenizer};

/// Begins and ends every text.
const END: &str = "<|endoftext|>";

#[derive(Debug, clap::Args)]
pub struct Args {
    /// tokenizer.json
    #[arg(long)]
    tokenizer: PathBuf,
    /// GGUF to write
    #[arg(long)]
    out: PathBuf,
    /// general.name
    #[arg(long)]
    name: String,
    #[arg(long)]
    n_embd: usize,
    #[arg(long)]
    n_layer: usize,
    #[arg(long)]
    n_head: usize,
    #[arg(long)]
    n_head_kv: usize,
    #[arg(long)]
    n_ff: usize,
    #[arg(long, default_value_t = 512)]
    n_ctx: usize,
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// The `text` of each line of a JSONL file.
pub fn texts(path: &Path) -> anyhow::Result<Vec<String>> {
    let file = std::fs::File::open(path).with_context(|| path.display().to_string())?;
    std::io::BufReader::new(file)
        .lines()
        .map(|line| {
            let value: serde_json::Value = serde_json::from_str(&line?)?;
            value["text"].as_str().map(String::from).context("a line has no `text`")
        })
        .collect()
}

pub fn tokenizer(path: &Path, n_vocab: usize, out: &Path) -> anyhow::Result<()> {
    let mut alphabet: Vec<char> = ByteLevel::alphabet().into_iter().collect();
    alphabet.sort_unstable();
    let trainer = BpeTrainer::builder()
        .vocab_size(n_vocab)
        .min_frequency(2)
        .show_progress(false)
        .special_tokens(vec![AddedToken::from(END, true)])
        .initial_alphabet(alphabet.into_iter().collect())
        .build();
    let mut tokenizer = Tokenizer::new(BPE::default());
    tokenizer.with_pre_tokenizer(Some(ByteLevel::new(false, true, true)));
    tokenizer.with_decoder(Some(ByteLevel::default()));
    tokenizer.train(&mut TrainerWrapper::from(trainer), texts(path)?.into_iter()).map_err(|e| anyhow!("{e}"))?;
    tokenizer.save(out, false).map_err(|e| anyhow!("{e}"))
}

pub fn run(args: &Args) -> anyhow::Result<()> {
    let mut metadata = vocabulary(&args.tokenizer)?;
    let n_vocab = metadata["tokenizer.ggml.tokens"].as_array().map_or(0, |tokens| tokens.len());
    let number = |v: usize| Value::U32(v as u32);
    for (key, value) in [
        ("general.architecture", Value::String("llama".into())),
        ("general.type", Value::String("model".into())),
        ("general.name", Value::String(args.name.clone())),
        ("general.file_type", Value::U32(0)),
        ("llama.context_length", number(args.n_ctx)),
        ("llama.embedding_length", number(args.n_embd)),
        ("llama.block_count", number(args.n_layer)),
        ("llama.feed_forward_length", number(args.n_ff)),
        ("llama.attention.head_count", number(args.n_head)),
        ("llama.attention.head_count_kv", number(args.n_head_kv)),
        ("llama.attention.layer_norm_rms_epsilon", Value::F32(1e-5)),
        ("llama.rope.dimension_count", number(args.n_embd / args.n_head)),
        ("llama.rope.freq_base", Value::F32(10_000.0)),
        ("llama.vocab_size", number(n_vocab)),
    ] {
        metadata.insert(key.into(), value);
    }
    write_gguf(&args.out, &metadata, &weights(args, n_vocab)?)?;
    Ok(())
}

/// The tokenizer's keys, so that llama.cpp splits text as the `tokenizers` crate does.
fn vocabulary(path: &Path) -> anyhow::Result<Metadata> {
    let json: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(path)?)?;
    let vocab = json["model"]["vocab"].as_object().context("no model.vocab in the tokenizer")?;
    let mut tokens: Vec<(u64, &String)> = vocab.iter().filter_map(|(t, id)| Some((id.as_u64()?, t))).collect();
    tokens.sort_unstable();
    let merges = json["model"]["merges"].as_array().context("no model.merges in the tokenizer")?;
    let merge = |m: &serde_json::Value| match m {
        serde_json::Value::Array(pair) => {
            format!("{} {}", pair[0].as_str().unwrap_or_default(), pair[1].as_str().unwrap_or_default())
        }
        text => text.as_str().unwrap_or_default().to_string(),
    };
    let kinds: Vec<i32> = tokens.iter().map(|(_, t)| if *t == END { 3 } else { 1 }).collect();
    Ok([
        ("tokenizer.ggml.model", Value::String("gpt2".into())),
        ("tokenizer.ggml.pre", Value::String("gpt-2".into())),
        ("tokenizer.ggml.tokens", tokens.iter().map(|(_, t)| t.as_bytes()).collect::<Strings>().into()),
        ("tokenizer.ggml.token_type", kinds.into()),
        ("tokenizer.ggml.merges", merges.iter().map(merge).collect::<Strings>().into()),
        ("tokenizer.ggml.bos_token_id", Value::U32(0)),
        ("tokenizer.ggml.eos_token_id", Value::U32(0)),
        ("tokenizer.ggml.add_bos_token", Value::Bool(true)),
    ]
    .map(|(k, v)| (k.to_string(), v))
    .into())
}

/// Normal weights of deviation 0.02; those that write to the residual stream smaller by √(2 · n_layer).
fn weights(args: &Args, n_vocab: usize) -> anyhow::Result<BTreeMap<String, Tensor>> {
    let mut rng = ChaCha8Rng::seed_from_u64(args.seed);
    let mut normal = |rows: usize, columns: usize, deviation: f32| {
        let draw = |_| {
            let (a, b): (f32, f32) = (1.0 - rng.random::<f32>(), rng.random());
            deviation * (-2.0 * a.ln()).sqrt() * (std::f32::consts::TAU * b).cos()
        };
        Tensor::from_vec((0..rows * columns).map(draw).collect::<Vec<f32>>(), (rows, columns), &Device::Cpu)
    };
    let d = args.n_embd;
    let kv = d / args.n_head * args.n_head_kv;
    let small = 0.02 / (2.0 * args.n_layer as f32).sqrt();
    let ones = || Tensor::ones(d, candle_core::DType::F32, &Device::Cpu);
    let mut out = BTreeMap::new();
    out.insert("token_embd.weight".into(), normal(n_vocab, d, 0.02)?);
    out.insert("output_norm.weight".into(), ones()?);
    for i in 0..args.n_layer {
        let matrices = [
            ("attn_q", d, d, 0.02),
            ("attn_k", kv, d, 0.02),
            ("attn_v", kv, d, 0.02),
            ("attn_output", d, d, small),
            ("ffn_gate", args.n_ff, d, 0.02),
            ("ffn_up", args.n_ff, d, 0.02),
            ("ffn_down", d, args.n_ff, small),
        ];
        for (name, rows, columns, deviation) in matrices {
            out.insert(format!("blk.{i}.{name}.weight"), normal(rows, columns, deviation)?);
        }
        out.insert(format!("blk.{i}.attn_norm.weight"), ones()?);
        out.insert(format!("blk.{i}.ffn_norm.weight"), ones()?);
    }
    Ok(out)
}
