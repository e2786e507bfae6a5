//! Text to tokens and back.

use std::ops::Range;
use std::sync::Arc;

use llama_cpp_sys_2 as sys;

use super::model::Model;
use super::tokenize::TokenizeError;
use crate::engine::gguf::TokenType;
use crate::expert::Token;

/// A model's vocabulary. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Vocab {
    raw: *const sys::llama_vocab,
    model: Arc<Model>,
}

// SAFETY: a vocabulary is read-only once loaded, and `model` keeps it alive.
unsafe impl Send for Vocab {}
// SAFETY: as above.
unsafe impl Sync for Vocab {}

impl Model {
    /// Its vocabulary.
    pub fn vocab(self: &Arc<Self>) -> Vocab {
        Vocab { raw: self.raw_vocab(), model: Arc::clone(self) }
    }
}

impl Vocab {
    pub(crate) fn as_ptr(&self) -> *const sys::llama_vocab {
        self.raw
    }

    /// Number of tokens.
    pub fn n_tokens(&self) -> usize {
        // SAFETY: `raw` is a vocabulary kept alive by `model`; so in every function of this file.
        usize::try_from(unsafe { sys::llama_vocab_n_tokens(self.raw) }).unwrap_or(0)
    }

    /// Whether the token ends a text (end of sequence, of turn, of message).
    pub fn is_eog(&self, token: Token) -> bool {
        // SAFETY: see `n_tokens`; the id is in the vocabulary, as llama.cpp demands.
        self.contains(token) && unsafe { sys::llama_vocab_is_eog(self.raw, token) }
    }

    fn contains(&self, token: Token) -> bool {
        usize::try_from(token).is_ok_and(|t| t < self.n_tokens())
    }

    /// The token that begins a text, if there is one.
    pub fn bos(&self) -> Option<Token> {
        // SAFETY: see `n_tokens`.
        Some(unsafe { sys::llama_vocab_bos(self.raw) }).filter(|t| *t >= 0)
    }

    /// The token that ends a text, if there is one.
    pub fn eos(&self) -> Option<Token> {
        // SAFETY: see `n_tokens`.
        Some(unsafe { sys::llama_vocab_eos(self.raw) }).filter(|t| *t >= 0)
    }

    /// Whether the model wants its texts to begin with [`bos`](Self::bos).
    pub fn adds_bos(&self) -> bool {
        // SAFETY: see `n_tokens`.
        unsafe { sys::llama_vocab_get_add_bos(self.raw) }
    }

    /// Where in a prompt an adapter begins to act that acts on the response alone: at the last control token, which
    /// begins the header of the answer (`<|im_start|>assistant`), or, where no control token follows the first token,
    /// at the last token. The logits of the first token of the response come from there, so it is steered too.
    ///
    /// A control token is the border because tokens never reach across one.
    pub fn response_start(&self, prompt: &[Token]) -> usize {
        let last = prompt.len().saturating_sub(1);
        (1..prompt.len()).rev().find(|i| self.is_control(prompt[*i])).unwrap_or(last)
    }

    /// Whether a token is a control token, as the markers of chat templates are.
    pub fn is_control(&self, token: Token) -> bool {
        // SAFETY: see `n_tokens`; the id is in the vocabulary.
        self.contains(token) && unsafe { sys::llama_vocab_is_control(self.raw, token) }
    }

    /// What a token is.
    pub fn token_type(&self, token: Token) -> TokenType {
        if !self.contains(token) {
            return TokenType::Unused;
        }
        // SAFETY: see `n_tokens`; the id is in the vocabulary.
        let attributes = unsafe { sys::llama_vocab_get_attr(self.raw, token) };
        let types = [
            (sys::LLAMA_TOKEN_ATTR_CONTROL, TokenType::Control),
            (sys::LLAMA_TOKEN_ATTR_UNKNOWN, TokenType::Unknown),
            (sys::LLAMA_TOKEN_ATTR_UNUSED, TokenType::Unused),
            (sys::LLAMA_TOKEN_ATTR_BYTE, TokenType::Byte),
            (sys::LLAMA_TOKEN_ATTR_USER_DEFINED, TokenType::UserDefined),
            (sys::LLAMA_TOKEN_ATTR_NORMAL, TokenType::Normal),
        ];
        types.into_iter().find(|(bit, _)| attributes & bit != 0).map_or(TokenType::Undefined, |(_, ty)| ty)
    }

    /// Every token that ends a text.
    pub fn eog_tokens(&self) -> impl Iterator<Item = Token> + '_ {
        (0..self.n_tokens() as Token).filter(|t| self.is_eog(*t))
    }

    /// Splits a text into tokens. `add_special` begins it as the model wants (BOS); `parse_special` reads the names of
    /// control tokens in the text as those tokens, as a rendered chat template needs, and text from outside must not.
    ///
    /// The tokens are those that `llama_tokenize` gives. Under [`bounded`](super::bounded) a text is read only as far
    /// as its tokens are of use.
    ///
    /// # Errors
    ///
    /// [`TokenizeError`]. llama.cpp itself would end the process at a character that a sentencepiece vocabulary without
    /// byte tokens lacks, so those are looked for first.
    pub fn tokenize(&self, text: &str, add_special: bool, parse_special: bool) -> Result<Vec<Token>, TokenizeError> {
        self.model.tokenizer().tokenize(text, add_special, parse_special)
    }

    /// Appends the tokens of a text without control tokens, as [`tokenize`](Self::tokenize) gives them; cheaper for a
    /// text of a word or two, of which there are many.
    ///
    /// # Errors
    ///
    /// As [`tokenize`](Self::tokenize); `tokens` may then have more than before.
    pub fn spell(&self, text: &str, tokens: &mut Vec<Token>) -> Result<(), TokenizeError> {
        self.model.tokenizer().spell(text, tokens)
    }

    /// The one token that a name spells.
    pub fn token_of(&self, name: &str) -> Option<Token> {
        match self.tokenize(name, false, true).as_deref() {
            Ok([token]) => Some(*token),
            _ => None,
        }
    }

    /// The tokens of a prompt, begun as the model wants it, but never with two BOS where the text brings its own. The
    /// names of control tokens are read as those tokens, except where a byte of them lies in `literal`; that text has
    /// the tokens that it would have if the vocabulary had no control tokens.
    ///
    /// # Errors
    ///
    /// As [`tokenize`](Self::tokenize).
    pub fn tokenize_prompt(&self, text: &str, literal: &[Range<usize>]) -> Result<Vec<Token>, TokenizeError> {
        self.model.tokenizer().tokenize_prompt(text, literal)
    }

    /// Where a text names control tokens; the places may overlap.
    pub fn control_tokens(&self, text: &str) -> Vec<Range<usize>> {
        self.model.tokenizer().control_tokens(text)
    }

    /// Appends the bytes of a token to `out`. A token may end inside a character; `special` writes control tokens too.
    pub fn piece(&self, token: Token, special: bool, out: &mut Vec<u8>) {
        if !self.contains(token) {
            return;
        }
        let start = out.len();
        let mut room = 32;
        loop {
            out.resize(start + room, 0);
            // SAFETY: see `n_tokens`; the id is in the vocabulary, and `room` bytes are there.
            let n = unsafe {
                let to = out.as_mut_ptr().add(start).cast();
                sys::llama_token_to_piece(self.raw, token, to, room as i32, 0, special)
            };
            match usize::try_from(n) {
                Ok(n) => return out.truncate(start + n),
                Err(_) => room = n.unsigned_abs() as usize,
            }
        }
    }

    /// The text of tokens, with U+FFFD for bytes that are no UTF-8.
    pub fn text(&self, tokens: &[Token], special: bool) -> String {
        let mut bytes = Vec::new();
        tokens.iter().for_each(|token| self.piece(*token, special, &mut bytes));
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The model that it belongs to.
    pub fn model(&self) -> &Arc<Model> {
        &self.model
    }
}
