//! The vocabulary of a synthetic model: another file's, or made up.

use super::SyntheticError;
use crate::engine::gguf::{Array, GgufFile, Strings, Value};
use std::path::Path;

/// The tokenizer part of a model's metadata.
#[derive(Debug, Clone)]
pub struct SyntheticVocabulary {
    metadata: Vec<(String, Value)>,
    n_tokens: usize,
}

/// Specials and bytes: the smallest vocabulary that can be made up.
const N_SMALLEST: usize = 3 + 256;

impl SyntheticVocabulary {
    /// A copy of the vocabulary in `path`: a model, or a vocabulary without weights.
    ///
    /// # Errors
    ///
    /// What [`GgufFile::open`] reports, and [`SyntheticError::NoVocabulary`].
    pub fn from_gguf(path: &Path) -> Result<Self, SyntheticError> {
        let file = GgufFile::open(path)?;
        let n_tokens = match file.vocabulary() {
            Some(vocabulary) => vocabulary.n_tokens(),
            None => return Err(SyntheticError::NoVocabulary { path: path.display().to_string() }),
        };
        let of_tokenizer = |(key, _): &&(String, Value)| key.starts_with("tokenizer.");
        Ok(SyntheticVocabulary { metadata: file.metadata().iter().filter(of_tokenizer).cloned().collect(), n_tokens })
    }

    /// A made-up sentencepiece vocabulary of `n_tokens` (at least 259): three special tokens, the 256 bytes, and filler
    /// words. Every text can be encoded.
    pub fn byte_level(n_tokens: usize) -> Self {
        let n_tokens = n_tokens.max(N_SMALLEST);
        let specials = ["<unk>", "<s>", "</s>"].map(str::to_owned);
        let bytes = (0..=255u8).map(|byte| format!("<0x{byte:02X}>"));
        let words = (N_SMALLEST..n_tokens).map(|i| format!("▁w{i}"));
        let tokens: Strings = specials.into_iter().chain(bytes).chain(words).collect();
        // llama.cpp's token types: unknown 2, control 3, byte 6, normal 1.
        let types: Vec<i32> = [2, 3, 3].into_iter().chain([6; 256]).chain(vec![1; n_tokens - N_SMALLEST]).collect();
        let scores: Vec<f32> = (0..n_tokens).map(|i| -(i as f32)).collect();
        let metadata: [(&str, Value); 7] = [
            ("model", "llama".into()),
            ("tokens", tokens.into()),
            ("scores", scores.into()),
            ("token_type", types.into()),
            ("bos_token_id", 1u32.into()),
            ("eos_token_id", 2u32.into()),
            ("unknown_token_id", 0u32.into()),
        ];
        let metadata = metadata.map(|(key, value)| (format!("tokenizer.ggml.{key}"), value)).into();
        SyntheticVocabulary { metadata, n_tokens }
    }

    /// The same with control tokens and user-defined tokens behind its own.
    #[must_use]
    pub fn with_tokens(mut self, control: &[&str], user_defined: &[&str]) -> Self {
        let added = control.iter().chain(user_defined);
        let n_added = control.len() + user_defined.len();
        for (key, value) in &mut self.metadata {
            match (&**key, &mut *value) {
                ("tokenizer.ggml.tokens", Value::Array(Array::Strings(tokens))) => {
                    let own: Vec<Vec<u8>> = tokens.iter().map(<[u8]>::to_vec).collect();
                    let added = added.clone().map(|text| text.as_bytes().to_vec());
                    *tokens = own.into_iter().chain(added).collect();
                }
                ("tokenizer.ggml.token_type", Value::Array(Array::I32(types))) => {
                    types.extend(std::iter::repeat_n(3, control.len()));
                    types.extend(std::iter::repeat_n(4, user_defined.len()));
                }
                ("tokenizer.ggml.scores", Value::Array(Array::F32(scores))) => {
                    scores.extend(std::iter::repeat_n(-1000.0, n_added));
                }
                _ => {}
            }
        }
        self.n_tokens += n_added;
        self
    }

    /// The same with another value of a key of its metadata, such as `tokenizer.chat_template`.
    #[must_use]
    pub fn with(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.metadata.retain(|(known, _)| known != key);
        self.metadata.push((key.to_owned(), value.into()));
        self
    }

    /// Number of tokens.
    pub fn n_tokens(&self) -> usize {
        self.n_tokens
    }

    /// All `tokenizer.*` keys.
    pub fn metadata(&self) -> &[(String, Value)] {
        &self.metadata
    }
}
