//! llama.cpp's reading of chat templates with tools, and of the answers to them (`common/chat.h`), through
//! `vendor/chat`: grammar and triggers of the calls, and a parser of content, reasoning and calls for every family.

use std::ffi::{CStr, CString, c_char};
use std::ptr::NonNull;

use serde_json::Value;

use crate::brief;

/// Brackets that open in a text: the parser calls itself for each that is not closed, and which are is not known where
/// some stand in strings.
const MAX_BRACKETS: usize = 20_000;
/// Characters of an error of llama.cpp's.
const MAX_ERROR: usize = 300;

/// What llama.cpp cannot read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AnswerError {
    /// It says why.
    #[error("{0}")]
    Refused(String),
    /// The text may nest too deep.
    #[error("it has more than {MAX_BRACKETS} brackets")]
    Brackets,
    /// There is nothing to read.
    #[error("it is empty")]
    Empty,
    /// There was no thread to read it on.
    #[error("no thread: {0}")]
    Thread(String),
    /// The text holds a NUL character.
    #[error("it holds a NUL character")]
    Nul,
    /// What came back is no JSON.
    #[error("llama.cpp gave no JSON")]
    NoJson,
}

#[repr(C)]
struct Templates {
    _private: [u8; 0],
}

#[repr(C)]
struct ParserParams {
    _private: [u8; 0],
}

unsafe extern "C" {
    fn genarm_chat_template(
        source: *const c_char,
        bos: *const c_char,
        eos: *const c_char,
        error: *mut *mut c_char,
    ) -> *mut Templates;
    fn genarm_chat_template_free(templates: *mut Templates);
    fn genarm_chat_caps(templates: *const Templates) -> *mut c_char;
    fn genarm_chat_apply(templates: *const Templates, asked: *const c_char) -> *mut c_char;
    fn genarm_chat_parser(params: *const c_char, error: *mut *mut c_char) -> *mut ParserParams;
    fn genarm_chat_parser_free(parser: *mut ParserParams);
    fn genarm_chat_parse(parser: *const ParserParams, text: *const c_char, is_partial: bool) -> *mut c_char;
    fn genarm_chat_free(text: *mut c_char);
}

/// A chat template, as llama.cpp reads it.
pub struct AnswerTemplate(NonNull<Templates>);

// SAFETY: the object is not changed after it is made; all calls but the last take it as const.
unsafe impl Send for AnswerTemplate {}
// SAFETY: as above.
unsafe impl Sync for AnswerTemplate {}

impl AnswerTemplate {
    /// Reads a template: Jinja, with the texts of the tokens that begin and end a text.
    ///
    /// # Errors
    ///
    /// [`AnswerError`].
    pub fn new(source: &str, bos: &str, eos: &str) -> Result<Self, AnswerError> {
        if source.is_empty() {
            return Err(AnswerError::Empty);
        }
        let [source, bos, eos] = [c_text(source)?, c_text(bos)?, c_text(eos)?];
        deep(|| {
            let mut error = std::ptr::null_mut();
            // SAFETY: three texts that end with NUL and live through the call, and a place for the error. The source is
            // not empty, for which llama.cpp would look into a model.
            let made = unsafe { genarm_chat_template(source.as_ptr(), bos.as_ptr(), eos.as_ptr(), &raw mut error) };
            NonNull::new(made).map(Self).ok_or_else(|| refused(error))
        })
    }

    /// What the template can do: `supports_tools`, `supports_tool_calls`, `supports_object_arguments` and more.
    ///
    /// # Errors
    ///
    /// [`AnswerError`].
    pub fn caps(&self) -> Result<Value, AnswerError> {
        let this = self;
        // SAFETY: the object lives.
        deep(|| taken(unsafe { genarm_chat_caps(this.as_ptr()) }))
    }

    /// How conversations like this one are answered: `asked` holds `messages`, `tools`, `tool_choice` and so on, as
    /// `vendor/chat` reads them. What clients write does not belong there unchecked: llama.cpp follows schemas and
    /// values as deep as they go. What comes back holds `grammar`, `triggers`, `preserved_tokens`, `additional_stops`
    /// and what
    /// [`AnswerParser::new`] takes.
    ///
    /// # Errors
    ///
    /// [`AnswerError`].
    pub fn apply(&self, asked: &Value) -> Result<Value, AnswerError> {
        let (this, asked) = (self, c_text(&asked.to_string())?);
        // SAFETY: the object lives, and so does the text, which ends with NUL.
        deep(|| taken(unsafe { genarm_chat_apply(this.as_ptr(), asked.as_ptr()) }))
    }

    fn as_ptr(&self) -> *const Templates {
        self.0.as_ptr()
    }
}

impl Drop for AnswerTemplate {
    fn drop(&mut self) {
        // SAFETY: the object was made by `genarm_chat_template` and is not used after this.
        unsafe { genarm_chat_template_free(self.0.as_ptr()) }
    }
}

/// A parser of answers.
pub struct AnswerParser(NonNull<ParserParams>);

// SAFETY: the object is not changed after it is made; all calls but the last take it as const.
unsafe impl Send for AnswerParser {}
// SAFETY: as above.
unsafe impl Sync for AnswerParser {}

impl AnswerParser {
    /// The parser that [`AnswerTemplate::apply`] describes.
    ///
    /// # Errors
    ///
    /// [`AnswerError`].
    pub fn new(params: &Value) -> Result<Self, AnswerError> {
        let params = c_text(&params.to_string())?;
        deep(|| {
            let mut error = std::ptr::null_mut();
            // SAFETY: the text lives through the call and ends with NUL.
            let made = unsafe { genarm_chat_parser(params.as_ptr(), &raw mut error) };
            NonNull::new(made).map(Self).ok_or_else(|| refused(error))
        })
    }

    /// What an answer says, so far where it `is_partial`: `content`, `reasoning_content`, `tool_calls`.
    ///
    /// # Errors
    ///
    /// [`AnswerError`]: the text is no answer of this template.
    pub fn parse(&self, text: &str, is_partial: bool) -> Result<Value, AnswerError> {
        if text.bytes().filter(|byte| matches!(byte, b'[' | b'{')).count() > MAX_BRACKETS {
            return Err(AnswerError::Brackets);
        }
        let (this, text) = (self, c_text(text)?);
        // SAFETY: the object lives, and so does the text, which ends with NUL.
        deep(|| taken(unsafe { genarm_chat_parse(this.as_ptr(), text.as_ptr(), is_partial) }))
    }

    fn as_ptr(&self) -> *const ParserParams {
        self.0.as_ptr()
    }
}

impl Drop for AnswerParser {
    fn drop(&mut self) {
        // SAFETY: the object was made by `genarm_chat_parser` and is not used after this.
        unsafe { genarm_chat_parser_free(self.0.as_ptr()) }
    }
}

fn c_text(text: &str) -> Result<CString, AnswerError> {
    CString::new(text).map_err(|_| AnswerError::Nul)
}

/// Does what llama.cpp may call itself many times over for.
fn deep<T: Send>(work: impl FnOnce() -> Result<T, AnswerError> + Send) -> Result<T, AnswerError> {
    match crate::deep::deep(work) {
        Ok(Ok(result)) => result,
        Ok(Err(panic)) => std::panic::resume_unwind(panic),
        Err(error) => Err(AnswerError::Thread(error.to_string())),
    }
}

/// The JSON of a text that C++ made, which is freed. `{"error": …}` is an error.
fn taken(text: *mut c_char) -> Result<Value, AnswerError> {
    if text.is_null() {
        return Err(AnswerError::NoJson);
    }
    // SAFETY: the text ends with NUL, and nothing frees it before the next line.
    let json = unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned();
    // SAFETY: it was made by malloc in `vendor/chat`.
    unsafe { genarm_chat_free(text) };
    let value: Value = serde_json::from_str(&json).map_err(|_| AnswerError::NoJson)?;
    match value.get("error").and_then(Value::as_str) {
        Some(error) => Err(AnswerError::Refused(brief::message(error, MAX_ERROR).into_owned())),
        None => Ok(value),
    }
}

fn refused(error: *mut c_char) -> AnswerError {
    taken(error).err().unwrap_or(AnswerError::NoJson)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::chat::PLAIN_TOOLS;

    fn parser() -> AnswerParser {
        let template = AnswerTemplate::new(PLAIN_TOOLS, "<s>", "</s>").expect("a template");
        let function = json!({ "name": "f", "description": "", "parameters": { "type": "object", "properties": {} } });
        let applied = template.apply(&json!({
            "messages": [{ "role": "user", "content": "x" }],
            "tools": [{ "type": "function", "function": function }],
            "tool_choice": "auto",
        }));
        AnswerParser::new(&applied.expect("an answer")).expect("a parser")
    }

    #[test]
    fn an_answer_of_brackets_in_brackets_is_read_or_refused() {
        let parser = parser();
        let call = |n: usize| format!("<tool_call>\n{{\"name\": \"f\", \"arguments\": {{\"a\": {}", "[".repeat(n));
        assert!(parser.parse(&call(MAX_BRACKETS - 2), true).is_ok());
        let _ = parser.parse(&(call(MAX_BRACKETS / 2) + &"]".repeat(MAX_BRACKETS / 2) + "}}\n</tool_call>"), false);
        assert_eq!(parser.parse(&call(MAX_BRACKETS), true), Err(AnswerError::Brackets));
        assert!(parser.parse(&"(".repeat(1_000_000), false).is_ok());
    }

    #[test]
    fn a_template_without_a_text_is_refused() {
        assert_eq!(AnswerTemplate::new("", "", "").err(), Some(AnswerError::Empty));
    }
}
