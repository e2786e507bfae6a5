//! One text: its history, and why it ended.

use std::time::Duration;

use super::{Chain, ChainFault, Speculation};
use crate::expert::{Expert, ExpertError, Token};

/// Why a text ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Finish {
    /// A stop string, or the caller, ended it.
    Stop,
    /// The wanted number of tokens is reached, or a context is full.
    Length,
    /// The model drew an end-of-generation token.
    Eos,
    /// The user interrupted it.
    Interrupted,
}

/// Whether to go on after a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    /// Draw another.
    Continue,
    /// End with [`Finish::Stop`].
    Stop,
}

/// A token, just drawn.
#[non_exhaustive]
pub struct Step<'a> {
    /// The token.
    pub token: Token,
    /// The history that it follows.
    pub history: &'a [Token],
    /// The base's raw logits that it was drawn from.
    pub logits: &'a [f32],
}

/// What was generated.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Generated {
    /// The tokens, without the end-of-generation token.
    pub tokens: Vec<Token>,
    /// Why it ended.
    pub finish: Finish,
    /// Time that the base took to read the prompt and give its first logits.
    pub prompt: Duration,
    /// Time that the base took for all later tokens.
    pub base: Duration,
    /// What speculation did; nothing in a plain run.
    pub speculation: Speculation,
}

/// Why decoding failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// There is nothing to continue.
    #[error("the prompt is empty, and this model has no beginning-of-text token; give at least one token")]
    EmptyPrompt,
    /// The prompt does not fit.
    #[error("the prompt has {n_prompt} tokens and the context only {n_ctx}; shorten it or give a larger --n-ctx")]
    PromptTooLong {
        /// Tokens of the prompt.
        n_prompt: usize,
        /// Tokens that fit.
        n_ctx: usize,
    },
    /// The base failed.
    #[error("base: {0}")]
    Base(#[from] ExpertError),
    /// Guidance or sampling failed.
    #[error(transparent)]
    Chain(#[from] ChainFault),
}

/// One text while it is being generated: its history, and why it ended.
///
/// To generate several texts at once, [prepare](Self::prepare) all of them, then take a [step](Self::step) with each:
/// experts that share a context then decode in one batch.
#[derive(Debug, Clone)]
pub struct Text {
    pub(super) history: Vec<Token>,
    pub(super) n_prompt: usize,
    pub(super) n_predict: usize,
    pub(super) pause: Option<usize>,
    pub(super) finish: Option<Finish>,
    pub(super) prompt: Duration,
    pub(super) base: Duration,
    pub(super) speculation: Speculation,
}

impl Text {
    /// A text that continues `prompt` by up to `n_predict` tokens. `chain` is at the beginning of a text, and accepts
    /// the prompt.
    ///
    /// # Errors
    ///
    /// [`DecodeError::EmptyPrompt`], [`DecodeError::PromptTooLong`].
    pub fn begin(
        base: &dyn Expert,
        chain: &mut dyn Chain,
        prompt: &[Token],
        n_predict: usize,
    ) -> Result<Self, DecodeError> {
        check(base, prompt)?;
        let n_prompt = prompt.len();
        prompt.iter().for_each(|token| chain.accept(*token, false));
        let mut history = Vec::with_capacity(n_prompt + n_predict.min(base.n_ctx()));
        history.extend_from_slice(prompt);
        let finish = (n_predict == 0).then_some(Finish::Length);
        let (prompt, base, speculation) = (Duration::ZERO, Duration::ZERO, Speculation::default());
        Ok(Self { history, n_prompt, n_predict, pause: None, finish, prompt, base, speculation })
    }

    /// Lets no step go beyond `n` tokens of the response: one of the next steps ends there exactly. `None` lets drafts
    /// be as long as they may.
    pub fn pause_at(&mut self, n: Option<usize>) {
        self.pause = n;
    }

    /// What speculation has done for it.
    pub fn speculation(&self) -> &Speculation {
        &self.speculation
    }

    /// Why it has ended, if it has.
    pub fn finish(&self) -> Option<Finish> {
        self.finish
    }

    /// Prompt and response so far.
    pub fn history(&self) -> &[Token] {
        &self.history
    }

    /// The response so far.
    pub fn response(&self) -> &[Token] {
        &self.history[self.n_prompt..]
    }

    /// What was generated. A text that has not ended counts as interrupted.
    pub fn into_generated(mut self) -> Generated {
        let tokens = self.history.split_off(self.n_prompt);
        let finish = self.finish.unwrap_or(Finish::Interrupted);
        Generated { tokens, finish, prompt: self.prompt, base: self.base, speculation: self.speculation }
    }
}

/// Refuses a prompt that cannot be continued.
fn check(base: &dyn Expert, prompt: &[Token]) -> Result<(), DecodeError> {
    let (n_prompt, n_ctx) = (prompt.len(), base.n_ctx());
    match n_prompt {
        0 => Err(DecodeError::EmptyPrompt),
        _ if n_prompt > n_ctx => Err(DecodeError::PromptTooLong { n_prompt, n_ctx }),
        _ => Ok(()),
    }
}
