//! Guiding a base with an ARM of another vocabulary.
//!
//! ```text
//! q(v | s) = P( the base's own tokenisation of the ARM's text continues with v  |  the ARM's text begins with s )
//! logits   = base + w · ln q
//! ```
//!
//! Where the vocabularies are the same, q is the ARM's p, so the law is the paper's. See docs/vocabularies.md.
//!
//! ```text
//! Words        a vocabulary with its tokenizer; two of them make a
//! Lexicon      what one vocabulary's tokens are in the other: built once a pair, and kept
//! Cover        the ARM's readings of the text so far: paths of ARM tokens, each with its mass
//! step         one row of the ARM per reading → one row over the base's tokens
//! doubts       the row after a token of the ARM, where the base's longer tokens begin with it and it matters
//! Translator   an ARM's expert behind all this
//! ```

mod cover;
mod doubts;
mod lexicon;
mod paths;
mod prompt;
mod rows;
mod spellings;
mod step;
mod token_bytes;
mod translator;
mod words;

pub use lexicon::{Hopeless, Lexicon, Overlap, Translation};
pub(super) use translator::Translator;
pub use words::{WordKind, Words};

#[cfg(test)]
mod tests;
