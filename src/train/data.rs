//! The data of a run: what the files hold, in the backbone's tokens.

use super::TrainError;
use super::pairs::{self, Counts, Example};
use super::settings::{Adapt, Settings};
use super::{render, tokens};
use crate::chat::ChatTemplate;
use crate::engine::gguf::GgufFile;
use crate::engine::llama::Vocab;
use crate::expert::Token;

/// The data of a run, in the backbone's tokens.
pub(super) struct Data {
    pub examples: Vec<Example>,
    pub counts: Counts,
    pub template: ChatTemplate,
    pub vocab: Vocab,
}

impl Data {
    /// Reads the data as the settings say, for a backbone and sequences of `n_ctx` tokens at most.
    pub fn read(settings: &Settings, backbone: &GgufFile, n_ctx: usize) -> Result<Self, TrainError> {
        let vocab = tokens::vocabulary(&settings.backbone)?;
        let own = backbone.chat_template().map(ChatTemplate::of_model);
        let template = render::template(&settings.template, own)?;
        let (mut examples, counts) = pairs::load(settings, &vocab, &template, n_ctx)?;
        if settings.adapt == Adapt::Response {
            for example in &mut examples {
                let prompt: Vec<Token> = example.prompt.iter().map(|token| *token as Token).collect();
                example.adapted_from = vocab.response_start(&prompt);
            }
        }
        Ok(Self { examples, counts, template, vocab })
    }
}
