//! What a guided llama-server costs, on models of a real size with random weights.

use std::path::{Path, PathBuf};
use std::process::Command;

use genarm::bench::synthetic::{Quantization, Shape, SyntheticModel, SyntheticVocabulary};
use serde_json::json;

use super::server::Server;
use super::{bin, command, guided};

const ROUNDS: usize = 7;

fn model(folder: &Path, name: &str, n_params: u64, seed: u64) -> PathBuf {
    let vocabulary = SyntheticVocabulary::byte_level(128_256);
    let shape = Shape::of_size(n_params, vocabulary.n_tokens() as u64).expect("a shape");
    let path = folder.join(format!("{name}.gguf"));
    let quantization = Quantization::Q4_0;
    let model = SyntheticModel { name, shape, quantization, vocabulary: &vocabulary, n_ctx_train: 512, seed };
    model.write(&path).expect("the model is written");
    path
}

fn server(mut tool: Command, model: &Path) -> Server {
    tool.arg("-m").arg(model).args(["-np", "1", "-c", "512", "-t", "2", "-tb", "2"]);
    Server::spawn(tool)
}

/// Milliseconds a token, as the server counts them.
fn turn(server: &Server) -> f64 {
    let prompt: Vec<_> = (0..64).map(|i| 300 + i * 37).collect();
    let request = json!({"prompt": prompt, "n_predict": 32, "ignore_eos": true, "seed": 1, "cache_prompt": true});
    let answer = server.complete(&request);
    answer["timings"]["predicted_per_token_ms"].as_f64().expect("a time")
}

/// Base alone, ARM alone and the guided base take turns, so that a noisy machine slows all of them alike. It prints,
/// and asserts nothing: a time is no matter of right or wrong.
#[test]
#[ignore = "make bench-hosts measures"]
fn speed_of_a_guided_llama_server() {
    let folder = tempfile::tempdir().expect("a folder");
    let base = model(folder.path(), "base", 1_200_000_000, 0);
    let arm = model(folder.path(), "arm", 180_000_000, 1);
    let config = folder.path().join("prefs.yaml");
    let yaml = "base: {model: base.gguf, n_ctx: 512, threads: 2}\narms: {arm: {model: arm.gguf, weight: 0.5}}\n";
    std::fs::write(&config, yaml).expect("a configuration");
    let mut of_guided = guided(&config, &[]);
    of_guided.arg(bin("llama-server"));
    let servers = [
        server(command(bin("llama-server")), &base),
        server(command(bin("llama-server")), &arm),
        server(of_guided, &base),
    ];
    servers.iter().for_each(|server| _ = turn(server));
    let mut rounds: Vec<_> = (0..ROUNDS).map(|_| [0, 1, 2].map(|i| turn(&servers[i]))).collect();
    rounds.sort_by(|a, b| ratio(a).total_cmp(&ratio(b)));
    println!("ms a token: base alone, ARM alone, guided; guided speed / serial ideal");
    for round in &rounds {
        println!("{:8.2} {:8.2} {:8.2}   {:.3}", round[0], round[1], round[2], ratio(round));
    }
    println!("median of {ROUNDS} rounds: {:.3}", ratio(&rounds[ROUNDS / 2]));
}

fn ratio([base, arm, guided]: &[f64; 3]) -> f64 {
    (base + arm) / guided
}
