//! Text to tokens: what llama.cpp makes of a text, for texts of any kind and length.
//!
//! llama.cpp's own call takes quadratic time on texts with many control tokens, and stack for every character of a
//! word. So a text is first split at the names of tokens ([`specials`]), then cut where a word certainly ends
//! ([`pieces`]); each piece is read by llama.cpp on a stack that is deep enough ([`stack`]). Between two pieces it
//! stops where the tokens are of no use any more ([`bound`]).

mod bound;
mod pieces;
mod specials;
mod spell;
mod stack;

use std::collections::HashSet;
use std::ffi::{CStr, c_char};
use std::ops::Range;

use llama_cpp_sys_2 as sys;

pub use bound::{Bound, bounded};

use self::bound::Count;
use self::pieces::PreTokenizer;
use self::specials::{Part, Special, Specials};
use crate::engine::gguf::{GgufFile, Vocabulary};
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
    raw: *const sys::llama_vocab,
    /// The characters that can be tokenized, where not all can.
    characters: Option<HashSet<char>>,
    specials: Specials,
    pre: PreTokenizer,
    /// Bytes of the longest token, where each byte of a text is in a token.
    longest: Option<usize>,
    /// What begins and ends a text.
    begin: Vec<Token>,
    end: Vec<Token>,
}

// SAFETY: a vocabulary is read-only once loaded.
unsafe impl Send for Tokenizer {}
// SAFETY: as above.
unsafe impl Sync for Tokenizer {}

impl Tokenizer {
    /// # Safety
    ///
    /// `raw` is the vocabulary of a model loaded from `file`, and lives for as long as the tokenizer is used.
    pub unsafe fn new(raw: *const sys::llama_vocab, file: &GgufFile) -> Self {
        // SAFETY: by the contract above.
        let n = unsafe { sys::llama_vocab_n_tokens(raw) };
        // SAFETY: by the contract above, and an id in the vocabulary; the text is a C string that lives as long.
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
        let vocabulary = file.vocabulary();
        let characters = vocabulary.as_ref().and_then(characters);
        let (model, pre) = vocabulary.as_ref().map_or(("", None), |v| (v.tokenizer_model(), v.pre_tokenizer()));
        let keeps_bytes = match model {
            "llama" => true,
            "gpt2" => (0..n).filter(|token| text(*token).to_str().is_ok_and(is_byte)).count() == 256,
            _ => false,
        };
        let longest = (keeps_bytes && !specials.strip()).then(|| (0..n).map(|t| text(t).to_bytes().len()).max());
        // SAFETY: by the contract above.
        let (begin, end) = unsafe { around(raw) };
        Self { raw, characters, specials, pre: PreTokenizer::of(model, pre), longest: longest.flatten(), begin, end }
    }
}

/// Whether this is how a byte-level vocabulary writes a byte: one of 256 characters.
fn is_byte(text: &str) -> bool {
    let mut characters = text.chars();
    let byte = |c| matches!(c, '!'..='~' | '¡'..='¬' | '®'..='ÿ' | '\u{100}'..='\u{143}');
    characters.next().is_some_and(byte) && characters.next().is_none()
}

/// The characters that a sentencepiece vocabulary without byte tokens can write; `None` where all can be written.
fn characters(vocabulary: &Vocabulary<'_>) -> Option<HashSet<char>> {
    let has_bytes = vocabulary.tokenizer_model() != "llama" || vocabulary.has_all_bytes();
    let single = |text: &[u8]| {
        let mut characters = std::str::from_utf8(text).ok()?.chars();
        characters.next().filter(|_| characters.next().is_none())
    };
    (!has_bytes).then(|| vocabulary.texts().filter_map(single).collect())
}

/// The tokens that the model wants around a text: those of an empty one.
///
/// # Safety
///
/// `raw` is the vocabulary of a loaded model.
unsafe fn around(raw: *const sys::llama_vocab) -> (Vec<Token>, Vec<Token>) {
    let mut tokens = [0; 4];
    // SAFETY: by the contract above; an empty text, and room for as many tokens as said.
    let n = unsafe { sys::llama_tokenize(raw, c"".as_ptr(), 0, tokens.as_mut_ptr(), 4, true, false) };
    // SAFETY: by the contract above.
    let adds_bos = unsafe { sys::llama_vocab_get_add_bos(raw) };
    let tokens = &tokens[..usize::try_from(n).unwrap_or(0)];
    match tokens {
        [end] if !adds_bos => (Vec::new(), vec![*end]),
        [begin, end @ ..] => (vec![*begin], end.to_vec()),
        [] => (Vec::new(), Vec::new()),
    }
}

impl Tokenizer {
    /// What [`Vocab::tokenize`](super::Vocab::tokenize) gives.
    pub fn tokenize(&self, text: &str, add_special: bool, parse_special: bool) -> Result<Vec<Token>, TokenizeError> {
        let (begin, end) = if add_special { (&self.begin[..], &self.end[..]) } else { (&[][..], &[][..]) };
        let mut tokens = begin.to_vec();
        self.append(text, parse_special.then_some(&[]), &mut tokens)?;
        tokens.extend_from_slice(end);
        Ok(tokens)
    }

    /// What [`Vocab::tokenize_prompt`](super::Vocab::tokenize_prompt) gives.
    pub fn tokenize_prompt(&self, text: &str, literal: &[Range<usize>]) -> Result<Vec<Token>, TokenizeError> {
        let mut tokens = self.begin.clone();
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
        let parts = self.specials.split(text, Some(literal), &mut Count::new())?;
        Ok(parts.first() == Some(&Part::Token(token)))
    }

    /// Where a text names control tokens; the places may overlap.
    pub fn control_tokens(&self, text: &str) -> Vec<Range<usize>> {
        self.specials.control(text)
    }

    fn check_characters(&self, text: &str) -> Result<(), TokenizeError> {
        let Some(known) = &self.characters else { return Ok(()) };
        // Sentencepiece writes a space as this.
        let has = |c: char| known.contains(&if c == ' ' { '\u{2581}' } else { c });
        match text.chars().enumerate().find(|(_, c)| !has(*c)) {
            Some((i, character)) => Err(TokenizeError::Character { character, position: i + 1 }),
            None => Ok(()),
        }
    }

    /// Appends the tokens of a text; `literal` as in [`Specials::split`].
    fn append(
        &self,
        text: &str,
        literal: Option<&[Range<usize>]>,
        tokens: &mut Vec<Token>,
    ) -> Result<(), TokenizeError> {
        let mut count = Count::new();
        if let Some(longest) = self.longest {
            count.clone().add(text.len() / longest.max(1))?;
        }
        self.check_characters(text)?;
        let parts = self.specials.split(text, literal, &mut count)?;
        let mut pieces = Vec::with_capacity(parts.len());
        let mut depth = 0;
        for part in parts {
            match part {
                Part::Token(_) => pieces.push(part),
                Part::Text(text) => {
                    let mut cut = Vec::new();
                    self.pre.cut(text, &mut cut)?;
                    depth = cut.iter().map(|piece| self.pre.depth(piece)).fold(depth, usize::max);
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
            // SAFETY: the vocabulary is alive, by the contract of `new`; pointers and lengths are those of `text` and
            // of the room behind `start`.
            let failed = unsafe {
                let (text, to) = (text.as_ptr().cast(), tokens.as_mut_ptr().add(start));
                genarm_guarded_tokenize(self.raw, text, n_bytes, to, n_max, &raw mut n)
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
