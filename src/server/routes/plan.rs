//! How a conversation is answered: the grammar of its calls, and what reads the answer.

use std::sync::Arc;

use serde_json::Value;

use super::conversation::Conversation;
use crate::chat::TOOLS;
use crate::engine::llama::{AnswerParser, Vocab};
use crate::sampling::grammar::{CallGrammar, Trigger};
use crate::server::answers::{AnswersRead, Reading, parser_after};
use crate::server::error::ApiError;
use crate::server::openai::chat::Dialogue;
use crate::server::openai::request::Calls;
use crate::server::openai::tools::{AnswerReader, Tools};
use crate::server::options::MAX_GRAMMAR_BYTES;
use crate::server::readers::Purpose;
use crate::server::state::Server;

/// How a conversation is answered.
pub struct AnswerPlan {
    /// What reads the answer.
    pub reader: AnswerReader,
    /// How calls are written.
    pub calls: Calls,
    /// What is answered.
    pub conversation: Conversation,
}

impl AnswerPlan {
    /// An answer that is its text.
    fn text(dialogue: Dialogue, reading: Reading) -> Self {
        let conversation = Conversation::new(dialogue, reading);
        Self { reader: AnswerReader::default(), calls: Calls::default(), conversation }
    }
}

/// How a template is taken to read tools of which llama.cpp knows nothing: as transformers calls it.
const UNKNOWN: Reading = Reading::Tools { objects: true, short_ids: false };

/// Plans the answer to a conversation.
///
/// # Errors
///
/// A 400 about `tools`.
pub async fn planned(server: &Arc<Server>, mut dialogue: Dialogue) -> Result<AnswerPlan, ApiError> {
    for (name, value) in &server.variables {
        dialogue.variables.entry(name.clone()).or_insert_with(|| value.clone());
    }
    let has_calls = dialogue.messages.iter().any(|message| !message.tool_calls.is_empty() || message.role == "tool");
    if dialogue.tools.is_none() && !has_calls {
        // Most conversations: no tools, and a template without thoughts.
        let thinks = server.known_answers().is_none_or(|answers| answers.is_ok_and(|answers| answers.thinks));
        if !thinks || !server.prompts.can_chat() {
            return Ok(AnswerPlan::text(dialogue, UNKNOWN));
        }
    }
    let of = Arc::clone(server);
    server.off_thread(Purpose::Prompt, move || plan(&of, dialogue)).await
}

fn plan(server: &Server, mut dialogue: Dialogue) -> Result<AnswerPlan, ApiError> {
    let answers = match server.answers() {
        Ok(answers) => answers,
        // Without tools the answer is its text.
        Err(_) if dialogue.tools.is_none() => return Ok(AnswerPlan::text(dialogue, UNKNOWN)),
        Err(problem) => return Err(of_tools(format!("llama.cpp cannot read this model's chat template: {problem}"))),
    };
    if dialogue.tools.is_none() && !answers.thinks {
        return Ok(AnswerPlan::text(dialogue, answers.reading));
    }
    if answers.thinks {
        // As llama.cpp calls a template: it thinks unless it is not to.
        dialogue.variables.entry("enable_thinking").or_insert(true.into());
    }
    let n_bytes = dialogue.tools.iter().flat_map(|tools| &tools.list).map(|tool| tool.to_string().len()).sum::<usize>();
    if n_bytes > MAX_GRAMMAR_BYTES {
        return Err(of_tools(format!("may have {MAX_GRAMMAR_BYTES} bytes, these have {n_bytes}")));
    }
    match answers.read(&dialogue) {
        Ok(read) => parts(server, answers.reading, dialogue, &read).map_err(of_tools),
        Err(_) if dialogue.tools.is_none() => Ok(AnswerPlan::text(dialogue, answers.reading)),
        Err(problem) => Err(of_tools(problem)),
    }
}

fn of_tools(problem: String) -> ApiError {
    ApiError::invalid(TOOLS, format!("tools: {problem}"))
}

/// The parts of an answer's plan, from what llama.cpp says.
fn parts(server: &Server, reading: Reading, dialogue: Dialogue, read: &AnswersRead) -> Result<AnswerPlan, String> {
    let (applied, mut parser) = (&read.applied, Arc::clone(&read.parser));
    let mut prefix = text(applied, "generation_prompt");
    let vocab = server.prompts.vocab();
    let begun = dialogue.begun.as_ref().map_or_else(String::new, |message| message.content.clone());
    let mut conversation = Conversation::new(dialogue.clone(), reading);
    if let Some(end) = &read.end {
        conversation.closing = rest_of_prompt(server, &conversation, end);
    }
    // Some templates have a header between the prompt and the text of an answer.
    if !begun.is_empty() && !goes_on(&parser, &begun) {
        let header = conversation.header(&server.prompts);
        if !header.is_empty() {
            prefix += &header;
            conversation.closing += &header;
            parser = Arc::new(parser_after(applied, &prefix, &dialogue)?);
        }
    }
    let texts = |name: &str| {
        let list = applied[name].as_array().into_iter().flatten();
        list.filter_map(Value::as_str).map(str::to_owned).collect::<Vec<_>>()
    };
    let token = |name: String| Some((vocab.token_of(&name)?, name));
    let spelled = texts("preserved_tokens").into_iter().filter_map(token).collect();
    let may_call = dialogue.tools.as_ref().is_some_and(Tools::may_be_called);
    let grammar = text(applied, "grammar");
    let grammar = (may_call && !grammar.is_empty()).then(|| CallGrammar {
        // A model that was taught no tools talks on where it may: with a text before the call it never comes to it.
        text: match reading {
            Reading::PlainText => calls_at_once(&grammar),
            Reading::Tools { .. } => grammar,
        },
        prefix,
        begun: begun.clone(),
        triggers: (applied["grammar_lazy"] == true).then(|| triggers(&applied["triggers"], vocab)),
    });
    // JSON is the whole text.
    let reader = match dialogue.is_json {
        true => AnswerReader::default(),
        false => AnswerReader::new(parser, &begun),
    };
    let calls = Calls { grammar, spelled, stop: texts("additional_stops") };
    Ok(AnswerPlan { reader, calls, conversation })
}

fn text(object: &Value, name: &str) -> String {
    object[name].as_str().unwrap_or_default().to_owned()
}

/// Whether what follows the beginning of an answer is part of its text, or of a call in it.
fn goes_on(parser: &AnswerParser, begun: &str) -> bool {
    let said = parser.parse(&format!("{begun}x"), true);
    said.is_ok_and(|said| {
        let has_calls = said["tool_calls"].as_array().is_some_and(|calls| !calls.is_empty());
        has_calls
            || said["content"].as_str().is_some_and(|text| text.ends_with('x'))
            || begun.trim_start().starts_with('<')
    })
}

/// What a template leaves out of `end`, with which a prompt is to end that begins no thought, or closes it.
fn rest_of_prompt(server: &Server, conversation: &Conversation, end: &str) -> String {
    let Ok(text) = conversation.template_text(&server.prompts, true) else { return String::new() };
    let mut cuts = (1..=end.len()).rev().filter(|cut| end.is_char_boundary(*cut));
    cuts.find(|cut| text.ends_with(&end[..*cut])).map_or_else(String::new, |cut| end[cut..].to_owned())
}

/// A grammar of calls without a text before them.
fn calls_at_once(grammar: &str) -> String {
    let line = |line: &str| match line.starts_with("root ::= ") {
        true => line.split(' ').filter(|part| !part.starts_with("until-")).collect::<Vec<_>>().join(" "),
        false => line.to_owned(),
    };
    grammar.lines().map(line).collect::<Vec<_>>().join("\n")
}

fn triggers(list: &Value, vocab: &Vocab) -> Vec<Trigger> {
    let trigger = |trigger: &Value| {
        let value = trigger["value"].as_str()?.to_owned();
        Some(match trigger["type"].as_str()? {
            // A word that is one token comes as that token.
            "word" | "token" => match vocab.token_of(&value) {
                Some(token) => Trigger::Token(token),
                None => Trigger::Word(value),
            },
            "pattern_full" => Trigger::Whole(value),
            _ => Trigger::Pattern(value),
        })
    };
    list.as_array().into_iter().flatten().filter_map(trigger).collect()
}
