//! The spellings of a pair, and of a text: which columns and words people's data has.

use crate::chat::{Message, text_of_parts};
use crate::train::render::{Raw, TrainingPrompt};
use serde_json::{Map, Value, json};

type Object = Map<String, Value>;

/// Reads one JSON value in any of the known forms.
///
/// # Errors
///
/// What is wrong with it, by the names of its columns.
pub fn parse(value: &Value, pairs: bool) -> Result<Raw, String> {
    let Some(object) = value.as_object() else { return Err("not a JSON object".into()) };
    let raw = if pairs { parse_pair(object)? } else { parse_text(object)? };
    // As `genarm pairs` writes them.
    let cut_off = |key| given(object, key).and_then(Value::as_str) == Some("length");
    Ok(Raw { cut_off: [cut_off("finish_chosen"), cut_off("finish_rejected")], ..raw })
}

/// What is asked in a row, whatever answers it.
///
/// # Errors
///
/// As [`parse`]'s.
pub fn prompt(value: &Value) -> Result<TrainingPrompt, String> {
    let Some(object) = value.as_object() else { return Err("not a JSON object".into()) };
    if given(object, "chosen").is_some() && given(object, "rejected").is_some() {
        return Ok(parse_pair(object)?.prompt);
    }
    let asked = Asked::of(object)?;
    let mut question = match asked.question {
        Question::None => match ["messages", "text"].iter().find_map(|key| given(object, key)) {
            Some(Value::Array(list)) => Question::Chat(conversation(list)?),
            Some(Value::String(text)) => Question::Text(text.clone()),
            _ => return Err("there is no `prompt`".into()),
        },
        question => question,
    };
    // An answer that is there already is not a part of the question.
    if let Question::Chat(messages) = &mut question {
        while messages.last().is_some_and(|message| message.role == "assistant") {
            messages.pop();
        }
    }
    match question {
        Question::Text(text) if asked.system.is_none() => Ok(TrainingPrompt::Text(text)),
        question => Ok(TrainingPrompt::Chat(with_system(asked.system, question.messages())?)),
    }
}

fn parse_pair(object: &Object) -> Result<Raw, String> {
    let (Some(chosen), Some(rejected)) = (given(object, "chosen"), given(object, "rejected")) else {
        return Err(other_form(object));
    };
    let asked = Asked::of(object)?;
    if let (Value::Array(chosen), Value::Array(rejected)) = (chosen, rejected) {
        return lists(asked, &conversation(chosen)?, &conversation(rejected)?);
    }
    let (c, r) = (response(chosen)?, response(rejected)?);
    let texts = chosen.is_string() && rejected.is_string();
    let prompt = match asked.question {
        Question::None if texts => return transcripts(asked.system.as_deref(), &c, &r),
        Question::None => return Err("there is no `prompt`".into()),
        // Texts without any markup stand for themselves.
        Question::Text(prompt) if texts && asked.system.is_none() => TrainingPrompt::Text(prompt),
        question => TrainingPrompt::Chat(with_system(asked.system, question.messages())?),
    };
    Ok(pair(prompt, c, r))
}

fn pair(prompt: TrainingPrompt, chosen: String, rejected: String) -> Raw {
    Raw { prompt, chosen, rejected: Some(rejected), cut_off: [false; 2] }
}

/// A column that is there and says something.
fn given<'a>(object: &'a Object, key: &str) -> Option<&'a Value> {
    object.get(key).filter(|value| !value.is_null())
}

/// The text of the first of these columns that says something.
fn text<'a>(object: &'a Object, keys: &[&str]) -> Option<&'a str> {
    keys.iter().find_map(|key| given(object, key)?.as_str())
}

/// What the responses answer.
enum Question {
    None,
    /// A `prompt` that may be rendered already, or plain text.
    Text(String),
    /// A conversation, or a column that names a user's question.
    Chat(Vec<Message>),
}

impl Question {
    fn messages(self) -> Vec<Message> {
        match self {
            Self::None => Vec::new(),
            Self::Text(text) => vec![Message::new("user", text)],
            Self::Chat(messages) => messages,
        }
    }
}

/// The columns that come before a response.
struct Asked {
    /// `Some` where there is a column for it, even an empty one: such data is chat.
    system: Option<String>,
    question: Question,
}

impl Asked {
    fn of(object: &Object) -> Result<Self, String> {
        let has_system = object.contains_key("system") || object.contains_key("system_prompt");
        let system = has_system.then(|| text(object, &["system", "system_prompt"]).unwrap_or_default().to_owned());
        let no_tools =
            |tools: &Value| matches!(tools.as_str(), Some("" | "[]")) || tools.as_array().is_some_and(Vec::is_empty);
        if given(object, "tools").is_some_and(|tools| !no_tools(tools)) {
            return Err("`tools` cannot be rendered; leave the column out, or put them into the system prompt".into());
        }
        let question = Self::question(object)?;
        let question = match history(object)? {
            before if before.is_empty() => question,
            before => Question::Chat([before, question.messages()].concat()),
        };
        Ok(Self { system, question })
    }

    fn question(object: &Object) -> Result<Question, String> {
        for key in ["conversations", "conversation", "prompt"] {
            if let Some(Value::Array(list)) = given(object, key) {
                return Ok(Question::Chat(conversation(list)?));
            }
        }
        if let Some(prompt) = given(object, "prompt") {
            let prompt = prompt.as_str().ok_or("`prompt` must be a text, or a list of messages")?;
            return Ok(Question::Text(prompt.to_owned()));
        }
        let user = |text: String| Ok(Question::Chat(vec![Message::new("user", text)]));
        if let Some(question) = text(object, &["question", "query"]) {
            return user(question.to_owned());
        }
        match (text(object, &["instruction"]), text(object, &["input"]).filter(|input| !input.is_empty())) {
            (Some(instruction), Some(input)) => user(format!("{instruction}\n{input}")),
            (Some(text), None) | (None, Some(text)) => user(text.to_owned()),
            (None, None) => Ok(Question::None),
        }
    }
}

/// `history` of LLaMA-Factory: pairs of a question and its answer.
fn history(object: &Object) -> Result<Vec<Message>, String> {
    let Some(list) = given(object, "history").and_then(Value::as_array) else { return Ok(Vec::new()) };
    let mut messages = Vec::new();
    for turn in list {
        match turn.as_array().map(Vec::as_slice) {
            Some([Value::String(user), Value::String(assistant)]) => {
                messages.extend([Message::new("user", user), Message::new("assistant", assistant)]);
            }
            _ => return Err("`history` must be a list of [question, answer]".into()),
        }
    }
    Ok(messages)
}

/// Puts the system prompt of a column in front of a conversation.
fn with_system(system: Option<String>, mut messages: Vec<Message>) -> Result<Vec<Message>, String> {
    let Some(system) = system.filter(|text| !text.is_empty()) else { return Ok(messages) };
    match messages.iter().find(|m| m.role == "system") {
        Some(own) if own.content == system => {}
        Some(_) => {
            return Err("there are two system prompts, in a column and in the conversation; leave one out".into());
        }
        None => messages.insert(0, Message::new("system", system)),
    }
    Ok(messages)
}

/// Two conversations, split after what they share; what was asked may stand in them, or beside them.
fn lists(asked: Asked, chosen: &[Message], rejected: &[Message]) -> Result<Raw, String> {
    let last = chosen.len().min(rejected.len()).saturating_sub(1);
    // The last message is the response, even where both are alike.
    let n = chosen[..last].iter().zip(rejected).take_while(|(a, b)| a == b).count();
    let (shared, [c], [r]) = (&chosen[..n], &chosen[n..], &rejected[n..]) else {
        return Err("`chosen` and `rejected` must differ in their last message alone".into());
    };
    let answer = |m: &Message| match m.role.as_str() {
        "assistant" => Ok(m.content.clone()),
        _ => Err("the last message of `chosen` and `rejected` must be the assistant's"),
    };
    let (c, r) = (answer(c)?, answer(r)?);
    let asked_before = match asked.question {
        Question::Chat(messages) if !messages.is_empty() && !shared.windows(messages.len()).any(|w| w == messages) => {
            messages
        }
        // A `prompt` beside the conversations repeats a question of theirs.
        Question::Text(prompt) if !shared.iter().any(|m| m.role == "user") => vec![Message::new("user", prompt)],
        _ => Vec::new(),
    };
    // A system prompt stays in front of a question that stands beside the conversations.
    let n_system = shared.iter().take_while(|m| m.role == "system").count();
    let messages = [&shared[..n_system], &asked_before, &shared[n_system..]].concat();
    if messages.is_empty() {
        return Err("`chosen` and `rejected` share no question, and there is no `prompt`".into());
    }
    Ok(pair(TrainingPrompt::Chat(with_system(asked.system, messages)?), c, r))
}

/// Two whole transcripts, split after the last "\n\nAssistant:" they share.
fn transcripts(system: Option<&str>, chosen: &str, rejected: &str) -> Result<Raw, String> {
    const MARK: &str = "\n\nAssistant:";
    let common = chosen.char_indices().zip(rejected.chars()).take_while(|((_, a), b)| a == b);
    let end = common.last().map_or(0, |((i, c), _)| i + c.len_utf8());
    let at = chosen[..end]
        .rfind(MARK)
        .ok_or("there is no `prompt`, and the transcripts share no \"\\n\\nAssistant:\" turn")?
        + MARK.len();
    let prompt = TrainingPrompt::Text(format!("{}{}", system.unwrap_or_default(), &chosen[..at]));
    Ok(pair(prompt, chosen[at..].to_string(), rejected[at..].to_string()))
}

/// A text, or a prompt with its response, for next-token training. Of a pair the chosen response is taken.
fn parse_text(object: &Object) -> Result<Raw, String> {
    if let Some(text) = text(object, &["text"]) {
        return Ok(single(TrainingPrompt::Text(String::new()), text.to_owned()));
    }
    if let (Some(chosen), None) = (given(object, "chosen"), given(object, "rejected")) {
        let mut pair = object.clone();
        pair.insert("rejected".into(), chosen.clone());
        return Ok(Raw { rejected: None, ..parse_pair(&pair)? });
    }
    if given(object, "chosen").is_some() {
        return Ok(Raw { rejected: None, ..parse_pair(object)? });
    }
    let asked = Asked::of(object)?;
    let answer = ["response", "completion", "output", "answer"].iter().find_map(|key| given(object, key));
    if let Some(answer) = answer {
        let prompt = match asked.question {
            Question::None => return Err("there is a response, and no `prompt`".into()),
            Question::Text(prompt) if answer.is_string() && asked.system.is_none() => TrainingPrompt::Text(prompt),
            question => TrainingPrompt::Chat(with_system(asked.system, question.messages())?),
        };
        return Ok(single(prompt, response(answer)?));
    }
    let list = ["messages", "conversations", "conversation"].iter().find_map(|key| given(object, key)?.as_array());
    let list = list.ok_or("expected `text`, `messages`, or `prompt` with `response`")?;
    let mut messages = conversation(list)?;
    let Some(last) = messages.pop().filter(|m| m.role == "assistant") else {
        return Err("the last message must be the assistant's".into());
    };
    let prompt = TrainingPrompt::Chat(with_system(asked.system, messages)?);
    Ok(single(prompt, last.content))
}

fn single(prompt: TrainingPrompt, text: String) -> Raw {
    Raw { prompt, chosen: text, rejected: None, cut_off: [false; 2] }
}

/// Messages in TRL's (`role`, `content`) or ShareGPT's (`from`, `value`) words, in TRL's.
fn conversation(list: &[Value]) -> Result<Vec<Message>, String> {
    let one = |m: &Value| {
        let role = m.get("role").or_else(|| m.get("from")).and_then(Value::as_str).ok_or("a message has no role")?;
        let role = match role.to_ascii_lowercase().as_str() {
            "human" | "user" | "prompter" => "user",
            "gpt" | "assistant" | "model" | "bot" | "chatgpt" | "function_call" => "assistant",
            "system" | "developer" => "system",
            "tool" | "function" | "observation" | "ipython" => "tool",
            other => {
                return Err(format!("the role `{other}` cannot be rendered; known: system, user, assistant, tool"));
            }
        };
        match given_of(m, "tool_calls").and_then(Value::as_array).filter(|calls| !calls.is_empty()) {
            Some(calls) => Ok(Message::new(role, with_calls(m, calls)?)),
            None => Ok(Message::new(role, response(m)?)),
        }
    };
    list.iter().map(one).collect()
}

fn given_of<'a>(value: &'a Value, key: &str) -> Option<&'a Value> {
    given(value.as_object()?, key)
}

/// A message that calls tools: its text, then each call as Hermes, Qwen and SmolLM3 write it.
fn with_calls(message: &Value, calls: &[Value]) -> Result<String, String> {
    let mut text = match ["content", "value"].iter().find_map(|key| given_of(message, key)) {
        Some(content) => text_of_parts(content)?,
        None => String::new(),
    };
    for call in calls {
        let call = given_of(call, "function").unwrap_or(call);
        let name = given_of(call, "name").and_then(Value::as_str).ok_or("a call in `tool_calls` has no name")?;
        let arguments = match given_of(call, "arguments") {
            Some(Value::String(json)) => serde_json::from_str(json).unwrap_or_else(|_| json.as_str().into()),
            Some(arguments) => arguments.clone(),
            None => json!({}),
        };
        text += if text.is_empty() { "" } else { "\n" };
        text += &format!("<tool_call>\n{}\n</tool_call>", json!({"name": name, "arguments": arguments}));
    }
    Ok(text)
}

/// The text of a response: a string, a message, or a list of one message.
fn response(value: &Value) -> Result<String, String> {
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::Object(m) => {
            let content = ["content", "value", "text"].iter().find_map(|key| given(m, key));
            text_of_parts(content.ok_or("a message has no text")?)
        }
        Value::Array(list) if list.len() == 1 => response(&list[0]),
        _ => Err("a response must be a text, or one message".into()),
    }
}

/// What data is that has no two responses under `chosen` and `rejected`.
fn other_form(object: &Object) -> String {
    let has = |keys: &[&str]| keys.iter().all(|key| given(object, key).is_some());
    let hint = if has(&["label"]) && (has(&["completion"]) || has(&["response"])) || has(&["kto_tag"]) {
        "single responses with a label (KTO) are no pairs; join those of one prompt to `chosen` and `rejected`"
    } else if has(&["preferred"]) {
        "two responses with a label per objective; add --prefer NAME for one of them, or --objective parm --prefer \
         NAME,NAME,… for several"
    } else if has(&["response_0", "response_1"]) {
        "two responses with a label per objective; add --prefer helpful (`better_response_id`) or --prefer harmless \
         (`safer_response_id`)"
    } else if has(&["human_ref_A", "human_ref_B"]) {
        "two responses with a label: `human_ref_A` and `human_ref_B`; add --prefer labels"
    } else if has(&["winner"]) || has(&["preference"]) {
        "name the columns of the two responses: --columns chosen=NAME,rejected=NAME"
    } else if has(&["responses"]) || has(&["completions"]) {
        "ranked responses; name the score that decides: --prefer overall_score (or helpfulness, …)"
    } else if has(&["chosen"]) {
        "`rejected` is missing"
    } else if has(&["rejected"]) {
        "`chosen` is missing"
    } else if has(&["text"]) || has(&["messages"]) || has(&["output"]) || has(&["response"]) {
        "`chosen` and `rejected` are missing; texts without a preference are for --objective sft"
    } else {
        "`chosen` and `rejected` are missing"
    };
    hint.to_owned()
}
