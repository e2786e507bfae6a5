//! Text to tokens with the backbone's own vocabulary.

use super::TrainError;
use llama_cpp_2::llama_backend::LlamaBackend;
use llama_cpp_2::model::LlamaModel;
use llama_cpp_2::model::params::LlamaModelParams;
use std::path::Path;
use std::sync::OnceLock;

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

/// The process-wide start of llama.cpp, with its log turned off.
///
/// # Errors
///
/// [`TrainError::Llama`] when llama.cpp cannot start.
pub fn llama_backend() -> Result<&'static LlamaBackend, TrainError> {
    static BACKEND: OnceLock<Result<LlamaBackend, String>> = OnceLock::new();
    let start = || {
        let mut backend = LlamaBackend::init().map_err(|e| e.to_string())?;
        backend.void_logs();
        Ok(backend)
    };
    BACKEND.get_or_init(start).as_ref().map_err(|e| TrainError::Llama(e.clone()))
}

/// The vocabulary of a GGUF file, as llama.cpp reads it.
#[derive(Debug)]
pub struct GgufTokens {
    model: LlamaModel,
}

impl GgufTokens {
    /// Loads the vocabulary only.
    ///
    /// # Errors
    ///
    /// [`TrainError::Llama`] when llama.cpp cannot read the file.
    pub fn load(path: &Path) -> Result<Self, TrainError> {
        let params = LlamaModelParams::default().with_vocab_only(true);
        let model = LlamaModel::load_from_file(llama_backend()?, path, &params)
            .map_err(|e| TrainError::Gguf { path: path.into(), reason: format!("llama.cpp cannot read it ({e})") })?;
        Ok(Self { model })
    }
}

impl Tokenize for GgufTokens {
    fn encode(&self, text: &str, add_special: bool, parse_special: bool) -> Result<Vec<i32>, TrainError> {
        if text.is_empty() && !add_special {
            return Ok(Vec::new());
        }
        Ok(self.model.vocab().tokenize(text.as_bytes(), add_special, parse_special).iter().map(|t| t.0).collect())
    }

    fn eos(&self) -> Option<i32> {
        Some(self.model.vocab().eos().0).filter(|t| *t >= 0)
    }

    fn n_vocab(&self) -> usize {
        self.model.vocab().n_tokens() as usize
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
