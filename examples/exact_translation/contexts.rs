//! Where to ask: prompts, and responses that end at a border of the base's tokens.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use genarm::Token;
use genarm::engine::llama::Vocab;

/// A prompt and the beginning of a response.
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    pub name: String,
    #[serde(default)]
    pub prompt: String,
    pub response: String,
    /// What the response went on with when the base's tokens of it were chosen.
    #[serde(default)]
    pub ahead: String,
    /// How many of the base's last tokens are left out, so that the response may end inside a character.
    #[serde(default)]
    pub drop: usize,
    /// The base's tokens of the response, instead of it.
    #[serde(skip)]
    pub response_tokens: Vec<Token>,
}

pub fn load(file: &Path) -> Result<Vec<Case>> {
    let text = std::fs::read_to_string(file).with_context(|| file.display().to_string())?;
    let case =
        |(i, line): (usize, &str)| serde_json::from_str(line).with_context(|| format!("{}:{}", file.display(), i + 1));
    text.lines().enumerate().map(case).collect()
}

/// The response so far, as bytes and as tokens of the base.
pub struct Place {
    pub bytes: Vec<u8>,
    pub chosen: Vec<Token>,
}

impl Place {
    /// # Errors
    ///
    /// Where a token of the base reaches across the end of the response.
    pub fn of(case: &Case, base: &Vocab) -> Result<Self> {
        let mut chosen = case.response_tokens.clone();
        if chosen.is_empty() {
            let text = format!("{}{}", case.response, case.ahead);
            chosen = base.tokenize(&text, false, false)?;
            let lengths = chosen.iter().scan(0, |n, token| {
                *n += length(base, *token);
                Some(*n)
            });
            let n = lengths.take_while(|n| *n <= case.response.len()).collect::<Vec<_>>();
            ensure!(
                n.last().copied().unwrap_or(0) == case.response.len(),
                "{}: a token of the base reaches across the end of the response; give another `ahead`",
                case.name
            );
            chosen.truncate(n.len());
        }
        chosen.truncate(chosen.len().saturating_sub(case.drop));
        let mut bytes = Vec::new();
        chosen.iter().for_each(|token| base.piece(*token, false, &mut bytes));
        Ok(Self { bytes, chosen })
    }

    /// The response without an incomplete character at its end.
    pub fn whole_characters(&self) -> &str {
        match std::str::from_utf8(&self.bytes) {
            Ok(text) => text,
            Err(error) => std::str::from_utf8(&self.bytes[..error.valid_up_to()]).unwrap_or_default(),
        }
    }
}

fn length(vocab: &Vocab, token: Token) -> usize {
    let mut bytes = Vec::new();
    vocab.piece(token, false, &mut bytes);
    bytes.len()
}
