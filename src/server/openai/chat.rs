//! `/v1/chat/completions` on the wire.

use indexmap::IndexMap;
use serde::Deserialize;
use serde_json::{Value, json};

use super::reply::{
    Choice, Format, Head, additions, explained, finish_reason, frame, number, token_text, usage_chunk, whole, with,
};
use super::request::{OneOrMany, ResponseFormat, StreamOptions};
use crate::chat::Message;
use crate::server::engine::{Ended, Piece};
use crate::server::error::ApiError;

/// A request's own fields.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(dead_code, reason = "what has no effect is accepted, so that official clients work")]
pub struct ChatRequest {
    /// The conversation.
    pub messages: Vec<ChatMessage>,
    /// Answered by whatever is loaded.
    pub model: Option<String>,
    /// Answers.
    pub n: Option<usize>,
    /// Strings that end an answer.
    pub stop: Option<OneOrMany>,
    /// Tokens of an answer at most.
    pub max_tokens: Option<usize>,
    /// The same under its newer name.
    pub max_completion_tokens: Option<usize>,
    /// Whether tokens are sent as they come.
    #[serde(default)]
    pub stream: bool,
    /// How.
    pub stream_options: Option<StreamOptions>,
    /// Whether log-probabilities are reported.
    #[serde(default)]
    pub logprobs: bool,
    /// With how many alternatives.
    pub top_logprobs: Option<usize>,
    /// Text or JSON.
    pub response_format: Option<ResponseFormat>,
    /// Weights by ARM.
    pub preferences: Option<IndexMap<String, f32>>,
    /// Weights by name.
    pub profile: Option<String>,
    /// Whether each token comes with everybody's log-probability.
    #[serde(default)]
    pub return_rewards: bool,
    /// Whether the last message, the assistant's, is continued.
    #[serde(default)]
    pub continue_final_message: bool,
    /// Whether the prompt may come from a lane's memory.
    pub cache_prompt: Option<bool>,
    tools: Option<Vec<Value>>,
    tool_choice: Option<Value>,
    parallel_tool_calls: Option<bool>,
    user: Option<String>,
    metadata: Option<Value>,
    store: Option<bool>,
    service_tier: Option<String>,
    safety_identifier: Option<String>,
    prompt_cache_key: Option<String>,
    reasoning_effort: Option<String>,
    verbosity: Option<String>,
}

/// A message as OpenAI writes it.
#[derive(Debug, Deserialize)]
pub struct ChatMessage {
    role: String,
    content: Option<Content>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Content {
    Text(String),
    Parts(Vec<Part>),
}

#[derive(Debug, Deserialize)]
struct Part {
    #[serde(rename = "type")]
    kind: String,
    text: Option<String>,
}

impl ChatRequest {
    /// The messages to render, and the beginning of the answer.
    ///
    /// # Errors
    ///
    /// A 400 about the message or the field.
    pub fn messages(&self) -> Result<(Vec<Message>, String), ApiError> {
        if self.tools.as_ref().is_some_and(|tools| !tools.is_empty()) {
            return Err(ApiError::invalid(
                "tools",
                "tools are not supported; use response_format for JSON of a schema",
            ));
        }
        if self.messages.is_empty() {
            return Err(ApiError::invalid("messages", "holds no message; give at least one"));
        }
        let mut messages = self.messages.iter().enumerate().map(message).collect::<Result<Vec<_>, _>>()?;
        if !self.continue_final_message {
            return Ok((messages, String::new()));
        }
        match messages.pop() {
            Some(last) if last.role == "assistant" => Ok((messages, last.content)),
            _ => Err(ApiError::invalid("continue_final_message", "needs a last message of role \"assistant\"")),
        }
    }
}

fn message((i, message): (usize, &ChatMessage)) -> Result<Message, ApiError> {
    let param = |key: &str| format!("messages[{i}].{key}");
    let role = match message.role.as_str() {
        "developer" => "system",
        role @ ("system" | "user" | "assistant") => role,
        other => {
            let text = format!("unknown role \"{other}\"; use system, user or assistant");
            return Err(ApiError::invalid(&param("role"), text));
        }
    };
    let content = match &message.content {
        None => String::new(),
        Some(Content::Text(text)) => text.clone(),
        Some(Content::Parts(parts)) => {
            let text = |part: &Part| match (&*part.kind, &part.text) {
                ("text", Some(text)) => Ok(text.clone()),
                (kind, _) => Err(ApiError::invalid(
                    &param("content"),
                    format!("cannot read a part of type \"{kind}\", only text"),
                )),
            };
            parts.iter().map(text).collect::<Result<Vec<_>, _>>()?.join("\n")
        }
    };
    Ok(Message::new(role, content))
}

/// Writes `chat.completion` objects.
pub struct ChatFormat;

impl ChatFormat {
    fn chunk(head: &Head, index: usize, delta: Value, finish: Option<&str>) -> Value {
        frame(
            head,
            "chat.completion.chunk",
            json!([{ "index": index, "delta": delta, "logprobs": null, "finish_reason": finish }]),
        )
    }
}

impl Format for ChatFormat {
    fn open(&self, head: &Head, index: usize) -> Option<Value> {
        let chunk = Self::chunk(head, index, json!({ "role": "assistant", "content": "" }), None);
        Some(with(chunk, "genarm", Some(additions(head, None))))
    }

    fn piece(&self, head: &Head, index: usize, piece: &Piece) -> Value {
        let chunk = Self::chunk(head, index, json!({ "content": piece.text }), None);
        explained(chunk, head, piece, logprobs(head, std::iter::once(piece)))
    }

    fn ended(&self, head: &Head, index: usize, ended: &Ended) -> Value {
        let delta = if ended.text.is_empty() { json!({}) } else { json!({ "content": ended.text }) };
        let chunk = Self::chunk(head, index, delta, Some(finish_reason(ended.finish)));
        with(chunk, "genarm", Some(additions(head, Some(ended))))
    }

    fn usage(&self, head: &Head, ended: &[Ended]) -> Option<Value> {
        usage_chunk(head, "chat.completion.chunk", ended)
    }

    fn whole(&self, head: &Head, choices: &[Choice]) -> Value {
        whole(head, "chat.completion", choices, |choice| {
            json!({
                "index": choice.index,
                "message": { "role": "assistant", "content": choice.text, "refusal": null },
                "logprobs": logprobs(head, choice.pieces.iter()),
                "finish_reason": finish_reason(choice.ended.finish),
            })
        })
    }
}

/// OpenAI's list of tokens with their log-probabilities: the guided ones.
fn logprobs<'a>(head: &Head, pieces: impl Iterator<Item = &'a Piece>) -> Option<Value> {
    let n_top = head.logprobs?;
    let token = |id, logprob| {
        let (text, bytes) = token_text(&head.vocab, id);
        json!({ "token": text, "logprob": number(logprob), "bytes": bytes })
    };
    let piece = |piece: &Piece| {
        let report = piece.report.as_ref()?;
        let top: Vec<_> = report.top.iter().take(n_top).map(|t| token(t.token, t.logprob)).collect();
        Some(with(token(piece.token, report.chosen.logprob), "top_logprobs", Some(top.into())))
    };
    Some(json!({ "content": pieces.filter_map(piece).collect::<Vec<_>>(), "refusal": null }))
}
