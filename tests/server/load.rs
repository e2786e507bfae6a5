//! What the server gives under load: a measurement, run by hand.
//!
//! `cargo test --release -- --ignored eight_streams --nocapture`

use std::time::{Duration, Instant};

use eventsource_stream::Eventsource;
use futures_util::StreamExt;
use genarm::bench::synthetic::{Quantization, Shape, SyntheticModel, SyntheticVocabulary};
use serde_json::json;

use super::Serve;
use super::stream::runtime;

/// Tokens that a stream gives in a time, after its first.
async fn stream(url: String, i: usize, time: Duration) -> (usize, f64) {
    let body = json!({"prompt": (0..32).map(|t| 1000 + 37 * t + 5 * i).collect::<Vec<_>>(), "max_tokens": 400, "ignore_eos": true,
        "temperature": 1, "seed": i, "stream": true});
    let response = reqwest::Client::new().post(url).json(&body).send().await.expect("an answer");
    let mut events = response.bytes_stream().eventsource();
    events.next().await;
    let (start, mut n) = (Instant::now(), 0);
    while start.elapsed() < time && events.next().await.is_some() {
        n += 1;
    }
    (n, start.elapsed().as_secs_f64())
}

#[test]
#[ignore = "a measurement of two minutes; its figures are in docs/performance.md"]
fn eight_streams_against_one() {
    let folder = tempfile::tempdir().expect("a folder");
    let vocabulary = SyntheticVocabulary::byte_level(128_256);
    let write = |name: &str, n_params: u64, seed: u64| {
        let path = folder.path().join(format!("{name}.gguf"));
        let shape = Shape::of_size(n_params, vocabulary.n_tokens() as u64).expect("a shape");
        let quantization = Quantization::Q4_0;
        SyntheticModel { name, shape, quantization, vocabulary: &vocabulary, n_ctx_train: 2048, seed }
            .write(&path)
            .expect("written");
        path.display().to_string()
    };
    let (base, arm) = (write("base", 1_200_000_000, 1), format!("arm={}:0.5", write("arm", 180_000_000, 2)));
    let models = ["--base", &base, "--arm", &arm, "--n-ctx", "512"];
    let server = Serve::start(&[&models[..], &["--parallel", "8", "--top-k", "40"]].concat());
    let url = server.url("/v1/completions");
    runtime().block_on(async {
        for round in 0..3 {
            let (n, seconds) = stream(url.clone(), 0, Duration::from_secs(12)).await;
            let one = n as f64 / seconds;
            let all: Vec<_> = (0..8).map(|i| tokio::spawn(stream(url.clone(), i, Duration::from_secs(16)))).collect();
            let mut rates = Vec::new();
            for task in all {
                let (n, seconds) = task.await.expect("a stream");
                rates.push(n as f64 / seconds);
            }
            let total: f64 = rates.iter().sum();
            let mean = total / 8.0;
            let apart = rates.iter().map(|r| (r - mean).abs() / mean).fold(0.0, f64::max);
            println!(
                "round {round}: one stream {one:.2} tokens/s; eight {total:.2} in all, {:.2} times as much; furthest from the mean {:.1} %",
                total / one,
                apart * 100.0
            );
        }
    });
}
