//! Chat templates: Jinja as Hugging Face's tokenizers read it.

use std::fmt;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use jiff::tz::TimeZone;
use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Serde, ValueKind};
use minijinja::{Environment, Error, ErrorKind, State, Value};
use serde::Serialize;
use serde_json::{Map, Value as Json};

use super::builtin::{BUILTIN, HH};
use super::conversation::Message;
use super::rendered::{Rendered, SpecialTexts, Tokenize};
use super::{source, trace};
use crate::nearest::suggestion;

/// The setting that stands for the model's own template.
const AUTO: &str = "auto";

/// The roles that templates know. Another would be written as markup.
const ROLES: [&str; 4] = ["system", "user", "assistant", "tool"];

/// Steps that one rendering may take: a template comes out of a downloaded file, and must not hang the program.
const FUEL: u64 = 5_000_000;

/// A template that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TemplateError {
    /// No built-in template has this name.
    #[error("unknown chat template \"{name}\"{suggestion} (a file needs a . or / in its path)")]
    UnknownName {
        /// The name.
        name: String,
        /// The end of the message: the nearest valid name, or all of them.
        suggestion: String,
    },
    /// The text is empty.
    #[error("the chat template is empty, write a built-in name, a file or inline Jinja")]
    Empty,
    /// The file cannot be read.
    #[error("cannot read the chat template {}: {reason}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// The text is not Jinja.
    #[error("the chat template is not valid Jinja: {0}")]
    Syntax(String),
    /// A role that no template knows.
    #[error("unknown role \"{0}\"; use system, user, assistant or tool")]
    Role(String),
    /// The template reads a control token that a message spells as its own.
    #[error(
        "a message spells a control token, and the chat template takes it for its own; leave the token out of the message"
    )]
    Markup,
    /// The tools, the calls of an earlier answer, or the name in a message spell a control token.
    #[error("{0} spells a control token, which only the chat template may write; leave the token out")]
    Tools(&'static str),
    /// A variable for the template spells a control token.
    #[error(
        "chat_template_kwargs.{0} spells a control token, which only the chat template may write; leave the token out"
    )]
    Variable(String),
    /// The template refuses the conversation, or fails on it.
    #[error("the chat template cannot render this conversation: {0}")]
    Render(String),
}

/// Where a template comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TemplateRef {
    /// The model's own.
    Auto,
    /// A template that genarm knows by name.
    BuiltIn(&'static str),
    /// Jinja itself.
    Inline(String),
    /// A file of Jinja.
    File(PathBuf),
}

impl TemplateRef {
    /// Reads a setting: Jinja holds `{{`, `{%` or a line break, a path a `.` or a slash, and all else is `auto` or a
    /// built-in name.
    ///
    /// A relative path starts at `folder`.
    ///
    /// # Errors
    ///
    /// [`TemplateError::Empty`], or [`TemplateError::UnknownName`] with the nearest name.
    pub fn parse(text: &str, folder: &Path) -> Result<Self, TemplateError> {
        if text.trim().is_empty() {
            return Err(TemplateError::Empty);
        }
        if text.contains("{{") || text.contains("{%") || text.contains('\n') {
            return Ok(Self::Inline(text.to_owned()));
        }
        if text == AUTO {
            return Ok(Self::Auto);
        }
        if let Some((name, _)) = BUILTIN.iter().find(|(name, _)| *name == text) {
            return Ok(Self::BuiltIn(name));
        }
        if text.contains(['/', '\\', '.']) {
            return Ok(Self::File(folder.join(text)));
        }
        Err(unknown(text))
    }
}

fn unknown(name: &str) -> TemplateError {
    let suggestion = suggestion(name, BUILTIN.iter().map(|(name, _)| *name).chain([AUTO]));
    TemplateError::UnknownName { name: name.to_owned(), suggestion }
}

/// A template, parsed and ready to render.
#[derive(Clone)]
pub struct ChatTemplate {
    environment: Environment<'static>,
    source: String,
    /// Why it cannot be parsed.
    fault: Option<TemplateError>,
    /// Variables that it reads beside the conversation.
    variables: Map<String, Json>,
}

impl fmt::Debug for ChatTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChatTemplate").field("source", &self.source).finish_non_exhaustive()
    }
}

impl ChatTemplate {
    /// Parses Jinja.
    ///
    /// # Errors
    ///
    /// [`TemplateError::Syntax`].
    pub fn from_source(source: impl Into<String>) -> Result<Self, TemplateError> {
        let template = Self::of_model(source);
        template.fault.clone().map_or(Ok(template), Err)
    }

    /// Parses the Jinja that a model's file brings. What is wrong with it is reported when a conversation is written:
    /// it does not matter before.
    pub fn of_model(source: impl Into<String>) -> Self {
        let source = source.into();
        let mut environment = environment();
        let added = environment.add_template_owned("chat", source::prepare(&source));
        let fault = added.err().map(|e| TemplateError::Syntax(one_line(&e)));
        Self { environment, source, fault, variables: Map::new() }
    }

    /// The built-in template of that name; [`builtin_names`](Self::builtin_names) lists them.
    ///
    /// # Errors
    ///
    /// [`TemplateError::UnknownName`] with the nearest name.
    pub fn builtin(name: &str) -> Result<Self, TemplateError> {
        let source = BUILTIN.iter().find(|(known, _)| *known == name).ok_or_else(|| unknown(name))?.1;
        Self::from_source(source)
    }

    /// The names of the built-in templates.
    pub fn builtin_names() -> impl Iterator<Item = &'static str> + Clone {
        BUILTIN.iter().map(|(name, _)| *name)
    }

    /// Takes a template from where it is; `None` is the model's own.
    ///
    /// # Errors
    ///
    /// What [`builtin`](Self::builtin), [`from_source`](Self::from_source) or reading the file says.
    pub fn from_ref(template: &TemplateRef) -> Result<Option<Self>, TemplateError> {
        match template {
            TemplateRef::Auto => return Ok(None),
            TemplateRef::BuiltIn(name) => Self::builtin(name),
            TemplateRef::Inline(source) => Self::from_source(source.as_str()),
            TemplateRef::File(path) => {
                let fail = |reason: String| TemplateError::Read { path: path.clone(), reason };
                let bytes = std::fs::read(path).map_err(|e| fail(e.to_string()))?;
                Self::from_source(String::from_utf8(bytes).map_err(|_| fail("it is not UTF-8 text".to_owned()))?)
            }
        }
        .map(Some)
    }

    /// Takes the template that a resolved setting names (its paths are ready to open); `None` is the model's own.
    ///
    /// # Errors
    ///
    /// As [`TemplateRef::parse`] and [`from_ref`](Self::from_ref).
    pub fn from_setting(text: &str) -> Result<Option<Self>, TemplateError> {
        Self::from_ref(&TemplateRef::parse(text, Path::new(""))?)
    }

    /// Takes the template that an ARM was trained with, as its file records it: Jinja or a built-in name, and never
    /// another file. What is wrong with it is reported when a conversation is written.
    pub fn of_training(record: &str) -> Self {
        Self::builtin(record).unwrap_or_else(|_| Self::of_model(record))
    }

    /// The same template with these variables beside the conversation, such as `enable_thinking`.
    #[must_use]
    pub fn given(&self, variables: &Map<String, Json>) -> Self {
        Self { variables: variables.clone(), ..self.clone() }
    }

    /// The Jinja text.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Whether it writes tools and their calls.
    pub fn knows_tools(&self) -> bool {
        self.source.contains(TOOLS) && self.source.contains("tool_calls")
    }

    /// Writes a conversation as prompt text, to be continued by the assistant, and marks what came from its messages.
    /// `words` is the vocabulary that the text is for.
    ///
    /// # Errors
    ///
    /// [`TemplateError::Render`], with the template's own words where it refuses the conversation;
    /// [`TemplateError::Syntax`]; [`TemplateError::Role`]; [`TemplateError::Markup`]; [`TemplateError::Variable`].
    pub fn write(&self, messages: &[Message], words: &dyn Tokenize) -> Result<Rendered, TemplateError> {
        if let Some(fault) = &self.fault {
            return Err(fault.clone());
        }
        let spells = |value: &Json| any_text(value, &|text| !words.control_tokens(text).is_empty());
        match self.variables.iter().find(|(_, value)| spells(value)) {
            Some((name, _)) if name == TOOLS => return Err(TemplateError::Tools(TOOLS)),
            Some((name, _)) => return Err(TemplateError::Variable(name.clone())),
            None => {}
        }
        if messages.iter().flat_map(|message| &message.tool_calls).any(spells) {
            return Err(TemplateError::Tools("a message's tool_calls"));
        }
        for message in messages {
            let names = [("a message's name", &message.name), ("a message's tool_call_id", &message.tool_call_id)];
            let spells =
                |text: &Option<String>| text.as_ref().is_some_and(|text| !words.control_tokens(text).is_empty());
            if let Some((field, _)) = names.into_iter().find(|(_, text)| spells(text)) {
                return Err(TemplateError::Tools(field));
            }
        }
        let messages = messages.iter().map(known_role).collect::<Result<Vec<_>, _>>()?;
        let (special, now) = (words.special(), Timestamp::now());
        let render = |messages: &[Message]| self.render(messages, true, &special, now);
        let text = render(&messages)?;
        let controls = |text: &str| words.control_tokens(text);
        let contents = trace::contents(&messages, &text, &controls, render).ok_or(TemplateError::Markup)?;
        // Anthropic's transcripts have a space there, which is no part of the answer.
        let lead = if self.source == HH { " " } else { "" };
        Ok(Rendered::new(text, contents, lead))
    }

    /// The text of a conversation, to be continued by the assistant or complete.
    ///
    /// # Errors
    ///
    /// As [`write`](Self::write), but for what the text may spell.
    pub fn text(
        &self,
        messages: &[Message],
        words: &dyn Tokenize,
        add_generation_prompt: bool,
    ) -> Result<String, TemplateError> {
        if let Some(fault) = &self.fault {
            return Err(fault.clone());
        }
        let messages = messages.iter().map(known_role).collect::<Result<Vec<_>, _>>()?;
        self.render(&messages, add_generation_prompt, &words.special(), Timestamp::now())
    }

    /// Writes a conversation as prompt text.
    fn render(
        &self,
        messages: &[Message],
        add_generation_prompt: bool,
        special: &SpecialTexts,
        now: Timestamp,
    ) -> Result<String, TemplateError> {
        let fail = |e: Error| TemplateError::Render(one_line(&e));
        let template = self.environment.get_template("chat").map_err(fail)?;
        // As transformers calls a template: without tools and documents these names are there, and none.
        let names = [
            ("messages", Value::from(Serde(messages))),
            ("add_generation_prompt", add_generation_prompt.into()),
            (TOOLS, self.variables.get(TOOLS).map_or(Value::from(()), |tools| Value::from(Serde(tools)))),
            ("documents", Value::from(())),
            ("bos_token", (&*special.bos).into()),
            ("eos_token", (&*special.eos).into()),
            (NOW, now.as_second().into()),
        ];
        let more = [("pad_token", &special.pad), ("unk_token", &special.unk)];
        let more = more.into_iter().filter_map(|(name, text)| Some((name, text.as_deref()?.into())));
        // The names above win: a variable never stands for the conversation.
        let given = self.variables.iter().map(|(name, value)| (name.as_str(), Value::from(Serde(value))));
        template.render(Value::from_pairs(given.chain(names).chain(more))).map_err(fail)
    }
}

/// The variable that holds the tools which the assistant may call.
pub const TOOLS: &str = "tools";

/// The first of the variables that [`ChatTemplate::write`] sets itself, and that nothing else may.
pub fn own_variable(given: &Map<String, Json>) -> Option<&'static str> {
    let own = ["messages", "add_generation_prompt", TOOLS, "documents", "bos_token", "eos_token"];
    own.into_iter().find(|name| given.contains_key(*name))
}

/// Whether any text in a JSON value, names of members too, is one that `is` finds.
fn any_text(value: &Json, is: &dyn Fn(&str) -> bool) -> bool {
    match value {
        Json::String(text) => is(text),
        Json::Array(values) => values.iter().any(|value| any_text(value, is)),
        Json::Object(members) => members.iter().any(|(name, value)| is(name) || any_text(value, is)),
        _ => false,
    }
}

/// The message under the role that templates know.
fn known_role(message: &Message) -> Result<Message, TemplateError> {
    match &*message.role {
        // OpenAI's newer name.
        "developer" => Ok(Message { role: "system".to_owned(), ..message.clone() }),
        role if ROLES.contains(&role) => Ok(message.clone()),
        other => Err(TemplateError::Role(other.to_owned())),
    }
}

/// The name under which a template reads the time: all its renderings of one prompt read the same.
const NOW: &str = "genarm_now";

/// Jinja as `transformers.utils.chat_template_utils` sets it up.
fn environment() -> Environment<'static> {
    let mut environment = Environment::new();
    // Without other delimiters there is nothing in a syntax that could be refused.
    if let Ok(syntax) = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build() {
        environment.set_syntax(syntax);
    }
    environment.set_fuel(Some(FUEL));
    environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
    environment.add_function("raise_exception", |message: String| -> Result<Value, Error> {
        Err(Error::new(ErrorKind::InvalidOperation, message))
    });
    environment.add_function("strftime_now", strftime_now);
    environment.add_filter("tojson", tojson);
    environment.set_formatter(|out, state, value| match value.kind() {
        // As Python writes them.
        ValueKind::Bool => Ok(out.write_str(if value.is_true() { "True" } else { "False" })?),
        ValueKind::None => Ok(out.write_str("None")?),
        _ => minijinja::escape_formatter(out, state, value),
    });
    environment
}

fn strftime_now(state: &State<'_, '_>, format: String) -> Result<String, Error> {
    let second = state.lookup(NOW).and_then(|now| i64::try_from(now).ok());
    let now = second.and_then(|second| Timestamp::from_second(second).ok()).unwrap_or_else(Timestamp::now);
    jiff::fmt::strtime::format(&format, &now.to_zoned_datetime(TimeZone::system()))
        .map_err(|e| Error::new(ErrorKind::InvalidOperation, format!("strftime_now: {e}")))
}

/// `json.dumps(value, ensure_ascii=False)`: minijinja's own filter escapes for HTML, which a model has never seen.
fn tojson(value: Value, options: Kwargs) -> Result<Value, Error> {
    let indent: Option<usize> = options.get("indent")?;
    let sort_keys: Option<bool> = options.get("sort_keys")?;
    let _: Option<bool> = options.get("ensure_ascii")?;
    options.assert_all_used()?;
    let fail = |e: serde_json::Error| Error::new(ErrorKind::BadSerialization, e.to_string());
    let mut json = serde_json::to_value(&value).map_err(fail)?;
    if sort_keys == Some(true) {
        json.sort_all_objects();
    }
    let mut out = Vec::new();
    match indent {
        Some(width) => {
            // A width beyond any use would only take memory.
            let indent = " ".repeat(width.min(64));
            let formatter = serde_json::ser::PrettyFormatter::with_indent(indent.as_bytes());
            json.serialize(&mut serde_json::Serializer::with_formatter(&mut out, formatter)).map_err(fail)?;
        }
        None => json.serialize(&mut serde_json::Serializer::with_formatter(&mut out, PythonJson)).map_err(fail)?,
    }
    Ok(Value::from_safe_string(String::from_utf8_lossy(&out).into_owned()))
}

/// Python's separators: a space after `,` and `:`.
struct PythonJson;

impl serde_json::ser::Formatter for PythonJson {
    fn begin_array_value<W: ?Sized + std::io::Write>(&mut self, writer: &mut W, first: bool) -> std::io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }

    fn begin_object_key<W: ?Sized + std::io::Write>(&mut self, writer: &mut W, first: bool) -> std::io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }

    fn begin_object_value<W: ?Sized + std::io::Write>(&mut self, writer: &mut W) -> std::io::Result<()> {
        writer.write_all(b": ")
    }
}

fn one_line(error: &Error) -> String {
    let place = error.line().map(|line| format!(" (line {line})")).unwrap_or_default();
    let text = error.detail().map_or_else(|| error.kind().to_string(), str::to_owned);
    format!("{}{place}", text.split_whitespace().collect::<Vec<_>>().join(" "))
}

#[cfg(test)]
#[path = "template_tests.rs"]
mod tests;
