//! `POST /v1/chat/completions`

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;

use super::answer::{Wanted, answer, check_max_tokens, check_n, check_top, head, new_id};
use super::constraint::constraint;
use crate::server::engine::Generate;
use crate::server::error::ApiError;
use crate::server::openai::chat::{ChatFormat, ChatRequest};
use crate::server::openai::reply::Head;
use crate::server::openai::request::{Body, stop_strings, weights};
use crate::server::readers::Purpose;
use crate::server::state::Server;

/// Answers a conversation.
pub async fn complete(State(server): State<Arc<Server>>, body: Body<ChatRequest>) -> Result<Response, ApiError> {
    let config = server.defaults();
    let own = &body.own;
    let (messages, begun) = own.messages()?;
    let weights = weights(&config, own.profile.as_deref(), own.preferences.as_ref())?;
    let format = own.response_format.as_ref();
    let mut params = body.params(&config.sampling, format, server.n_ctx)?;
    let n = check_n(own.n, 1)?;
    let top = check_top("top_logprobs", own.top_logprobs.unwrap_or(0))?;
    if top > 0 && !own.logprobs {
        return Err(ApiError::invalid("top_logprobs", "needs \"logprobs\": true"));
    }
    let (param, max) = match own.max_completion_tokens {
        Some(max) => ("max_completion_tokens", Some(max)),
        None => ("max_tokens", own.max_tokens),
    };
    let n_predict = check_max_tokens(param, max, usize::MAX)?;
    let n_top = (own.logprobs || own.return_rewards).then_some(top);
    let speculates = body.speculates(&config.sampling);
    let stop = stop_strings(own.stop.as_ref())?;
    let grammar = constraint(&server, &body, format, &mut params).await?;
    let generate = Generate { params, grammar, n_predict, stop, n_top, speculates };
    let head = Head {
        logprobs: own.logprobs.then_some(top),
        rewards: own.return_rewards,
        include_usage: own.stream_options.unwrap_or_default().include_usage,
        ..head(&server, &config, new_id("chatcmpl"), &weights, own.profile.as_deref(), &generate)
    };
    let (stream, fresh) = (own.stream, server.reads_anew(body.is_seeded(&config.sampling), own.cache_prompt));
    let prompts = Arc::clone(&server.prompts);
    let read = move || prompts.chat(&messages, &begun).map_err(|error| ApiError::of_prompt("messages", &error));
    let prompt = server.off_thread(Purpose::Prompt, read).await?;
    let wanted = Wanted { prompts: vec![prompt], n, generate, weights, stream, fresh };
    answer(&server, wanted, head, ChatFormat).await
}
