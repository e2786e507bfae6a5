//! What llama.cpp says of the answers to one conversation.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{Answers, Reading};
use crate::engine::llama::{AnswerParser, AnswerTemplate};
use crate::sampling::grammar::arguments;
use crate::server::fields::shown;
use crate::server::openai::chat::Dialogue;
use crate::server::openai::tools::{ToolChoice, Tools};

/// How llama.cpp reads answers to a conversation.
pub struct AnswersRead {
    /// See [`AnswerTemplate::apply`].
    pub applied: Value,
    /// For these answers.
    pub parser: Arc<AnswerParser>,
    /// What the base's prompt ends with, where an answer begins without a thought.
    pub end: Option<String>,
}

/// What llama.cpp is asked about answers to such a conversation: none of the texts, and of the tools what [`arguments`]
/// lets pass.
fn asked(dialogue: &Dialogue, reading: Reading) -> Result<Value, String> {
    let mut asked = json!({
        "messages": stand_in(dialogue, reading),
        "variables": dialogue.variables,
        "enable_thinking": dialogue.variables.get("enable_thinking").and_then(Value::as_bool).unwrap_or(true),
        "splits_reasoning": dialogue.splits_reasoning,
    });
    if let Some(tools) = &dialogue.tools {
        asked["tool_choice"] = match tools.choice {
            ToolChoice::Auto => "auto",
            ToolChoice::None => "none",
            ToolChoice::Required | ToolChoice::Function(_) => "required",
        }
        .into();
        // A model that was taught no tools does not know when to stop calling.
        let alone = matches!(reading, Reading::PlainText).then_some(false);
        if let Some(parallel) = tools.parallel.or(alone) {
            asked["parallel_tool_calls"] = parallel.into();
        }
        asked["tools"] = tools.callable().map(callable).collect::<Result<Vec<_>, _>>()?.into();
    }
    Ok(asked)
}

impl Answers {
    /// How llama.cpp reads answers to such a conversation. It is kept for those that ask the same: it takes
    /// milliseconds.
    ///
    /// # Errors
    ///
    /// Why llama.cpp cannot.
    pub fn read(&self, dialogue: &Dialogue) -> Result<Arc<AnswersRead>, String> {
        let asked = asked(dialogue, self.reading)?;
        let key = format!("{} {} {asked}", dialogue.begun.is_some(), dialogue.is_json);
        if let Some(known) = self.recent.get(&key) {
            return Ok(known);
        }
        let read = Arc::new(self.read_anew(dialogue, asked)?);
        self.recent.keep(key, &read);
        Ok(read)
    }

    fn read_anew(&self, dialogue: &Dialogue, mut asked: Value) -> Result<AnswersRead, String> {
        // A template that knows no tools says nothing about calls, and a thought would swallow them.
        let plain = matches!(self.reading, Reading::PlainText) && dialogue.tools.is_some();
        let end = if self.thinks { end_without_thought(&self.template, &asked, dialogue, plain)? } else { None };
        if end.is_some() {
            asked["enable_thinking"] = false.into();
        }
        let mut applied = applied(if plain { &self.plain } else { &self.template }, &mut asked)?;
        if let Some(end) = end.as_deref().filter(|_| !plain) {
            applied["generation_prompt"] = end.into();
        }
        let prompt = applied["generation_prompt"].as_str().unwrap_or_default();
        let parser = Arc::new(parser_after(&applied, prompt, dialogue)?);
        Ok(AnswersRead { applied, parser, end })
    }
}

/// What a prompt ends with under which an answer begins without a thought: one that is begun, JSON, one with calls in
/// plain text, and one that is not to think. `None` where the template begins none, or may.
fn end_without_thought(
    template: &AnswerTemplate,
    asked: &Value,
    dialogue: &Dialogue,
    plain: bool,
) -> Result<Option<String>, String> {
    let is_off = asked["enable_thinking"] == false;
    if !is_off && dialogue.begun.is_none() && !dialogue.is_json && !plain {
        return Ok(None);
    }
    // Whatever the tools, a prompt ends in the same way.
    let mut asked = json!({ "messages": asked["messages"], "variables": asked["variables"] });
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

/// What llama.cpp says of the answers. Where it cannot follow the schemas under this template, calls have any
/// arguments.
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

/// The parser of answers after a prompt that ends so.
///
/// # Errors
///
/// Why there is none.
pub fn parser_after(applied: &Value, prompt: &str, dialogue: &Dialogue) -> Result<AnswerParser, String> {
    let params = json!({
        "format": applied["format"],
        "generation_prompt": prompt,
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
