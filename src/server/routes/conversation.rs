//! A conversation on its way to the templates.

use serde_json::{Map, Value};

use super::answer::ReadPrompts;
use crate::chat::{Message, TOOLS, TemplateError, in_plain_text};
use crate::server::answers::Reading;
use crate::server::error::ApiError;
use crate::server::openai::chat::Dialogue;
use crate::session::{ChatInput, Personas, Prompt, PromptError, PromptRenderer};

/// A conversation as the templates read it.
#[derive(Clone)]
pub struct Conversation {
    messages: Vec<Message>,
    /// What is put to the template as text.
    plain_tools: Vec<Value>,
    reading: Reading,
    variables: Map<String, Value>,
    /// What the base's template leaves out at its end.
    pub closing: String,
    /// The beginning of the answer.
    begun: String,
}

impl Conversation {
    /// That of a dialogue, for a template that reads tools in this way.
    pub fn new(dialogue: Dialogue, reading: Reading) -> Self {
        let Dialogue { messages, begun, mut variables, tools, .. } = dialogue;
        let mut plain_tools = tools.map(|tools| tools.list).unwrap_or_default();
        if matches!(reading, Reading::Tools { .. }) && !plain_tools.is_empty() {
            plain_tools.iter_mut().for_each(complete);
            variables.insert(TOOLS.to_owned(), std::mem::take(&mut plain_tools).into());
        }
        let begun = begun.map_or_else(String::new, |message| message.content);
        Self { messages, plain_tools, reading, variables, closing: String::new(), begun }
    }

    /// Messages in the way that the template reads tools.
    fn as_read(&self, mut messages: Vec<Message>) -> Vec<Message> {
        match self.reading {
            Reading::PlainText => return in_plain_text(&messages, &self.plain_tools),
            Reading::Tools { objects, short_ids } => {
                for message in &mut messages {
                    if objects {
                        message.tool_calls.iter_mut().for_each(with_object);
                    }
                    if short_ids {
                        message.tool_call_id = message.tool_call_id.as_deref().map(short_id);
                        for call in &mut message.tool_calls {
                            call["id"] = short_id(call["id"].as_str().unwrap_or_default()).into();
                        }
                    }
                }
            }
        }
        messages
    }

    /// Its text as the base's template writes it by itself, where an answer begins or where the last message ends.
    ///
    /// # Errors
    ///
    /// A 400 about the field.
    pub fn template_text(&self, prompts: &PromptRenderer, generates: bool) -> Result<String, ApiError> {
        let messages = self.as_read(self.messages.clone());
        prompts.chat_text(&messages, &self.variables, generates).map_err(|error| of_chat(&error))
    }

    /// What the template writes between a prompt and the text of an answer; empty where nothing is known of that.
    pub fn header(&self, prompts: &PromptRenderer) -> String {
        const MARK: &str = "genarm answers so";
        let prompt = self.template_text(prompts, true);
        let mut messages = self.as_read(self.messages.clone());
        messages.push(Message::new("assistant", MARK));
        let answered = prompts.chat_text(&messages, &self.variables, false);
        let (Ok(prompt), Ok(answered)) = (prompt, answered) else { return String::new() };
        let header = answered.strip_prefix(&prompt).and_then(|rest| rest.split_once(MARK));
        header.map_or_else(String::new, |(header, _)| header.to_owned())
    }

    /// The text that the base reads.
    ///
    /// # Errors
    ///
    /// A 400 about the field.
    pub fn text(&self, prompts: &PromptRenderer, generates: bool) -> Result<String, ApiError> {
        match generates || !self.begun.is_empty() {
            true => Ok(self.template_text(prompts, true)? + &self.closing + &self.begun),
            false => self.template_text(prompts, false),
        }
    }

    /// Its prompt.
    ///
    /// # Errors
    ///
    /// A 400 about the field.
    pub fn prompt(&self, prompts: &Personas<'_>) -> Result<Prompt, ApiError> {
        self.prompt_of(self.messages.clone(), prompts)
    }

    fn prompt_of(&self, messages: Vec<Message>, prompts: &Personas<'_>) -> Result<Prompt, ApiError> {
        let messages = self.as_read(messages);
        let Self { variables, closing, begun, .. } = self;
        let input = ChatInput { messages: &messages, variables, closing, begun };
        prompts.chat(&input).map_err(|error| of_chat(&error))
    }

    /// Its prompt. Where that may have `room` tokens at most, for every model, as few of the oldest turns as possible
    /// are left out, each from one message of the user to the next; the system's message and the last turn stay.
    ///
    /// # Errors
    ///
    /// A 400 about the field, or about a last turn that does not fit alone.
    pub fn read(&self, prompts: &Personas<'_>, room: Option<usize>) -> Result<ReadPrompts, ApiError> {
        let whole = self.prompt(prompts);
        let Some(room) = room else { return Ok(ReadPrompts { prompts: vec![whole?], dropped: 0 }) };
        let fits = |result: &Result<Prompt, ApiError>| match result {
            Ok(prompt) => prompt.n_longest() <= room,
            Err(error) => !error.is_overflow(),
        };
        if fits(&whole) {
            return Ok(ReadPrompts { prompts: vec![whole?], dropped: 0 });
        }
        let first = self.messages.iter().position(|message| message.role != "system").unwrap_or(0);
        let is_user = |at: &usize| self.messages[*at].role == "user";
        let cuts: Vec<usize> = (first + 1..self.messages.len()).filter(is_user).collect();
        let from = |cut: usize| {
            let kept = [&self.messages[..first], &self.messages[cut..]].concat();
            self.prompt_of(kept, prompts)
        };
        // What leaves out more is not longer: a search by halves, because each prompt is read as a whole.
        let last = cuts.len().saturating_sub(1);
        let best = cuts.partition_point(|cut| !fits(&from(*cut))).min(last);
        match cuts.get(best) {
            Some(cut) => Ok(ReadPrompts { prompts: vec![from(*cut)?], dropped: cut - first }),
            None => Ok(ReadPrompts { prompts: vec![whole?], dropped: 0 }),
        }
    }
}

/// Adds to a tool what may be missing of it, and templates take for granted.
fn complete(tool: &mut Value) {
    let Some(function) = tool["function"].as_object_mut() else { return };
    function.entry("description").or_insert_with(|| "".into());
    let parameters = function.entry("parameters").or_insert(Value::Null);
    if parameters.as_object().is_none_or(Map::is_empty) {
        *parameters = serde_json::json!({ "type": "object", "properties": {} });
    }
}

/// An id of nine letters and digits for an id, the same for the same.
fn short_id(id: &str) -> String {
    if id.len() == 9 && id.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return id.to_owned();
    }
    let hash = id
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
    format!("{:09x}", hash & 0xf_ffff_ffff)
}

/// Writes the arguments of a call as an object, where they are one.
fn with_object(call: &mut Value) {
    let arguments = &mut call["function"]["arguments"];
    let object = arguments.as_str().and_then(|text| serde_json::from_str::<Value>(text).ok());
    if let Some(object) = object.filter(Value::is_object) {
        *arguments = object;
    }
}

fn of_chat(error: &PromptError) -> ApiError {
    let field = match error {
        PromptError::Template { source: TemplateError::Variable(_), .. } => "chat_template_kwargs",
        PromptError::Template { source: TemplateError::Tools(TOOLS), .. } => TOOLS,
        _ => "messages",
    };
    ApiError::of_prompt(field, error)
}
