//! The law on SmolLM2 with two adapters, against an independent computation in 32-bit floats: the graph that training
//! uses.

use std::path::Path;

use candle_core::Device;
use genarm::engine::quantize::{FileType, quantize};
use genarm::train::backbone::{Backbone, Packed};

use super::smollm2;
use crate::support::binary::json;
use crate::support::{self, random};

const PROMPT: &str = "The weather in Hamburg is";
const RESPONSE: &str =
    " often grey, but the people there are warm, and in summer the harbour is full of music and light.";
const WEIGHTS: [f64; 2] = [0.7, -0.4];

fn log_softmax(row: &[f64]) -> Vec<f64> {
    let most = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let sum = row.iter().map(|x| (x - most).exp()).sum::<f64>().ln() + most;
    row.iter().map(|x| x - sum).collect()
}

#[test]
#[ignore = "needs a real model: make test-real"]
fn the_guided_distribution_of_smollm2_is_that_of_an_independent_computation() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name);
    let text = |path: &Path| path.display().to_string();
    // Whole floats, so that llama.cpp does not round the activations to eight bits.
    quantize(&smollm2(), &path("base.gguf"), FileType::F32, 2).expect("32-bit floats");
    for i in 0..2 {
        random::lora_on(&path("base.gguf"), &path(&format!("lora-{i}.gguf")), 7 + i, 0.05, "all");
    }
    let arms: Vec<String> =
        (0..2).map(|i| format!("a{i}={}:{}", text(&path(&format!("lora-{i}.gguf"))), WEIGHTS[i])).collect();
    let base = text(&path("base.gguf"));
    let mut args = vec!["score", "--json", "--base", &base, "--cache-type-k", "f32", "--cache-type-v", "f32"];
    args.extend(["--flash-attn", "off", "--arm", &arms[0], "--arm", &arms[1], PROMPT, RESPONSE]);
    let scored = json(&args);
    let scored = scored["responses"][0]["tokens"].as_array().expect("tokens").clone();

    let words = support::load(&path("base.gguf"));
    let prompt = words.vocab().tokenize(PROMPT, true, true).expect("tokens");
    let whole = words.vocab().tokenize(&format!("{PROMPT}{RESPONSE}"), true, true).expect("tokens");
    assert!(whole.starts_with(&prompt) && whole.len() - prompt.len() == scored.len());
    drop(words);
    let tokens: Vec<u32> = whole.iter().map(|token| *token as u32).collect();
    let mut packed = Packed::default();
    packed.push(&tokens, prompt.len());
    let logits = |adapter: Option<&Path>| -> Vec<Vec<f64>> {
        let mut backbone = Backbone::load(&path("base.gguf"), &Device::Cpu, Some(256)).expect("a backbone");
        if let Some(adapter) = adapter {
            backbone.load_lora(adapter).expect("an adapter");
        }
        let rows = backbone.logits(&packed).expect("logits").to_vec2::<f32>().expect("numbers");
        rows.into_iter().map(|row| row.into_iter().map(f64::from).collect()).collect()
    };
    let experts = [None, Some(path("lora-0.gguf")), Some(path("lora-1.gguf"))].map(|file| logits(file.as_deref()));
    let mut largest: f64 = 0.0;
    for (i, cell) in scored.iter().enumerate() {
        let token = tokens[prompt.len() + i] as usize;
        let [base, a, b] = experts.each_ref().map(|rows| &rows[i]);
        let guided: Vec<f64> = (0..base.len()).map(|v| base[v] + WEIGHTS[0] * a[v] + WEIGHTS[1] * b[v]).collect();
        let (log_base, log_guided) = (log_softmax(base), log_softmax(&guided));
        let kl: f64 = (0..guided.len()).map(|v| log_guided[v].exp() * (log_guided[v] - log_base[v])).sum();
        let expected = [log_base[token], log_softmax(a)[token], log_softmax(b)[token], log_guided[token], kl];
        let shown = [&cell["base"], &cell["arms"][0], &cell["arms"][1], &cell["guided"], &cell["kl"]];
        for (expected, shown) in expected.iter().zip(shown) {
            largest = largest.max((expected - shown.as_f64().expect("a number")).abs());
        }
        assert!((log_base[token] - log_softmax(a)[token]).abs() > 1e-3, "the adapters must matter");
    }
    println!("largest difference {largest:e}");
    assert!(largest < 2e-3, "{largest}");
}
