//! Tools that an answer may call: as a request names them, and as an answer calls them.

use std::sync::Arc;
use std::time::Instant;

use serde_json::{Map, Value, json};

use super::reply::new_id;
use crate::engine::llama::AnswerParser;
use crate::server::error::ApiError;
use crate::server::fields::{Field, Fields, shown, wrong};
use crate::server::options::MAX_TOOLS;

/// The tools of a request.
#[derive(Debug, Clone)]
pub struct Tools {
    /// As OpenAI writes them.
    pub list: Vec<Value>,
    /// Which of them an answer calls.
    pub choice: ToolChoice,
    /// Whether an answer may call several; the template decides where it is missing.
    pub parallel: Option<bool>,
}

/// OpenAI's `tool_choice`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum ToolChoice {
    /// The model decides.
    #[default]
    Auto,
    /// None of them.
    None,
    /// At least one of them.
    Required,
    /// This one.
    Function(String),
}

impl Tools {
    /// Reads the fields of a request; `None` where it names no tool.
    ///
    /// # Errors
    ///
    /// A 400 that names the field.
    pub fn read(fields: &mut Fields) -> Result<Option<Self>, ApiError> {
        let list: Option<Vec<Value>> = fields.take("tools")?;
        let choice: Option<ToolChoice> = fields.take("tool_choice")?;
        let parallel = fields.take("parallel_tool_calls")?;
        Self::new(list.unwrap_or_default(), choice, parallel)
    }

    /// Tools as OpenAI writes them.
    ///
    /// # Errors
    ///
    /// A 400 that names the field.
    pub fn new(list: Vec<Value>, choice: Option<ToolChoice>, parallel: Option<bool>) -> Result<Option<Self>, ApiError> {
        if list.len() > MAX_TOOLS {
            let message = format!("tools may hold {MAX_TOOLS} tools, this holds {}", list.len());
            return Err(ApiError::invalid("tools", message));
        }
        let names = list.iter().enumerate().map(|(i, tool)| name_of(tool, i)).collect::<Result<Vec<_>, _>>()?;
        let choice = choice.unwrap_or_default();
        match &choice {
            ToolChoice::Required if list.is_empty() => {
                return Err(ApiError::invalid("tool_choice", "tool_choice is \"required\", but there are no tools"));
            }
            ToolChoice::Function(name) if !names.contains(name) => {
                let message = format!("tool_choice names \"{}\", which is none of the tools", shown(name));
                return Err(ApiError::invalid("tool_choice", message));
            }
            _ => {}
        }
        Ok((!list.is_empty()).then_some(Self { list, choice, parallel }))
    }

    /// Whether an answer may call any.
    pub fn may_be_called(&self) -> bool {
        self.choice != ToolChoice::None
    }

    /// The tools that an answer may call.
    pub fn callable(&self) -> impl Iterator<Item = &Value> {
        self.list.iter().filter(|tool| match &self.choice {
            ToolChoice::Function(name) => tool["function"]["name"].as_str() == Some(name),
            _ => true,
        })
    }
}

/// The name of a tool; everything else of it that is read must be right.
fn name_of(tool: &Value, i: usize) -> Result<String, ApiError> {
    let mut fields = Fields::read(tool.clone(), &format!("tools[{i}]"))?;
    let kind: String = fields.need("type")?;
    if kind != "function" {
        let path = fields.path("type");
        let message = format!("{path} must be \"function\", got \"{}\": other tools are not run here", shown(&kind));
        return Err(ApiError::invalid(&path, message));
    }
    let mut function: Fields = fields.need("function")?;
    let name: String = function.need("name")?;
    let path = function.path("name");
    if name.is_empty() || name.len() > 128 || name.chars().any(|c| c.is_control() || c == '"' || c == '\\') {
        return Err(ApiError::invalid(&path, format!("{path} must be a name of 1 to 128 characters")));
    }
    function.take::<String>("description")?;
    function.take::<Map<String, Value>>("parameters")?;
    function.take::<bool>("strict")?;
    function.finish_leniently()?;
    fields.finish_leniently()?;
    Ok(name)
}

impl Field for ToolChoice {
    fn read(value: Value, at: &str) -> Result<Self, ApiError> {
        match value {
            Value::String(text) => match text.as_str() {
                "auto" => Ok(Self::Auto),
                "none" => Ok(Self::None),
                "required" | "any" => Ok(Self::Required),
                other => {
                    let message =
                        format!("{at} must be \"auto\", \"none\", \"required\" or a tool, got \"{}\"", shown(other));
                    Err(ApiError::invalid(at, message))
                }
            },
            object @ Value::Object(_) => {
                let mut fields = Fields::read(object, at)?;
                fields.only("type", &["function".into()], "must be \"function\"")?;
                let mut function: Fields = fields.need("function")?;
                let name = function.need("name")?;
                function.finish_leniently()?;
                fields.finish_leniently()?;
                Ok(Self::Function(name))
            }
            other => Err(wrong(at, "a string or an object", &other)),
        }
    }
}

/// What an answer says, as far as it has come.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Said {
    /// Its content.
    pub content: String,
    /// What it thought.
    pub reasoning: String,
    /// The tools that it calls.
    pub calls: Vec<Call>,
}

/// A call of a tool.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Call {
    /// Its id.
    pub id: String,
    /// The tool.
    pub name: String,
    /// JSON.
    pub arguments: String,
}

impl Call {
    /// As OpenAI writes it.
    pub fn json(&self) -> Value {
        json!({ "id": self.id, "type": "function", "function": { "name": self.name, "arguments": self.arguments } })
    }
}

/// A part of an answer that is new.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Delta {
    /// More of what it thinks.
    Reasoning(String),
    /// More content.
    Content(String),
    /// A call begins, with this much of its arguments.
    Call(usize, Call),
    /// More of the arguments of a call.
    Arguments(usize, String),
}

/// Reads the answers of a request while they come.
#[derive(Default)]
pub struct AnswerReader {
    /// What finds thoughts and calls in a text; without it all is content.
    parser: Option<Arc<AnswerParser>>,
    /// How every answer begins.
    begun: Answer,
    /// One per choice.
    answers: Vec<Answer>,
}

/// An answer while it comes.
#[derive(Clone, Default)]
struct Answer {
    text: String,
    /// How much of the text has been read.
    n_read: usize,
    said: Said,
    /// Until then more of the text is only kept.
    parse_at: Option<Instant>,
}

/// A parser reads the whole text each time. It rests for so many times as long as it took.
const REST: u32 = 10;

impl AnswerReader {
    /// Reads with this parser what comes after the beginning of an answer. Calls that begin there are part of it.
    pub fn new(parser: Arc<AnswerParser>, begun: &str) -> Self {
        // With nothing begun it may still hold the line breaks with which the prompt ends.
        let said = Said { calls: Vec::new(), ..parsed(&parser, begun, true).unwrap_or_default() };
        let begun = Answer { text: begun.to_owned(), n_read: begun.len(), said, parse_at: None };
        Self { parser: Some(parser), begun, answers: Vec::new() }
    }

    /// What a whole text says.
    pub fn whole(&self, text: &str) -> Said {
        let mut answer = self.begun.clone();
        let mut said = Said::default();
        for delta in answer.finish(self.parser.as_deref(), text) {
            match delta {
                Delta::Reasoning(text) => said.reasoning.push_str(&text),
                Delta::Content(text) => said.content.push_str(&text),
                Delta::Call(..) | Delta::Arguments(..) => {}
            }
        }
        Said { calls: answer.said.calls, ..said }
    }

    /// Takes more of the text of a choice; returns what it adds to the answer. What cannot be read yet adds nothing.
    pub fn push(&mut self, index: usize, text: &str) -> Vec<Delta> {
        let parser = self.parser.clone();
        if text.is_empty() { Vec::new() } else { self.answer(index).push(parser.as_deref(), text) }
    }

    /// Takes the end of the text of a choice.
    pub fn finish(&mut self, index: usize, text: &str) -> (Vec<Delta>, &Said) {
        let parser = self.parser.clone();
        let answer = self.answer(index);
        (answer.finish(parser.as_deref(), text), &answer.said)
    }

    fn answer(&mut self, index: usize) -> &mut Answer {
        if self.answers.len() <= index {
            self.answers.resize(index + 1, self.begun.clone());
        }
        &mut self.answers[index]
    }
}

impl Answer {
    fn push(&mut self, parser: Option<&AnswerParser>, text: &str) -> Vec<Delta> {
        let Some(parser) = parser else {
            self.said.content.push_str(text);
            return vec![Delta::Content(text.to_owned())];
        };
        self.text.push_str(text);
        let now = Instant::now();
        if self.parse_at.is_some_and(|at| now < at) {
            return Vec::new();
        }
        let said = parsed(parser, &self.text, true);
        self.parse_at = Some(Instant::now() + now.elapsed() * REST);
        said.map_or_else(Vec::new, |said| self.take(said))
    }

    /// A text that is no answer of this template is content from where it could last be read.
    fn finish(&mut self, parser: Option<&AnswerParser>, text: &str) -> Vec<Delta> {
        let Some(parser) = parser else {
            return if text.is_empty() { Vec::new() } else { self.push(None, text) };
        };
        self.text.push_str(text);
        let said = parsed(parser, &self.text, false).or_else(|| parsed(parser, &self.text, true));
        if let Some(said) = said.filter(|said| !self.swallows(said)) {
            return self.take(said);
        }
        let rest = self.text[self.n_read..].to_owned();
        self.n_read = self.text.len();
        self.said.content.push_str(&rest);
        if rest.is_empty() { Vec::new() } else { vec![Delta::Content(rest)] }
    }

    /// Whether a reading makes nothing of a text that is no markup.
    fn swallows(&self, said: &Said) -> bool {
        let text = self.text.trim_start();
        let is_silent =
            [&said.content, &said.reasoning].iter().all(|text| text.trim().is_empty()) && said.calls.is_empty();
        is_silent && !text.is_empty() && !text.starts_with(['<', '['])
    }

    /// What is new of it. What was sent is never taken back: where the parser has changed its mind, only what comes
    /// after that much is new.
    fn take(&mut self, mut said: Said) -> Vec<Delta> {
        self.n_read = self.text.len();
        let mut deltas = Vec::new();
        deltas.extend(more(&self.said.reasoning, &said.reasoning).map(Delta::Reasoning));
        deltas.extend(more(&self.said.content, &said.content).map(Delta::Content));
        // A call without a name has not come yet.
        let n = said.calls.iter().take_while(|call| !call.name.is_empty()).count();
        said.calls.truncate(n);
        for (i, mut call) in said.calls.into_iter().enumerate() {
            match self.said.calls.get_mut(i) {
                Some(old) => {
                    if let Some(more) = more(&old.arguments, &call.arguments) {
                        old.arguments.push_str(&more);
                        deltas.push(Delta::Arguments(i, more));
                    }
                }
                None => {
                    if call.id.is_empty() {
                        call.id = new_id("call_");
                    }
                    self.said.calls.push(call.clone());
                    deltas.push(Delta::Call(i, call));
                }
            }
        }
        for (old, new) in [(&mut self.said.reasoning, said.reasoning), (&mut self.said.content, said.content)] {
            if new.len() > old.len() {
                *old = new;
            }
        }
        deltas
    }
}

/// What a longer text has after a shorter one.
fn more(old: &str, new: &str) -> Option<String> {
    // Space at the beginning may come and go.
    let old = if old.trim().is_empty() && !new.starts_with(old) { "" } else { old };
    let rest = new.strip_prefix(old).or_else(|| new.get(old.len()..)).unwrap_or_default();
    (!rest.is_empty()).then(|| rest.to_owned())
}

fn parsed(parser: &AnswerParser, text: &str, is_partial: bool) -> Option<Said> {
    let parsed = parser.parse(text, is_partial).ok()?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let call =
        |call: &Value| Call { id: text(&call["id"]), name: text(&call["name"]), arguments: text(&call["arguments"]) };
    Some(Said {
        content: text(&parsed["content"]),
        reasoning: text(&parsed["reasoning_content"]),
        calls: parsed["tool_calls"].as_array().into_iter().flatten().map(call).collect(),
    })
}
