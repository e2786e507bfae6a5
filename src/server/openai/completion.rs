//! `/v1/completions` on the wire.

use indexmap::IndexMap;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::reply::{
    Choice, Format, Head, additions, explained, finish_reason, frame, number, token_text, usage_chunk, whole, with,
};
use super::request::{OneOrMany, ResponseFormat, StreamOptions};
use crate::expert::Token;
use crate::server::engine::{Ended, Piece};

/// A request's own fields.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(dead_code, reason = "what has no effect is accepted, so that official clients work")]
pub struct CompletionRequest {
    /// What to continue.
    pub prompt: PromptInput,
    /// Answered by whatever is loaded.
    pub model: Option<String>,
    /// Texts of each prompt.
    pub n: Option<usize>,
    /// Strings that end a text.
    pub stop: Option<OneOrMany>,
    /// Tokens of a text at most; OpenAI's default is 16.
    pub max_tokens: Option<usize>,
    /// Whether tokens are sent as they come.
    #[serde(default)]
    pub stream: bool,
    /// How.
    pub stream_options: Option<StreamOptions>,
    /// Alternatives to report beside each token.
    pub logprobs: Option<usize>,
    /// Text or JSON.
    pub response_format: Option<ResponseFormat>,
    /// Weights by ARM.
    pub preferences: Option<IndexMap<String, f32>>,
    /// Weights by name.
    pub profile: Option<String>,
    /// Whether each token comes with everybody's log-probability.
    #[serde(default)]
    pub return_rewards: bool,
    /// Whether the prompt may come from a lane's memory.
    pub cache_prompt: Option<bool>,
    /// Not supported, but for false.
    pub echo: Option<bool>,
    /// Not supported, but for 1.
    pub best_of: Option<usize>,
    user: Option<String>,
}

/// A prompt: a text, tokens, or several of either.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub enum PromptInput {
    /// A text.
    Text(String),
    /// Tokens.
    Tokens(Vec<Token>),
    /// Texts.
    Texts(Vec<String>),
    /// Lists of tokens.
    TokenLists(Vec<Vec<Token>>),
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
    fn open(&self, _: &Head, _: usize) -> Option<Value> {
        None
    }

    fn piece(&self, head: &Head, index: usize, piece: &Piece) -> Value {
        let chunk = Self::chunk(head, index, &piece.text, None);
        explained(chunk, head, piece, logprobs(head, std::iter::once(piece)))
    }

    fn ended(&self, head: &Head, index: usize, ended: &Ended) -> Value {
        let chunk = Self::chunk(head, index, &ended.text, Some(finish_reason(ended.finish)));
        with(chunk, "genarm", Some(additions(head, Some(ended))))
    }

    fn usage(&self, head: &Head, ended: &[Ended]) -> Option<Value> {
        usage_chunk(head, "text_completion", ended)
    }

    fn whole(&self, head: &Head, choices: &[Choice]) -> Value {
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
    let (mut tokens, mut token_logprobs, mut top_logprobs, mut offsets) = (vec![], vec![], vec![], vec![]);
    for piece in pieces {
        let Some(report) = &piece.report else { continue };
        tokens.push(token_text(&head.vocab, piece.token).0);
        token_logprobs.push(number(report.chosen.logprob));
        let one = |t: &crate::guidance::TokenReport| (token_text(&head.vocab, t.token).0, number(t.logprob).into());
        top_logprobs.push(report.top.iter().take(n_top).map(one).collect::<Map<String, Value>>());
        offsets.push(piece.offset);
    }
    Some(json!({
        "tokens": tokens, "token_logprobs": token_logprobs, "top_logprobs": top_logprobs, "text_offset": offsets,
    }))
}
