//! Prompt text that knows which of its parts came from messages, and the tokens of it.
//!
//! Control tokens may come only from the template, so a text that came from a message is tokenised as under a
//! vocabulary without control tokens.

use std::ops::Range;

use crate::engine::llama::{TokenizeError, Vocab};
use crate::expert::Token;

/// The texts of the special tokens that templates write.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SpecialTexts {
    /// Begins a text; empty where the vocabulary has none.
    pub bos: String,
    /// Ends a text; empty where the vocabulary has none.
    pub eos: String,
    /// Fills a batch.
    pub pad: Option<String>,
    /// Stands for what has no token.
    pub unk: Option<String>,
}

impl SpecialTexts {
    /// Those of a vocabulary.
    pub fn of(vocab: &Vocab) -> Self {
        let text = |token: Option<Token>| token.map(|token| vocab.text(&[token], true));
        let ids = vocab.model().file().vocabulary().map(|vocabulary| vocabulary.special_ids());
        let other = |id: Option<u32>| text(id.and_then(|id| Token::try_from(id).ok()));
        Self {
            bos: text(vocab.bos()).unwrap_or_default(),
            eos: text(vocab.eos()).unwrap_or_default(),
            pad: other(ids.and_then(|ids| ids.pad)),
            unk: other(ids.and_then(|ids| ids.unk)),
        }
    }
}

/// A vocabulary, as far as reading prompts needs it.
pub trait Tokenize {
    /// Tokens of a prompt's text, begun as the vocabulary wants it (BOS, but never a second one). The names of control
    /// tokens are read as those tokens, except where a byte of them lies in `contents`.
    ///
    /// # Errors
    ///
    /// [`TokenizeError`].
    fn prompt(&self, text: &str, contents: &[Range<usize>]) -> Result<Vec<Token>, TokenizeError>;

    /// Where a text spells control tokens; the places may overlap.
    fn control_tokens(&self, text: &str) -> Vec<Range<usize>>;

    /// The texts of its special tokens.
    fn special(&self) -> SpecialTexts;

    /// The token that ends a text.
    fn eos(&self) -> Option<Token>;
}

impl Tokenize for Vocab {
    fn prompt(&self, text: &str, contents: &[Range<usize>]) -> Result<Vec<Token>, TokenizeError> {
        self.tokenize_prompt(text, contents)
    }

    fn control_tokens(&self, text: &str) -> Vec<Range<usize>> {
        Self::control_tokens(self, text)
    }

    fn special(&self) -> SpecialTexts {
        SpecialTexts::of(self)
    }

    fn eos(&self) -> Option<Token> {
        Self::eos(self)
    }
}

/// Prompt text, with the places that came from messages.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rendered {
    text: String,
    contents: Vec<Range<usize>>,
    /// What stands between this and a response.
    lead: &'static str,
}

/// A prompt and responses to it, in tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Split {
    /// What all responses follow.
    pub prompt: Vec<Token>,
    /// The rest of each.
    pub responses: Vec<Vec<Token>>,
}

impl Rendered {
    /// A text as a user typed it where prompts are raw: it may spell control tokens.
    pub fn raw(text: impl Into<String>) -> Self {
        Self { text: text.into(), ..Self::default() }
    }

    pub(super) fn new(text: String, contents: Vec<Range<usize>>, lead: &'static str) -> Self {
        Self { text, contents, lead }
    }

    /// The text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The places that came from messages, in order.
    pub fn contents(&self) -> &[Range<usize>] {
        &self.contents
    }

    /// The same with more of what the template writes.
    #[must_use]
    pub fn with_markup(mut self, text: &str) -> Self {
        self.text.push_str(text);
        self
    }

    /// The same with the beginning of a response. That is not markup either.
    #[must_use]
    pub fn followed_by(&self, response: &str) -> Self {
        let mut whole = self.clone();
        if response.is_empty() {
            return whole;
        }
        whole.text.push_str(self.lead);
        let start = whole.text.len();
        whole.text.push_str(response);
        whole.contents.push(start..whole.text.len());
        whole
    }

    /// Its tokens.
    ///
    /// # Errors
    ///
    /// [`TokenizeError`].
    pub fn tokens(&self, words: &dyn Tokenize) -> Result<Vec<Token>, TokenizeError> {
        words.prompt(&self.text, &self.contents)
    }

    /// The tokens of prompt and response as the vocabulary splits both together, cut where their characters part. A
    /// token that stands across the cut belongs to the response; so the prompt ends where all responses still agree
    /// with it.
    ///
    /// # Errors
    ///
    /// [`TokenizeError`].
    pub fn split(&self, words: &dyn Tokenize, responses: &[&str]) -> Result<Split, TokenizeError> {
        let mut prompt = self.tokens(words)?;
        let wholes = responses.iter().map(|response| self.followed_by(response).tokens(words));
        let wholes = wholes.collect::<Result<Vec<_>, _>>()?;
        let shared = |whole: &Vec<Token>| prompt.iter().zip(whole).take_while(|(a, b)| a == b).count();
        let n = wholes.iter().map(shared).min().unwrap_or(prompt.len());
        if n == 0 && !prompt.is_empty() {
            // Nothing can be predicted from nothing; a vocabulary without BOS reads the response alone.
            let alone = |text: &&str| words.prompt(text, &[Range { start: 0, end: text.len() }]);
            return Ok(Split { prompt, responses: responses.iter().map(alone).collect::<Result<_, _>>()? });
        }
        prompt.truncate(n);
        Ok(Split { prompt, responses: wholes.into_iter().map(|whole| whole[n..].to_vec()).collect() })
    }
}

/// A response without the end of text that it spells itself, and whether it did: datasets of rendered prompts often
/// hold rendered responses too. Where the prompt spells no control token, the response is taken as it is.
pub fn without_end<'a>(words: &dyn Tokenize, prompt: &str, response: &'a str) -> (&'a str, bool) {
    let eos = words.special().eos;
    match response.trim_end().strip_suffix(&eos) {
        Some(text) if !eos.is_empty() && !words.control_tokens(prompt).is_empty() => (text, true),
        _ => (response, false),
    }
}

#[cfg(test)]
#[path = "rendered_tests.rs"]
mod tests;
