//! Chat templates: Jinja as Hugging Face's tokenizers read it.

use std::fmt;
use std::path::{Path, PathBuf};

use jiff::ZonedDateTime;
use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Serde};
use minijinja::{Environment, Error, ErrorKind, Value, context};
use serde::Serialize;

use super::conversation::Message;
use crate::nearest::suggestion;

/// The templates that have a name, with their Jinja source.
const BUILTIN: [(&str, &str); 7] = [
    (
        "chatml",
        r"{% for m in messages %}{{ '<|im_start|>' ~ m.role ~ '\n' ~ m.content ~ '<|im_end|>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}",
    ),
    (
        "llama2",
        r"{% set ns = namespace(system='') %}{% for m in messages %}{% if m.role == 'system' %}{% set ns.system = '<<SYS>>\n' ~ m.content ~ '\n<</SYS>>\n\n' %}{% elif m.role == 'user' %}{{ bos_token ~ '[INST] ' ~ ns.system ~ (m.content | trim) ~ ' [/INST]' }}{% set ns.system = '' %}{% else %}{{ ' ' ~ (m.content | trim) ~ ' ' ~ eos_token }}{% endif %}{% endfor %}",
    ),
    (
        "llama3",
        r"{{ bos_token }}{% for m in messages %}{{ '<|start_header_id|>' ~ m.role ~ '<|end_header_id|>\n\n' ~ (m.content | trim) ~ '<|eot_id|>' }}{% endfor %}{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}",
    ),
    (
        "zephyr",
        r"{% for m in messages %}{{ '<|' ~ m.role ~ '|>\n' ~ m.content ~ eos_token ~ '\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}",
    ),
    (
        "alpaca",
        r"{% if messages and messages[0].role != 'system' %}{{ 'Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n' }}{% endif %}{% for m in messages %}{% if m.role == 'system' %}{{ m.content ~ '\n\n' }}{% elif m.role == 'user' %}{{ '### Instruction:\n' ~ m.content ~ '\n\n' }}{% else %}{{ '### Response:\n' ~ m.content ~ eos_token ~ '\n\n' }}{% endif %}{% endfor %}{% if add_generation_prompt %}{{ '### Response:\n' }}{% endif %}",
    ),
    (
        "hh",
        r"{% for m in messages %}{% if m.role == 'system' %}{{ m.content }}{% elif m.role == 'user' %}{{ '\n\nHuman: ' ~ m.content }}{% else %}{{ '\n\nAssistant: ' ~ m.content }}{% endif %}{% endfor %}{% if add_generation_prompt %}{{ '\n\nAssistant:' }}{% endif %}",
    ),
    ("raw", r"{% for m in messages %}{{ m.content }}{% endfor %}"),
];

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
    /// The template refuses the conversation, or fails on it.
    #[error("the chat template cannot render this conversation: {0}")]
    Render(String),
}

/// Where a template comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TemplateRef {
    /// A template that genarm knows by name.
    BuiltIn(&'static str),
    /// Jinja itself.
    Inline(String),
    /// A file of Jinja.
    File(PathBuf),
}

impl TemplateRef {
    /// Reads a setting: Jinja holds `{{`, `{%` or a line break, a path a `.` or a slash, and all else is a built-in name.
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
    let suggestion = suggestion(name, BUILTIN.iter().map(|(name, _)| *name));
    TemplateError::UnknownName { name: name.to_owned(), suggestion }
}

/// A template, parsed and ready to render.
#[derive(Clone)]
pub struct ChatTemplate {
    environment: Environment<'static>,
    source: String,
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
        let source = source.into();
        let mut environment = environment();
        environment.add_template_owned("chat", source.clone()).map_err(|e| TemplateError::Syntax(one_line(&e)))?;
        Ok(Self { environment, source })
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

    /// Takes a template from where it is.
    ///
    /// # Errors
    ///
    /// What [`builtin`](Self::builtin), [`from_source`](Self::from_source) or reading the file says.
    pub fn from_ref(template: &TemplateRef) -> Result<Self, TemplateError> {
        match template {
            TemplateRef::BuiltIn(name) => Self::builtin(name),
            TemplateRef::Inline(source) => Self::from_source(source.as_str()),
            TemplateRef::File(path) => {
                let fail = |reason: String| TemplateError::Read { path: path.clone(), reason };
                let bytes = std::fs::read(path).map_err(|e| fail(e.to_string()))?;
                Self::from_source(String::from_utf8(bytes).map_err(|_| fail("it is not UTF-8 text".to_owned()))?)
            }
        }
    }

    /// Takes the template that a resolved configuration names (its paths are ready to open).
    ///
    /// # Errors
    ///
    /// As [`TemplateRef::parse`] and [`from_ref`](Self::from_ref).
    pub fn from_setting(text: &str) -> Result<Self, TemplateError> {
        Self::from_ref(&TemplateRef::parse(text, Path::new(""))?)
    }

    /// The Jinja text.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Writes a conversation as prompt text. `bos` and `eos` are the texts of the model's special tokens.
    ///
    /// # Errors
    ///
    /// [`TemplateError::Render`], with the template's own words where it refuses the conversation.
    pub fn render(
        &self,
        messages: &[Message],
        add_generation_prompt: bool,
        bos: &str,
        eos: &str,
    ) -> Result<String, TemplateError> {
        let fail = |e: Error| TemplateError::Render(one_line(&e));
        let template = self.environment.get_template("chat").map_err(fail)?;
        template.render(context! { messages => Value::from(Serde(messages)), add_generation_prompt, bos_token => bos, eos_token => eos }).map_err(fail)
    }
}

/// Whether a rendered prompt brings its own begin-of-text token, so that the tokenizer must not add another.
pub fn starts_with_bos(rendered: &str, bos: &str) -> bool {
    !bos.is_empty() && rendered.starts_with(bos)
}

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
    environment.add_function("strftime_now", |format: String| -> Result<String, Error> {
        jiff::fmt::strtime::format(&format, &ZonedDateTime::now())
            .map_err(|e| Error::new(ErrorKind::InvalidOperation, format!("strftime_now: {e}")))
    });
    environment.add_filter("tojson", tojson);
    environment
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
