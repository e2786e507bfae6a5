//! `/v1/chat/completions` on the wire.

use serde_json::{Map, Value, json};

use super::foreign;
use super::reply::{
    Choice, Format, Head, additions, explained, finish_reason, frame, number, timings, token_text, usage_chunk, whole,
    with,
};
use super::request::{Asked, n_top};
use super::tools::{AnswerReader, Call, Delta, Said, Tools};
use crate::chat::{Message, own_variable};
use crate::decode::Finish;
use crate::guidance::TokenReport;
use crate::server::engine::{Ended, Piece};
use crate::server::error::ApiError;
use crate::server::fields::{Field, Fields, FromFields, shown, wrong};

/// A request.
#[derive(Debug)]
pub struct ChatRequest {
    /// What it asks of the answer.
    pub asked: Asked,
    /// What is answered.
    pub dialogue: Dialogue,
    /// Whether the text ends where an answer begins.
    pub generates: bool,
    /// Whether the oldest turns are left out where the conversation does not fit.
    pub truncates: bool,
}

/// A conversation, and how an answer to it is read.
#[derive(Debug, Clone)]
pub struct Dialogue {
    /// The messages, without the beginning of the answer.
    pub messages: Vec<Message>,
    /// The beginning of the answer.
    pub begun: Option<Message>,
    /// Variables for the chat template, beside the conversation.
    pub variables: Map<String, Value>,
    /// What the answer may call.
    pub tools: Option<Tools>,
    /// Whether what the model thinks is kept apart from what it says.
    pub splits_reasoning: bool,
    /// Whether the answer is JSON, and holds no thoughts.
    pub is_json: bool,
}

impl FromFields for ChatRequest {
    const LENIENT: bool = true;

    fn read(fields: &mut Fields) -> Result<Self, ApiError> {
        foreign::read(fields)?;
        foreign::openai(fields)?;
        fields.only("best_of", &[1.into()], "is not supported; take n texts")?;
        let logprobs = fields.flag("logprobs")?;
        let top = n_top(fields, "top_logprobs")?.unwrap_or(0);
        if top > 0 && !logprobs {
            let message = "top_logprobs needs \"logprobs\": true";
            return Err(ApiError::invalid("top_logprobs", message));
        }
        let variables = variables(fields)?;
        let generates: Option<bool> = fields.take("add_generation_prompt")?;
        let continues: Option<bool> = fields.take("continue_final_message")?;
        let tools = Tools::read(fields)?;
        let splits_reasoning = splits_reasoning(fields)?;
        let truncates = truncates(fields)?;
        let asked = Asked { logprobs: logprobs.then_some(top), ..Asked::read_openai(fields, None)? };
        let messages: Vec<ChatMessage> = fields.need_last("messages")?;
        let (messages, begun) = conversation(messages, continues)?;
        if (generates, continues) == (Some(true), Some(true)) {
            let message = "add_generation_prompt and continue_final_message cannot both be true";
            return Err(ApiError::invalid("continue_final_message", message));
        }
        let is_json = asked.format.as_ref().is_some_and(|format| !format.is_text());
        if tools.as_ref().is_some_and(Tools::may_be_called) && (is_json || asked.sampling.is_constrained()) {
            let message = "tools cannot be called in a text that a grammar, a schema or response_format constrains; \
                           give one of them, or \"tool_choice\": \"none\"";
            return Err(ApiError::invalid("tools", message));
        }
        let dialogue = Dialogue { messages, begun, variables, tools, splits_reasoning, is_json };
        Ok(Self { asked, dialogue, generates: generates != Some(false), truncates })
    }
}

/// OpenAI's `truncation`.
fn truncates(fields: &mut Fields) -> Result<bool, ApiError> {
    match fields.take::<String>("truncation")?.as_deref() {
        None | Some("disabled") => Ok(false),
        Some("auto") => Ok(true),
        Some(other) => {
            let message = format!("truncation must be \"auto\" or \"disabled\", got \"{}\"", shown(other));
            Err(ApiError::invalid("truncation", message))
        }
    }
}

/// llama.cpp's `reasoning_format`: anything but "none" keeps thoughts apart.
fn splits_reasoning(fields: &mut Fields) -> Result<bool, ApiError> {
    let format: Option<String> = fields.take("reasoning_format")?;
    match format.as_deref() {
        None | Some("auto" | "deepseek" | "deepseek-legacy") => Ok(true),
        Some("none") => Ok(false),
        Some(other) => {
            let message =
                format!("reasoning_format must be \"auto\", \"deepseek\" or \"none\", got \"{}\"", shown(other));
            Err(ApiError::invalid("reasoning_format", message))
        }
    }
}

/// `chat_template_kwargs`, and what OpenAI names itself of them.
fn variables(fields: &mut Fields) -> Result<Map<String, Value>, ApiError> {
    const NAME: &str = "chat_template_kwargs";
    let mut given: Map<String, Value> = fields.take(NAME)?.unwrap_or_default();
    if let Some(name) = own_variable(&given) {
        let path = format!("{NAME}.{name}");
        let message = format!("{path} cannot be set: the server sets it");
        return Err(ApiError::invalid(&path, message));
    }
    match fields.take::<String>("reasoning_effort")? {
        // As llama.cpp reads it.
        Some(effort) if effort == "none" => drop(given.entry("enable_thinking").or_insert(false.into())),
        Some(effort) => drop(given.entry("reasoning_effort").or_insert(effort.into())),
        None => {}
    }
    Ok(given)
}

/// The messages to render, and the beginning of the answer: as in llama.cpp, a last message of the assistant is
/// continued unless `continue_final_message` is false.
pub fn conversation(
    messages: Vec<ChatMessage>,
    continues: Option<bool>,
) -> Result<(Vec<Message>, Option<Message>), ApiError> {
    if messages.is_empty() {
        return Err(ApiError::invalid("messages", "messages holds no message; give at least one"));
    }
    let mut messages: Vec<Message> = messages.into_iter().map(|message| message.0).collect();
    let is_begun = messages.last().is_some_and(|last| last.role == "assistant" && last.tool_calls.is_empty());
    match continues {
        Some(true) if !is_begun => {
            let message = "continue_final_message needs a last message of role \"assistant\" that calls no tool";
            return Err(ApiError::invalid("continue_final_message", message));
        }
        Some(false) => return Ok((messages, None)),
        _ if !is_begun => return Ok((messages, None)),
        _ => {}
    }
    let begun = messages.pop();
    if begun.as_ref().is_some_and(|begun| begun.content.is_empty() && begun.reasoning_content.is_some()) {
        let message = "messages ends with a thought and no text; only a text can be continued";
        return Err(ApiError::invalid("messages", message));
    }
    if messages.last().is_some_and(|last| last.role == "assistant") {
        let message = "messages ends with two messages of the assistant; only one can be continued";
        return Err(ApiError::invalid("messages", message));
    }
    Ok((messages, begun))
}

/// A message as OpenAI writes it.
pub struct ChatMessage(pub Message);

impl Field for ChatMessage {
    fn read(value: Value, at: &str) -> Result<Self, ApiError> {
        let mut fields = Fields::read(value, at)?;
        let role = match fields.need::<String>("role")?.as_str() {
            "developer" | "system" => "system",
            "user" => "user",
            "assistant" => "assistant",
            "tool" | "function" => "tool",
            other => {
                let (path, other) = (fields.path("role"), shown(other));
                let message = format!("{path}: unknown role \"{other}\"; use system, user, assistant or tool");
                return Err(ApiError::invalid(&path, message));
            }
        };
        // An answer of the assistant comes back without a content where it has called a tool.
        let content: Option<Content> =
            if matches!(role, "assistant" | "tool") { fields.take("content")? } else { Some(fields.need("content")?) };
        let calls: Vec<ToolCall> = fields.take("tool_calls")?.unwrap_or_default();
        let (path, of_assistant) = (fields.path("tool_calls"), role == "assistant");
        if !calls.is_empty() && !of_assistant {
            return Err(ApiError::invalid(&path, format!("{path}: only the assistant calls tools")));
        }
        let reasoning = fields.take_as(&["reasoning_content", "reasoning"])?;
        let message = Message {
            role: role.to_owned(),
            content: content.map_or_else(String::new, |content| content.0),
            reasoning_content: reasoning.filter(|text: &String| of_assistant && !text.is_empty()),
            tool_calls: calls.into_iter().map(|call| call.0).collect(),
            tool_call_id: fields.take("tool_call_id")?,
            name: fields.take("name")?,
        };
        // What else clients send back of an answer changes nothing.
        fields.finish_leniently()?;
        Ok(Self(message))
    }
}

/// A call of a tool in an earlier answer, checked.
struct ToolCall(Value);

impl Field for ToolCall {
    fn read(value: Value, at: &str) -> Result<Self, ApiError> {
        let mut fields = Fields::read(value, at)?;
        let id: Option<String> = fields.take("id")?;
        fields.only("type", &["function".into()], "must be \"function\"")?;
        let mut function: Fields = fields.need("function")?;
        let name: String = function.need("name")?;
        let arguments = match function.take::<Value>("arguments")? {
            None => "{}".to_owned(),
            // Some clients write no arguments so.
            Some(Value::String(text)) if text.trim().is_empty() => "{}".to_owned(),
            Some(Value::String(text)) => text,
            Some(object @ Value::Object(_)) => object.to_string(),
            Some(other) => return Err(wrong(&function.path("arguments"), "a string of JSON", &other)),
        };
        function.finish_leniently()?;
        fields.finish_leniently()?;
        let call = Call { id: id.unwrap_or_default(), name, arguments };
        Ok(Self(call.json()))
    }
}

/// A text, or parts that are texts.
struct Content(String);

impl Field for Content {
    fn read(value: Value, at: &str) -> Result<Self, ApiError> {
        match value {
            Value::String(text) => Ok(Self(text)),
            Value::Array(parts) => {
                let part = |(i, part)| part_text(part, at, i).transpose();
                let texts: Vec<String> = parts.into_iter().enumerate().filter_map(part).collect::<Result<_, _>>()?;
                Ok(Self(texts.join("\n")))
            }
            other => Err(wrong(at, "a string or a list of parts", &other)),
        }
    }
}

/// The text of a part, if it has one.
fn part_text(part: Value, at: &str, i: usize) -> Result<Option<String>, ApiError> {
    let mut fields = Fields::read(part, &format!("{at}[{i}]"))?;
    let kind: String = fields.need("type")?;
    let text = match kind.as_str() {
        "text" => fields.need("text")?,
        "refusal" => fields.need("refusal")?,
        // A call that stands among the tool calls too.
        "tool_use" => return Ok(None),
        _ => {
            let message = format!("{at} cannot hold a part of type \"{}\", only text", shown(&kind));
            return Err(ApiError::invalid(at, message));
        }
    };
    // What other servers keep in memory.
    fields.ignore::<Map<String, Value>>(&["cache_control"])?;
    fields.finish_leniently()?;
    Ok(Some(text))
}

/// Writes `chat.completion` objects.
#[derive(Default)]
pub struct ChatFormat {
    reader: AnswerReader,
}

impl ChatFormat {
    /// For answers that this reads.
    pub fn new(reader: AnswerReader) -> Self {
        Self { reader }
    }

    fn chunk(head: &Head, index: usize, delta: &Value, finish: Option<&str>) -> Value {
        frame(
            head,
            "chat.completion.chunk",
            json!([{ "index": index, "delta": delta, "logprobs": null, "finish_reason": finish }]),
        )
    }
}

/// A new part of an answer, as OpenAI writes it.
fn delta_json(delta: &Delta) -> Value {
    match delta {
        Delta::Reasoning(text) => json!({ "reasoning_content": text }),
        Delta::Content(text) => json!({ "content": text }),
        Delta::Call(i, call) => {
            let mut call = call.json();
            call["index"] = (*i).into();
            json!({ "tool_calls": [call] })
        }
        Delta::Arguments(i, text) => json!({ "tool_calls": [{ "index": i, "function": { "arguments": text } }] }),
    }
}

/// The end of an answer that has called tools or not.
fn reason(finish: Finish, calls: &[Call]) -> &'static str {
    match finish_reason(finish) {
        "stop" if !calls.is_empty() => "tool_calls",
        reason => reason,
    }
}

impl Format for ChatFormat {
    fn open(&mut self, head: &Head, index: usize) -> Vec<Value> {
        let chunk = Self::chunk(head, index, &json!({ "role": "assistant", "content": null }), None);
        vec![with(chunk, "genarm", Some(additions(head, None)))]
    }

    fn piece(&mut self, head: &Head, index: usize, piece: &Piece) -> Vec<Value> {
        let mut deltas: Vec<Value> = self.reader.push(index, &piece.text).iter().map(delta_json).collect();
        // What is wanted to be known of a token comes with its text, or alone.
        if deltas.is_empty() && piece.report.is_some() {
            deltas.push(json!({}));
        }
        let chunk = |(i, delta): (usize, &Value)| {
            let chunk = Self::chunk(head, index, delta, None);
            if i == 0 { explained(chunk, head, piece, logprobs(head, std::iter::once(piece))) } else { chunk }
        };
        deltas.iter().enumerate().map(chunk).collect()
    }

    fn ended(&mut self, head: &Head, index: usize, ended: &Ended) -> Vec<Value> {
        let (deltas, said) = self.reader.finish(index, &ended.text);
        let held_back = deltas.iter().map(|delta| Self::chunk(head, index, &delta_json(delta), None));
        let last = Self::chunk(head, index, &json!({}), Some(reason(ended.finish, &said.calls)));
        let last = with(with(last, "timings", Some(timings(ended))), "genarm", Some(additions(head, Some(ended))));
        held_back.chain([last]).collect()
    }

    fn usage(&mut self, head: &Head, ended: &[Ended]) -> Vec<Value> {
        usage_chunk(head, "chat.completion.chunk", ended)
    }

    fn whole(&mut self, head: &Head, choices: &[Choice]) -> Value {
        whole(head, "chat.completion", choices, |choice| {
            let said = self.reader.whole(&choice.text);
            json!({
                "index": choice.index,
                "message": message(&said),
                "logprobs": logprobs(head, choice.pieces.iter()),
                "finish_reason": reason(choice.ended.finish, &said.calls),
            })
        })
    }
}

fn message(said: &Said) -> Value {
    let content =
        if said.content.is_empty() && !said.calls.is_empty() { Value::Null } else { said.content.clone().into() };
    let message = json!({ "role": "assistant", "content": content, "refusal": null });
    let reasoning = (!said.reasoning.is_empty()).then(|| said.reasoning.clone().into());
    let calls = (!said.calls.is_empty()).then(|| said.calls.iter().map(Call::json).collect());
    with(with(message, "reasoning_content", reasoning), "tool_calls", calls)
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
