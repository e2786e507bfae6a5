//! `/v1/chat/completions` on the wire.

use serde_json::{Map, Value, json};

use super::foreign;
use super::reply::{
    Choice, Format, Head, additions, explained, finish_reason, frame, number, token_text, usage_chunk, whole, with,
};
use super::request::{Asked, n_top};
use crate::chat::Message;
use crate::guidance::TokenReport;
use crate::server::engine::{Ended, Piece};
use crate::server::error::ApiError;
use crate::server::fields::{Field, Fields, FromFields, shown, wrong};

/// A request.
#[derive(Debug)]
pub struct ChatRequest {
    /// What it asks of the answer.
    pub asked: Asked,
    /// The conversation.
    pub messages: Vec<Message>,
    /// The beginning of the answer.
    pub begun: String,
    /// Variables for the chat template, beside the conversation.
    pub variables: Map<String, Value>,
}

impl FromFields for ChatRequest {
    fn read(fields: &mut Fields) -> Result<Self, ApiError> {
        foreign::read(fields)?;
        let logprobs = fields.flag("logprobs")?;
        let top = n_top(fields, "top_logprobs")?.unwrap_or(0);
        if top > 0 && !logprobs {
            let message = "top_logprobs needs \"logprobs\": true";
            return Err(ApiError::invalid("top_logprobs", message));
        }
        let help = "must be true; with \"continue_final_message\" the last message is continued";
        fields.only("add_generation_prompt", &[true.into()], help)?;
        let variables = variables(fields)?;
        let continues = fields.flag("continue_final_message")?;
        let asked = Asked { logprobs: logprobs.then_some(top), ..Asked::read_openai(fields, usize::MAX)? };
        let messages: Vec<ChatMessage> = fields.need_last("messages")?;
        let (messages, begun) = conversation(messages, continues)?;
        Ok(Self { asked, messages, begun, variables })
    }
}

/// `chat_template_kwargs`, and what OpenAI names itself of them.
fn variables(fields: &mut Fields) -> Result<Map<String, Value>, ApiError> {
    const NAME: &str = "chat_template_kwargs";
    let mut given: Map<String, Value> = fields.take(NAME)?.unwrap_or_default();
    let own = ["messages", "add_generation_prompt", "bos_token", "eos_token", "tools", "documents"];
    if let Some(name) = own.iter().find(|name| given.contains_key(**name)) {
        let path = format!("{NAME}.{name}");
        let message = format!("{path} cannot be set: the server sets it");
        return Err(ApiError::invalid(&path, message));
    }
    if let Some(effort) = fields.take::<String>("reasoning_effort")? {
        given.entry("reasoning_effort").or_insert(effort.into());
    }
    Ok(given)
}

/// The messages to render, and the beginning of the answer.
fn conversation(messages: Vec<ChatMessage>, continues: bool) -> Result<(Vec<Message>, String), ApiError> {
    if messages.is_empty() {
        return Err(ApiError::invalid("messages", "messages holds no message; give at least one"));
    }
    let mut messages: Vec<Message> = messages.into_iter().map(|message| message.0).collect();
    if !continues {
        return Ok((messages, String::new()));
    }
    match messages.pop() {
        Some(last) if last.role == "assistant" => Ok((messages, last.content)),
        _ => {
            let message = "continue_final_message needs a last message of role \"assistant\"";
            Err(ApiError::invalid("continue_final_message", message))
        }
    }
}

/// A message as OpenAI writes it.
pub struct ChatMessage(pub Message);

impl Field for ChatMessage {
    fn read(value: Value, at: &str) -> Result<Self, ApiError> {
        let mut fields = Fields::read(value, at)?;
        let role = match fields.need::<String>("role")?.as_str() {
            "developer" => "system",
            "system" => "system",
            "user" => "user",
            "assistant" => "assistant",
            other => {
                let (path, other) = (fields.path("role"), shown(other));
                let message = format!("{path}: unknown role \"{other}\"; use system, user or assistant");
                return Err(ApiError::invalid(&path, message));
            }
        };
        // An answer of the assistant comes back without a content where it has called a tool.
        let content: Option<Content> =
            if role == "assistant" { fields.take("content")? } else { Some(fields.need("content")?) };
        // Clients send an answer back with all its fields.
        fields.ignore::<String>(&["name"])?;
        let none = [Value::Array(Vec::new())];
        for name in ["tool_calls", "function_call", "audio", "annotations", "refusal"] {
            fields.only(name, &none, "is not supported in a message: only role and content are read")?;
        }
        fields.finish()?;
        Ok(Self(Message::new(role, content.map_or_else(String::new, |content| content.0))))
    }
}

/// A text, or parts that are texts.
struct Content(String);

impl Field for Content {
    fn read(value: Value, at: &str) -> Result<Self, ApiError> {
        match value {
            Value::String(text) => Ok(Self(text)),
            Value::Array(parts) => {
                let part = |(i, part)| part_text(part, at, i);
                let texts: Vec<String> = parts.into_iter().enumerate().map(part).collect::<Result<_, _>>()?;
                Ok(Self(texts.join("\n")))
            }
            other => Err(wrong(at, "a string or a list of parts", &other)),
        }
    }
}

fn part_text(part: Value, at: &str, i: usize) -> Result<String, ApiError> {
    let mut fields = Fields::read(part, &format!("{at}[{i}]"))?;
    let kind: String = fields.need("type")?;
    if kind != "text" {
        let message = format!("{at} cannot hold a part of type \"{}\", only text", shown(&kind));
        return Err(ApiError::invalid(at, message));
    }
    let text = fields.need("text")?;
    // What other servers keep in memory.
    fields.ignore::<Map<String, Value>>(&["cache_control"])?;
    fields.finish()?;
    Ok(text)
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
    let token =
        |text: String, bytes: &[u8], logprob| json!({ "token": text, "logprob": number(logprob), "bytes": bytes });
    let piece = |piece: &Piece| {
        let report = piece.report.as_ref()?;
        let one = |t: &TokenReport| {
            let (text, bytes) = token_text(&head.vocab, t.token);
            token(text, &bytes, t.logprob)
        };
        let top: Vec<_> = report.top.iter().take(n_top).map(one).collect();
        let own = token(token_text(&head.vocab, piece.token).0, &piece.bytes, report.chosen.logprob);
        Some(with(own, "top_logprobs", Some(top.into())))
    };
    Some(json!({ "content": pieces.filter_map(piece).collect::<Vec<_>>(), "refusal": null }))
}
