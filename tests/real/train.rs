//! The graph that training uses, on the real Gemma.

use candle_core::Device;
use genarm::Expert;
use genarm::engine::Sequence;
use genarm::engine::llama::{Adapters, ContextParams};
use genarm::engine::quantize::{FileType, quantize};
use genarm::train::backbone::{Backbone, Packed};

use super::gemma;
use crate::support;

#[test]
#[ignore = "needs a real model: make test-real"]
fn the_graph_of_gemma_gives_llama_cpps_logits_beyond_its_window() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("gemma.gguf");
    quantize(&gemma(), &path, FileType::F32, 2).expect("32-bit floats");
    // More than the 512 tokens of its window.
    let text = "It was the best of times, it was the worst of times, it was the age of wisdom. ".repeat(32);
    let model = support::load(&path);
    let tokens = model.vocab().tokenize(&text, true, true).expect("tokens");
    assert!(tokens.len() > 600, "{}", tokens.len());
    let n = 40;
    let params = ContextParams {
        n_ctx: 1024,
        n_batch: 1024,
        n_ubatch: 1024,
        n_threads: 2,
        n_threads_batch: 2,
        fewer_threads: false,
        ..support::context_params()
    };
    let mut sequence = Sequence::alone(&model, Adapters::All(Vec::new()), &params).expect("a context");
    let theirs = sequence.advance(&tokens, n).expect("logits").to_vec();
    drop((sequence, model));
    let mut packed = Packed::default();
    // The last token is not read, so one more is appended.
    let whole: Vec<u32> = tokens.iter().map(|token| *token as u32).chain([0]).collect();
    packed.push(&whole, whole.len() - n);
    let backbone = Backbone::load(&path, &Device::Cpu, Some(1024)).expect("a backbone");
    let ours =
        backbone.logits(&packed).expect("logits").flatten_all().expect("rows").to_vec1::<f32>().expect("numbers");
    assert_eq!(ours.len(), theirs.len());
    let differences = || ours.iter().zip(&theirs).map(|(a, b)| f64::from((a - b).abs()));
    let largest = differences().fold(0.0, f64::max);
    let rms = (differences().map(|x| x * x).sum::<f64>() / ours.len() as f64).sqrt();
    println!("largest difference {largest:e}, root mean square {rms:e}");
    // ggml's GELU has 16 bits: the last bit of a number before it decides which way it is rounded, and both graphs
    // round once per layer and number. Without that, 1e-3 would hold, as it does for the other architectures.
    assert!(rms < 3e-3 && largest < 5e-2, "{rms} {largest}");
}
