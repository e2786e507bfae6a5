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
    /// The base's own probability of tokens that begin with these bytes and go on. Under a weight below 1 a token that
    /// the base likes counts, even where the ARM hardly ever writes it: its paths are extended earlier.
    pub base: &'a dyn Fn(&[u8]) -> f64,
}

/// When to stop.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// The share of the probability that may stay open.
    pub rest: f64,
    /// The share that may be wrong by its own estimate, which takes `min_decodes` to make.
    pub doubt: f64,
    pub min_decodes: usize,
    pub max_decodes: usize,
    /// Paths that are chosen at once.
    pub batch: usize,
    /// Paths with less than this share are not extended, and read with others.
    pub grain: f64,
}

/// The ARM's logits after a history.
pub type Decode<'a> = dyn FnMut(&[Token]) -> Result<Vec<f32>> + 'a;
