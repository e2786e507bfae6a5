//! Tokens to text as they come, up to a stop string.

use crate::decode::{Flow, StopStrings, TextStream};
use crate::engine::llama::Vocab;
use crate::expert::Token;

/// Turns tokens into pieces of text that can be shown: whole characters, and nothing of a stop string.
pub struct Pieces {
    vocab: Vocab,
    stop: StopStrings,
    stream: TextStream,
    bytes: Vec<u8>,
    stopped: bool,
}

impl Pieces {
    /// For a text that ends before any of `stop`.
    pub fn new(vocab: Vocab, stop: Vec<String>) -> Self {
        let (stream, bytes) = (TextStream::default(), Vec::new());
        Self { vocab, stop: StopStrings::new(stop), stream, bytes, stopped: false }
    }

    /// Takes a token. Returns what can be shown now, and whether the text goes on.
    pub fn push(&mut self, token: Token) -> (String, Flow) {
        self.bytes.clear();
        self.vocab.piece(token, false, &mut self.bytes);
        let piece = self.stream.push(&self.bytes);
        let (shown, stopped) = self.stop.push(&piece);
        self.stopped = stopped;
        (shown, if stopped { Flow::Stop } else { Flow::Continue })
    }

    /// The bytes of the last token.
    pub fn last_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// What was held back, when the text has ended.
    pub fn finish(&mut self) -> String {
        if self.stopped {
            return String::new();
        }
        let (rest, _) = self.stop.push(&self.stream.finish());
        rest + &self.stop.finish()
    }
}
