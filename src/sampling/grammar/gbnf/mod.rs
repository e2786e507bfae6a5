//! GBNF, llama.cpp's grammars, read and followed in Rust.
//!
//! llama.cpp follows every way to read a text as a stack of its own; where two ways meet again they stay two, so a
//! small grammar doubles them at every character. Here ways that stand at the same place share what they return to
//! ([`matcher`]), sets of ways are numbered, and a step between two sets is worked out once. What remains is counted,
//! and ends a text that takes more than [`MAX_WORK`].

mod automaton;
mod matcher;
mod parse;
mod tree;

use std::sync::Arc;

use super::vocabulary::GrammarVocabulary;
pub use matcher::Matcher;
pub use parse::{Spelled, TokenOf};

/// Parentheses in parentheses.
const MAX_DEPTH: usize = 200;
/// Signs of repetition one after the other, as in `x+?`.
const MAX_STACKED: usize = 3;
/// Characters of a rule's name.
const MAX_NAME: usize = 256;
/// Repetitions, as in llama.cpp.
const MAX_REPEAT: usize = 2000;
/// States of the automaton.
const MAX_STATES: usize = 1 << 17;
/// Parts and edges of the automaton.
const MAX_BUILD: usize = 1 << 20;
/// Ways to go on that are looked at for one question about a token. A mask of a vocabulary of 262,144 tokens under a
/// grammar of JSON looks at some hundreds, and under a list of 4000 words at some ten thousands.
const MAX_WORK: usize = 300_000;

/// Why a text is no grammar that can be followed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault(String);

impl Fault {
    fn new(problem: impl Into<String>) -> Self {
        Self(problem.into())
    }

    /// What is wrong, to be read after the name of the field.
    pub fn problem(self) -> String {
        self.0
    }
}

/// A grammar, ready to be followed by any number of texts.
pub struct Gbnf(Arc<automaton::Automaton>);

impl Gbnf {
    /// Reads and checks a grammar. Its texts may be written with the `spelled` control tokens.
    ///
    /// # Errors
    ///
    /// [`Fault`].
    pub fn new(text: &str, token_of: &parse::TokenOf<'_>, spelled: &Spelled) -> Result<Self, Fault> {
        let tree = parse::parse(text, token_of, spelled)?;
        automaton::Automaton::new(&tree).map(|automaton| Self(Arc::new(automaton)))
    }

    /// A text's way through it.
    pub fn matcher(&self, vocabulary: &Arc<GrammarVocabulary>) -> Matcher {
        Matcher::new(Arc::clone(&self.0), Arc::clone(vocabulary))
    }
}
