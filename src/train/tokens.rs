//! Text to tokens with the backbone's own vocabulary.

use super::TrainError;
use crate::engine::llama::{Model, ModelParams, Vocab};
use std::path::Path;

/// Splits text into the token ids of a vocabulary.
pub trait Tokenize {
    /// Tokens of `text`. `add_special` adds what the vocabulary wants at the beginning (BOS); `parse_special`
    /// reads `<|…|>` and the like as special tokens.
    ///
    /// # Errors
    ///
    /// [`TrainError::Llama`] for text that the vocabulary cannot spell.
    fn encode(&self, text: &str, add_special: bool, parse_special: bool) -> Result<Vec<i32>, TrainError>;

    /// The end-of-sequence token, if there is one.
    fn eos(&self) -> Option<i32>;

    /// Number of tokens.
    fn n_vocab(&self) -> usize;
}

/// The vocabulary of a GGUF file, as llama.cpp reads it.
#[derive(Debug)]
pub struct GgufTokens(Vocab);

impl GgufTokens {
    /// Loads the vocabulary; the weights are mapped, not read.
    ///
    /// # Errors
    ///
    /// [`TrainError::Llama`] when llama.cpp cannot read the file.
    pub fn load(path: &Path) -> Result<Self, TrainError> {
        let params = ModelParams { n_gpu_layers: Some(0), ..ModelParams::default() };
        let model = Model::load(path, &params, &mut |_| true).map_err(|e| TrainError::Llama(e.to_string()))?;
        Ok(Self(model.vocab()))
    }

    /// A vocabulary that is open already.
    pub fn of(vocab: Vocab) -> Self {
        Self(vocab)
    }
}

impl Tokenize for GgufTokens {
    fn encode(&self, text: &str, add_special: bool, parse_special: bool) -> Result<Vec<i32>, TrainError> {
        if text.is_empty() && !add_special {
            return Ok(Vec::new());
        }
        self.0.tokenize(text, add_special, parse_special).map_err(|e| TrainError::Llama(e.to_string()))
    }

    fn eos(&self) -> Option<i32> {
        self.0.eos()
    }

    fn n_vocab(&self) -> usize {
        self.0.n_tokens()
    }
}

/// FNV-1a hash of the token texts, in order: equal for files whose vocabularies agree.
pub fn vocab_hash<'a>(tokens: impl Iterator<Item = &'a [u8]>) -> String {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for token in tokens {
        for byte in token.iter().copied().chain([0xff]) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
    format!("{hash:016x}")
}
