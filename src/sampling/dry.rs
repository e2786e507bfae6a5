//! DRY, with its sequence breakers found in a vocabulary.

use std::ffi::CString;
use std::sync::Arc;

use llama_cpp_sys_2 as sys;

use super::error::ChainError;
use super::owned::Owned;
use super::params::{Mirostat, SamplerKind, SamplingParams};
use crate::engine::llama::Vocab;

/// A DRY sampler of a vocabulary, to be copied into the chains of texts.
///
/// To find the sequence breakers, llama.cpp reads the whole vocabulary once for each of them. A copy does not, so a
/// server makes this one beside the thread that decodes.
pub struct Dry(Owned);

// SAFETY: what it offers through `&self` is a copy, for which llama.cpp only reads the sampler.
unsafe impl Sync for Dry {}

impl Dry {
    /// What a chain with these parameters copies. `None` where DRY does not act in it. `n_ctx` is what a penalty that
    /// looks back "over the whole context" sees.
    ///
    /// # Errors
    ///
    /// [`ChainError`] where a breaker has no tokens.
    pub fn of(params: &SamplingParams, vocab: &Vocab, n_ctx: usize) -> Result<Option<Arc<Self>>, ChainError> {
        if Self::acts(params) { Self::new(params, vocab, n_ctx).map(|dry| Some(Arc::new(dry))) } else { Ok(None) }
    }

    /// Whether a chain with these parameters holds a DRY that changes anything.
    pub fn acts(params: &SamplingParams) -> bool {
        let is_on = params.dry_multiplier != 0.0 && params.dry_base >= 1.0 && params.dry_penalty_last_n != 0;
        is_on && params.mirostat == Mirostat::Off && params.samplers.contains(&SamplerKind::Dry)
    }

    pub(super) fn new(params: &SamplingParams, vocab: &Vocab, n_ctx: usize) -> Result<Self, ChainError> {
        // llama.cpp tokenises what follows the first character, and would end the process at a character that the
        // vocabulary cannot spell.
        for text in &params.dry_sequence_breakers {
            let tail: String = text.chars().skip(1).collect();
            vocab
                .tokenize(&tail, false, false)
                .map_err(|source| ChainError::Tokenize { field: "dry_sequence_breakers", source })?;
        }
        let nul = |_| ChainError::Nul { field: "dry_sequence_breakers" };
        let texts = params.dry_sequence_breakers.iter().map(|text| CString::new(text.as_str()).map_err(nul));
        let texts: Vec<_> = texts.collect::<Result<_, _>>()?;
        let mut breakers: Vec<_> = texts.iter().map(|text| text.as_ptr()).collect();
        let last_n = look_back(params.dry_penalty_last_n, n_ctx);
        // SAFETY: the vocabulary is alive; the array has as many C strings as said, and llama.cpp copies them.
        let raw = unsafe {
            sys::llama_sampler_init_dry(
                vocab.as_ptr(),
                params.dry_multiplier,
                params.dry_base,
                params.dry_allowed_length,
                last_n,
                breakers.as_mut_ptr(),
                breakers.len(),
            )
        };
        // SAFETY: the sampler is new.
        unsafe { Owned::new(raw) }.map(Self).ok_or(ChainError::Memory)
    }

    /// A copy for one chain.
    pub(super) fn copy(&self) -> Result<Owned, ChainError> {
        self.0.copy().ok_or(ChainError::Memory)
    }

    pub(super) fn into_owned(self) -> Owned {
        self.0
    }
}

/// -1 looks back over the whole context.
pub(super) fn look_back(n: i32, n_ctx: usize) -> i32 {
    if n < 0 { i32::try_from(n_ctx).unwrap_or(i32::MAX) } else { n }
}
