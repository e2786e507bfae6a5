//! Conversations in tokens: as transformers makes them, the same through every door, and never with a user's control
//! tokens.

mod doors;
mod forging;
mod golden;
mod personas;
mod responses;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use genarm::bench::synthetic::{Quantization, Shape, SyntheticModel, SyntheticVocabulary};
use genarm::chat::{ChatTemplate, Message};
use genarm::engine::llama::{Model, Vocab};

use crate::support::{binary, load};

/// A template of `tests/chat/templates`.
fn template(name: &str) -> String {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/chat/templates/{name}.jinja"));
    std::fs::read_to_string(&file).unwrap_or_else(|e| panic!("{}: {e}", file.display()))
}

/// The byte-level vocabulary of the demo models, with tokens behind it.
fn byte_pairs(control: &[&str], user_defined: &[&str]) -> SyntheticVocabulary {
    let base = PathBuf::from(binary::model("base.gguf"));
    SyntheticVocabulary::from_gguf(&base).expect("the demo vocabulary").with_tokens(control, user_defined)
}

/// The demo vocabulary with SmolLM2's markers and template.
fn smollm2() -> SyntheticVocabulary {
    byte_pairs(&["<|im_start|>", "<|im_end|>"], &[])
        .with("tokenizer.ggml.bos_token_id", 2048u32)
        .with("tokenizer.ggml.eos_token_id", 2049u32)
        .with("tokenizer.ggml.add_bos_token", false)
        .with("tokenizer.chat_template", &*template("smollm2"))
}

/// Writes a model of random weights.
fn write(path: &Path, vocabulary: &SyntheticVocabulary, seed: u64) {
    let shape = Shape::of_size(1_000_000, vocabulary.n_tokens() as u64).expect("a tiny shape");
    let (name, quantization, n_ctx_train) = ("tiny", Quantization::Q4_0, 1024);
    let model = SyntheticModel { name, shape, quantization, vocabulary, n_ctx_train, seed };
    model.write(path).expect("the model is written");
}

fn open(vocabulary: &SyntheticVocabulary) -> Arc<Model> {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("model.gguf");
    write(&path, vocabulary, 1);
    load(&path)
}

/// The tokens of a conversation.
fn tokens(template: &ChatTemplate, messages: &[Message], vocab: &Vocab) -> Vec<genarm::Token> {
    template.write(messages, vocab).expect("a prompt").tokens(vocab).expect("tokens")
}
