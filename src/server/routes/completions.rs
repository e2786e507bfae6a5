//! `POST /v1/completions`

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;

use super::answer::{Wanted, answer, check_max_tokens, check_n, check_top, head, new_id};
use super::constraint::constraint;
use crate::server::engine::Generate;
use crate::server::error::ApiError;
use crate::server::openai::completion::{CompletionFormat, CompletionRequest, PromptInput};
use crate::server::openai::reply::Head;
use crate::server::openai::request::{Body, stop_strings, weights};
use crate::server::options::MAX_CHOICES;
use crate::server::readers::Purpose;
use crate::server::state::Server;
use crate::session::{Prompt, PromptError, Prompts};

/// OpenAI's default of `max_tokens` here.
const DEFAULT_MAX_TOKENS: usize = 16;

/// Continues prompts.
pub async fn complete(State(server): State<Arc<Server>>, body: Body<CompletionRequest>) -> Result<Response, ApiError> {
    let config = server.defaults();
    let own = &body.own;
    if own.echo == Some(true) {
        return Err(ApiError::invalid("echo", "is not supported; the prompt is known to you"));
    }
    if own.best_of.is_some_and(|n| n != own.n.unwrap_or(1)) {
        return Err(ApiError::invalid("best_of", "is not supported; leave it out, and take n texts"));
    }
    let weights = weights(&config, own.profile.as_deref(), own.preferences.as_ref())?;
    let format = own.response_format.as_ref();
    let mut params = body.params(&config.sampling, format, server.n_ctx)?;
    let n_predict = check_max_tokens("max_tokens", own.max_tokens, DEFAULT_MAX_TOKENS)?;
    let logprobs = own.logprobs.map(|n| check_top("logprobs", n)).transpose()?;
    let n_top = if own.return_rewards { Some(logprobs.unwrap_or(0)) } else { logprobs };
    let speculates = body.speculates(&config.sampling);
    let stop = stop_strings(own.stop.as_ref())?;
    let grammar = constraint(&server, &body, format, &mut params).await?;
    let generate = Generate { params, grammar, n_predict, stop, n_top, speculates };
    let head = Head {
        logprobs,
        rewards: own.return_rewards,
        include_usage: own.stream_options.unwrap_or_default().include_usage,
        ..head(&server, &config, new_id("cmpl"), &weights, own.profile.as_deref(), &generate)
    };
    let (stream, fresh) = (own.stream, server.reads_anew(body.is_seeded(&config.sampling), own.cache_prompt));
    let (n, input) = (own.n, own.prompt.clone());
    let readers = Arc::clone(&server.prompts);
    let prompts = server.off_thread(Purpose::Prompt, move || prompts(&readers, input)).await?;
    let wanted = Wanted { n: check_n(n, prompts.len())?, prompts, generate, weights, stream, fresh };
    answer(&server, wanted, head, CompletionFormat).await
}

/// The prompts in tokens.
///
/// # Errors
///
/// A 400 about `prompt`.
pub(super) fn prompts(readers: &Prompts, input: PromptInput) -> Result<Vec<Prompt>, ApiError> {
    let fail = |error: PromptError| ApiError::of_prompt("prompt", &error);
    let too_many = |n: usize| ApiError::invalid("prompt", format!("may hold {MAX_CHOICES} prompts, this holds {n}"));
    let prompts = match input {
        PromptInput::Text(text) => vec![readers.text(&text).map_err(fail)?],
        PromptInput::Tokens(tokens) => vec![readers.tokens(tokens).map_err(fail)?],
        PromptInput::Texts(texts) if texts.len() > MAX_CHOICES => return Err(too_many(texts.len())),
        PromptInput::TokenLists(lists) if lists.len() > MAX_CHOICES => return Err(too_many(lists.len())),
        PromptInput::Texts(texts) => texts.iter().map(|t| readers.text(t).map_err(fail)).collect::<Result<_, _>>()?,
        PromptInput::TokenLists(lists) => {
            lists.into_iter().map(|t| readers.tokens(t).map_err(fail)).collect::<Result<_, _>>()?
        }
    };
    if prompts.iter().any(|prompt| prompt.base.is_empty()) {
        return Err(ApiError::invalid("prompt", "is empty, and this model has no token that begins a text"));
    }
    Ok(prompts)
}
