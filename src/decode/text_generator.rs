//! Many texts, made under given weights and seeds, and scored: what sweeps and comparisons run on.

use super::Finish;
use crate::expert::Token;
use crate::guidance::score::TokenScore;

/// A text to be made.
#[derive(Debug, Clone, PartialEq)]
pub struct TextRequest {
    /// Index of its prompt.
    pub prompt: usize,
    /// One weight an ARM.
    pub weights: Vec<f32>,
    /// Seed of its draws.
    pub seed: u32,
    /// Leave only the base's k likeliest tokens to guidance (ARGS); `None` guides the whole vocabulary.
    pub candidates: Option<usize>,
}

/// A text that was made.
#[derive(Debug, Clone, PartialEq)]
pub struct GeneratedText {
    /// Its tokens, without the end-of-generation token.
    pub tokens: Vec<Token>,
    /// What they spell.
    pub text: String,
    /// Why it ended.
    pub finish: Finish,
}

/// Why a text was not made or scored.
#[derive(Debug, thiserror::Error)]
#[error("prompt {}: {source}", prompt + 1)]
pub struct GenerateError {
    /// Index of the prompt.
    pub prompt: usize,
    /// Why.
    pub source: Box<dyn std::error::Error + Send + Sync>,
}

/// Makes and scores texts. The one place that knows how: sweeps and comparisons see only this, and are tested without a
/// model.
pub trait TextGenerator {
    /// Makes all texts, in the order of the requests. The same requests give the same texts, whatever was made before.
    /// `each` is called as often as there are requests, whenever one is done.
    ///
    /// # Errors
    ///
    /// The first text that cannot be made.
    fn generate(
        &mut self,
        requests: &[TextRequest],
        each: &mut dyn FnMut(),
    ) -> Result<Vec<GeneratedText>, GenerateError>;

    /// Scores `response` after prompt number `prompt` under all models, and under guidance by `weights`.
    ///
    /// # Errors
    ///
    /// When it does not fit, or a model fails.
    fn score(&mut self, prompt: usize, response: &[Token], weights: &[f32]) -> Result<Vec<TokenScore>, GenerateError>;
}

/// The seed of text number `copy` of a prompt: prompts are told apart, and every point of a sweep draws alike, so that
/// differences between points are those of guidance more than of luck.
pub fn seed_of(seed: u32, prompt: usize, copy: usize) -> u32 {
    // SplitMix64's finaliser.
    let mut x = u64::from(seed) ^ (prompt as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ ((copy as u64) << 40);
    x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    // The largest number asks llama.cpp for a random seed.
    ((x ^ (x >> 31)) as u32) >> 1
}
