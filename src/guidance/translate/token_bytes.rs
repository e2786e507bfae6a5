//! The bytes of all tokens of a vocabulary, and how texts are made of them.

use super::words::{WordKind, Words};
use crate::expert::Token;

/// The bytes of all tokens, and the tokens in the order of their bytes.
pub(super) struct TokenBytes {
    bytes: Vec<u8>,
    /// Where each token begins in `bytes`; one more for the end.
    starts: Vec<u32>,
    kinds: Vec<WordKind>,
    /// Text and byte tokens in the order of their bytes; of equal bytes the text token first, then the lower id.
    sorted: Vec<Token>,
    controls: Vec<Token>,
}

impl TokenBytes {
    pub fn of(words: &dyn Words) -> Self {
        let n = words.n_tokens();
        let mut all = Self {
            bytes: Vec::new(),
            starts: Vec::with_capacity(n + 1),
            kinds: Vec::new(),
            sorted: Vec::new(),
            controls: Vec::new(),
        };
        all.starts.push(0);
        for token in 0..n as Token {
            let mut kind = words.kind(token);
            if kind != WordKind::Unused {
                words.bytes(token, &mut all.bytes);
            }
            if all.bytes.len() == all.starts[token as usize] as usize {
                kind = WordKind::Unused;
            }
            all.kinds.push(kind);
            all.starts.push(all.bytes.len() as u32);
        }
        let mut sorted: Vec<_> = (0..n as Token).filter(|t| all.adds_text(*t)).collect();
        let key = |token: &Token| (all.get(*token), all.kind(*token) == WordKind::Byte, *token);
        sorted.sort_unstable_by(|a, b| key(a).cmp(&key(b)));
        all.sorted = sorted;
        all.controls = (0..n as Token).filter(|t| all.kind(*t) == WordKind::Control).collect();
        all
    }

    pub fn n_tokens(&self) -> usize {
        self.kinds.len()
    }

    /// The bytes that a token adds, or the name of a control token.
    pub fn get(&self, token: Token) -> &[u8] {
        let at = token as usize;
        &self.bytes[self.starts[at] as usize..self.starts[at + 1] as usize]
    }

    pub fn kind(&self, token: Token) -> WordKind {
        self.kinds[token as usize]
    }

    /// Whether a token adds bytes to a text.
    pub fn adds_text(&self, token: Token) -> bool {
        matches!(self.kind(token), WordKind::Text | WordKind::Byte)
    }

    /// The token of these bytes: a text token before a byte token.
    pub fn find(&self, bytes: &[u8]) -> Option<Token> {
        let at = self.sorted.partition_point(|token| self.get(*token) < bytes);
        self.sorted.get(at).copied().filter(|token| self.get(*token) == bytes)
    }

    /// The token of these bytes and this kind, if there is one.
    pub fn find_kind(&self, bytes: &[u8], kind: WordKind) -> Option<Token> {
        let from = self.sorted.partition_point(|token| self.get(*token) < bytes);
        let equal = self.sorted[from..].iter().copied().take_while(|token| self.get(*token) == bytes);
        equal.into_iter().find(|token| self.kind(*token) == kind)
    }

    /// The control token of this name.
    pub fn control(&self, name: &[u8]) -> Option<Token> {
        self.controls.iter().copied().find(|token| self.get(*token) == name)
    }

    /// The tokens whose bytes begin with `prefix` and go on after it.
    pub fn extending(&self, prefix: &[u8]) -> &[Token] {
        let from = self.sorted.partition_point(|token| self.get(*token) <= prefix);
        let len = self.sorted[from..].partition_point(|token| self.get(*token).starts_with(prefix));
        &self.sorted[from..from + len]
    }

    /// Appends the tokens of `bytes` in the middle of a text. What is no UTF-8, and what the tokenizer cannot spell, is
    /// spelled by the longest tokens that fit; bytes that have none are left out. False where some are.
    pub fn spell(&self, words: &dyn Words, bytes: &[u8], out: &mut Vec<Token>) -> bool {
        let mut whole = true;
        for chunk in bytes.utf8_chunks() {
            let text = chunk.valid();
            if !text.is_empty() && !words.spell(text, out) {
                whole &= self.spell_greedily(text.as_bytes(), out);
            }
            whole &= self.spell_greedily(chunk.invalid(), out);
        }
        whole
    }

    fn spell_greedily(&self, mut rest: &[u8], out: &mut Vec<Token>) -> bool {
        let mut whole = true;
        while !rest.is_empty() {
            let longest = (1..=rest.len().min(LONGEST)).rev().find_map(|n| self.find(&rest[..n]));
            out.extend(longest);
            whole &= longest.is_some();
            rest = &rest[longest.map_or(1, |token| self.get(token).len())..];
        }
        whole
    }
}

/// Bytes of the longest token that is looked for in what the tokenizer cannot spell.
const LONGEST: usize = 16;

/// What may follow a text and change how its end is spelled: GPT-2's splitters give the last space or line break of a
/// run to the next word.
pub(super) fn followers(text: &[u8]) -> &'static [&'static str] {
    #[cfg(test)]
    if IGNORES_FOLLOWERS.get() {
        return &[""];
    }
    match text.last() {
        Some(byte) if byte.is_ascii_whitespace() => &["", "a", " a", "\na"],
        _ => &[""],
    }
}

#[cfg(test)]
thread_local! {
    static IGNORES_FOLLOWERS: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}

/// Runs `f` as if nothing that follows a text changed how its end is spelled.
#[cfg(test)]
pub(super) fn without_followers<T>(f: impl FnOnce() -> T) -> T {
    IGNORES_FOLLOWERS.set(true);
    let result = f();
    IGNORES_FOLLOWERS.set(false);
    result
}
