//! ARMs that are adapters on one file share its weights.

use std::fmt::Write as _;
use std::path::Path;

use genarm::bench::synthetic::{Quantization, Shape, SyntheticModel, SyntheticVocabulary};
use genarm::engine::gguf::{GgufFile, GgufWriter, TensorType};

use crate::support::binary::resident_in_chat;

/// An adapter of rank 4 on one matrix.
pub(crate) fn write_lora(base: &GgufFile, path: &Path) {
    let dims = base.tensor("blk.0.attn_q.weight").expect("a matrix").dims.clone();
    let bytes = |n: u64| vec![0u8; usize::try_from(n * 4).expect("small")];
    GgufWriter::new(path)
        .meta("general.architecture", "llama")
        .meta("general.type", "adapter")
        .meta("adapter.type", "lora")
        .meta("adapter.lora.alpha", 4.0f32)
        .tensor("blk.0.attn_q.weight.lora_a", &[dims[0], 4], TensorType::F32, bytes(dims[0] * 4))
        .tensor("blk.0.attn_q.weight.lora_b", &[4, dims[1]], TensorType::F32, bytes(dims[1] * 4))
        .finish()
        .expect("the adapter is written");
}

/// Resident memory at its highest, in bytes, of a chat with `n_arms` ARMs that has answered once.
fn resident(folder: &Path, n_arms: usize) -> u64 {
    let mut yaml =
        String::from("base: {model: base.gguf, n_ctx: 64, n_batch: 32}\nprompt: {chat_template: raw}\narms:\n");
    (0..n_arms).for_each(|i| writeln!(yaml, "  arm{i}: {{lora: [{{path: lora.gguf}}]}}").expect("text"));
    let config = folder.join(format!("{n_arms}.yaml"));
    std::fs::write(&config, yaml).expect("written");
    resident_in_chat(&["--config", &config.display().to_string(), "-n", "4", "--ignore-eos"], "hello")
}

#[test]
fn an_adapter_costs_less_than_a_tenth_of_the_weights() {
    let folder = tempfile::tempdir().expect("a folder");
    let vocabulary = SyntheticVocabulary::byte_level(512);
    let shape = Shape::of_size(200_000_000, 512).expect("a shape");
    let path = folder.path().join("base.gguf");
    let quantization = Quantization::Q4_K_M;
    let model = SyntheticModel { name: "base", shape, quantization, vocabulary: &vocabulary, n_ctx_train: 64, seed: 1 };
    model.write(&path).expect("the model is written");
    let base = GgufFile::open_model(&path).expect("a model");
    write_lora(&base, &folder.path().join("lora.gguf"));
    let (one, three) = (resident(folder.path(), 1), resident(folder.path(), 3));
    let per_arm = three.saturating_sub(one) / 2;
    let weights = base.n_tensor_bytes();
    assert!(one > weights / 2, "the weights are resident: {one} of {weights}");
    assert!(per_arm * 10 < weights, "an ARM takes {per_arm} bytes beside {weights} of weights");
}
