//! A vocabulary of llama.cpp, as translation sees it.

use super::gguf::TokenType;
use super::llama::Vocab;
use crate::expert::Token;
use crate::guidance::translate::{WordKind, Words};

/// A vocabulary with the bytes of all its tokens at hand.
#[derive(Debug)]
pub struct VocabWords {
    vocab: Vocab,
    kinds: Vec<WordKind>,
    bytes: Vec<u8>,
    /// Where the bytes of each token end.
    ends: Vec<usize>,
    anchor: Anchor,
}

/// What stands before a text, so that the text is in the middle of another.
#[derive(Debug, Default)]
struct Anchor {
    text: &'static str,
    /// Its tokens, that of a virtual space before it too.
    tokens: Vec<Token>,
}

/// A character for private use comes first: no token holds it, so nothing merges with it.
const ANCHORS: [&str; 5] = ["", "\u{e000}", "\n", ".", "a"];

/// Texts that have to come back as they are where something stands before them.
const PROBES: [&str; 4] = ["a", " b", "A1", "b  a"];

impl VocabWords {
    /// The words of a vocabulary. `None` where its tokenizer changes texts, so that their bytes are not those of their
    /// tokens: it drops capitals or spaces, for one.
    ///
    /// # Cost
    ///
    /// The bytes of every token: 20 ms for 128 thousand.
    pub fn new(vocab: &Vocab) -> Option<Self> {
        let tokens = 0..Token::try_from(vocab.n_tokens()).unwrap_or(0);
        let kinds = tokens.clone().map(|token| kind(vocab.token_type(token))).collect();
        let (mut bytes, mut ends) = (Vec::new(), Vec::with_capacity(tokens.len()));
        for token in tokens {
            vocab.piece(token, true, &mut bytes);
            ends.push(bytes.len());
        }
        let mut words = Self { vocab: vocab.clone(), kinds, bytes, ends, anchor: Anchor::default() };
        ANCHORS.into_iter().any(|text| words.stands_behind(text)).then_some(words)
    }

    /// Takes an anchor, and says whether texts behind it come back as they are.
    fn stands_behind(&mut self, text: &'static str) -> bool {
        let mut tokens = Vec::new();
        if self.vocab.spell(text, &mut tokens).is_err() {
            return false;
        }
        self.anchor = Anchor { text, tokens };
        // A vocabulary of few characters need not have all of them, as long as it has some.
        let mut tokens = Vec::new();
        let has = |probe: &&&str| self.vocab.spell(probe, &mut Vec::new()).is_ok();
        let known: Vec<_> = PROBES.iter().filter(has).collect();
        !known.is_empty() && known.into_iter().all(|probe| self.spell(probe, &mut tokens))
    }

    fn bytes_of(&self, token: Token) -> &[u8] {
        let Ok(at) = usize::try_from(token) else { return &[] };
        let start = at.checked_sub(1).map_or(0, |before| self.ends[before]);
        self.ends.get(at).map_or(&[][..], |end| &self.bytes[start..*end])
    }

    /// Whether these tokens are the bytes of `text`, one after the other.
    fn are(&self, tokens: &[Token], text: &str) -> bool {
        let mut rest = text.as_bytes();
        for token in tokens {
            match rest.strip_prefix(self.bytes_of(*token)) {
                Some(behind) if self.kind(*token) != WordKind::Control => rest = behind,
                _ => return false,
            }
        }
        rest.is_empty()
    }
}

fn kind(ty: TokenType) -> WordKind {
    match ty {
        TokenType::Normal | TokenType::UserDefined => WordKind::Text,
        TokenType::Byte => WordKind::Byte,
        TokenType::Control | TokenType::Unknown => WordKind::Control,
        TokenType::Unused | TokenType::Undefined => WordKind::Unused,
    }
}

impl Words for VocabWords {
    fn n_tokens(&self) -> usize {
        self.kinds.len()
    }

    fn kind(&self, token: Token) -> WordKind {
        usize::try_from(token).ok().and_then(|at| self.kinds.get(at)).copied().unwrap_or(WordKind::Unused)
    }

    fn bytes(&self, token: Token, out: &mut Vec<u8>) {
        out.extend_from_slice(self.bytes_of(token));
    }

    fn is_end(&self, token: Token) -> bool {
        self.vocab.is_eog(token)
    }

    fn bos(&self) -> Option<Token> {
        self.vocab.bos().filter(|_| self.vocab.adds_bos())
    }

    fn spell(&self, text: &str, out: &mut Vec<Token>) -> bool {
        let start = out.len();
        let spelled = if self.anchor.text.is_empty() {
            self.vocab.spell(text, out)
        } else {
            self.vocab.spell(&[self.anchor.text, text].concat(), out)
        };
        let own = start + self.anchor.tokens.len();
        let sound = spelled.is_ok() && out[start..].starts_with(&self.anchor.tokens) && self.are(&out[own..], text);
        out.drain(start..if sound { own } else { out.len() });
        sound
    }

    fn spell_first(&self, text: &str, out: &mut Vec<Token>) -> bool {
        let start = out.len();
        let spelled = self.vocab.spell(text, out).is_ok();
        let sound = spelled && (self.are(&out[start..], text) || self.are(&out[start..], &[" ", text].concat()));
        out.truncate(if sound { out.len() } else { start });
        sound
    }
}
