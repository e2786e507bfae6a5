//! The bytes of a vocabulary's tokens, in an order in which those that continue a text are found quickly.

use std::ops::Range;

use genarm::Token;

/// What each token of a vocabulary writes.
pub struct TokenBytes {
    bytes: Vec<Vec<u8>>,
    ends: Vec<bool>,
    /// Tokens that write something, sorted by their bytes.
    sorted: Vec<Token>,
    longest: usize,
}

impl TokenBytes {
    /// `bytes[t]` is what token `t` writes, nothing for a control token. Tokens in `ends` end a text.
    pub fn new(mut bytes: Vec<Vec<u8>>, ends: &[Token]) -> Self {
        let mut is_end = vec![false; bytes.len()];
        for &token in ends {
            is_end[token as usize] = true;
            bytes[token as usize].clear();
        }
        let mut sorted: Vec<Token> = (0..bytes.len() as Token).filter(|t| !bytes[*t as usize].is_empty()).collect();
        sorted.sort_by(|a, b| bytes[*a as usize].cmp(&bytes[*b as usize]));
        let longest = bytes.iter().map(Vec::len).max().unwrap_or(0);
        Self { bytes, ends: is_end, sorted, longest }
    }

    pub fn bytes(&self, token: Token) -> &[u8] {
        &self.bytes[token as usize]
    }

    pub fn is_end(&self, token: Token) -> bool {
        self.ends[token as usize]
    }

    /// All tokens that write something, in the order of their bytes.
    pub fn all(&self) -> &[Token] {
        &self.sorted
    }

    /// Tokens whose bytes begin `text`, or are all of it.
    pub fn within(&self, text: &[u8]) -> Vec<Token> {
        let lengths = 1..=self.longest.min(text.len());
        lengths.flat_map(|n| self.equal(&text[..n])).copied().collect()
    }

    /// Tokens whose bytes begin with `text` and go on.
    pub fn beyond(&self, text: &[u8]) -> &[Token] {
        &self.sorted[self.going_on(text)]
    }

    /// Which of all tokens, in their order, begin with `text` and go on.
    pub fn going_on(&self, text: &[u8]) -> Range<usize> {
        let from = self.sorted.partition_point(|token| self.bytes(*token) <= text);
        from..from + self.sorted[from..].partition_point(|token| self.bytes(*token).starts_with(text))
    }

    fn equal(&self, text: &[u8]) -> &[Token] {
        let from = &self.sorted[self.sorted.partition_point(|token| self.bytes(*token) < text)..];
        &from[..from.partition_point(|token| self.bytes(*token) == text)]
    }
}
