//! The vocabulary of a synthetic model: another file's, or made up.

use super::SyntheticError;
use crate::engine::gguf::{GgufFile, Strings, Value};
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

    /// Number of tokens.
    pub fn n_tokens(&self) -> usize {
        self.n_tokens
    }

    /// All `tokenizer.*` keys.
    pub fn metadata(&self) -> &[(String, Value)] {
        &self.metadata
    }
}
