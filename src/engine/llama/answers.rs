//! llama.cpp's reading of chat templates with tools, and of the answers to them (`common/chat.h`), through
//! `vendor/chat`: grammar and triggers of the calls, and a parser of content, reasoning and calls for every family.

use std::ffi::{CStr, CString, c_char};
use std::ptr::NonNull;

use serde_json::Value;

/// Brackets in brackets: the parser recurses over them.
const MAX_DEPTH: usize = 200;

/// What llama.cpp cannot read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AnswerError {
    /// It says why.
    #[error("{0}")]
    Refused(String),
    /// The text nests too deep.
    #[error("it nests more than {MAX_DEPTH} brackets")]
    Depth,
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
        let [source, bos, eos] = [c_text(source)?, c_text(bos)?, c_text(eos)?];
        let mut error = std::ptr::null_mut();
        // SAFETY: three texts that end with NUL and live through the call, and a place for the error.
        let made = unsafe { genarm_chat_template(source.as_ptr(), bos.as_ptr(), eos.as_ptr(), &raw mut error) };
        NonNull::new(made).map(Self).ok_or_else(|| refused(error))
    }

    /// What the template can do: `supports_tools`, `supports_tool_calls`, `supports_object_arguments` and more.
    ///
    /// # Errors
    ///
    /// [`AnswerError`].
    pub fn caps(&self) -> Result<Value, AnswerError> {
        // SAFETY: the object lives.
        taken(unsafe { genarm_chat_caps(self.0.as_ptr()) })
    }

    /// How a conversation is answered: `asked` holds `messages`, `tools`, `tool_choice` and so on, as `vendor/chat`
    /// reads them. What comes back holds `grammar`, `triggers`, `preserved_tokens`, `additional_stops` and what
    /// [`AnswerParser::new`] takes.
    ///
    /// # Errors
    ///
    /// [`AnswerError`].
    pub fn apply(&self, asked: &Value) -> Result<Value, AnswerError> {
        let asked = checked(&asked.to_string())?;
        // SAFETY: the object lives, and so does the text, which ends with NUL.
        taken(unsafe { genarm_chat_apply(self.0.as_ptr(), asked.as_ptr()) })
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
        let mut error = std::ptr::null_mut();
        // SAFETY: the text lives through the call and ends with NUL.
        let made = unsafe { genarm_chat_parser(params.as_ptr(), &raw mut error) };
        NonNull::new(made).map(Self).ok_or_else(|| refused(error))
    }

    /// What an answer says, so far where it `is_partial`: `content`, `reasoning_content`, `tool_calls`.
    ///
    /// # Errors
    ///
    /// [`AnswerError`]: the text is no answer of this template.
    pub fn parse(&self, text: &str, is_partial: bool) -> Result<Value, AnswerError> {
        let text = checked(text)?;
        // SAFETY: the object lives, and so does the text, which ends with NUL.
        taken(unsafe { genarm_chat_parse(self.0.as_ptr(), text.as_ptr(), is_partial) })
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

/// A text that may be parsed: not too deep.
fn checked(text: &str) -> Result<CString, AnswerError> {
    let mut depth = 0_usize;
    for byte in text.bytes() {
        match byte {
            b'[' | b'{' | b'(' => depth += 1,
            b']' | b'}' | b')' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > MAX_DEPTH {
            return Err(AnswerError::Depth);
        }
    }
    c_text(text)
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
        Some(error) => Err(AnswerError::Refused(error.to_owned())),
        None => Ok(value),
    }
}

fn refused(error: *mut c_char) -> AnswerError {
    taken(error).err().unwrap_or(AnswerError::NoJson)
}
