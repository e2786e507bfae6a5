//! The few routes of llama.cpp's own server that its clients use: `/completion`, `/tokenize`, `/detokenize`, `/props`.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use serde_json::{Value, json};

use super::answer::respond;
use super::body::Body;
use super::completions::prompts;
use crate::decode::Finish;
use crate::expert::Token;
use crate::server::engine::{Ended, Piece};
use crate::server::error::ApiError;
use crate::server::fields::{Fields, FromFields};
use crate::server::openai::completion::PromptInput;
use crate::server::openai::foreign;
use crate::server::openai::reply::{Choice, Format, Head, additions};
use crate::server::openai::request::Asked;
use crate::server::readers::Purpose;
use crate::server::state::Server;

/// A request to `/completion`.
pub struct CompletionRequest {
    asked: Asked,
    prompt: PromptInput,
}

impl FromFields for CompletionRequest {
    fn read(fields: &mut Fields) -> Result<Self, ApiError> {
        foreign::read(fields)?;
        // They are always listed.
        fields.ignore::<bool>(&["return_tokens"])?;
        fields.only("n", &[1.into()], "must be 1; /v1/completions gives several texts")?;
        let asked = Asked::read(fields, usize::MAX)?;
        let prompt = fields.need_last("prompt")?;
        if matches!(prompt, PromptInput::Texts(_) | PromptInput::TokenLists(_)) {
            return Err(ApiError::invalid("prompt", "prompt must be one string, or one list of token ids"));
        }
        Ok(Self { asked, prompt })
    }
}

/// Continues a prompt.
pub async fn completion(
    State(server): State<Arc<Server>>,
    body: Body<CompletionRequest>,
) -> Result<Response, ApiError> {
    let CompletionRequest { asked, prompt } = body.0;
    respond(&server, asked, "cmpl", LlamaFormat, move |readers| prompts(readers, prompt)).await
}

/// Writes llama.cpp's objects.
struct LlamaFormat;

impl Format for LlamaFormat {
    fn open(&self, _: &Head, _: usize) -> Option<Value> {
        None
    }

    fn piece(&self, head: &Head, index: usize, piece: &Piece) -> Value {
        json!({ "id": head.id, "index": index, "content": piece.text, "tokens": [piece.token], "stop": false })
    }

    fn ended(&self, head: &Head, index: usize, ended: &Ended) -> Value {
        let kind = match ended.finish {
            Finish::Eos => "eos",
            Finish::Stop => "word",
            Finish::Length | Finish::Interrupted => "limit",
        };
        let ms = |d: std::time::Duration| d.as_secs_f64() * 1e3;
        json!({
            "id": head.id, "index": index, "content": ended.text, "stop": true, "stop_type": kind, "model": head.model,
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

    fn lists_tokens(&self) -> bool {
        true
    }

    fn says_done(&self) -> bool {
        false
    }
}

/// A request to `/tokenize`.
pub struct TokenizeRequest {
    content: String,
    add_special: bool,
    parse_special: bool,
    with_pieces: bool,
}

impl FromFields for TokenizeRequest {
    fn read(fields: &mut Fields) -> Result<Self, ApiError> {
        Ok(Self {
            add_special: fields.flag("add_special")?,
            parse_special: fields.take("parse_special")?.unwrap_or(true),
            with_pieces: fields.flag("with_pieces")?,
            content: fields.need_last("content")?,
        })
    }
}

/// Text to tokens.
pub async fn tokenize(State(server): State<Arc<Server>>, body: Body<TokenizeRequest>) -> Result<Json<Value>, ApiError> {
    let TokenizeRequest { content, add_special, parse_special, with_pieces } = body.0;
    let vocab = server.prompts.vocab().clone();
    let read = move || {
        let tokens = vocab.tokenize(&content, add_special, parse_special);
        let tokens = tokens.map_err(|e| ApiError::of_tokens("content", &e, &e))?;
        let piece = |token: &Token| json!({ "id": token, "piece": vocab.text(&[*token], true) });
        let list = if with_pieces { tokens.iter().map(piece).collect() } else { json!(tokens) };
        Ok(Json(json!({ "tokens": list })))
    };
    server.off_thread(Purpose::Answer, read).await
}

/// A request to `/detokenize`.
pub struct DetokenizeRequest {
    tokens: Vec<Token>,
}

impl FromFields for DetokenizeRequest {
    fn read(fields: &mut Fields) -> Result<Self, ApiError> {
        Ok(Self { tokens: fields.need_last("tokens")? })
    }
}

/// Tokens to text.
pub async fn detokenize(
    State(server): State<Arc<Server>>,
    body: Body<DetokenizeRequest>,
) -> Result<Json<Value>, ApiError> {
    let prompts = Arc::clone(&server.prompts);
    let read = move || {
        let prompt = prompts.tokens(body.0.tokens).map_err(|e| ApiError::of_prompt("tokens", &e))?;
        Ok(Json(json!({ "content": prompts.vocab().text(&prompt.base, true) })))
    };
    server.off_thread(Purpose::Answer, read).await
}

/// What is loaded.
pub async fn props(State(server): State<Arc<Server>>) -> Json<Value> {
    let sampling = &server.defaults().sampling;
    Json(json!({
        "default_generation_settings": { "n_ctx": server.n_ctx, "params": sampling },
        "total_slots": server.queue.n_slots(),
        "model_alias": server.model,
        "build_info": concat!("genarm ", env!("CARGO_PKG_VERSION")),
    }))
}
