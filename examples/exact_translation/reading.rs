//! Which token of the base comes next, where only the beginning of a text is known.

use std::collections::HashMap;

use genarm::Token;
use genarm::expert::common_prefix;

use super::token_bytes::TokenBytes;

/// What follows the chosen tokens of the base.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub enum Next {
    Token(Token),
    /// The text ends there.
    End,
}

/// What the beginning of a text says about the token after the chosen ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reading {
    /// However the text goes on, it is this one.
    Settled(Next),
    /// It depends on how the text goes on. As it stands, it is this one.
    Open(Option<Token>),
    /// However the text goes on, the base does not read it as the chosen tokens and more.
    Disagrees,
}

/// The base's tokens of a text, or `None` where it cannot write it.
pub type Spell<'a> = dyn Fn(&str) -> Option<Vec<Token>> + 'a;

/// Reads texts as the base does.
pub struct Reader<'a> {
    base: &'a TokenBytes,
    spell: &'a Spell<'a>,
    /// The base's tokens so far.
    chosen: &'a [Token],
    /// What a text may go on with.
    continuations: &'a [&'a str],
    memo: HashMap<Vec<u8>, Reading>,
    glances: HashMap<Vec<u8>, Option<Token>>,
}

/// A letter, a digit, a mark, white space, a word.
pub const CONTINUATIONS: [&str; 6] = ["a", " ", "\n", "1", ".", " a"];

impl<'a> Reader<'a> {
    pub fn new(base: &'a TokenBytes, spell: &'a Spell<'a>, chosen: &'a [Token], continuations: &'a [&'a str]) -> Self {
        Self { base, spell, chosen, continuations, memo: HashMap::new(), glances: HashMap::new() }
    }

    /// Reads a text of which more may follow.
    pub fn read(&mut self, bytes: &[u8]) -> Reading {
        if let Some(reading) = self.memo.get(bytes) {
            return *reading;
        }
        let reading = self.read_anew(bytes).unwrap_or(Reading::Disagrees);
        self.memo.insert(bytes.to_vec(), reading);
        reading
    }

    /// The next token as it seems: what the base would read if the text ended here.
    pub fn glance(&mut self, bytes: &[u8]) -> Option<Token> {
        if let Some(token) = self.glances.get(bytes) {
            return *token;
        }
        let token = self.glance_anew(bytes);
        self.glances.insert(bytes.to_vec(), token);
        token
    }

    fn glance_anew(&self, bytes: &[u8]) -> Option<Token> {
        let texts = whole_characters(bytes)?;
        (self.spell)(&texts[0])?.strip_prefix(self.chosen)?.first().copied()
    }

    /// Reads a text that has ended; `None` where the base's tokens of it do not begin with the chosen ones.
    pub fn ended(&self, bytes: &[u8]) -> Option<Next> {
        let tokens = (self.spell)(std::str::from_utf8(bytes).ok()?)?;
        let rest = tokens.strip_prefix(self.chosen)?;
        Some(rest.first().map_or(Next::End, |token| Next::Token(*token)))
    }

    fn read_anew(&self, bytes: &[u8]) -> Option<Reading> {
        let texts = whole_characters(bytes)?;
        let tokens = (self.spell)(&texts[0])?;
        let n = common_prefix(&tokens, self.chosen);
        let (next, agrees) = (tokens.get(n).copied(), n == self.chosen.len());
        let first = tokens.get(..=n).filter(|first| first.len() < tokens.len());
        let is_certain = first.is_some_and(|first| !self.may_be_crossed(bytes, first) && self.is_common(&texts, first));
        Some(match next {
            Some(next) if is_certain && agrees => Reading::Settled(Next::Token(next)),
            _ if is_certain => Reading::Disagrees,
            next => Reading::Open(next.filter(|_| agrees)),
        })
    }

    /// Whether a token that begins in the text and reaches beyond it would change the first tokens.
    fn may_be_crossed(&self, bytes: &[u8], first: &[Token]) -> bool {
        let start: usize = first[..first.len() - 1].iter().map(|token| self.base.bytes(*token).len()).sum();
        let changed = |at: usize| {
            if self.base.going_on(&bytes[at..]).is_empty() {
                return false;
            }
            // Where such a token begins inside a character, what stands before the character is looked at.
            let border = (0..=at).rev().find(|at| bytes[*at] & 0xC0 != 0x80).unwrap_or(0);
            let before = std::str::from_utf8(&bytes[..border]).ok().filter(|_| border > start);
            !before.and_then(self.spell).is_some_and(|tokens| tokens.starts_with(first))
        };
        (start..bytes.len()).any(changed)
    }

    /// Whether the text begins with these tokens under every continuation.
    fn is_common(&self, texts: &[String], first: &[Token]) -> bool {
        let continued =
            texts.iter().flat_map(|text| self.continuations.iter().map(move |more| format!("{text}{more}")));
        continued.filter_map(|text| (self.spell)(&text)).all(|tokens| tokens.starts_with(first))
    }
}

/// The text, or two texts where its last character is incomplete: with the lowest and the highest bytes that may
/// follow. `None` where no text begins with these bytes.
fn whole_characters(bytes: &[u8]) -> Option<Vec<String>> {
    let error = match std::str::from_utf8(bytes) {
        Ok(text) => return Some(vec![text.to_owned()]),
        Err(error) => error,
    };
    if error.error_len().is_some() {
        return None;
    }
    let complete = |last: u8| {
        let mut whole = bytes.to_vec();
        // Few characters begin with such bytes, and after some of them only a part of the second bytes is allowed.
        for second in [last, 0x90, 0xA0, 0x80] {
            whole.truncate(bytes.len());
            for next in std::iter::once(second).chain([last; 2]) {
                whole.push(next);
                if let Ok(text) = std::str::from_utf8(&whole) {
                    return Some(text.to_owned());
                }
            }
        }
        None
    };
    Some([0x80, 0xBF].into_iter().filter_map(complete).collect()).filter(|texts: &Vec<_>| !texts.is_empty())
}
