//! The tokens of texts of a word or two, a million of them: what [`Tokenizer::tokenize`] gives, without its preparations
//! for long texts.

use super::stack::SHALLOW;
use super::{TokenizeError, Tokenizer};
use crate::expert::Token;

/// Bytes up to which llama.cpp finds user-defined tokens fast enough by itself, and nothing need be cut.
const SHORT: usize = 256;

impl Tokenizer {
    /// What [`Vocab::spell`](super::super::Vocab::spell) gives.
    pub fn spell(&self, text: &str, tokens: &mut Vec<Token>) -> Result<(), TokenizeError> {
        if text.is_empty() {
            return Ok(());
        }
        if text.len() > SHORT || self.pre.depth(text) > SHALLOW {
            return self.append(text, None, tokens);
        }
        self.check_characters(text)?;
        self.read(text, tokens)
    }
}
