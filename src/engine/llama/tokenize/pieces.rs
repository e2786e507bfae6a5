//! Where a text can be cut so that its pieces have the tokens of the whole, and what llama.cpp's pre-tokenizer takes
//! for a piece.
//!
//! A BPE vocabulary is read word by word, and its pre-tokenizer says what a word is. No pre-tokenizer but those named
//! below puts two letters into one word that a space or a line break parts; so a text can be cut there.

use super::TokenizeError;

/// Bytes of a piece, where there is a place to cut.
const PIECE: usize = 8 << 10;

/// The longest runs that a quadratic pre-tokenizer may meet, as the sum of their squares: a few seconds.
const MAX_SQUARES: usize = 100_000_000;

/// How a vocabulary is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PreTokenizer {
    cuts: Cuts,
    /// Whether it recurses for every character (`std::regex`).
    deep: bool,
    /// Characters whose runs it takes quadratic time for.
    quadratic: Option<Class>,
}

/// Where words certainly end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cuts {
    /// Nowhere.
    None,
    /// Behind a line break that follows a visible character, before a letter.
    Lines,
    /// There, and before a space between two letters.
    Words,
}

/// A kind of character.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    Spaces,
    Digits,
}

/// Pre-tokenizers that llama.cpp scans by hand, or whose regular expressions match a bounded number of characters.
const FLAT: [&str; 57] = [
    "llama3",
    "llama-v3",
    "llama-bpe",
    "falcon3",
    "falcon-h1",
    "pixtral",
    "midm-2.0",
    "lfm2",
    "jina-v5-nano",
    "dbrx",
    "smaug-bpe",
    "chatglm-bpe",
    "glm4",
    "glm5",
    "kimi-k2",
    "qwen2",
    "deepseek-r1-qwen",
    "kormo",
    "f2llmv2",
    "qwen35",
    "stablelm2",
    "hunyuan",
    "solar-open",
    "grok-2",
    "megrez",
    "gpt-2",
    "phi-2",
    "jina-es",
    "jina-de",
    "gigachat",
    "jina-v2-es",
    "jina-v2-de",
    "a.x-4.0",
    "mellum",
    "modern-bert",
    "jina-v1-en",
    "jina-v2-code",
    "roberta-bpe",
    "mpt",
    "olmo",
    "jais",
    "trillion",
    "granite-docling",
    "exaone4",
    "starcoder",
    "refact",
    "command-r",
    "smollm",
    "codeshell",
    "exaone",
    "minerva-7b",
    "mellum2",
    "laguna",
    "gemma4",
    "granite-embed-multi-311m",
    "sarvam-moe",
    "mmbert",
];

impl PreTokenizer {
    /// That of a file, by its `tokenizer.ggml.model` and `tokenizer.ggml.pre`.
    pub fn of(model: &str, pre: Option<&str>) -> Self {
        let pre = pre.unwrap_or("default");
        if !matches!(model, "gpt2" | "gemma4") {
            // Of the others only these have regular expressions.
            let deep = matches!(model, "hybriddna" | "whitespace");
            return Self { cuts: Cuts::None, deep, quadratic: None };
        }
        let cuts = match pre {
            // A word has no end there.
            "superbpe" => Cuts::None,
            // Words hold spaces.
            "exaone-moe" | "gemma4" | "granite-embed-multi-311m" | "sarvam-moe" | "mmbert" => Cuts::Lines,
            _ if model == "gemma4" => Cuts::Lines,
            _ => Cuts::Words,
        };
        let quadratic = match pre {
            "deepseek-llm" => Some(Class::Spaces),
            "superbpe" => Some(Class::Digits),
            _ => None,
        };
        Self { cuts, deep: !(model == "gemma4" || FLAT.contains(&pre)), quadratic }
    }

    /// Appends the pieces of a text.
    pub fn cut<'a>(self, text: &'a str, pieces: &mut Vec<&'a str>) -> Result<(), TokenizeError> {
        self.check_runs(text)?;
        let (bytes, mut start) = (text.as_bytes(), 0);
        while bytes.len() - start > PIECE {
            // At an ASCII character, so between two characters.
            let Some(at) = (start + PIECE..bytes.len() - 1).find(|at| self.ends(bytes, *at)) else { break };
            pieces.push(&text[start..at]);
            start = at;
        }
        pieces.push(&text[start..]);
        Ok(())
    }

    /// Whether a word ends before the byte `at`, which is neither among the first two nor the last.
    fn ends(self, bytes: &[u8], at: usize) -> bool {
        let letter = |i: usize| bytes[i].is_ascii_alphabetic();
        let line = || bytes[at - 1] == b'\n' && bytes[at - 2].is_ascii_graphic() && letter(at);
        let word = || bytes[at] == b' ' && letter(at - 1) && letter(at + 1);
        match self.cuts {
            Cuts::None => false,
            Cuts::Lines => line(),
            Cuts::Words => word() || line(),
        }
    }

    /// How many characters of a piece may be matched at once by calls within each other.
    pub fn depth(self, piece: &str) -> usize {
        // Few pieces are long, and a character has four bytes at most.
        if self.deep { piece.chars().count() } else { 0 }
    }

    fn check_runs(self, text: &str) -> Result<(), TokenizeError> {
        let Some(class) = self.quadratic else { return Ok(()) };
        let (mut run, mut longest, mut squares) = (0_usize, 0, 0_usize);
        for c in text.chars() {
            let belongs = match class {
                Class::Spaces => c.is_whitespace() && !matches!(c, '\r' | '\n'),
                Class::Digits => c.is_numeric(),
            };
            run = if belongs { run + 1 } else { 0 };
            longest = longest.max(run);
            // n² is the sum of the first n odd numbers.
            squares += if belongs { 2 * run - 1 } else { 0 };
        }
        let max = MAX_SQUARES.isqrt();
        if squares > MAX_SQUARES { Err(TokenizeError::Run { n_characters: longest, max }) } else { Ok(()) }
    }
}
