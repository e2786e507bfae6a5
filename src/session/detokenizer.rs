//! Tokens to text as they come, up to a stop string.

use std::collections::VecDeque;

use crate::decode::{Flow, Settled, StopStrings, TextStream};
use crate::engine::llama::Vocab;
use crate::expert::Token;

/// Turns tokens into pieces of text that can be shown: whole characters, and nothing of a stop string.
///
/// Tokens go in with [`push`](Self::push) and come out of [`next`](Self::next) once it is certain that they belong to
/// the text. Their bytes, one after the other, are the text.
pub struct Detokenizer {
    vocab: Vocab,
    stop: StopStrings,
    stream: TextStream,
    /// Tokens that may still become part of a stop string.
    waiting: VecDeque<Waiting>,
    /// How many bytes of the first of them are settled.
    settled: usize,
    ready: VecDeque<TokenText>,
    /// Characters that came out so far.
    n_chars: usize,
    stopped: bool,
    /// Control tokens whose names are part of the text.
    spelled: Vec<Token>,
}

/// A token of the text.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TokenText {
    /// The token.
    pub token: Token,
    /// Its bytes in the text: none for a control token, and only those before a stop string that begins inside it.
    pub bytes: Vec<u8>,
    /// The characters that these bytes complete.
    pub text: String,
    /// Where it begins in the text, in characters: that of its first byte.
    pub offset: usize,
}

struct Waiting {
    token: Token,
    bytes: Vec<u8>,
    /// Bytes that the stop strings have seen of it: its name where it has no text.
    n_seen: usize,
    /// Whether it belongs to the text, not only to what may stop it.
    listed: bool,
}

impl Detokenizer {
    /// For a text that ends before any of `stop`.
    pub fn new(vocab: Vocab, stop: Vec<String>) -> Self {
        Self {
            vocab,
            stop: StopStrings::new(stop),
            stream: TextStream::default(),
            waiting: VecDeque::new(),
            settled: 0,
            ready: VecDeque::new(),
            n_chars: 0,
            stopped: false,
            spelled: Vec::new(),
        }
    }

    /// The same for a text in which these control tokens have their names as texts.
    #[must_use]
    pub fn spelling(self, spelled: Vec<Token>) -> Self {
        Self { spelled, ..self }
    }

    /// Takes a token, and returns whether the text goes on.
    pub fn push(&mut self, token: Token) -> Flow {
        let mut bytes = Vec::new();
        self.vocab.piece(token, self.spelled.contains(&token), &mut bytes);
        if bytes.is_empty() {
            return self.push_name(token, true);
        }
        let settled = self.stop.push(&bytes, true);
        self.waiting.push_back(Waiting { token, n_seen: bytes.len(), bytes, listed: true });
        self.settle(settled)
    }

    /// Takes the token that ended the text and is no part of it. [`Flow::Stop`] where a stop string spells it.
    pub fn push_end(&mut self, token: Token) -> Flow {
        self.push_name(token, false)
    }

    /// A token without a text: a stop string can spell its name.
    fn push_name(&mut self, token: Token, listed: bool) -> Flow {
        let mut name = Vec::new();
        self.vocab.piece(token, true, &mut name);
        let settled = self.stop.push(&name, false);
        self.waiting.push_back(Waiting { token, bytes: Vec::new(), n_seen: name.len(), listed });
        self.settle(settled)
    }

    /// The next token that can be shown.
    #[allow(clippy::should_implement_trait, reason = "it has more after `None`, when more tokens have come")]
    pub fn next(&mut self) -> Option<TokenText> {
        self.ready.pop_front()
    }

    /// The text of all tokens that can be shown.
    pub fn take_text(&mut self) -> String {
        self.ready.drain(..).map(|token| token.text).collect()
    }

    /// The stop string that ended the text.
    pub fn stopped_by(&self) -> Option<String> {
        self.stop.found().map(|bytes| String::from_utf8_lossy(bytes).into_owned())
    }

    /// Gives out what was held back, when the text has ended. Returns what stands for an incomplete character at the
    /// end.
    pub fn finish(&mut self) -> String {
        if !self.stopped {
            let n = self.stop.finish();
            self.settle(Settled { n, stopped: false });
        }
        self.stream.finish()
    }

    fn settle(&mut self, settled: Settled) -> Flow {
        self.settled += settled.n;
        self.stopped = settled.stopped;
        while let Some(first) = self.waiting.front() {
            // A token without bytes belongs to the text where more of that follows.
            let at_stop = self.stopped && self.settled == 0;
            if first.n_seen > self.settled || at_stop {
                break;
            }
            self.settled -= first.n_seen;
            if let Some(first) = self.waiting.pop_front().filter(|first| first.listed) {
                self.show(first.token, first.bytes);
            }
        }
        if !self.stopped {
            return Flow::Continue;
        }
        if let Some(cut) = self.waiting.pop_front()
            && self.settled > 0
            && !cut.bytes.is_empty()
        {
            let bytes = cut.bytes[..self.settled.min(cut.bytes.len())].to_vec();
            self.show(cut.token, bytes);
        }
        self.waiting.clear();
        Flow::Stop
    }

    fn show(&mut self, token: Token, bytes: Vec<u8>) {
        // Alone, the first byte shows which character it belongs to: the last one that it leaves.
        let (first, rest) = bytes.split_at(bytes.len().min(1));
        let mut text = self.stream.push(first);
        let within = usize::from(self.stream.is_within());
        let offset = self.n_chars + text.chars().count() + within;
        let offset = if first.is_empty() { offset } else { offset - 1 };
        text.push_str(&self.stream.push(rest));
        self.n_chars += text.chars().count();
        self.ready.push_back(TokenText { token, bytes, text, offset });
    }
}
