//! Anthropic's `/v1/messages` on the wire: read as a chat request, and answered in Anthropic's words.

use serde_json::{Map, Value, json};

use super::chat::ChatRequest;
use super::foreign;
use super::reply::{Choice, Format, Head, additions, finish_reason, with};
use super::tools::{AnswerReader, Delta, Said};
use crate::server::engine::{Ended, Piece};
use crate::server::error::ApiError;
use crate::server::fields::{Field, Fields, FromFields, shown, wrong};

/// Anthropic asks for `max_tokens`; where it is missing, this many.
const DEFAULT_MAX_TOKENS: u32 = 4096;

/// A request.
pub struct MessagesRequest(pub ChatRequest);

impl FromFields for MessagesRequest {
    const LENIENT: bool = true;

    fn read(fields: &mut Fields) -> Result<Self, ApiError> {
        fields.translate(&[("stop", "stop_sequences")], as_chat)?;
        ChatRequest::read(fields).map(Self)
    }
}

/// The fields of a chat request for those that Anthropic calls otherwise.
fn as_chat(fields: &mut Fields) -> Result<Map<String, Value>, ApiError> {
    foreign::one_answer(fields)?;
    let mut chat = Map::new();
    let mut messages = Vec::new();
    if let Some(system) = fields.take::<Value>("system")? {
        messages.push(json!({ "role": "system", "content": texts(system, "system")? }));
    }
    for (i, message) in fields.need::<Vec<Value>>("messages")?.into_iter().enumerate() {
        messages.extend(chat_messages(message, &format!("messages[{i}]"))?);
    }
    chat.insert("messages".into(), messages.into());
    chat.insert("stop".into(), fields.take::<Value>("stop_sequences")?.unwrap_or_default());
    if fields.take::<Value>("max_tokens")?.map(|n| chat.insert("max_tokens".into(), n)).is_none() {
        chat.insert("max_tokens".into(), DEFAULT_MAX_TOKENS.into());
    }
    if let Some(tools) = fields.take::<Vec<Value>>("tools")? {
        let mut functions = Vec::new();
        for (i, tool) in tools.into_iter().enumerate() {
            let at = format!("tools[{i}]");
            // Tools that a server would run itself.
            match tool.get("type").and_then(Value::as_str) {
                Some(kind) if kind != "custom" => fields.note_ignored(at),
                _ => functions.push(tool_of(tool, &at)?),
            }
        }
        chat.insert("tools".into(), functions.into());
    }
    if let Some(mut choice) = fields.take::<Fields>("tool_choice")? {
        let kind: String = choice.need("type")?;
        let value = match kind.as_str() {
            "any" => json!("required"),
            "tool" => json!({ "type": "function", "function": { "name": choice.need::<String>("name")? } }),
            other => other.into(),
        };
        chat.insert("tool_choice".into(), value);
        if let Some(alone) = choice.take::<bool>("disable_parallel_tool_use")? {
            chat.insert("parallel_tool_calls".into(), (!alone).into());
        }
        choice.finish_leniently()?;
    }
    if let Some(mut thinking) = fields.take::<Fields>("thinking")? {
        let kind: String = thinking.need("type")?;
        thinking.ignore::<i64>(&["budget_tokens"])?;
        thinking.finish_leniently()?;
        let mut variables: Map<String, Value> = fields.take("chat_template_kwargs")?.unwrap_or_default();
        variables.entry("enable_thinking").or_insert((kind != "disabled").into());
        chat.insert("chat_template_kwargs".into(), variables.into());
    }
    Ok(chat)
}

/// A tool as OpenAI writes it.
fn tool_of(tool: Value, at: &str) -> Result<Value, ApiError> {
    let mut fields = Fields::read(tool, at)?;
    fields.take::<String>("type")?;
    let name: String = fields.need("name")?;
    let description: Option<String> = fields.take("description")?;
    let schema: Map<String, Value> = fields.take("input_schema")?.unwrap_or_default();
    fields.finish_leniently()?;
    let function = json!({ "name": name, "parameters": schema });
    let function = with(function, "description", description.map(Value::from));
    Ok(json!({ "type": "function", "function": function }))
}

/// The messages of one of Anthropic's: results of tools are messages of their own.
fn chat_messages(message: Value, at: &str) -> Result<Vec<Value>, ApiError> {
    let mut fields = Fields::read(message, at)?;
    let role: String = fields.need("role")?;
    if !["user", "assistant", "system"].contains(&role.as_str()) {
        let message = format!("{at}.role: unknown role \"{}\"; use user or assistant", shown(&role));
        return Err(ApiError::invalid(&format!("{at}.role"), message));
    }
    let blocks = match fields.need::<Value>("content")? {
        Value::Array(blocks) => blocks,
        text => {
            let text = String::read(text, &fields.path("content"))?;
            fields.finish_leniently()?;
            return Ok(vec![json!({ "role": role, "content": text })]);
        }
    };
    fields.finish_leniently()?;
    let (mut out, mut texts, mut calls, mut thoughts) = (Vec::new(), Vec::new(), Vec::new(), String::new());
    for (i, block) in blocks.into_iter().enumerate() {
        let at = format!("{at}.content[{i}]");
        let mut block = Fields::read(block, &at)?;
        match block.need::<String>("type")?.as_str() {
            "text" => texts.push(json!({ "type": "text", "text": block.need::<String>("text")? })),
            "thinking" => thoughts.push_str(&block.need::<String>("thinking")?),
            "redacted_thinking" => {}
            "tool_use" => {
                let (id, name): (String, String) = (block.need("id")?, block.need("name")?);
                let input: Map<String, Value> = block.take("input")?.unwrap_or_default();
                let function = json!({ "name": name, "arguments": Value::Object(input).to_string() });
                calls.push(json!({ "id": id, "type": "function", "function": function }));
            }
            "tool_result" => {
                let id: String = block.need("tool_use_id")?;
                let content = block.take::<Value>("content")?.unwrap_or_else(|| "".into());
                let content = self::texts(content, &format!("{at}.content"))?;
                out.push(json!({ "role": "tool", "tool_call_id": id, "content": content }));
            }
            other => {
                let message = format!("{at}: cannot read a block of type \"{}\", only text and tools", shown(other));
                return Err(ApiError::invalid(&at, message));
            }
        }
        block.finish_leniently()?;
    }
    if !texts.is_empty() || !calls.is_empty() || out.is_empty() {
        let mut message = json!({ "role": role, "content": texts });
        if !calls.is_empty() {
            message["tool_calls"] = calls.into();
        }
        if !thoughts.is_empty() {
            message["reasoning_content"] = thoughts.into();
        }
        out.push(message);
    }
    Ok(out)
}

/// A text, or the texts of a list of blocks.
fn texts(value: Value, at: &str) -> Result<String, ApiError> {
    match value {
        Value::String(text) => Ok(text),
        Value::Array(blocks) => {
            let text = |(i, block)| {
                let mut block = Fields::read(block, &format!("{at}[{i}]"))?;
                let kind: Option<String> = block.take("type")?;
                match kind.as_deref() {
                    None | Some("text") => block.need::<String>("text"),
                    Some(other) => {
                        let message = format!("{at} cannot hold a block of type \"{}\", only text", shown(other));
                        Err(ApiError::invalid(at, message))
                    }
                }
            };
            Ok(blocks.into_iter().enumerate().map(text).collect::<Result<Vec<_>, _>>()?.join("\n"))
        }
        other => Err(wrong(at, "a string or a list of blocks", &other)),
    }
}

/// Writes Anthropic's objects.
pub struct MessagesFormat {
    reader: AnswerReader,
    /// The block that is open, if one is: its place and its kind.
    open: Option<(usize, &'static str)>,
    n_blocks: usize,
}

impl MessagesFormat {
    /// For an answer that this reads.
    pub fn new(reader: AnswerReader) -> Self {
        Self { reader, open: None, n_blocks: 0 }
    }

    /// The events of new parts of the answer.
    fn events(&mut self, deltas: &[Delta]) -> Vec<Value> {
        let mut events = Vec::new();
        for delta in deltas {
            match delta {
                Delta::Reasoning(text) => {
                    self.enter(
                        &mut events,
                        "thinking",
                        || json!({ "type": "thinking", "thinking": "", "signature": "" }),
                    );
                    self.delta(&mut events, &json!({ "type": "thinking_delta", "thinking": text }));
                }
                Delta::Content(text) => {
                    self.enter(&mut events, "text", || json!({ "type": "text", "text": "" }));
                    self.delta(&mut events, &json!({ "type": "text_delta", "text": text }));
                }
                Delta::Call(_, call) => {
                    self.close(&mut events);
                    let block = json!({ "type": "tool_use", "id": call.id, "name": call.name, "input": {} });
                    self.enter(&mut events, "tool_use", || block);
                    if !call.arguments.is_empty() {
                        self.delta(&mut events, &json!({ "type": "input_json_delta", "partial_json": call.arguments }));
                    }
                }
                Delta::Arguments(_, text) => {
                    self.delta(&mut events, &json!({ "type": "input_json_delta", "partial_json": text }));
                }
            }
        }
        events
    }

    fn enter(&mut self, events: &mut Vec<Value>, kind: &'static str, block: impl FnOnce() -> Value) {
        if self.open.is_some_and(|(_, open)| open == kind && kind != "tool_use") {
            return;
        }
        self.close(events);
        let index = self.n_blocks;
        self.n_blocks += 1;
        self.open = Some((index, kind));
        events.push(json!({ "type": "content_block_start", "index": index, "content_block": block() }));
    }

    fn delta(&self, events: &mut Vec<Value>, delta: &Value) {
        if let Some((index, _)) = self.open {
            events.push(json!({ "type": "content_block_delta", "index": index, "delta": delta }));
        }
    }

    fn close(&mut self, events: &mut Vec<Value>) {
        if let Some((index, _)) = self.open.take() {
            events.push(json!({ "type": "content_block_stop", "index": index }));
        }
    }
}

/// Anthropic's name for an end, and the stop string that ended the text.
fn stop(head: &Head, ended: &Ended, said: &Said) -> (&'static str, Option<String>) {
    let word = ended.stopped_by.clone().filter(|word| head.stop.contains(word));
    let reason = match (finish_reason(ended.finish), &word) {
        ("stop", _) if !said.calls.is_empty() => "tool_use",
        ("stop", Some(_)) => "stop_sequence",
        ("stop", None) => "end_turn",
        _ => "max_tokens",
    };
    (reason, word)
}

fn n_prompt(head: &Head) -> usize {
    head.prompts.first().map_or(0, Vec::len)
}

impl Format for MessagesFormat {
    fn open(&mut self, head: &Head, _: usize) -> Vec<Value> {
        let usage = json!({ "input_tokens": n_prompt(head), "cache_read_input_tokens": 0, "output_tokens": 0 });
        let message = json!({
            "id": head.id, "type": "message", "role": "assistant", "model": head.model, "content": [],
            "stop_reason": null, "stop_sequence": null, "usage": usage,
        });
        vec![json!({ "type": "message_start", "message": message })]
    }

    fn piece(&mut self, _: &Head, index: usize, piece: &Piece) -> Vec<Value> {
        let deltas = self.reader.push(index, &piece.text);
        self.events(&deltas)
    }

    fn ended(&mut self, head: &Head, index: usize, ended: &Ended) -> Vec<Value> {
        let (deltas, said) = self.reader.finish(index, &ended.text);
        let (reason, word) = stop(head, ended, said);
        let mut events = self.events(&deltas);
        if self.n_blocks == 0 {
            self.enter(&mut events, "text", || json!({ "type": "text", "text": "" }));
        }
        self.close(&mut events);
        let usage = json!({
            "input_tokens": ended.n_prompt - ended.n_cached,
            "cache_read_input_tokens": ended.n_cached,
            "output_tokens": ended.n_generated,
        });
        let last = json!({
            "type": "message_delta", "delta": { "stop_reason": reason, "stop_sequence": word }, "usage": usage,
        });
        events.push(with(last, "genarm", Some(additions(head, Some(ended)))));
        events.push(json!({ "type": "message_stop" }));
        events
    }

    fn usage(&mut self, _: &Head, _: &[Ended]) -> Vec<Value> {
        Vec::new()
    }

    fn failed(&mut self, _: &Head, error: &ApiError) -> Vec<Value> {
        let (kind, message) = error.parts();
        vec![json!({ "type": "error", "error": { "type": kind, "message": message } })]
    }

    fn whole(&mut self, head: &Head, choices: &[Choice]) -> Value {
        let Some(choice) = choices.first() else { return Value::Null };
        let said = self.reader.whole(&choice.text);
        let (reason, word) = stop(head, &choice.ended, &said);
        let mut content = Vec::new();
        if !said.reasoning.is_empty() {
            content.push(json!({ "type": "thinking", "thinking": said.reasoning, "signature": "" }));
        }
        if !said.content.is_empty() || said.calls.is_empty() {
            content.push(json!({ "type": "text", "text": said.content }));
        }
        content.extend(said.calls.iter().map(|call| {
            let input = serde_json::from_str::<Value>(&call.arguments).unwrap_or_else(|_| json!({}));
            json!({ "type": "tool_use", "id": call.id, "name": call.name, "input": input })
        }));
        json!({
            "id": head.id, "type": "message", "role": "assistant", "model": head.model, "content": content,
            "stop_reason": reason, "stop_sequence": word,
            "usage": {
                "input_tokens": choice.ended.n_prompt - choice.ended.n_cached,
                "cache_read_input_tokens": choice.ended.n_cached,
                "output_tokens": choice.ended.n_generated,
            },
            "genarm": additions(head, Some(&choice.ended)),
        })
    }

    fn repeats_prompt(&self) -> bool {
        true
    }

    fn says_done(&self) -> bool {
        false
    }

    fn names_events(&self) -> bool {
        true
    }
}
