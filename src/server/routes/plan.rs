//! How a conversation is answered: the grammar of its calls, and what reads the answer.

use std::sync::Arc;

use serde_json::{Value, json};

use super::conversation::Conversation;
use crate::chat::TOOLS;
use crate::engine::llama::{AnswerParser, AnswerTemplate, Vocab};
use crate::sampling::grammar::{CallGrammar, Trigger, arguments};
use crate::server::answers::{Answers, Reading};
use crate::server::error::ApiError;
use crate::server::fields::shown;
use crate::server::openai::chat::Dialogue;
use crate::server::openai::request::Calls;
use crate::server::openai::tools::{AnswerReader, ToolChoice, Tools};
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
    match read(answers, &dialogue) {
        Ok(read) => parts(server, answers.reading, dialogue, read).map_err(of_tools),
        Err(_) if dialogue.tools.is_none() => Ok(AnswerPlan::text(dialogue, answers.reading)),
        Err(problem) => Err(of_tools(problem)),
    }
}

fn of_tools(problem: String) -> ApiError {
    ApiError::invalid(TOOLS, format!("tools: {problem}"))
}

/// How llama.cpp reads answers to a conversation.
struct AnswersRead {
    /// See [`AnswerTemplate::apply`].
    applied: Value,
    parser: AnswerParser,
    /// What the base's prompt ends with, where an answer begins without a thought.
    end: Option<String>,
}

/// Asks llama.cpp about answers to such a conversation. It reads none of the texts, and of the tools what [`arguments`]
/// lets pass.
fn read(answers: &Answers, dialogue: &Dialogue) -> Result<AnswersRead, String> {
    let asked = json!({
        "messages": stand_in(dialogue, answers.reading),
        "variables": dialogue.variables,
        "enable_thinking": dialogue.variables.get("enable_thinking").and_then(Value::as_bool).unwrap_or(true),
        "splits_reasoning": dialogue.splits_reasoning,
    });
    // A template that knows no tools says nothing about calls, and a thought would swallow them.
    let plain = matches!(answers.reading, Reading::PlainText) && dialogue.tools.is_some();
    let end = match answers.thinks {
        true => end_without_thought(&answers.template, asked.clone(), dialogue, plain)?,
        false => None,
    };
    let (template, mut asked) = (if plain { &answers.plain } else { &answers.template }, asked);
    if end.is_some() {
        asked["enable_thinking"] = false.into();
    }
    if let Some(tools) = &dialogue.tools {
        asked["tool_choice"] = match tools.choice {
            ToolChoice::Auto => "auto",
            ToolChoice::None => "none",
            ToolChoice::Required | ToolChoice::Function(_) => "required",
        }
        .into();
        // A model that was taught no tools does not know when to stop calling.
        if let Some(parallel) = tools.parallel.or(plain.then_some(false)) {
            asked["parallel_tool_calls"] = parallel.into();
        }
        asked["tools"] = tools.callable().map(callable).collect::<Result<Vec<_>, _>>()?.into();
    }
    let mut applied = applied(template, &mut asked)?;
    if let (Some(end), false) = (&end, plain) {
        applied["generation_prompt"] = end.as_str().into();
    }
    let parser = parser(&applied, dialogue)?;
    Ok(AnswersRead { applied, parser, end })
}

/// What a prompt ends with under which an answer begins without a thought: one that is begun, JSON, one with calls in
/// plain text, and one that is not to think. `None` where the template begins none, or may.
fn end_without_thought(
    template: &AnswerTemplate,
    mut asked: Value,
    dialogue: &Dialogue,
    plain: bool,
) -> Result<Option<String>, String> {
    let is_off = asked["enable_thinking"] == false;
    if !is_off && dialogue.begun.is_none() && !dialogue.is_json && !plain {
        return Ok(None);
    }
    asked["splits_reasoning"] = true.into();
    let mut ask = |thinks: bool| -> Result<(Value, bool), String> {
        asked["enable_thinking"] = thinks.into();
        let applied = template.apply(&asked).map_err(|error| error.to_string())?;
        let parser = AnswerParser::new(&applied).map_err(|error| error.to_string())?;
        let said = parser.parse("x", true).unwrap_or_default();
        let in_thought = said["reasoning_content"].as_str().is_some_and(|text| text.trim() == "x");
        Ok((applied, in_thought))
    };
    if !is_off && !ask(true)?.1 {
        return Ok(None);
    }
    let (applied, in_thought) = ask(false)?;
    let text = |name: &str| applied[name].as_str().unwrap_or_default();
    let end = if in_thought { format!("{}\n\n", text("thinking_end")) } else { String::new() };
    Ok(Some(text("generation_prompt").to_owned() + &end))
}

/// What llama.cpp says of the answers. Where it cannot follow the schemas under this template, calls have any arguments.
fn applied(template: &AnswerTemplate, asked: &mut Value) -> Result<Value, String> {
    let problem = match template.apply(asked) {
        Ok(applied) => return Ok(applied),
        Err(problem) => problem.to_string(),
    };
    for tool in asked["tools"].as_array_mut().into_iter().flatten() {
        tool["function"]["parameters"] = json!({ "type": "object" });
    }
    template.apply(asked).map_err(|_| problem)
}

fn parser(applied: &Value, dialogue: &Dialogue) -> Result<AnswerParser, String> {
    let params = json!({
        "format": applied["format"],
        "generation_prompt": applied["generation_prompt"],
        "parser": applied["parser"],
        "parse_tool_calls": dialogue.tools.as_ref().is_some_and(Tools::may_be_called),
        "splits_reasoning": dialogue.splits_reasoning,
    });
    AnswerParser::new(&params).map_err(|error| error.to_string())
}

/// A conversation with an end like this one's: some templates begin an answer otherwise after the result of a tool.
fn stand_in(dialogue: &Dialogue, reading: Reading) -> Value {
    let question = json!({ "role": "user", "content": "x" });
    // In plain text a result is a message of the user.
    let is_result = dialogue.messages.last().is_some_and(|last| last.role == "tool");
    if !is_result || matches!(reading, Reading::PlainText) {
        return json!([question]);
    }
    let function = json!({ "name": "x", "arguments": "{}" });
    let call = json!({ "id": "call00000", "type": "function", "function": function });
    json!([
        question,
        { "role": "assistant", "content": "", "tool_calls": [call] },
        { "role": "tool", "content": "x", "tool_call_id": "call00000" },
    ])
}

/// A tool as far as its calls need it.
fn callable(tool: &Value) -> Result<Value, String> {
    let function = &tool["function"];
    let name = function["name"].as_str().unwrap_or_default();
    let parameters = match &function["parameters"] {
        Value::Null => json!({ "type": "object", "properties": {} }),
        schema => arguments(schema).map_err(|problem| format!("the parameters of \"{}\": {problem}", shown(name)))?,
    };
    let function = json!({ "name": name, "description": "", "parameters": parameters });
    Ok(json!({ "type": "function", "function": function }))
}

/// The parts of an answer's plan, from what llama.cpp says.
fn parts(server: &Server, reading: Reading, dialogue: Dialogue, read: AnswersRead) -> Result<AnswerPlan, String> {
    let AnswersRead { mut applied, mut parser, end } = read;
    let vocab = server.prompts.vocab();
    let begun = dialogue.begun.as_ref().map_or_else(String::new, |message| message.content.clone());
    let mut conversation = Conversation::new(dialogue.clone(), reading);
    if let Some(end) = &end {
        conversation.closing = rest_of_prompt(server, &conversation, end);
    }
    // Some templates have a header between the prompt and the text of an answer.
    if !begun.is_empty() && !goes_on(&parser, &begun) {
        let header = conversation.header(&server.prompts);
        if !header.is_empty() {
            applied["generation_prompt"] = (text(&applied, "generation_prompt") + &header).into();
            conversation.closing += &header;
            parser = self::parser(&applied, &dialogue)?;
        }
    }
    let texts = |name: &str| {
        let list = applied[name].as_array().into_iter().flatten();
        list.filter_map(Value::as_str).map(str::to_owned).collect::<Vec<_>>()
    };
    let token = |name: String| Some((vocab.token_of(&name)?, name));
    let spelled = texts("preserved_tokens").into_iter().filter_map(token).collect();
    let may_call = dialogue.tools.as_ref().is_some_and(Tools::may_be_called);
    let grammar = text(&applied, "grammar");
    let grammar = (may_call && !grammar.is_empty()).then(|| CallGrammar {
        // A model that was taught no tools talks on where it may: with a text before the call it never comes to it.
        text: match reading {
            Reading::PlainText => calls_at_once(&grammar),
            Reading::Tools { .. } => grammar,
        },
        prefix: text(&applied, "generation_prompt"),
        begun: begun.clone(),
        triggers: (applied["grammar_lazy"] == true).then(|| triggers(&applied["triggers"], vocab)),
    });
    // JSON is the whole text.
    let reader = match dialogue.is_json {
        true => AnswerReader::default(),
        false => AnswerReader::new(Some(Arc::new(parser)), &begun),
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
