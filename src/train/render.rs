//! Examples in the backbone's tokens, read as every other command reads them.

use super::TrainError;
use crate::chat::{ChatTemplate, Message, Rendered, TemplateError, Tokenize, without_end};
use crate::expert::Token;

/// A prompt before rendering.
#[derive(Debug, Clone, PartialEq)]
pub enum TrainingPrompt {
    /// Used as it stands. It may be a conversation that was rendered before: the control tokens that it spells are
    /// read.
    Text(String),
    /// Rendered through the template.
    Chat(Vec<Message>),
}

/// An example before tokenisation. `rejected` is `None` for plain text and supervised responses.
#[derive(Debug, Clone, PartialEq)]
pub struct Raw {
    /// What is answered.
    pub prompt: TrainingPrompt,
    /// The preferred response (or the text).
    pub chosen: String,
    /// The other response.
    pub rejected: Option<String>,
    /// Which of the two were cut off: no end-of-sequence token follows them.
    pub cut_off: [bool; 2],
}

impl Raw {
    /// Puts the two responses in the order of their texts, and returns whether that exchanged them.
    pub(super) fn put_in_order(&mut self) -> bool {
        match &mut self.rejected {
            Some(rejected) if *rejected < self.chosen => {
                std::mem::swap(rejected, &mut self.chosen);
                self.cut_off.reverse();
                true
            }
            _ => false,
        }
    }

    /// Whether this is a text with nothing before it.
    pub fn is_plain(&self) -> bool {
        self.rejected.is_none() && self.prompt == TrainingPrompt::Text(String::new())
    }
}

/// The template that a setting names; `auto` is the model's own, or HH-RLHF's transcripts where it has none.
///
/// # Errors
///
/// [`TemplateError`].
pub fn template(setting: &str, own: Option<ChatTemplate>) -> Result<ChatTemplate, TemplateError> {
    ChatTemplate::from_setting(setting)?.or(own).map_or_else(|| ChatTemplate::builtin("hh"), Ok)
}

impl From<TemplateError> for TrainError {
    fn from(error: TemplateError) -> Self {
        Self::Setting(format!("--template: {error}"))
    }
}

/// Turns examples into tokens.
pub struct Renderer<'a> {
    /// How conversations are written.
    pub template: &'a ChatTemplate,
    /// The backbone's vocabulary.
    pub words: &'a dyn Tokenize,
    /// Whether an end-of-sequence token follows each response.
    pub eos: bool,
}

/// An example in tokens.
pub struct Tokens {
    /// Not scored.
    pub prompt: Vec<u32>,
    /// The preferred response, or the text.
    pub chosen: Vec<u32>,
    /// The other response, or nothing.
    pub rejected: Vec<u32>,
}

impl Renderer<'_> {
    /// The tokens of an example.
    ///
    /// # Errors
    ///
    /// What the template or the vocabulary cannot write, in a line.
    pub fn tokens(&self, raw: &Raw) -> Result<Tokens, String> {
        if raw.is_plain() {
            return self.text(&raw.chosen);
        }
        let rendered = match &raw.prompt {
            TrainingPrompt::Text(text) => Rendered::raw(text.as_str()),
            TrainingPrompt::Chat(messages) => self.template.write(messages, self.words).map_err(|e| e.to_string())?,
        };
        let responses: Vec<&str> = std::iter::once(&raw.chosen).chain(&raw.rejected).map(String::as_str).collect();
        let responses: Vec<&str> = match &raw.prompt {
            TrainingPrompt::Text(text) => responses.into_iter().map(|r| without_end(self.words, text, r).0).collect(),
            TrainingPrompt::Chat(_) => responses,
        };
        let split = rendered.split(self.words, &responses).map_err(|e| e.to_string())?;
        let ended = |(tokens, cut_off)| if cut_off { ids(tokens) } else { self.ended(tokens) };
        let mut responses = split.responses.into_iter().zip(raw.cut_off).map(ended);
        let (chosen, rejected) = (responses.next().unwrap_or_default(), responses.next().unwrap_or_default());
        Ok(Tokens { prompt: ids(split.prompt), chosen, rejected })
    }

    /// A plain text, behind BOS where the vocabulary has one.
    fn text(&self, text: &str) -> Result<Tokens, String> {
        let whole = self.words.prompt(text, &[]).map_err(|e| e.to_string())?;
        let bos = self.words.prompt("", &[]).map_err(|e| e.to_string())?;
        let n = if whole.starts_with(&bos) { bos.len() } else { 0 };
        let (prompt, text) = whole.split_at(n);
        // Some texts spell their end, and some do not.
        let text = text.strip_suffix(self.words.eos().as_slice()).unwrap_or(text);
        Ok(Tokens { prompt: ids(prompt.to_vec()), chosen: self.ended(text.to_vec()), rejected: Vec::new() })
    }

    /// The tokens of a response with its end.
    fn ended(&self, mut tokens: Vec<Token>) -> Vec<u32> {
        tokens.extend(self.words.eos().filter(|_| self.eos));
        ids(tokens)
    }
}

fn ids(tokens: Vec<Token>) -> Vec<u32> {
    tokens.into_iter().map(|token| token as u32).collect()
}
