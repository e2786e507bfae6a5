//! `/v1/completions` on the wire.

use serde_json::{Map, Value, json};

use super::foreign;
use super::reply::{
    Choice, Format, Head, additions, explained, finish_reason, frame, number, timings, usage_chunk, whole, with,
};
use super::request::{Asked, n_top};
use crate::expert::Token;
use crate::guidance::TokenReport;
use crate::server::engine::{Ended, Piece};
use crate::server::error::ApiError;
use crate::server::fields::{Field, Fields, FromFields, items, wrong};
use crate::server::options::MAX_CHOICES;

/// OpenAI's default of `max_tokens` here.
const DEFAULT_MAX_TOKENS: usize = 16;

/// A request.
#[derive(Debug)]
pub struct CompletionRequest {
    /// What it asks of the texts.
    pub asked: Asked,
    /// What to continue.
    pub prompt: PromptInput,
}

impl FromFields for CompletionRequest {
    const LENIENT: bool = true;

    fn read(fields: &mut Fields) -> Result<Self, ApiError> {
        foreign::read(fields)?;
        foreign::openai(fields)?;
        foreign::no_tools(fields)?;
        fields.only("top_logprobs", &[0.into()], "is a field of chats; \"logprobs\" is a number here")?;
        let logprobs = n_top(fields, "logprobs")?;
        let asked = Asked { logprobs, ..Asked::read_openai(fields, Some(DEFAULT_MAX_TOKENS))? };
        if fields.take::<u32>("best_of")?.is_some_and(|best_of| best_of as usize != asked.n) {
            let message = "best_of is not supported: it must equal n; leave it out, and take n texts";
            return Err(ApiError::invalid("best_of", message));
        }
        Ok(Self { asked, prompt: fields.need_last("prompt")? })
    }
}

/// One prompt or several.
#[derive(Debug, Clone)]
pub struct PromptInput {
    /// The prompts.
    pub prompts: Vec<PromptText>,
    /// Whether they stand in a list.
    pub listed: bool,
}

/// A prompt: a text, tokens, or parts of either.
#[derive(Debug, Clone)]
pub enum PromptText {
    /// A text.
    Text(String),
    /// Tokens.
    Tokens(Vec<Token>),
    /// Texts and tokens, one after the other.
    Parts(Vec<PromptPart>),
}

/// A part of a prompt.
#[derive(Debug, Clone)]
pub enum PromptPart {
    /// A text.
    Text(String),
    /// A token.
    Token(Token),
}

impl Field for PromptInput {
    fn read(value: Value, at: &str) -> Result<Self, ApiError> {
        match value {
            // Texts alone are prompts of their own; with tokens among them they are parts of one.
            Value::Array(list) if !list.is_empty() && !list.iter().any(Value::is_number) => {
                Ok(Self { prompts: items(list, at, MAX_CHOICES)?, listed: true })
            }
            one => Ok(Self { prompts: vec![PromptText::read(one, at)?], listed: false }),
        }
    }
}

impl Field for PromptText {
    fn read(value: Value, at: &str) -> Result<Self, ApiError> {
        match value {
            Value::String(text) => Ok(Self::Text(text)),
            Value::Array(list) if list.iter().any(Value::is_string) => items(list, at, usize::MAX).map(Self::Parts),
            Value::Array(list) => items(list, at, usize::MAX).map(Self::Tokens),
            // As llama.cpp's server writes a prompt with pictures.
            Value::Object(_) => {
                let mut fields = Fields::read(value, at)?;
                let text = fields.need("prompt_string")?;
                fields.only("multimodal_data", &[Value::Array(Vec::new())], "cannot be read: only text can")?;
                fields.finish()?;
                Ok(Self::Text(text))
            }
            other => Err(wrong(at, "a string, a list of strings, or a list of token ids", &other)),
        }
    }
}

impl Field for PromptPart {
    fn read(value: Value, at: &str) -> Result<Self, ApiError> {
        match value {
            Value::String(text) => Ok(Self::Text(text)),
            other => Token::read(other, at).map(Self::Token),
        }
    }
}

/// Writes `text_completion` objects.
pub struct CompletionFormat;

impl CompletionFormat {
    fn chunk(head: &Head, index: usize, text: &str, finish: Option<&str>) -> Value {
        frame(
            head,
            "text_completion",
            json!([{ "index": index, "text": text, "logprobs": null, "finish_reason": finish }]),
        )
    }
}

impl Format for CompletionFormat {
    fn open(&mut self, _: &Head, _: usize) -> Vec<Value> {
        Vec::new()
    }

    fn piece(&mut self, head: &Head, index: usize, piece: &Piece) -> Vec<Value> {
        let chunk = Self::chunk(head, index, &piece.text, None);
        vec![explained(chunk, head, piece, logprobs(head, std::iter::once(piece)))]
    }

    fn ended(&mut self, head: &Head, index: usize, ended: &Ended) -> Vec<Value> {
        let held_back = (!ended.text.is_empty()).then(|| Self::chunk(head, index, &ended.text, None));
        let last = Self::chunk(head, index, "", Some(finish_reason(ended.finish)));
        let last = with(with(last, "timings", Some(timings(ended))), "genarm", Some(additions(head, Some(ended))));
        held_back.into_iter().chain([last]).collect()
    }

    fn usage(&mut self, head: &Head, ended: &[Ended]) -> Vec<Value> {
        usage_chunk(head, "text_completion", ended)
    }

    fn whole(&mut self, head: &Head, choices: &[Choice]) -> Value {
        whole(head, "text_completion", choices, |choice| {
            json!({
                "index": choice.index,
                "text": choice.text,
                "logprobs": logprobs(head, choice.pieces.iter()),
                "finish_reason": finish_reason(choice.ended.finish),
            })
        })
    }
}

/// OpenAI's columns of tokens and log-probabilities: the guided ones.
fn logprobs<'a>(head: &Head, pieces: impl Iterator<Item = &'a Piece>) -> Option<Value> {
    let n_top = head.logprobs?;
    let (mut tokens, mut token_logprobs, mut top_logprobs) = (vec![], vec![], vec![]);
    let (mut bytes, mut offsets) = (vec![], vec![]);
    for piece in pieces {
        let Some(report) = &piece.report else { continue };
        tokens.push(name(head, piece.token));
        token_logprobs.push(number(report.chosen.logprob));
        top_logprobs.push(by_name(head, report.top.iter().take(n_top)));
        bytes.push(&piece.bytes);
        offsets.push(piece.offset);
    }
    Some(json!({
        "tokens": tokens, "token_logprobs": token_logprobs, "top_logprobs": top_logprobs, "text_offset": offsets,
        "bytes": bytes,
    }))
}

/// Log-probabilities by token. Of two tokens with one name the likelier one is listed.
fn by_name<'a>(head: &Head, tokens: impl Iterator<Item = &'a TokenReport>) -> Map<String, Value> {
    let mut named = Map::new();
    for token in tokens {
        named.entry(name(head, token.token)).or_insert(number(token.logprob).into());
    }
    named
}

/// A token's text. Where that is no text by itself, its bytes as OpenAI writes them: parts of characters would all look
/// alike.
fn name(head: &Head, token: Token) -> String {
    let mut bytes = Vec::new();
    head.vocab.piece(token, true, &mut bytes);
    String::from_utf8(bytes).unwrap_or_else(|error| {
        let hex: String = error.as_bytes().iter().map(|byte| format!("\\x{byte:02x}")).collect();
        format!("bytes:{hex}")
    })
}
