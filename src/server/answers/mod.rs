//! What llama.cpp knows of the base's chat template: how answers under it are written.

mod read;
mod recent;

use serde_json::json;

use crate::chat::PLAIN_TOOLS;
use crate::engine::llama::AnswerTemplate;
pub use read::{AnswersRead, parser_after};
use recent::Recent;

/// How the base's template reads tools.
#[derive(Debug, Clone, Copy)]
pub enum Reading {
    /// By itself, with the arguments of calls as objects or as texts.
    Tools {
        /// Whether they are objects.
        objects: bool,
        /// Whether the ids of calls have nine letters and digits, as Mistral's have.
        short_ids: bool,
    },
    /// Not at all: they are put to it as text.
    PlainText,
}

/// What llama.cpp knows of the base's chat template.
pub struct Answers {
    /// As it is.
    pub template: AnswerTemplate,
    /// For calls in plain text.
    pub plain: AnswerTemplate,
    /// Whether answers may hold thoughts.
    pub thinks: bool,
    /// How it reads tools.
    pub reading: Reading,
    /// What was read last.
    recent: Recent<AnswersRead>,
}

impl Answers {
    /// Reads a template.
    ///
    /// # Errors
    ///
    /// Why it cannot be read.
    pub fn new(source: &str, bos: &str, eos: &str) -> Result<Self, String> {
        let template = AnswerTemplate::new(source, bos, eos).map_err(|e| e.to_string())?;
        let simple = json!({ "messages": [{ "role": "user", "content": "x" }] });
        let thinks = template.apply(&simple).is_ok_and(|applied| applied["supports_thinking"] == true);
        let caps = template.caps().map_err(|e| e.to_string())?;
        let knows_tools = caps["supports_tools"] == true && caps["supports_tool_calls"] == true;
        let reading = match knows_tools {
            true => Reading::Tools {
                objects: caps["supports_object_arguments"] != false,
                short_ids: source.contains("with length 9"),
            },
            false => Reading::PlainText,
        };
        let plain = AnswerTemplate::new(PLAIN_TOOLS, bos, eos).map_err(|e| e.to_string())?;
        Ok(Self { template, plain, thinks, reading, recent: Recent::default() })
    }
}
