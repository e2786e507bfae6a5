//! Base and LoRA ARMs as rows of one batch, through the binary.

use std::collections::BTreeMap;
use std::path::Path;

use genarm::engine::llama::{Model, ModelParams};

use super::{demo, json, run};
use crate::support::{binary, random};

const PROMPT: &str = "Once upon a time, there was a little girl named Lily.";

fn demo_run(more: &[&str]) -> serde_json::Value {
    let demo = demo();
    let args = ["generate", "--config", &demo, "--temp", "0", "-n", "24", "--json", PROMPT];
    json(&[&args, more].concat())
}

#[test]
fn sharing_a_batch_changes_no_text_and_no_probability() {
    let logprobs = ["--logprobs", "5"];
    let [apart, together] = ["off", "on"].map(|how| demo_run(&[&logprobs[..], &["--share-batch", how]].concat()));
    assert_eq!(apart["tokens"], together["tokens"]);
    let chosen = |run: &serde_json::Value| -> Vec<f64> {
        let steps = run["logprobs"].as_array().expect("steps");
        steps.iter().map(|step| step["chosen"]["logprob"].as_f64().expect("a number")).collect()
    };
    assert_eq!(apart["stats"]["shared_batch"][0]["shared"], false);
    assert_eq!(together["stats"]["shared_batch"][0]["shared"], true);
    for (a, b) in chosen(&apart).into_iter().zip(chosen(&together)) {
        assert!((a - b).abs() < 5e-3, "{a} {b}");
    }
}

#[test]
fn with_weight_zero_a_shared_batch_reads_no_arm_and_gives_the_bases_tokens() {
    let zero = ["--weight", "cheerful=0"];
    let [apart, together] = ["off", "on"].map(|how| demo_run(&[&zero[..], &["--share-batch", how]].concat()));
    assert_eq!(apart["tokens"], together["tokens"]);
    assert_eq!(together["timings"]["arms_decoded"], 0);
}

#[test]
fn an_adapter_that_cannot_share_runs_in_a_context_of_its_own_and_says_so() {
    let folder = tempfile::tempdir().expect("a folder");
    let [model, lora, config] = ["model.gguf", "lora.gguf", "c.yaml"].map(|name| folder.path().join(name));
    random::model(&model, "llama");
    let n_vocab = vocabulary_size(&model);
    random::lora(&lora, "llama", 4, &["attn_q"], 1, Some(n_vocab));
    std::fs::write(&config, "base: {model: model.gguf}\narms: {a: {lora: [{path: lora.gguf}]}}\n").expect("written");
    let config = config.display().to_string();
    let generate = |how| {
        run(&[
            "generate",
            "--config",
            &config,
            "--share-batch",
            how,
            "--temp",
            "0",
            "-n",
            "8",
            "--prompt-tokens",
            "5,6",
        ])
    };
    let [apart, together] = ["off", "on"].map(generate);
    assert!(apart.status.success() && together.status.success());
    assert_eq!(apart.stdout, together.stdout);
    let warning = String::from_utf8_lossy(&together.stderr);
    assert_eq!(warning.matches("do not share a batch").count(), 1, "{warning}");
    assert!(warning.contains("token_embd.weight"), "{warning}");
}

fn vocabulary_size(model: &Path) -> u64 {
    let model = Model::load(model, &ModelParams::default(), &mut |_| true).expect("a model");
    model.vocab().n_tokens() as u64
}

#[test]
fn what_was_found_of_a_shared_batch_holds_until_a_file_changes() {
    let folder = tempfile::tempdir().expect("a folder");
    let [model, lora, config] = ["model.gguf", "lora.gguf", "c.yaml"].map(|name| folder.path().join(name));
    random::model(&model, "llama");
    std::fs::write(&config, "base: {model: model.gguf}\narms: {a: {lora: [{path: lora.gguf}]}}\n").expect("written");
    let found = || {
        // One thread: there are then no fewer of them beside other processes, and what is measured is kept.
        let args = ["generate", "-t", "1", "--temp", "0", "-n", "2", "--prompt-tokens", "5,6", "--config"];
        let output = binary::genarm(&args).arg(&config).env("XDG_CACHE_HOME", folder.path()).output().expect("it runs");
        assert!(output.status.success(), "{output:?}");
        let cache = folder.path().join("genarm/share-batch.json");
        let cache = std::fs::read_to_string(cache).expect("a cache");
        serde_json::from_str::<BTreeMap<String, serde_json::Value>>(&cache).expect("JSON")
    };
    random::lora(&lora, "llama", 4, &["attn_q"], 1, None);
    let first = found();
    let [costs] = first.values().collect::<Vec<_>>()[..] else { panic!("{first:?}") };
    assert!(costs["costs"]["together"].as_f64().is_some_and(|seconds| seconds > 0.0), "{first:?}");
    assert_eq!(found(), first, "nothing was measured again");
    random::lora(&lora, "llama", 4, &["attn_q"], 2, None);
    assert_eq!(found().len(), 2, "another adapter of the same name");
}
