//! A grown model says what the small one says.

use std::path::{Path, PathBuf};

use genarm::Expert;
use genarm::bench::inflate::{inflate_adapter, inflate_model};
use genarm::engine::Sequence;
use genarm::engine::llama::{Adapters, Lora};
use genarm::guidance::{kl_divergence, log_softmax};

use crate::support;

fn demo(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("models").join(file)
}

fn expert(model: &Path, lora: Option<&Path>) -> Sequence {
    let model = support::load(model);
    let loras = lora.map(|path| Lora::load(&model, path, 1.0).expect("an adapter"));
    let adapters = Adapters::All(loras.into_iter().collect());
    Sequence::alone(&model, adapters, &support::context_params()).expect("a context")
}

#[test]
fn a_grown_model_and_its_adapter_compute_what_the_small_ones_do() {
    let folder = tempfile::tempdir().expect("a folder");
    for (name, adapter, n_params) in
        [("base.gguf", "arm-cheerful.gguf", 40_000_000), ("small.gguf", "arm-plain.gguf", 20_000_000)]
    {
        let (model, lora) = (folder.path().join(name), folder.path().join(adapter));
        let growth = inflate_model(&demo(name), &model, n_params, 4000).expect("a grown model");
        inflate_adapter(&demo(adapter), &lora, &growth).expect("a grown adapter");
        let grown = support::load(&model);
        let n = grown.file().n_params() as f64 / n_params as f64;
        assert!((0.7..1.5).contains(&n), "{name}: {n} of the size asked for");
        let text = grown.vocab().tokenize("Once upon a time, there was a little girl named Lily. She", true, false);
        let text = text.expect("tokens");
        let n_rows = 10;
        let rows = |mut expert: Sequence| {
            let n_vocab = expert.n_vocab();
            let rows = expert.advance(&text, n_rows).expect("rows").to_vec();
            rows.chunks(n_vocab).map(<[f32]>::to_vec).collect::<Vec<_>>()
        };
        let mut effect = 0.0f32;
        let mut mean = [0.0f32; 2];
        let small = [rows(expert(&demo(name), None)), rows(expert(&demo(name), Some(&demo(adapter))))];
        let large = [rows(expert(&model, None)), rows(expert(&model, Some(&lora)))];
        for i in 0..n_rows {
            for with in 0..2 {
                let (small, large) = (&small[with][i], &large[with][i]);
                let n_vocab = small.len();
                assert!(large[n_vocab..].iter().all(|l| *l < -100.0), "a token that the small model lacks");
                let (p, q) = (log_softmax(small, 1.0), log_softmax(&large[..n_vocab], 1.0));
                mean[with] += kl_divergence(&p, &q) / n_rows as f32;
            }
            effect += kl_divergence(&log_softmax(&small[0][i], 1.0), &log_softmax(&small[1][i], 1.0)) / n_rows as f32;
        }
        // Q4_0 is all that is left of a difference; what the adapter does is much more.
        assert!(mean[0] < 0.1 && mean[1] < 0.1 && effect > 0.2, "{name}: {mean:?}, adapter {effect}");
        println!("{name}: mean KL {mean:?}, of the adapter {effect}");
    }
}
