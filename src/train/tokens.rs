//! The backbone's own vocabulary.

use super::TrainError;
use crate::engine::llama::{Model, ModelParams, Vocab};
use std::path::Path;

/// Loads the vocabulary of a GGUF file; the weights are mapped, not read.
///
/// # Errors
///
/// [`TrainError::Llama`] when llama.cpp cannot read the file.
pub fn vocabulary(path: &Path) -> Result<Vocab, TrainError> {
    let params = ModelParams { n_gpu_layers: Some(0), ..ModelParams::default() };
    let model = Model::load(path, &params, &mut |_| true).map_err(|e| TrainError::Llama(e.to_string()))?;
    Ok(model.vocab())
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
