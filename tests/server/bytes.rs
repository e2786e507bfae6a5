//! A model whose tokens are single bytes, so that characters are spread over tokens, and requests that say what it
//! writes.

use genarm::bench::synthetic::{Quantization, Shape, SyntheticModel, SyntheticVocabulary};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::Serve;

/// The control token that begins a text, which is not shown.
pub const BEGIN: u32 = 1;
/// The token that ends a text.
pub const END: u32 = 2;

/// The token of a byte.
pub fn byte(byte: u8) -> u32 {
    3 + u32::from(byte)
}

/// The token of the filler word " w300".
pub const WORD: u32 = 300;

/// A server of such a model, and the folder that the model lies in.
pub fn serve(args: &[&str]) -> (Serve, TempDir) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("bytes.gguf");
    let vocabulary = SyntheticVocabulary::byte_level(512);
    let shape = Shape::of_size(1_000_000, vocabulary.n_tokens() as u64).expect("a tiny shape");
    let quantization = Quantization::Q4_0;
    let model =
        SyntheticModel { name: "bytes", shape, quantization, vocabulary: &vocabulary, n_ctx_train: 512, seed: 1 };
    model.write(&path).expect("written");
    let path = path.display().to_string();
    (Serve::start(&[&["--base", &path, "--chat-template", "raw"], args].concat()), folder)
}

/// A request for this very text, by a grammar.
pub fn writes(text: &str) -> Value {
    let grammar = format!("root ::= {}", json!(text));
    json!({"prompt": [byte(b'x')], "max_tokens": 60, "temperature": 0, "grammar": grammar})
}

/// A request in which these tokens come in this order, then the first one for ever: each is wanted less than the one
/// before it, and much less when it has been drawn. Up to four: the penalty must not look back on a prompt's own
/// control token.
pub fn draws(tokens: &[u32]) -> Value {
    let bias: serde_json::Map<_, _> =
        tokens.iter().enumerate().map(|(i, token)| (token.to_string(), json!(100 - 5 * i))).collect();
    json!({"prompt": [byte(b'x')], "max_tokens": tokens.len(), "temperature": 0, "logit_bias": bias,
        "presence_penalty": 50, "penalty_last_n": 4})
}

/// The request with more fields, or other ones.
pub fn with(mut body: Value, extra: &Value) -> Value {
    body.as_object_mut().expect("an object").extend(extra.as_object().expect("an object").clone());
    body
}
