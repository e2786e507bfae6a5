//! OpenAI's `/v1/responses` on the wire: read as a chat request, and answered as a list of items. Nothing is kept: a
//! conversation goes on where its client sends it again.

use serde_json::{Map, Value, json};

use super::chat::ChatRequest;
use super::foreign;
use super::reply::{Choice, Format, Head, additions, finish_reason, new_id, timings, with};
use super::tools::{AnswerReader, Call, Delta, Said};
use crate::server::engine::{Ended, Piece};
use crate::server::error::ApiError;
use crate::server::fields::{Field, Fields, FromFields, shown, wrong};

/// A request.
pub struct ResponsesRequest {
    /// What it is as a chat request.
    pub chat: ChatRequest,
    /// What of it an answer repeats.
    pub repeated: Map<String, Value>,
}

/// What an answer repeats of its request, and where that does not say.
fn repeated(fields: &Fields) -> Map<String, Value> {
    let otherwise = [
        ("instructions", Value::Null),
        ("metadata", json!({})),
        ("parallel_tool_calls", true.into()),
        ("tool_choice", "auto".into()),
        ("tools", json!([])),
        ("max_output_tokens", Value::Null),
        ("truncation", "disabled".into()),
    ];
    otherwise.into_iter().map(|(name, value)| (name.to_owned(), fields.peek(name).cloned().unwrap_or(value))).collect()
}

impl FromFields for ResponsesRequest {
    const LENIENT: bool = true;

    fn read(fields: &mut Fields) -> Result<Self, ApiError> {
        let repeated = repeated(fields);
        fields.translate(&[("max_tokens", "max_output_tokens"), ("response_format", "text.format")], as_chat)?;
        Ok(Self { chat: ChatRequest::read(fields)?, repeated })
    }
}

/// The fields of a chat request for those that are called otherwise here.
fn as_chat(fields: &mut Fields) -> Result<Map<String, Value>, ApiError> {
    for name in ["previous_response_id", "conversation"] {
        fields.only(name, &[], "is not supported: no answer is kept here; send the whole conversation as input")?;
    }
    fields.only("background", &[false.into()], "must be false: no answer is kept here")?;
    fields.ignore::<Vec<Value>>(&["include"])?;
    foreign::one_answer(fields)?;
    let mut chat = Map::new();
    let mut messages = Vec::new();
    if let Some(text) = fields.take::<String>("instructions")? {
        messages.push(json!({ "role": "system", "content": text }));
    }
    match fields.need::<Value>("input")? {
        Value::String(text) => messages.push(json!({ "role": "user", "content": text })),
        Value::Array(items) => {
            for (i, item) in items.into_iter().enumerate() {
                add_item(&mut messages, item, &format!("input[{i}]"))?;
            }
        }
        other => return Err(wrong("input", "a string or a list of items", &other)),
    }
    chat.insert("messages".into(), messages.into());
    chat.insert("max_tokens".into(), fields.take::<Value>("max_output_tokens")?.unwrap_or_default());
    if let Some(tools) = fields.take::<Vec<Value>>("tools")? {
        let mut functions = Vec::new();
        for (i, tool) in tools.into_iter().enumerate() {
            let at = format!("tools[{i}]");
            // Tools that a server would run itself.
            match tool.get("type").and_then(Value::as_str) {
                Some(kind) if kind != "function" => fields.note_ignored(at),
                _ => functions.push(tool_of(tool, &at)?),
            }
        }
        chat.insert("tools".into(), functions.into());
    }
    if let Some(choice) = fields.take::<Value>("tool_choice")? {
        let named = choice.get("name").map(|name| json!({ "type": "function", "function": { "name": name } }));
        chat.insert("tool_choice".into(), named.unwrap_or(choice));
    }
    if let Some(mut text) = fields.take::<Fields>("text")? {
        if let Some(mut format) = text.take::<Map<String, Value>>("format")? {
            if format.get("type").and_then(Value::as_str) == Some("json_schema") {
                format.shift_remove("type");
                chat.insert("response_format".into(), json!({ "type": "json_schema", "json_schema": format }));
            } else {
                chat.insert("response_format".into(), format.into());
            }
        }
        text.take::<String>("verbosity")?;
        text.finish_leniently()?;
    }
    if let Some(mut reasoning) = fields.take::<Fields>("reasoning")? {
        chat.insert("reasoning_effort".into(), reasoning.take::<Value>("effort")?.unwrap_or_default());
        // Thoughts are shown whole.
        reasoning.ignore::<String>(&["summary", "generate_summary"])?;
        reasoning.finish_leniently()?;
    }
    Ok(chat)
}

/// A tool as a chat request has it.
fn tool_of(tool: Value, at: &str) -> Result<Value, ApiError> {
    let mut fields = Fields::read(tool, at)?;
    fields.need::<String>("type")?;
    let function = json!({ "name": fields.need::<String>("name")? });
    let function = with(function, "description", fields.take::<Value>("description")?);
    let function = with(function, "parameters", fields.take::<Value>("parameters")?);
    fields.take::<bool>("strict")?;
    fields.finish_leniently()?;
    Ok(json!({ "type": "function", "function": function }))
}

/// Adds an item of the input to the messages of a chat request.
fn add_item(messages: &mut Vec<Value>, item: Value, at: &str) -> Result<(), ApiError> {
    let mut fields = Fields::read(item, at)?;
    let kind: Option<String> = fields.take("type")?;
    match kind.as_deref() {
        None | Some("message") => {
            let role: String = fields.need("role")?;
            if !["user", "assistant", "system", "developer"].contains(&role.as_str()) {
                let path = fields.path("role");
                let message = format!("{path}: unknown role \"{}\"; use system, user or assistant", shown(&role));
                return Err(ApiError::invalid(&path, message));
            }
            let content: Value = match fields.need::<Value>("content")? {
                Value::Array(parts) => {
                    let part = |(i, part)| text_part(part, &format!("{at}.content[{i}]"));
                    parts.into_iter().enumerate().map(part).collect::<Result<Vec<_>, _>>()?.into()
                }
                text => String::read(text, &fields.path("content"))?.into(),
            };
            messages.push(json!({ "role": role, "content": content }));
        }
        Some("function_call") => {
            let (id, name): (String, String) = (fields.need("call_id")?, fields.need("name")?);
            let function = json!({ "name": name, "arguments": fields.take::<String>("arguments")? });
            let call = json!({ "id": id, "type": "function", "function": function });
            // Calls of one answer stand in one message.
            match messages.last_mut() {
                Some(last) if last["role"] == "assistant" => match last["tool_calls"].as_array_mut() {
                    Some(calls) => calls.push(call),
                    None => last["tool_calls"] = json!([call]),
                },
                _ => messages.push(json!({ "role": "assistant", "content": null, "tool_calls": [call] })),
            }
        }
        Some("function_call_output") => {
            let id: String = fields.need("call_id")?;
            let output = match fields.need::<Value>("output")? {
                Value::Array(parts) => {
                    let part = |(i, part)| text_part(part, &format!("{at}.output[{i}]"));
                    let parts = parts.into_iter().enumerate().map(part).collect::<Result<Vec<_>, _>>()?;
                    parts.iter().filter_map(|part| part["text"].as_str()).collect::<Vec<_>>().join("\n")
                }
                text => String::read(text, &fields.path("output"))?,
            };
            messages.push(json!({ "role": "tool", "tool_call_id": id, "content": output }));
        }
        // What the model thought before is not read again.
        Some("reasoning") => {}
        Some(other) => {
            let message = format!("{at}: cannot read an item of type \"{}\"", shown(other));
            return Err(ApiError::invalid(at, message));
        }
    }
    fields.finish_leniently()
}

fn text_part(part: Value, at: &str) -> Result<Value, ApiError> {
    let mut fields = Fields::read(part, at)?;
    match fields.need::<String>("type")?.as_str() {
        "input_text" | "output_text" | "text" => Ok(json!({ "type": "text", "text": fields.need::<String>("text")? })),
        "refusal" => Ok(json!({ "type": "text", "text": fields.need::<String>("refusal")? })),
        other => {
            let message = format!("{at} cannot hold a part of type \"{}\", only text", shown(other));
            Err(ApiError::invalid(at, message))
        }
    }
}

/// Writes a response, whole or as events.
pub struct ResponsesFormat {
    reader: AnswerReader,
    /// The items that are complete.
    done: Vec<Value>,
    open: Option<Item>,
    n_events: usize,
    repeated: Map<String, Value>,
}

/// An item that is being written.
enum Item {
    Reasoning { id: String, text: String },
    Message { id: String, text: String },
    Call { id: String, call: Call },
}

impl Item {
    fn id(&self) -> &str {
        match self {
            Self::Reasoning { id, .. } | Self::Message { id, .. } | Self::Call { id, .. } => id,
        }
    }

    fn json(&self, status: &str) -> Value {
        match self {
            Self::Reasoning { id, text } => {
                let content = json!([{ "type": "reasoning_text", "text": text }]);
                json!({ "id": id, "type": "reasoning", "summary": [], "content": content, "status": status })
            }
            Self::Message { id, text } => {
                let part = json!({ "type": "output_text", "text": text, "annotations": [], "logprobs": [] });
                let content = if status == "in_progress" { json!([]) } else { json!([part]) };
                json!({ "id": id, "type": "message", "role": "assistant", "status": status, "content": content })
            }
            Self::Call { id, call } => json!({
                "id": id, "type": "function_call", "status": status,
                "call_id": call.id, "name": call.name, "arguments": call.arguments,
            }),
        }
    }
}

impl ResponsesFormat {
    /// For an answer that this reads.
    pub fn new(reader: AnswerReader, repeated: Map<String, Value>) -> Self {
        Self { reader, done: Vec::new(), open: None, n_events: 0, repeated }
    }

    fn event(&mut self, mut event: Value, kind: &str) -> Value {
        event["type"] = kind.into();
        event["sequence_number"] = self.n_events.into();
        self.n_events += 1;
        event
    }

    /// An event about the open item.
    fn of_item(&mut self, event: Value, kind: &str) -> Value {
        let id = self.open.as_ref().map(|item| item.id().to_owned());
        let event = with(with(event, "output_index", Some(self.done.len().into())), "item_id", id.map(Value::from));
        self.event(event, kind)
    }

    fn enter(&mut self, item: Item, events: &mut Vec<Value>) {
        self.close("completed", events);
        let added = json!({ "output_index": self.done.len(), "item": item.json("in_progress") });
        let is_message = matches!(item, Item::Message { .. });
        self.open = Some(item);
        events.push(self.event(added, "response.output_item.added"));
        if is_message {
            let part = json!({ "type": "output_text", "text": "", "annotations": [], "logprobs": [] });
            events.push(self.of_item(json!({ "content_index": 0, "part": part }), "response.content_part.added"));
        }
    }

    fn close(&mut self, status: &str, events: &mut Vec<Value>) {
        let Some(item) = &self.open else { return };
        let json = item.json(status);
        match item {
            Item::Reasoning { text, .. } => {
                let done = json!({ "content_index": 0, "text": text });
                events.push(self.of_item(done, "response.reasoning_text.done"));
            }
            Item::Message { text, .. } => {
                let done = json!({ "content_index": 0, "text": text, "logprobs": [] });
                let part = json!({ "content_index": 0, "part": json["content"][0] });
                events.push(self.of_item(done, "response.output_text.done"));
                events.push(self.of_item(part, "response.content_part.done"));
            }
            Item::Call { call, .. } => {
                let done = json!({ "arguments": call.arguments, "name": call.name });
                events.push(self.of_item(done, "response.function_call_arguments.done"));
            }
        }
        let done = json!({ "output_index": self.done.len(), "item": json });
        events.push(self.event(done, "response.output_item.done"));
        self.done.push(json);
        self.open = None;
    }

    fn events(&mut self, deltas: &[Delta]) -> Vec<Value> {
        let mut events = Vec::new();
        for delta in deltas {
            match delta {
                Delta::Reasoning(more) => {
                    if !matches!(self.open, Some(Item::Reasoning { .. })) {
                        self.enter(Item::Reasoning { id: new_id("rs_"), text: String::new() }, &mut events);
                    }
                    let event = json!({ "content_index": 0, "delta": more });
                    events.push(self.of_item(event, "response.reasoning_text.delta"));
                    if let Some(Item::Reasoning { text, .. }) = &mut self.open {
                        text.push_str(more);
                    }
                }
                Delta::Content(more) => {
                    if !matches!(self.open, Some(Item::Message { .. })) {
                        self.enter(Item::Message { id: new_id("msg_"), text: String::new() }, &mut events);
                    }
                    let event = json!({ "content_index": 0, "delta": more, "logprobs": [] });
                    events.push(self.of_item(event, "response.output_text.delta"));
                    if let Some(Item::Message { text, .. }) = &mut self.open {
                        text.push_str(more);
                    }
                }
                Delta::Call(_, call) => {
                    let begun = Call { arguments: String::new(), ..call.clone() };
                    self.enter(Item::Call { id: new_id("fc_"), call: begun }, &mut events);
                    self.arguments(&call.arguments, &mut events);
                }
                Delta::Arguments(_, more) => self.arguments(more, &mut events),
            }
        }
        events
    }

    fn arguments(&mut self, more: &str, events: &mut Vec<Value>) {
        if more.is_empty() {
            return;
        }
        events.push(self.of_item(json!({ "delta": more }), "response.function_call_arguments.delta"));
        if let Some(Item::Call { call, .. }) = &mut self.open {
            call.arguments.push_str(more);
        }
    }
}

/// Whether a text was cut off.
fn is_cut_off(ended: &Ended) -> bool {
    finish_reason(ended.finish) == "length"
}

/// The status of a text, and of its last item.
fn status(ended: &Ended) -> &'static str {
    if is_cut_off(ended) { "incomplete" } else { "completed" }
}

impl ResponsesFormat {
    /// A response with these items and this status.
    fn response(&self, head: &Head, status: &str, output: &[Value]) -> Value {
        let mut response = json!({
            "id": head.id, "object": "response", "created_at": head.created, "status": status, "error": null,
            "incomplete_details": null, "model": head.model, "output": output,
            "temperature": head.params.temp, "top_p": head.params.top_p, "usage": null,
        });
        if let Some(response) = response.as_object_mut() {
            response.extend(self.repeated.clone());
        }
        response
    }

    /// The response at the end of a text that thought so.
    fn ended_response(&self, head: &Head, ended: &Ended, thought: &str, output: &[Value]) -> Value {
        let mut response = self.response(head, status(ended), output);
        if is_cut_off(ended) {
            response["incomplete_details"] = json!({ "reason": "max_output_tokens" });
        }
        let n_thought = head.vocab.tokenize(thought, false, false).map_or(0, |tokens| tokens.len());
        response["usage"] = json!({
            "input_tokens": ended.n_prompt,
            "input_tokens_details": { "cached_tokens": ended.n_cached },
            "output_tokens": ended.n_generated,
            "output_tokens_details": { "reasoning_tokens": n_thought.min(ended.n_generated) },
            "total_tokens": ended.n_prompt + ended.n_generated,
        });
        response["genarm"] = additions(head, Some(ended));
        with(response, "timings", Some(timings(ended)))
    }
}

impl Format for ResponsesFormat {
    fn open(&mut self, head: &Head, _: usize) -> Vec<Value> {
        let response = with(self.response(head, "in_progress", &[]), "genarm", Some(additions(head, None)));
        let begun = json!({ "response": response });
        vec![self.event(begun.clone(), "response.created"), self.event(begun, "response.in_progress")]
    }

    fn piece(&mut self, _: &Head, index: usize, piece: &Piece) -> Vec<Value> {
        let deltas = self.reader.push(index, &piece.text);
        self.events(&deltas)
    }

    fn ended(&mut self, head: &Head, index: usize, ended: &Ended) -> Vec<Value> {
        let (deltas, said) = self.reader.finish(index, &ended.text);
        let thought = said.reasoning.clone();
        let mut events = self.events(&deltas);
        let says_nothing = self.open.is_none() && self.done.iter().all(|item| item["type"] == "reasoning");
        if says_nothing || matches!(self.open, Some(Item::Reasoning { .. })) && !is_cut_off(ended) {
            self.enter(Item::Message { id: new_id("msg_"), text: String::new() }, &mut events);
        }
        self.close(status(ended), &mut events);
        let whole = self.ended_response(head, ended, &thought, &self.done);
        let kind = if is_cut_off(ended) { "response.incomplete" } else { "response.completed" };
        events.push(self.event(json!({ "response": whole }), kind));
        events
    }

    fn usage(&mut self, _: &Head, _: &[Ended]) -> Vec<Value> {
        Vec::new()
    }

    fn failed(&mut self, head: &Head, error: &ApiError) -> Vec<Value> {
        let (code, message) = error.parts();
        let mut response = self.response(head, "failed", &self.done);
        response["error"] = json!({ "code": code, "message": message });
        vec![self.event(json!({ "response": response }), "response.failed")]
    }

    fn whole(&mut self, head: &Head, choices: &[Choice]) -> Value {
        let Some(choice) = choices.first() else { return Value::Null };
        let Said { content, reasoning, calls } = self.reader.whole(&choice.text);
        let thought = reasoning.clone();
        let mut items = Vec::new();
        if !reasoning.is_empty() {
            items.push(Item::Reasoning { id: new_id("rs_"), text: reasoning });
        }
        if !content.is_empty() || calls.is_empty() {
            items.push(Item::Message { id: new_id("msg_"), text: content });
        }
        items.extend(calls.into_iter().map(|call| Item::Call { id: new_id("fc_"), call }));
        let last = items.len().saturating_sub(1);
        let written =
            |(i, item): (usize, &Item)| item.json(if i == last { status(&choice.ended) } else { "completed" });
        let output: Vec<Value> = items.iter().enumerate().map(written).collect();
        self.ended_response(head, &choice.ended, &thought, &output)
    }

    fn says_done(&self) -> bool {
        false
    }

    fn names_events(&self) -> bool {
        true
    }
}
