//! The few routes of llama.cpp's own server that its clients use: `/completion`, `/tokenize`, `/detokenize`, `/props`.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use indexmap::IndexMap;
use serde::Deserialize;
use serde_json::{Value, json};

use super::answer::{Wanted, answer, head};
use super::completions::prompts;
use super::constraint::constraint;
use crate::decode::Finish;
use crate::expert::Token;
use crate::server::engine::{Ended, Generate, Piece};
use crate::server::error::ApiError;
use crate::server::openai::completion::PromptInput;
use crate::server::openai::reply::{Choice, Format, Head, additions};
use crate::server::openai::request::{Body, OneOrMany, stop_strings, weights};
use crate::server::readers::Purpose;
use crate::server::state::Server;

/// The fields of `/completion`, beside the sampling parameters.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CompletionRequest {
    prompt: PromptInput,
    n_predict: Option<i64>,
    #[serde(default)]
    stream: bool,
    stop: Option<OneOrMany>,
    cache_prompt: Option<bool>,
    preferences: Option<IndexMap<String, f32>>,
    profile: Option<String>,
}

/// Continues a prompt.
pub async fn completion(
    State(server): State<Arc<Server>>,
    body: Body<CompletionRequest>,
) -> Result<Response, ApiError> {
    let config = server.defaults();
    let own = &body.own;
    let weights = weights(&config, own.profile.as_deref(), own.preferences.as_ref())?;
    let mut params = body.params(&config.sampling, None, server.n_ctx)?;
    let n_predict = match own.n_predict.unwrap_or(-1) {
        -1 => usize::MAX,
        n => usize::try_from(n).ok().filter(|n| *n > 0).ok_or_else(|| {
            ApiError::invalid("n_predict", format!("must be at least 1, or -1 for as many as fit, got {n}"))
        })?,
    };
    let speculates = body.speculates(&config.sampling);
    let stop = stop_strings(own.stop.as_ref())?;
    let grammar = constraint(&server, &body, None, &mut params).await?;
    let generate = Generate { params, grammar, n_predict, stop, n_top: None, speculates };
    let head = head(&server, &config, String::new(), &weights, own.profile.as_deref(), &generate);
    let (stream, fresh) = (own.stream, server.reads_anew(body.is_seeded(&config.sampling), own.cache_prompt));
    let (input, readers) = (own.prompt.clone(), Arc::clone(&server.prompts));
    let prompts = server.off_thread(Purpose::Prompt, move || prompts(&readers, input)).await?;
    if prompts.len() != 1 {
        return Err(ApiError::invalid("prompt", "must be one text, or one list of tokens"));
    }
    answer(&server, Wanted { prompts, n: 1, generate, weights, stream, fresh }, head, LlamaFormat).await
}

/// Writes llama.cpp's objects.
struct LlamaFormat;

impl Format for LlamaFormat {
    fn open(&self, _: &Head, _: usize) -> Option<Value> {
        None
    }

    fn piece(&self, _: &Head, index: usize, piece: &Piece) -> Value {
        json!({ "index": index, "content": piece.text, "tokens": [piece.token], "stop": false })
    }

    fn ended(&self, head: &Head, index: usize, ended: &Ended) -> Value {
        let kind = match ended.finish {
            Finish::Eos => "eos",
            Finish::Stop => "word",
            Finish::Length | Finish::Interrupted => "limit",
        };
        let ms = |d: std::time::Duration| d.as_secs_f64() * 1e3;
        json!({
            "index": index, "content": ended.text, "stop": true, "stop_type": kind, "model": head.model,
            "tokens_predicted": ended.n_generated, "tokens_evaluated": ended.n_prompt, "tokens_cached": ended.n_cached,
            "timings": { "prompt_ms": ms(ended.timings.prompt), "predicted_ms": ms(ended.timings.generation) },
            "genarm": additions(head, Some(ended)),
        })
    }

    fn usage(&self, _: &Head, _: &[Ended]) -> Option<Value> {
        None
    }

    fn whole(&self, head: &Head, choices: &[Choice]) -> Value {
        let Some(choice) = choices.first() else { return Value::Null };
        let mut object = self.ended(head, choice.index, &choice.ended);
        object["content"] = choice.text.clone().into();
        object["tokens"] = choice.pieces.iter().map(|piece| piece.token).collect();
        object
    }

    fn says_done(&self) -> bool {
        false
    }
}

/// The fields of `/tokenize`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenizeRequest {
    content: String,
    #[serde(default)]
    add_special: bool,
    parse_special: Option<bool>,
    #[serde(default)]
    with_pieces: bool,
}

/// Text to tokens.
pub async fn tokenize(State(server): State<Arc<Server>>, body: Body<TokenizeRequest>) -> Result<Json<Value>, ApiError> {
    let TokenizeRequest { content, add_special, parse_special, with_pieces } = body.own;
    let vocab = server.prompts.vocab().clone();
    let read = move || {
        let tokens = vocab.tokenize(&content, add_special, parse_special.unwrap_or(true));
        let tokens = tokens.map_err(|e| ApiError::of_tokens("content", &e, &e))?;
        let piece = |token: &Token| json!({ "id": token, "piece": vocab.text(&[*token], true) });
        let list = if with_pieces { tokens.iter().map(piece).collect() } else { json!(tokens) };
        Ok(Json(json!({ "tokens": list })))
    };
    server.off_thread(Purpose::Answer, read).await
}

/// The fields of `/detokenize`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DetokenizeRequest {
    tokens: Vec<Token>,
}

/// Tokens to text.
pub async fn detokenize(
    State(server): State<Arc<Server>>,
    body: Body<DetokenizeRequest>,
) -> Result<Json<Value>, ApiError> {
    let prompts = Arc::clone(&server.prompts);
    let read = move || {
        let prompt = prompts.tokens(body.own.tokens).map_err(|e| ApiError::of_prompt("tokens", &e))?;
        Ok(Json(json!({ "content": prompts.vocab().text(&prompt.base, true) })))
    };
    server.off_thread(Purpose::Answer, read).await
}

/// What is loaded.
pub async fn props(State(server): State<Arc<Server>>) -> Json<Value> {
    let sampling = &server.defaults().sampling;
    Json(json!({
        "default_generation_settings": { "n_ctx": server.n_ctx, "params": sampling },
        "total_slots": server.queue.n_lanes(),
        "model_alias": server.model,
        "build_info": concat!("genarm ", env!("CARGO_PKG_VERSION")),
    }))
}
