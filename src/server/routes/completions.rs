//! `POST /v1/completions`

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;

use super::answer::respond;
use super::body::Body;
use crate::server::error::ApiError;
use crate::server::openai::completion::{CompletionFormat, CompletionRequest, PromptInput};
use crate::server::state::Server;
use crate::session::{Personas, Prompt, PromptError};

/// Continues prompts.
pub async fn complete(State(server): State<Arc<Server>>, body: Body<CompletionRequest>) -> Result<Response, ApiError> {
    let CompletionRequest { asked, prompt } = body.0;
    respond(&server, asked, "cmpl", CompletionFormat, move |readers| prompts(readers, prompt)).await
}

/// The prompts in tokens.
///
/// # Errors
///
/// A 400 about `prompt`.
pub(super) fn prompts(readers: &Personas<'_>, input: PromptInput) -> Result<Vec<Prompt>, ApiError> {
    let fail = |error: PromptError| ApiError::of_prompt("prompt", &error);
    let prompts = match input {
        PromptInput::Text(text) => vec![readers.text(&text).map_err(fail)?],
        PromptInput::Tokens(tokens) => vec![readers.tokens(tokens).map_err(fail)?],
        PromptInput::Texts(texts) => texts.iter().map(|t| readers.text(t).map_err(fail)).collect::<Result<_, _>>()?,
        PromptInput::TokenLists(lists) => {
            lists.into_iter().map(|t| readers.tokens(t).map_err(fail)).collect::<Result<_, _>>()?
        }
    };
    if prompts.iter().any(|prompt| prompt.base.is_empty()) {
        let message = "prompt is empty, and this model has no beginning-of-text token; give at least one token";
        return Err(ApiError::invalid("prompt", message));
    }
    Ok(prompts)
}
