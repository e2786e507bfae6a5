//! Without ARMs genarm writes what llama.cpp writes.

use std::num::NonZeroU32;
use std::path::Path;

use llama_cpp_2::context::params::LlamaContextParams;
use llama_cpp_2::llama_batch::LlamaBatch;
use llama_cpp_2::model::LlamaModel;
use llama_cpp_2::model::params::LlamaModelParams;
use llama_cpp_2::token::LlamaToken;

use super::{gemma, smollm2};
use crate::support;
use crate::support::binary::json;

/// The likeliest tokens after a prompt, by direct calls to llama.cpp.
fn greedy(model: &Path, prompt: &str, n: usize) -> Vec<i32> {
    let backend = genarm::engine::llama::backend().expect("llama.cpp");
    let words = support::load(model).vocab();
    let mut tokens: Vec<_> = words.tokenize(prompt, true, true).expect("tokens").into_iter().map(LlamaToken).collect();
    let model = LlamaModel::load_from_file(backend, model, &LlamaModelParams::default()).expect("a model");
    let params =
        LlamaContextParams::default().with_n_ctx(NonZeroU32::new(512)).with_n_threads(2).with_n_threads_batch(2);
    let mut context = model.new_context(backend, params).expect("a context");
    let n_prompt = tokens.len();
    let mut batch = LlamaBatch::new(512, 1);
    while tokens.len() < n_prompt + n {
        batch.clear();
        let first = if tokens.len() == n_prompt { 0 } else { tokens.len() - 1 };
        for (i, token) in tokens.iter().enumerate().skip(first) {
            batch.add(*token, i as i32, &[0], i + 1 == tokens.len()).expect("room");
        }
        context.decode(&mut batch).expect("logits");
        let logits = context.get_logits_ith(batch.n_tokens() - 1);
        let best = (0..logits.len()).max_by(|a, b| logits[*a].total_cmp(&logits[*b]).then(b.cmp(a))).expect("a token");
        tokens.push(LlamaToken(best as i32));
    }
    tokens[n_prompt..].iter().map(|token| token.0).collect()
}

fn check(model: &Path) {
    for prompt in ["The capital of France is", "Once upon a time, there was a", "1, 2, 3, 4,", "To bake bread, first"] {
        let file = model.display().to_string();
        let args = [
            "generate",
            "--base",
            &file,
            "--temp",
            "0",
            "-n",
            "48",
            "--ignore-eos",
            "--threads",
            "2",
            "--n-ctx",
            "512",
        ];
        let ours = json(&[&args[..], &["--speculate", "off", "--logprobs", "1", "--json", prompt]].concat());
        let ours = ours["logprobs"]
            .as_array()
            .expect("tokens")
            .iter()
            .map(|token| token["chosen"]["token"].as_i64().expect("an id") as i32);
        assert_eq!(ours.collect::<Vec<_>>(), greedy(model, prompt, 48), "{prompt}");
    }
}

#[test]
#[ignore = "needs a real model: make test-real"]
fn greedy_tokens_of_smollm2_are_llama_cpps() {
    check(&smollm2());
}

#[test]
#[ignore = "needs a real model: make test-real"]
fn greedy_tokens_of_gemma_are_llama_cpps() {
    check(&gemma());
}
