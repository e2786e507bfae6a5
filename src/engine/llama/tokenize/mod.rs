//! Text to tokens: what llama.cpp makes of a text, for texts of any kind and length.
//!
//! llama.cpp's own call takes quadratic time on texts with many control tokens, and stack for every character of a word. So a text is
//! first split at the names of tokens ([`specials`]), then cut where a word certainly ends ([`pieces`]); each piece is read by
//! llama.cpp on a stack that is deep enough ([`stack`]). Between two pieces it stops where the tokens are of no use any more ([`bound`]).

mod bound;
mod pieces;
mod specials;
mod stack;

use std::ffi::{CStr, c_char};
use std::ops::Range;

use llama_cpp_sys_2 as sys;

pub use bound::{Bound, bounded};

use self::bound::Count;
use self::pieces::PreTokenizer;
use self::specials::{Part, Special, Specials};
use super::vocab::Vocab;
use crate::expert::Token;

/// Why a text has no tokens.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TokenizeError {
    /// The vocabulary has neither the character nor byte tokens to spell it.
    #[error(
        "the vocabulary of this model has no token for {character:?} (character {position} of the text); leave it out"
    )]
    Character {
        /// What cannot be written.
        character: char,
        /// Where it is, counted in characters from 1.
        position: usize,
    },
    /// More bytes or tokens than llama.cpp can count.
    #[error("the text is too long to tokenize ({n_bytes} bytes)")]
    TooLong {
        /// Length of the text.
        n_bytes: usize,
    },
    /// More tokens than there is use for; the rest of the text was not read.
    #[error("this takes at least {at_least} tokens and the context has {max}; shorten it")]
    TooMany {
        /// Tokens that it certainly has.
        at_least: usize,
        /// Tokens that it may have.
        max: usize,
    },
    /// A run of characters that the pre-tokenizer cannot read.
    #[error(
        "the text has a run of {n_characters} characters without a place to cut it, and the tokenizer of this model can \
         read {max}; put spaces or line breaks into it"
    )]
    Run {
        /// Its length.
        n_characters: usize,
        /// The longest one.
        max: usize,
    },
    /// No stack to read it on.
    #[error("cannot get the stack to tokenize a run of {n_characters} characters; memory is short")]
    Stack {
        /// Its length.
        n_characters: usize,
    },
    /// llama.cpp threw an exception.
    #[error("llama.cpp cannot tokenize this text")]
    Failed,
    /// Nothing waits for the tokens any more.
    #[error("the text was not read to its end, because the request has ended")]
    Cancelled,
}

unsafe extern "C" {
    /// `llama_tokenize` without special tokens; 1 where it throws. In `vendor/guarded`.
    fn genarm_guarded_tokenize(
        vocab: *const sys::llama_vocab,
        text: *const c_char,
        n_bytes: i32,
        tokens: *mut Token,
        n_max: i32,
        count: *mut i32,
    ) -> i32;
}

/// How a vocabulary reads texts.
#[derive(Debug)]
pub(super) struct Tokenizer {
    specials: Specials,
    pre: PreTokenizer,
    /// Bytes of the longest token, where each byte of a text is in a token.
    longest: Option<usize>,
    /// What begins and ends a text.
    begin: Vec<Token>,
    end: Vec<Token>,
}

impl Tokenizer {
    pub fn new(vocab: &Vocab) -> Self {
        let raw = vocab.as_ptr();
        let n = vocab.n_tokens() as Token;
        // SAFETY: a vocabulary that `vocab` keeps alive, and an id in it; the text is a C string that lives as long.
        let text = |token| unsafe { CStr::from_ptr(sys::llama_vocab_get_text(raw, token)) };
        // SAFETY: as above.
        let attributes = |token| unsafe { sys::llama_vocab_get_attr(raw, token) };
        let special = |id| {
            let is = |wanted| attributes(id) & wanted != 0;
            let is_control = is(sys::LLAMA_TOKEN_ATTR_CONTROL | sys::LLAMA_TOKEN_ATTR_UNKNOWN);
            // A name that is no text is in no text.
            let text = text(id).to_str().ok().filter(|text| !text.is_empty())?.to_owned();
            (is_control || is(sys::LLAMA_TOKEN_ATTR_USER_DEFINED)).then(|| Special {
                id,
                text,
                is_control,
                strips_left: is(sys::LLAMA_TOKEN_ATTR_LSTRIP),
                strips_right: is(sys::LLAMA_TOKEN_ATTR_RSTRIP),
            })
        };
        let specials = Specials::new((0..n).filter_map(special).collect());
        let file = vocab.model().file().vocabulary();
        let (model, pre) = file.map_or(("", None), |v| (v.tokenizer_model(), v.pre_tokenizer()));
        let keeps_bytes = match model {
            "llama" => true,
            "gpt2" => (0..n).filter(|token| text(*token).to_str().is_ok_and(is_byte)).count() == 256,
            _ => false,
        };
        let longest = (keeps_bytes && !specials.strip()).then(|| (0..n).map(|t| text(t).to_bytes().len()).max());
        let (begin, end) = around(vocab);
        Self { specials, pre: PreTokenizer::of(model, pre), longest: longest.flatten(), begin, end }
    }
}

/// Whether this is how a byte-level vocabulary writes a byte: one of 256 characters.
fn is_byte(text: &str) -> bool {
    let mut characters = text.chars();
    let byte = |c| matches!(c, '!'..='~' | '¡'..='¬' | '®'..='ÿ' | '\u{100}'..='\u{143}');
    characters.next().is_some_and(byte) && characters.next().is_none()
}

/// The tokens that the model wants around a text: those of an empty one.
fn around(vocab: &Vocab) -> (Vec<Token>, Vec<Token>) {
    let mut tokens = [0; 4];
    // SAFETY: an empty text, and room for as many tokens as said.
    let n = unsafe { sys::llama_tokenize(vocab.as_ptr(), c"".as_ptr(), 0, tokens.as_mut_ptr(), 4, true, false) };
    let tokens = &tokens[..usize::try_from(n).unwrap_or(0)];
    match tokens {
        [end] if !vocab.adds_bos() => (Vec::new(), vec![*end]),
        [begin, end @ ..] => (vec![*begin], end.to_vec()),
        [] => (Vec::new(), Vec::new()),
    }
}

impl Vocab {
    /// Splits a text into tokens. `add_special` begins it as the model wants (BOS); `parse_special` reads the names of
    /// control tokens in the text as those tokens, as a rendered chat template needs, and text from outside must not.
    ///
    /// The tokens are those that `llama_tokenize` gives. Under [`bounded`] a text is read only as far as its tokens are of use.
    ///
    /// # Errors
    ///
    /// [`TokenizeError`]. llama.cpp itself would end the process at a character that a sentencepiece vocabulary without byte
    /// tokens lacks, so those are looked for first.
    pub fn tokenize(&self, text: &str, add_special: bool, parse_special: bool) -> Result<Vec<Token>, TokenizeError> {
        let (begin, end) = if add_special { self.around() } else { (&[][..], &[][..]) };
        let mut tokens = begin.to_vec();
        self.append(text, parse_special.then_some(&[]), &mut tokens)?;
        tokens.extend_from_slice(end);
        Ok(tokens)
    }

    /// The tokens of a prompt, begun as the model wants it, but never with two BOS where the text brings its own. The names of
    /// control tokens are read as those tokens, except where a byte of them lies in `literal`; that text has the tokens that it
    /// would have if the vocabulary had no control tokens.
    ///
    /// # Errors
    ///
    /// As [`tokenize`](Self::tokenize).
    pub fn tokenize_prompt(&self, text: &str, literal: &[Range<usize>]) -> Result<Vec<Token>, TokenizeError> {
        let mut tokens = self.around().0.to_vec();
        let n = tokens.len();
        self.append(text, Some(literal), &mut tokens)?;
        let (begin, rest) = tokens.split_at(n);
        // A token that is no control token cannot be a second BOS, though a text may begin with it.
        let doubled = n > 0 && rest.starts_with(begin) && self.begins_with(text, literal, begin[0])?;
        tokens.drain(..if doubled { n } else { 0 });
        Ok(tokens)
    }

    /// Whether a text names this token at its beginning.
    fn begins_with(&self, text: &str, literal: &[Range<usize>], token: Token) -> Result<bool, TokenizeError> {
        let parts = self.tokenizer().specials.split(text, Some(literal), &mut Count::new())?;
        Ok(parts.first() == Some(&Part::Token(token)))
    }

    /// Where a text names control tokens; the places may overlap.
    pub fn control_tokens(&self, text: &str) -> Vec<Range<usize>> {
        self.tokenizer().specials.control(text)
    }

    /// What the model wants before and after a text.
    fn around(&self) -> (&[Token], &[Token]) {
        let tokenizer = self.tokenizer();
        (&tokenizer.begin, &tokenizer.end)
    }

    /// Appends the tokens of a text; `literal` as in [`Specials::split`].
    fn append(
        &self,
        text: &str,
        literal: Option<&[Range<usize>]>,
        tokens: &mut Vec<Token>,
    ) -> Result<(), TokenizeError> {
        let tokenizer = self.tokenizer();
        let mut count = Count::new();
        if let Some(longest) = tokenizer.longest {
            count.clone().add(text.len() / longest.max(1))?;
        }
        self.check_characters(text)?;
        let parts = tokenizer.specials.split(text, literal, &mut count)?;
        let mut pieces = Vec::with_capacity(parts.len());
        let mut depth = 0;
        for part in parts {
            match part {
                Part::Token(_) => pieces.push(part),
                Part::Text(text) => {
                    let mut cut = Vec::new();
                    tokenizer.pre.cut(text, &mut cut)?;
                    depth = cut.iter().map(|piece| tokenizer.pre.depth(piece)).fold(depth, usize::max);
                    pieces.extend(cut.into_iter().map(Part::Text));
                }
            }
        }
        let waits = count.clone();
        let read = || {
            for piece in &pieces {
                match piece {
                    Part::Token(token) => tokens.push(*token),
                    Part::Text(text) => {
                        let before = tokens.len();
                        self.read(text, tokens)?;
                        count.add(tokens.len() - before)?;
                    }
                }
            }
            Ok(())
        };
        stack::with_stack(depth, &waits, read)
    }

    /// Appends the tokens of a text in which no token is named.
    fn read(&self, text: &str, tokens: &mut Vec<Token>) -> Result<(), TokenizeError> {
        let too_long = || TokenizeError::TooLong { n_bytes: text.len() };
        let n_bytes = i32::try_from(text.len()).map_err(|_| too_long())?;
        let start = tokens.len();
        // A token is at least a byte, but for a space in front; when that is too few, the answer says how many.
        let mut room = text.len() + 8;
        loop {
            tokens.resize(start + room, 0);
            let n_max = i32::try_from(room).map_err(|_| too_long())?;
            let mut n = 0;
            // SAFETY: the vocabulary is alive; pointers and lengths are those of `text` and of the room behind `start`.
            let failed = unsafe {
                let (text, to) = (text.as_ptr().cast(), tokens.as_mut_ptr().add(start));
                genarm_guarded_tokenize(self.as_ptr(), text, n_bytes, to, n_max, &raw mut n)
            };
            if failed != 0 {
                return Err(TokenizeError::Failed);
            }
            match usize::try_from(n) {
                Ok(n) => {
                    tokens.truncate(start + n);
                    return Ok(());
                }
                Err(_) if n == i32::MIN => return Err(too_long()),
                Err(_) => room = n.unsigned_abs() as usize,
            }
        }
    }
}
