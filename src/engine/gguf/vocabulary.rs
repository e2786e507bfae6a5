//! The vocabulary as the file has it, and whether llama.cpp can live with it.

use super::GgufFile;
use super::error::Fault;
use super::value::{Array, Strings, Value};
pub use crate::guidance::TokenKind as TokenType;
use std::collections::HashSet;

/// The vocabulary of a file, without a copy.
#[derive(Debug, Clone, Copy)]
pub struct Vocabulary<'a> {
    file: &'a GgufFile,
    tokens: &'a Strings,
}

/// The special tokens that the file names, with llama.cpp's defaults where it names none.
///
/// llama.cpp also recognises some end-of-turn tokens by their text; those are known only after loading.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[allow(missing_docs)] // the names are llama.cpp's
pub struct SpecialIds {
    pub bos: Option<u32>,
    pub eos: Option<u32>,
    pub eot: Option<u32>,
    pub eom: Option<u32>,
    pub unk: Option<u32>,
    pub sep: Option<u32>,
    pub pad: Option<u32>,
    pub mask: Option<u32>,
}

const TOKENS: &str = "tokenizer.ggml.tokens";
const SCORES: &str = "tokenizer.ggml.scores";
const TYPES: &str = "tokenizer.ggml.token_type";
const MERGES: &str = "tokenizer.ggml.merges";
const MODEL: &str = "tokenizer.ggml.model";

impl<'a> Vocabulary<'a> {
    pub(super) fn of(file: &'a GgufFile) -> Option<Self> {
        match file.get(TOKENS)?.as_array()? {
            Array::Strings(tokens) => Some(Vocabulary { file, tokens }),
            _ => None,
        }
    }

    /// Number of tokens.
    pub fn n_tokens(&self) -> usize {
        self.tokens.len()
    }

    /// The text of a token as the file has it: escaped the way its tokenizer escapes, and perhaps not valid UTF-8.
    pub fn text(&self, token: usize) -> Option<&'a [u8]> {
        self.tokens.get(token)
    }

    /// All texts, in the order of their ids.
    pub fn texts(&self) -> impl ExactSizeIterator<Item = &'a [u8]> + Clone + use<'a> {
        self.tokens.iter()
    }

    /// What a token is; `Normal` where the file says nothing.
    pub fn token_type(&self, token: usize) -> TokenType {
        match self.types().and_then(|types| types.get(token)) {
            None | Some(1) => TokenType::Normal,
            Some(2) => TokenType::Unknown,
            Some(3) => TokenType::Control,
            Some(4) => TokenType::UserDefined,
            Some(5) => TokenType::Unused,
            Some(6) => TokenType::Byte,
            Some(_) => TokenType::Undefined,
        }
    }

    fn types(&self) -> Option<&'a [i32]> {
        match self.file.get(TYPES)?.as_array()? {
            Array::I32(types) => Some(types),
            _ => None,
        }
    }

    /// The score of a token, if the file has scores.
    pub fn score(&self, token: usize) -> Option<f32> {
        match self.file.get(SCORES)?.as_array()? {
            Array::F32(scores) => scores.get(token).copied(),
            Array::I32(scores) => scores.get(token).map(|score| *score as f32),
            _ => None,
        }
    }

    /// Whether each of the 256 bytes has a token (`<0x41>`, or the byte itself), so that any text can be encoded.
    ///
    /// llama.cpp throws when a sentencepiece vocabulary (`tokenizer_model() == "llama"`) must encode a byte it lacks.
    pub fn has_all_bytes(&self) -> bool {
        let mut known = [false; 256];
        for text in self.texts() {
            match text {
                [byte] => known[usize::from(*byte)] = true,
                // Two upper-case digits: llama.cpp looks the byte up by this very text.
                [b'<', b'0', b'x', digits @ .., b'>']
                    if digits.len() == 2 && !digits.iter().any(u8::is_ascii_lowercase) =>
                {
                    let byte = std::str::from_utf8(digits).ok().and_then(|digits| u8::from_str_radix(digits, 16).ok());
                    if let Some(byte) = byte {
                        known[usize::from(byte)] = true;
                    }
                }
                _ => {}
            }
        }
        known.iter().all(|known| *known)
    }

    /// A printable ASCII character, or the line break, that a sentencepiece vocabulary without byte tokens cannot write.
    pub fn lacks_ascii(&self) -> Option<char> {
        if self.tokenizer_model() != "llama" || self.has_all_bytes() {
            return None;
        }
        let single = |text: &'a [u8]| {
            if text == "\u{2581}".as_bytes() { Some(b' ') } else { <[u8; 1]>::try_from(text).ok().map(|[byte]| byte) }
        };
        let known: HashSet<u8> = self.texts().filter_map(single).collect();
        (' '..='~').chain(['\n']).find(|character| !known.contains(&(*character as u8)))
    }

    /// The kind of tokenizer: `llama` (sentencepiece), `gpt2` (byte-level BPE), ...
    pub fn tokenizer_model(&self) -> &'a str {
        self.file.str(MODEL).unwrap_or_default()
    }

    /// The pre-tokenizer of a BPE vocabulary, such as `llama-bpe`.
    pub fn pre_tokenizer(&self) -> Option<&'a str> {
        self.file.str("tokenizer.ggml.pre")
    }

    /// Special tokens.
    pub fn special_ids(&self) -> SpecialIds {
        // llama.cpp's defaults for files that name none.
        let (bos, eos, unk) = match self.tokenizer_model() {
            "llama" | "plamo2" => (Some(1), Some(2), Some(0)),
            "gpt2" => (Some(11), Some(11), None),
            "t5" => (None, Some(1), Some(2)),
            _ => (None, None, None),
        };
        SpecialIds {
            bos: self.special("bos").or(self.known(bos)),
            eos: self.special("eos").or(self.known(eos)),
            eot: self.special("eot"),
            eom: self.special("eom"),
            unk: self.special("unknown").or(self.known(unk)),
            sep: self.special("seperator"), // sic, in every GGUF file
            pad: self.special("padding"),
            mask: self.special("mask"),
        }
    }

    fn special(&self, name: &str) -> Option<u32> {
        let id = self.file.u64(&format!("tokenizer.ggml.{name}_token_id"))?;
        self.known(u32::try_from(id).ok())
    }

    fn known(&self, id: Option<u32>) -> Option<u32> {
        id.filter(|id| (*id as usize) < self.n_tokens())
    }
}

/// Checks what llama.cpp requires of a vocabulary, and asserts instead of reporting in places.
pub(super) fn check(file: &GgufFile) -> Result<(), Fault> {
    let model = file.str(MODEL).ok_or_else(|| missing_or_bad(file, MODEL, "it must be text"))?;
    if matches!(model, "none" | "no_vocab") {
        return Err(Fault::bad_key(MODEL, "the model has no vocabulary, and text needs one"));
    }
    let vocabulary = Vocabulary::of(file).ok_or_else(|| missing_or_bad(file, TOKENS, "it must be a list of texts"))?;
    let n = vocabulary.n_tokens();
    if n == 0 {
        return Err(Fault::bad_key(TOKENS, "it is empty"));
    }
    check_companions(file, n)?;
    if matches!(model, "gpt2" | "gemma4") && vocabulary.pre_tokenizer() != Some("kimi-k2") {
        match file.get(MERGES) {
            Some(Value::Array(Array::Strings(_))) => {}
            _ => return Err(missing_or_bad(file, MERGES, "it must be a list of texts")),
        }
    }
    // llama.cpp stops the process when two tokens have one text, and a text ends for it at the first NUL.
    let mut seen = HashSet::with_capacity(n);
    let texts = vocabulary.texts().map(|text| text.split(|byte| *byte == 0).next().unwrap_or_default());
    if let Some(twice) = texts.filter(|text| !text.is_empty()).find(|text| !seen.insert(*text)) {
        return Err(Fault::bad_key(TOKENS, format!("\"{}\" is there twice", twice.escape_ascii())));
    }
    check_special_ids(file, n)
}

/// The arrays that run beside the tokens.
fn check_companions(file: &GgufFile, n: usize) -> Result<(), Fault> {
    for key in [SCORES, TYPES] {
        let len = match (key, file.get(key)) {
            (_, None) => continue,
            (SCORES, Some(Value::Array(Array::F32(scores)))) => scores.len(),
            (_, Some(Value::Array(Array::I32(items)))) => items.len(),
            _ => return Err(Fault::bad_key(key, "it must be a list of numbers")),
        };
        if len < n {
            return Err(Fault::bad_key(key, format!("it has {len} items for {n} tokens")));
        }
    }
    Ok(())
}

/// Wrong padding or mask ids are common and harmless, and llama.cpp ignores them. With a wrong end of text it would
/// silently take another token for the end, so that is an error here. `u32::MAX` is how -1, "none", is written.
fn check_special_ids(file: &GgufFile, n: usize) -> Result<(), Fault> {
    for name in ["bos", "eos", "eot", "eom"] {
        let key = format!("tokenizer.ggml.{name}_token_id");
        match file.get(&key).map(Value::as_u64) {
            None => {}
            Some(Some(id)) if id < n as u64 || id == u64::from(u32::MAX) => {}
            Some(Some(id)) => return Err(Fault::bad_key(key, format!("{id} is outside the vocabulary of {n} tokens"))),
            Some(None) => return Err(Fault::bad_key(key, "it must be a token id")),
        }
    }
    Ok(())
}

fn missing_or_bad(file: &GgufFile, key: &str, problem: &str) -> Fault {
    match file.get(key) {
        None => Fault::MissingKey(key.to_owned()),
        Some(_) => Fault::bad_key(key, problem),
    }
}
