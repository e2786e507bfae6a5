//! `POST /v1/completions`

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;

use super::answer::{ReadPrompts, respond};
use super::body::Body;
use crate::engine::llama::Vocab;
use crate::expert::Token;
use crate::server::error::ApiError;
use crate::server::openai::completion::{CompletionFormat, CompletionRequest, PromptInput, PromptPart, PromptText};
use crate::server::openai::request::Asked;
use crate::server::state::Server;
use crate::session::{Personas, Prompt, PromptError};

/// Continues prompts.
pub async fn complete(State(server): State<Arc<Server>>, body: Body<CompletionRequest>) -> Result<Response, ApiError> {
    let CompletionRequest { asked, prompt } = body.0;
    let asked = Asked { ignored: body.1, ..asked };
    respond(&server, asked, "cmpl-", CompletionFormat, move |readers| prompts(readers, prompt)).await
}

/// The prompts in tokens.
///
/// # Errors
///
/// A 400 about `prompt`.
pub(super) fn prompts(readers: &Personas<'_>, input: PromptInput) -> Result<ReadPrompts, ApiError> {
    let fail = |error: PromptError| ApiError::of_prompt("prompt", &error);
    let read = |prompt| match prompt {
        PromptText::Text(text) => readers.text(&text).map_err(fail),
        PromptText::Tokens(tokens) => readers.tokens(tokens).map_err(fail),
        PromptText::Parts(parts) => readers.tokens(joined(readers.vocab(), parts)?).map_err(fail),
    };
    let prompts: Vec<Prompt> = input.prompts.into_iter().map(read).collect::<Result<_, _>>()?;
    if prompts.iter().any(|prompt| prompt.base.is_empty()) {
        let message = "prompt is empty, and this model has no beginning-of-text token; give at least one token";
        return Err(ApiError::invalid("prompt", message));
    }
    Ok(ReadPrompts { prompts, dropped: 0 })
}

/// The tokens of a prompt in parts. Only a text at its beginning gets the token that begins texts.
fn joined(vocab: &Vocab, parts: Vec<PromptPart>) -> Result<Vec<Token>, ApiError> {
    let mut tokens = Vec::new();
    for (i, part) in parts.into_iter().enumerate() {
        match part {
            PromptPart::Token(token) => tokens.push(token),
            PromptPart::Text(text) => {
                let more = vocab.tokenize(&text, i == 0, true);
                tokens.extend(more.map_err(|e| ApiError::of_tokens("prompt", &e, &e))?);
            }
        }
    }
    Ok(tokens)
}
