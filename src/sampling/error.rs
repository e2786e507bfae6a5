//! Why there is no sampler.

use super::grammar::GrammarError;
use crate::engine::llama::TokenizeError;
use crate::expert::Token;

/// Why there is no chain.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ChainError {
    /// A text of the parameters has no tokens.
    #[error("{field}: {source}")]
    Tokenize {
        /// Which parameter.
        field: &'static str,
        /// Why.
        source: TokenizeError,
    },
    /// A token id of the parameters is not in the vocabulary.
    #[error("logit_bias: token {token} is outside the vocabulary of {n_vocab} tokens")]
    Token {
        /// The id.
        token: Token,
        /// Size of the vocabulary.
        n_vocab: usize,
    },
    /// The grammar or the schema cannot be followed.
    #[error(transparent)]
    Grammar(#[from] GrammarError),
    /// A text that C cannot take.
    #[error("{field}: a text must not contain a NUL character")]
    Nul {
        /// Which parameter.
        field: &'static str,
    },
    /// llama.cpp made no sampler: memory is short.
    #[error("llama.cpp cannot create a sampler: out of memory")]
    Memory,
}
