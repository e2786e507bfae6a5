//! A vocabulary with its tokenizer, as translation sees it.

use crate::expert::Token;

/// What a token is to a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WordKind {
    /// It adds bytes.
    Text,
    /// It adds one byte, where no other token spells a text.
    Byte,
    /// It marks a place, such as the end of a turn, and adds nothing.
    Control,
    /// It never occurs.
    Unused,
}

/// A vocabulary, and how it spells texts.
pub trait Words: Send + Sync {
    /// Number of tokens.
    fn n_tokens(&self) -> usize;

    /// What `token` is.
    fn kind(&self, token: Token) -> WordKind;

    /// Appends the bytes that a text or byte token adds in the middle of a text, or the name of a control token.
    fn bytes(&self, token: Token, out: &mut Vec<u8>);

    /// Whether `token` ends a text.
    fn is_end(&self, token: Token) -> bool;

    /// The token that begins a text, where texts of the model begin with one.
    fn bos(&self) -> Option<Token>;

    /// Appends the tokens of `text`, which stands in the middle of a text: no token for a beginning or for a virtual
    /// space before it, and names of control tokens are plain text. False, with nothing appended, where it has none.
    fn spell(&self, text: &str, out: &mut Vec<Token>) -> bool;

    /// The same for a text that stands at the beginning of all, or behind a control token: some vocabularies put a space
    /// before it.
    fn spell_first(&self, text: &str, out: &mut Vec<Token>) -> bool {
        self.spell(text, out)
    }
}
