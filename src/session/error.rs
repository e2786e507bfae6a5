//! Why a session cannot be opened, or a prompt not be read.

use std::path::PathBuf;

use crate::chat::TemplateError;
use crate::engine::fit::Untranslatable;
use crate::engine::llama::{LoadError, TokenizeError};
use crate::engine::share::ShareError;
use crate::expert::Token;
use crate::guidance::Mismatch;

/// Why a session cannot be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SessionError {
    /// A model cannot be loaded.
    #[error("{who}: {source}")]
    Load {
        /// "base", or an ARM's name in quotes.
        who: String,
        /// Why.
        source: LoadError,
    },
    /// An adapter cannot be loaded, or a context cannot be made.
    #[error("{who}: {source}")]
    Sequence {
        /// As above.
        who: String,
        /// Why.
        source: ShareError,
    },
    /// An ARM does not speak the base's tokens.
    #[error("ARM \"{arm}\" ({}) cannot guide {}: {}", arm_path.display(), base_path.display(), advice.after(found, arm))]
    Vocabulary {
        /// The ARM.
        arm: String,
        /// Its file.
        arm_path: PathBuf,
        /// The base's file.
        base_path: PathBuf,
        /// The first differences.
        found: Box<Mismatch>,
        /// What to do about them.
        advice: VocabularyAdvice,
    },
    /// An ARM of another vocabulary that cannot be translated.
    #[error(
        "ARM \"{arm}\" ({}) cannot guide {} across vocabularies: {source}", arm_path.display(), base_path.display()
    )]
    Untranslatable {
        /// The ARM.
        arm: String,
        /// Its file.
        arm_path: PathBuf,
        /// The base's file.
        base_path: PathBuf,
        /// Why not.
        source: Untranslatable,
    },
    /// The text that a persona reads has no tokens.
    #[error("{who}: {source}")]
    Persona {
        /// As above.
        who: String,
        /// Why.
        source: TokenizeError,
    },
    /// It would not fit.
    #[error("{0}")]
    Memory(Box<Shortage>),
    /// The drafter of the configuration cannot draft here.
    #[error("speculate: {0}")]
    Speculate(String),
    /// A setting that contradicts another.
    #[error(
        "{who}: a V cache of type {ty} needs flash attention; leave --flash-attn at auto or on, or take --cache-type-v f16"
    )]
    QuantisedV {
        /// As above.
        who: String,
        /// The type.
        ty: String,
    },
    /// A chat template cannot be used.
    #[error("{who}: {source}")]
    Template {
        /// As above.
        who: String,
        /// Why.
        source: TemplateError,
    },
}

/// What to do about an ARM of another vocabulary.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum VocabularyAdvice {
    /// Ask for its translation.
    Translate,
    /// It cannot be translated either.
    Hopeless(Untranslatable),
    /// Name the base that the host runs.
    NameHost,
}

impl VocabularyAdvice {
    /// The differences, and the advice.
    fn after(&self, found: &Mismatch, arm: &str) -> String {
        match self {
            // Another vocabulary differs everywhere: its first tokens say nothing.
            Self::Translate => format!(
                "{}; give --translate {arm}, or `vocabulary: translate` in the file, to guide across vocabularies",
                found.summary()
            ),
            Self::Hopeless(why) => format!("{found}; nor can it be translated: {why}"),
            Self::NameHost => format!("{found}; give `base:` the model that the host runs"),
        }
    }
}

/// A device with less memory than is needed; all sizes are in words.
#[derive(Debug, thiserror::Error)]
#[error(
    "not enough memory: {need} of {device} are needed (weights {weights}, context {kv}, buffers {compute}) and {free} are \
     free; {advice}"
)]
pub struct Shortage {
    /// Where it is short.
    pub device: String,
    /// All of it.
    pub need: String,
    /// The weights.
    pub weights: String,
    /// The K and V caches.
    pub kv: String,
    /// The compute buffers.
    pub compute: String,
    /// What is left there.
    pub free: String,
    /// The cheapest changes with which all fits.
    pub advice: String,
}

/// Why a prompt cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PromptError {
    /// It has characters without tokens, or too many.
    #[error("{who}: {source}")]
    Tokenize {
        /// "base", or an ARM's name in quotes.
        who: String,
        /// Why.
        source: TokenizeError,
    },
    /// A token id outside the vocabulary.
    #[error("token {token} is outside the vocabulary of {n_vocab} tokens (0 to {})", n_vocab - 1)]
    Token {
        /// The id.
        token: Token,
        /// Size of the vocabulary.
        n_vocab: usize,
    },
    /// A translated ARM would read markup of the base that its vocabulary lacks.
    #[error(
        "{who} lacks {token}, which is in the prompt; {}",
        if *templated { "leave that out, or give genarm the conversation in place of its text" } else { "the ARM has no chat template: give it `template:` in the configuration" }
    )]
    Mark {
        /// An ARM's name in quotes.
        who: String,
        /// The name of the control token.
        token: String,
        /// Whether the ARM has a chat template.
        templated: bool,
    },
    /// The conversation cannot be rendered.
    #[error("{who}: {source}")]
    Template {
        /// As above.
        who: String,
        /// Why.
        source: TemplateError,
    },
    /// Nothing says how to write a conversation.
    #[error(
        "this base has no chat template; give one: --chat-template chatml (or llama2, llama3, zephyr, alpaca, hh, raw, none, a file)"
    )]
    NoTemplate,
}
