//! `POST /v1/chat/completions`, and what answers conversations on other routes.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use serde_json::{Map, Value, json};

use super::answer::{ReadPrompts, respond};
use super::body::Body;
use crate::chat::{Message, TOOLS, TemplateError, in_plain_text};
use crate::engine::llama::{AnswerParser, Vocab};
use crate::expert::Token;
use crate::sampling::grammar::{CallGrammar, Trigger};
use crate::server::answers::Reading;
use crate::server::error::ApiError;
use crate::server::openai::chat::{ChatFormat, ChatRequest};
use crate::server::openai::reply::Format;
use crate::server::openai::request::{Asked, Calls};
use crate::server::openai::tools::{AnswerReader, ToolChoice, Tools};
use crate::server::options::MAX_GRAMMAR_BYTES;
use crate::server::readers::Purpose;
use crate::server::state::Server;
use crate::session::{Personas, Prompt, PromptError};

/// Answers a conversation.
pub async fn complete(State(server): State<Arc<Server>>, body: Body<ChatRequest>) -> Result<Response, ApiError> {
    answer(&server, body.0, body.1, "chatcmpl-", ChatFormat::new).await
}

/// Answers a conversation in the way that `format` makes of what reads its answers; `id` begins the answer's id.
///
/// # Errors
///
/// [`ApiError`].
pub(super) async fn answer<F: Format>(
    server: &Arc<Server>,
    request: ChatRequest,
    ignored: Vec<String>,
    id: &str,
    format: impl FnOnce(AnswerReader) -> F,
) -> Result<Response, ApiError> {
    if !request.generates && request.begun.is_none() {
        let message = "add_generation_prompt is false, and the last message is no answer that could be continued";
        return Err(ApiError::invalid("add_generation_prompt", message));
    }
    let (request, plan) = planned(server, defaulted(server, request)).await?;
    let ChatRequest { mut asked, messages, begun, variables, tools, truncates, .. } = request;
    asked.stop.extend(plan.stop);
    let asked = Asked { ignored, calls: plan.calls, ..asked };
    let conversation = Written::new(messages, begun, variables, tools, plan.reading).after(plan.closes);
    let room = truncates.then(|| {
        // Of a context at least half is left for the conversation.
        let n_answer = if asked.n_predict == usize::MAX { server.n_ctx / 4 } else { asked.n_predict };
        server.n_ctx - n_answer.min(server.n_ctx / 2)
    });
    let format = format(AnswerReader::new(plan.parser));
    respond(server, asked, id, format, move |prompts| conversation.read(prompts, room)).await
}

/// The text of a conversation's prompt: `POST /apply-template`.
pub async fn apply_template(
    State(server): State<Arc<Server>>,
    body: Body<ChatRequest>,
) -> Result<Json<Value>, ApiError> {
    let (request, plan) = planned(&server, defaulted(&server, body.0)).await?;
    let ChatRequest { messages, begun, variables, tools, generates, .. } = request;
    let conversation = Written::new(messages, begun, variables, tools, plan.reading).after(plan.closes);
    let prompts = Arc::clone(&server.prompts);
    let read = move || {
        let Written { messages, begun, variables } = conversation;
        let text = prompts.chat_text(&messages, &variables, generates || !begun.is_empty());
        text.map(|text| text + &begun).map_err(|error| of_chat(&error))
    };
    let text = server.off_thread(Purpose::Prompt, read).await?;
    Ok(Json(json!({ "prompt": text })))
}

/// The length of a conversation's prompt: `POST /v1/chat/completions/input_tokens`.
pub async fn count_tokens(State(server): State<Arc<Server>>, body: Body<ChatRequest>) -> Result<Json<Value>, ApiError> {
    let prompt = base_prompt(&server, body.0).await?;
    Ok(Json(json!({ "object": "response.input_tokens", "input_tokens": prompt.base.len() })))
}

/// The prompt of a conversation that is not answered.
pub(super) async fn base_prompt(server: &Arc<Server>, request: ChatRequest) -> Result<Prompt, ApiError> {
    let (request, plan) = planned(server, defaulted(server, request)).await?;
    let ChatRequest { messages, begun, variables, tools, .. } = request;
    let conversation = Written::new(messages, begun, variables, tools, plan.reading).after(plan.closes);
    let prompts = Arc::clone(&server.prompts);
    server.off_thread(Purpose::Prompt, move || conversation.prompt(&prompts.with_personas(&[]))).await
}

/// A request with the server's variables for the templates where it has none of its own.
fn defaulted(server: &Server, mut request: ChatRequest) -> ChatRequest {
    for (name, value) in &server.variables {
        request.variables.entry(name.clone()).or_insert_with(|| value.clone());
    }
    request
}

/// A conversation on its way to the templates.
struct Written {
    messages: Vec<Message>,
    begun: String,
    variables: Map<String, Value>,
}

impl Written {
    /// As the templates read it.
    fn new(
        mut messages: Vec<Message>,
        begun: Option<Message>,
        mut variables: Map<String, Value>,
        tools: Option<Tools>,
        reading: Reading,
    ) -> Self {
        let tools = tools.map(|tools| tools.list).unwrap_or_default();
        let objects = match reading {
            Reading::PlainText => {
                messages = in_plain_text(&messages, &tools);
                false
            }
            Reading::Tools { objects } => {
                if !tools.is_empty() {
                    variables.insert(TOOLS.to_owned(), tools.into());
                }
                objects
            }
        };
        for call in messages.iter_mut().flat_map(|message| &mut message.tool_calls).filter(|_| objects) {
            let arguments = &mut call["function"]["arguments"];
            let object = arguments.as_str().and_then(|text| serde_json::from_str::<Value>(text).ok());
            if let Some(object) = object.filter(Value::is_object) {
                *arguments = object;
            }
        }
        Self { messages, begun: begun.map_or_else(String::new, |message| message.content), variables }
    }

    /// The same with an answer that begins with this.
    fn after(mut self, begun: String) -> Self {
        self.begun.insert_str(0, &begun);
        self
    }

    fn prompt(&self, prompts: &Personas<'_>) -> Result<Prompt, ApiError> {
        prompts.chat(&self.messages, &self.begun, &self.variables).map_err(|error| of_chat(&error))
    }

    /// The prompt. Where it may have `room` tokens at most, the oldest turns are left out, each from one message of the
    /// user to the next; the system's message and the last turn stay.
    fn read(mut self, prompts: &Personas<'_>, room: Option<usize>) -> Result<ReadPrompts, ApiError> {
        let n_all = self.messages.len();
        loop {
            let result = self.prompt(prompts);
            let fits = match (&result, room) {
                (Ok(prompt), Some(room)) => prompt.base.len() <= room,
                (Err(error), Some(_)) => !error.is_overflow(),
                (_, None) => true,
            };
            if fits || !self.drop_oldest() {
                let dropped = n_all - self.messages.len();
                return Ok(ReadPrompts { prompts: vec![result?], dropped });
            }
        }
    }

    /// Leaves out the oldest turn; false where only one is left.
    fn drop_oldest(&mut self) -> bool {
        let is_user = |(_, message): &(usize, &Message)| message.role == "user";
        let first = self.messages.iter().position(|message| message.role != "system");
        let next = self.messages.iter().enumerate().filter(is_user).map(|(i, _)| i).find(|i| Some(*i) > first);
        let (Some(first), Some(next)) = (first, next) else { return false };
        self.messages.drain(first..next);
        true
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

/// How a conversation is answered.
struct AnswerPlan {
    parser: Option<Arc<AnswerParser>>,
    calls: Calls,
    stop: Vec<String>,
    reading: Reading,
    /// What the prompt ends with beyond the template: the end of thoughts that are not wanted.
    closes: String,
}

impl AnswerPlan {
    /// An answer that is its text.
    fn text(reading: Reading) -> Self {
        Self { parser: None, calls: Calls::default(), stop: Vec::new(), reading, closes: String::new() }
    }
}

/// Reads how the base's template has calls and thoughts written. A conversation without tools, and a template without
/// thoughts, need none of that.
async fn planned(server: &Arc<Server>, mut request: ChatRequest) -> Result<(ChatRequest, AnswerPlan), ApiError> {
    let wanted = request.tools.is_some()
        || request.messages.iter().any(|message| !message.tool_calls.is_empty() || message.role == "tool")
        || (request.splits_reasoning && request.asked.format.is_none());
    if !wanted || server.prompts.template(0).is_none() {
        return Ok((request, AnswerPlan::text(Reading::Tools { objects: true })));
    }
    let server_of = Arc::clone(server);
    let plan = move || {
        let plan = plan(&server_of, &mut request)?;
        Ok((request, plan))
    };
    server.off_thread(Purpose::Grammar, plan).await
}

fn plan(server: &Server, request: &mut ChatRequest) -> Result<AnswerPlan, ApiError> {
    let has_tools = request.tools.is_some();
    let refused = |problem: String| match has_tools {
        true => Err(ApiError::invalid(TOOLS, format!("tools: {problem}"))),
        // Without tools the answer is its text.
        false => Ok(AnswerPlan::text(Reading::Tools { objects: true })),
    };
    let answers = match server.answers() {
        Ok(answers) => answers,
        Err(problem) => return refused(format!("llama.cpp cannot read this model's chat template: {problem}")),
    };
    if request.tools.is_none() && !answers.thinks {
        return Ok(AnswerPlan::text(answers.reading));
    }
    if answers.thinks {
        // As llama.cpp calls a template: it thinks unless it is not to.
        request.variables.entry("enable_thinking").or_insert(true.into());
    }
    let request = &*request;
    // A template that knows no tools says nothing about calls; its thoughts are lost beside them.
    let template = match (answers.reading, &request.tools) {
        (Reading::PlainText, Some(_)) => &answers.plain,
        _ => &answers.template,
    };
    let mut asked = asked(request);
    if let (Reading::PlainText, None) = (answers.reading, request.tools.as_ref().and_then(|tools| tools.parallel)) {
        // Nor does it know when to stop calling.
        asked["parallel_tool_calls"] = false.into();
    }
    if asked.to_string().len() > server.limits.body || tools_bytes(request) > MAX_GRAMMAR_BYTES {
        return refused(format!("may have {MAX_GRAMMAR_BYTES} bytes"));
    }
    let mut applied = match template.apply(&asked) {
        Ok(applied) => applied,
        Err(error) => return refused(error.to_string()),
    };
    let may_call = request.tools.as_ref().is_some_and(Tools::may_be_called);
    applied["parse_tool_calls"] = may_call.into();
    applied["continues"] = request.begun.is_some().into();
    let parser = match AnswerParser::new(&applied) {
        Ok(parser) => Arc::new(parser),
        Err(error) => return refused(error.to_string()),
    };
    let vocab = server.prompts.vocab();
    let texts = |name: &str| -> Vec<String> {
        let list = applied[name].as_array().into_iter().flatten();
        list.filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let token = |name: String| Some((token_of(vocab, &name)?, name));
    let spelled: Vec<(Token, String)> = texts("preserved_tokens").into_iter().filter_map(token).collect();
    let grammar = applied["grammar"].as_str().filter(|text| may_call && !text.is_empty()).map(|text| {
        let is_lazy = applied["grammar_lazy"].as_bool() == Some(true);
        // A model that was taught no tools talks on where it may: with a text before the call it never comes to it.
        let text = match answers.reading {
            Reading::PlainText => calls_at_once(text),
            Reading::Tools { .. } => text.to_owned(),
        };
        CallGrammar {
            text,
            prefix: applied["generation_prompt"].as_str().unwrap_or_default().to_owned(),
            triggers: is_lazy.then(|| triggers(&applied["triggers"], vocab)),
        }
    });
    let calls = Calls { grammar, spelled };
    let closes = closes(server, request, answers.reading, applied["generation_prompt"].as_str().unwrap_or_default());
    Ok(AnswerPlan { parser: Some(parser), calls, stop: texts("additional_stops"), reading: answers.reading, closes })
}

/// What llama.cpp adds to a prompt under which the model is not to think and whose template begins a thought all the
/// same: the rest of `end`, with which its own prompt ends.
fn closes(server: &Server, request: &ChatRequest, reading: Reading, end: &str) -> String {
    let thinks = request.variables.get("enable_thinking").and_then(Value::as_bool).unwrap_or(true);
    if thinks || request.begun.is_some() {
        return String::new();
    }
    let (messages, variables) = (request.messages.clone(), request.variables.clone());
    let written = Written::new(messages, None, variables, request.tools.clone(), reading);
    let Ok(text) = server.prompts.chat_text(&written.messages, &written.variables, true) else { return String::new() };
    let cuts = (1..=end.len()).rev().filter(|cut| end.is_char_boundary(*cut));
    cuts.into_iter().find(|cut| text.ends_with(&end[..*cut])).map_or_else(String::new, |cut| end[cut..].to_owned())
}

/// A grammar of calls without a text before them.
fn calls_at_once(grammar: &str) -> String {
    let line = |line: &str| match line.starts_with("root ::= ") {
        true => line.split(' ').filter(|part| !part.starts_with("until-")).collect::<Vec<_>>().join(" "),
        false => line.to_owned(),
    };
    grammar.lines().map(line).collect::<Vec<_>>().join("\n")
}

fn tools_bytes(request: &ChatRequest) -> usize {
    request.tools.as_ref().map_or(0, |tools| tools.list.iter().map(|tool| tool.to_string().len()).sum())
}

/// The request as `vendor/chat` reads it.
fn asked(request: &ChatRequest) -> Value {
    let messages: Vec<&Message> = request.messages.iter().chain(&request.begun).collect();
    let mut asked = json!({ "messages": messages, "variables": request.variables });
    let thinks = request.variables.get("enable_thinking").and_then(Value::as_bool).unwrap_or(true);
    asked["enable_thinking"] = thinks.into();
    asked["continues"] = request.begun.is_some().into();
    if let Some(tools) = &request.tools {
        asked["tools"] = tools.callable().into();
        asked["tool_choice"] = match tools.choice {
            ToolChoice::Auto => "auto",
            ToolChoice::None => "none",
            ToolChoice::Required | ToolChoice::Function(_) => "required",
        }
        .into();
        if let Some(parallel) = tools.parallel {
            asked["parallel_tool_calls"] = parallel.into();
        }
    }
    asked
}

/// The one token that a name spells.
fn token_of(vocab: &Vocab, name: &str) -> Option<Token> {
    match vocab.tokenize(name, false, true).as_deref() {
        Ok([token]) => Some(*token),
        _ => None,
    }
}

fn triggers(list: &Value, vocab: &Vocab) -> Vec<Trigger> {
    let trigger = |trigger: &Value| {
        let value = trigger["value"].as_str()?.to_owned();
        Some(match trigger["type"].as_str()? {
            // A word that is one token comes as that token.
            "word" | "token" => match token_of(vocab, &value) {
                Some(token) => Trigger::Token(token),
                None => Trigger::Word(value),
            },
            "pattern_full" => Trigger::Whole(value),
            _ => Trigger::Pattern(value),
        })
    };
    list.as_array().into_iter().flatten().filter_map(trigger).collect()
}
