//! What the tokens of one vocabulary are in the other.

use super::words::Words;
use crate::expert::Token;

/// What the tokens of an ARM and a base are to each other. About 10 bytes a token.
#[derive(Debug, Clone, PartialEq)]
pub struct Lexicon {}

/// Why an ARM cannot guide a base of another vocabulary.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Hopeless {
    /// It cannot spell plain English.
    #[error("it has no token for {0:?}")]
    Ascii(char),
}

/// How much two vocabularies have in common.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Overlap {
    /// Tokens of the base that add text.
    pub n_base: usize,
    /// Those that the ARM has with the same bytes.
    pub n_equal: usize,
    /// Tokens of the base that the ARM never reaches: they take its row's floor.
    pub n_unreachable: usize,
}

impl Lexicon {
    /// Compares the vocabularies of a base and an ARM.
    ///
    /// # Errors
    ///
    /// [`Hopeless`].
    ///
    /// # Cost
    ///
    /// Each vocabulary spells every token of the other, on `n_threads` threads: about a second for 262 thousand and 49
    /// thousand tokens.
    pub fn build(_base: &dyn Words, _arm: &dyn Words, _n_threads: usize) -> Result<Self, Hopeless> {
        todo!()
    }

    /// What it has found, to be kept in a file.
    pub fn to_bytes(&self) -> Vec<u8> {
        todo!()
    }

    /// What [`to_bytes`](Self::to_bytes) wrote for the same two vocabularies; `None` where the bytes are something else.
    pub fn from_bytes(_bytes: &[u8], _base: &dyn Words, _arm: &dyn Words) -> Option<Self> {
        todo!()
    }

    /// How much the vocabularies have in common.
    pub fn overlap(&self) -> Overlap {
        todo!()
    }

    /// The ARM's token with the same bytes, or the same name.
    pub fn twin(&self, _base: Token) -> Option<Token> {
        todo!()
    }

    /// The ARM's tokens of a base token's bytes, as it spells them alone.
    pub fn spelling(&self, _base: Token) -> &[Token] {
        todo!()
    }
}

/// Two vocabularies with their lexicon: what a translated [`Arm`](crate::guidance::Arm) needs. Shared by its sequences.
pub struct Translation {
    /// The base's vocabulary.
    pub base: Box<dyn Words>,
    /// The ARM's vocabulary.
    pub arm: Box<dyn Words>,
    /// What they are to each other.
    pub lexicon: Lexicon,
}
