//! Synthetic models, loaded and run by llama.cpp.

use super::{file, write_tiny};
use genarm::bench::synthetic::{Architecture, Quantization, SyntheticVocabulary};
use llama_cpp_2::context::params::LlamaContextParams;
use llama_cpp_2::llama_backend::LlamaBackend;
use llama_cpp_2::llama_batch::LlamaBatch;
use llama_cpp_2::model::LlamaModel;
use llama_cpp_2::model::params::LlamaModelParams;
use llama_cpp_2::token::LlamaToken;
use std::path::Path;

/// llama.cpp is started once a process, by whichever test comes first.
fn backend() -> &'static LlamaBackend {
    genarm::engine::llama::backend().expect("llama.cpp starts")
}

/// Logits after a few tokens.
fn logits(path: &Path) -> Vec<f32> {
    let model = LlamaModel::load_from_file(backend(), path, &LlamaModelParams::default()).expect("it loads");
    let params = LlamaContextParams::default().with_n_threads(2).with_n_threads_batch(2);
    let mut context = model.new_context(backend(), params).expect("a context");
    let mut batch = LlamaBatch::new(8, 1);
    for position in 0..8 {
        batch.add(LlamaToken(position * 17 + 3), position, &[0], position == 7).expect("room for it");
    }
    context.decode(&mut batch).expect("it decodes");
    context.get_logits_ith(7).to_vec()
}

#[test]
fn llama_cpp_runs_a_synthetic_model_to_finite_logits() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("tiny.gguf");
    let of_llama = [Quantization::Q4_0, Quantization::Q4_K_M].map(|quantization| (Architecture::Llama, quantization));
    for (architecture, quantization) in of_llama.into_iter().chain([(Architecture::Lfm2, Quantization::Q4_0)]) {
        let what = format!("{architecture:?}, {quantization:?}");
        write_tiny(&path, architecture, quantization, &SyntheticVocabulary::byte_level(512));
        let logits = logits(&path);
        assert_eq!(logits.len(), 512);
        assert!(logits.iter().all(|logit| logit.is_finite() && logit.abs() < 100.0), "{what}: {logits:?}");
        let spread = logits.iter().fold(0.0f32, |most, logit| most.max((logit - logits[0]).abs()));
        assert!(spread > 0.01, "{what}: all logits are alike");
    }
}

#[test]
fn a_copied_vocabulary_is_llama_cpps_own() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("tiny.gguf");
    let vocabulary = SyntheticVocabulary::from_gguf(&file("tests/models/stories260K.gguf")).expect("a vocabulary");
    let shape = genarm::bench::synthetic::Shape::of_size(2_000_000, 512).expect("a shape");
    let model = genarm::bench::synthetic::SyntheticModel {
        name: "copied",
        shape,
        quantization: Quantization::Q4_0,
        vocabulary: &vocabulary,
        n_ctx_train: 256,
        seed: 1,
    };
    model.write(&path).expect("the model is written");
    let model = LlamaModel::load_from_file(backend(), &path, &LlamaModelParams::default()).expect("it loads");
    let from =
        LlamaModel::load_from_file(backend(), file("tests/models/stories260K.gguf"), &LlamaModelParams::default());
    let tokens = |model: &LlamaModel| model.vocab().tokenize("Once upon a time – é".as_bytes(), true, false);
    assert_eq!(tokens(&model), tokens(&from.expect("it loads")));
    assert!(tokens(&model).len() > 8);
}
