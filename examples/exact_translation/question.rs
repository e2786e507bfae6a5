//! What a search is asked, and when it stops.

use anyhow::Result;
use genarm::Token;

use super::token_bytes::TokenBytes;

/// The question.
pub struct Question<'a> {
    pub vocabulary: &'a TokenBytes,
    /// The ARM's tokens before the response.
    pub prompt: &'a [Token],
    /// The response so far.
    pub text: &'a [u8],
    /// The ARM's own tokens of that, for the search to begin with.
    pub usual: &'a [Token],
}

/// When to stop.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// The share of the probability that may stay open.
    pub rest: f64,
    pub max_decodes: usize,
    /// Paths that are extended at once.
    pub batch: usize,
    /// Paths with less than this share are not extended, and read with others.
    pub grain: f64,
}

/// The ARM's logits after each of some histories.
pub type Decode<'a> = dyn FnMut(&[Vec<Token>]) -> Result<Vec<Vec<f32>>> + 'a;
