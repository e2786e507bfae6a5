//! Errors as clients of OpenAI's API expect them.

use std::fmt;

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use crate::brief;
use crate::decode::{ChainFault, DecodeError};
use crate::engine::llama::TokenizeError;
use crate::guidance::GuideError;
use crate::sampling::ChainError;
use crate::sampling::grammar::GrammarError;
use crate::session::PromptError;

/// Characters of a message: what a request holds is repeated in parts only.
const MAX_MESSAGE: usize = 500;

/// An answer that is an error: a status, OpenAI's body, and a sentence that helps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiError {
    /// HTTP's status.
    pub status: StatusCode,
    kind: &'static str,
    code: Option<&'static str>,
    param: Option<String>,
    message: String,
    /// Seconds after which to try again.
    retry_after: Option<u64>,
    /// Tokens of a prompt that is too long, and of the context.
    overflow: Option<Box<(usize, usize)>>,
}

impl ApiError {
    fn new(status: StatusCode, kind: &'static str, message: impl fmt::Display) -> Self {
        let message = brief::message(&message.to_string(), MAX_MESSAGE).into_owned();
        Self { status, kind, code: None, param: None, message, retry_after: None, overflow: None }
    }

    /// A field of the request is wrong. The message names it, because some clients show nothing else: where it does not
    /// do so itself, the name is put before it.
    pub fn invalid(param: &str, message: impl fmt::Display) -> Self {
        let mut message = message.to_string();
        if param.is_empty() {
            return Self::bad_request(message);
        }
        let short = brief::Short(param).to_string();
        if !names(&message, param) && !names(&message, &short) {
            message = format!("{short}: {message}");
        }
        Self { param: Some(short), ..Self::bad_request(message) }
    }

    /// The request as a whole is wrong.
    pub fn bad_request(message: impl fmt::Display) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_request_error", message)
    }

    /// Prompt and response do not fit. The message has llama.cpp's words and OpenAI's, by which clients know that it is
    /// time to leave something out: litellm as aider uses it knows only OpenAI's.
    pub fn too_long(n_tokens: usize, n_ctx: usize) -> Self {
        let message = format!(
            "the prompt is too long: {n_tokens} tokens exceeds the available context size ({n_ctx} tokens); this model's \
             maximum context length is {n_ctx} tokens. Shorten the prompt, or start the server with a larger --n-ctx"
        );
        let error = Self::new(StatusCode::BAD_REQUEST, "exceed_context_size_error", message);
        Self { code: Some("context_length_exceeded"), overflow: Some(Box::new((n_tokens, n_ctx))), ..error }
    }

    /// Whether a prompt does not fit.
    pub fn is_overflow(&self) -> bool {
        self.overflow.is_some()
    }

    /// There is no such thing here, and there will not be.
    pub fn not_supported(message: impl fmt::Display) -> Self {
        Self::new(StatusCode::NOT_IMPLEMENTED, "not_supported_error", message)
    }

    /// The key is missing or wrong.
    pub fn unauthorized() -> Self {
        let message = "this server asks for a key: send \"Authorization: Bearer KEY\" with one of its --api-key-file";
        let error = Self::new(StatusCode::UNAUTHORIZED, "authentication_error", message);
        Self { code: Some("invalid_api_key"), ..error }
    }

    /// The request is understood and refused.
    pub fn forbidden(message: impl fmt::Display) -> Self {
        Self::new(StatusCode::FORBIDDEN, "permission_error", message)
    }

    /// There is no such route.
    pub fn not_found(path: &str) -> Self {
        let path = brief::Short(path);
        let message = format!("there is no {path} here; docs/server.md lists the routes");
        Self { code: Some("not_found"), ..Self::new(StatusCode::NOT_FOUND, "invalid_request_error", message) }
    }

    /// No answer with this id is being written.
    pub fn not_running(id: &str) -> Self {
        let message = format!("no answer with the id {} is being written", brief::Short(id));
        Self { code: Some("not_found"), ..Self::new(StatusCode::NOT_FOUND, "invalid_request_error", message) }
    }

    /// The route has another method.
    pub fn method(method: &str, path: &str) -> Self {
        let message = format!("{} does not take {}", brief::Short(path), brief::Short(method));
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "invalid_request_error", message)
    }

    /// The body has more bytes than are allowed.
    pub fn body_too_large(max: usize) -> Self {
        let message = format!("the body of a request may have {max} bytes");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "invalid_request_error", message)
    }

    /// The body is of a type that is not read.
    pub fn not_json() -> Self {
        let message = "send the body as JSON, with \"Content-Type: application/json\"";
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "invalid_request_error", message)
    }

    /// The body did not come in time, or not whole.
    pub fn body_incomplete() -> Self {
        Self::new(StatusCode::REQUEST_TIMEOUT, "invalid_request_error", "the body of the request did not come in time")
    }

    /// Too many requests from one client.
    pub fn rate_limited(seconds: u64) -> Self {
        let message = format!("too many requests; try again in {seconds} s");
        let error = Self::new(StatusCode::TOO_MANY_REQUESTS, "rate_limit_error", message);
        Self { code: Some("rate_limit_exceeded"), retry_after: Some(seconds), ..error }
    }

    fn unavailable(code: &'static str, message: &str, retry_after: u64) -> Self {
        let error = Self::new(StatusCode::SERVICE_UNAVAILABLE, "overloaded_error", message);
        Self { code: Some(code), retry_after: Some(retry_after), ..error }
    }

    /// The queue is full.
    pub fn overloaded() -> Self {
        Self::unavailable("queue_full", "too many requests are waiting; try again in a moment", 2)
    }

    /// The request has waited too long.
    pub fn queued_too_long() -> Self {
        Self::unavailable("queue_timeout", "no slot became free in time; try again later", 10)
    }

    /// The server is going down.
    pub fn shutting_down() -> Self {
        Self::unavailable("shutting_down", "the server is shutting down", 30)
    }

    /// The request has taken too long.
    pub fn timed_out() -> Self {
        Self::unavailable("timeout", "the request took longer than --request-timeout", 10)
    }

    /// Our fault. The cause goes to the log; what a client may know is the message.
    pub fn internal(cause: impl fmt::Display) -> Self {
        tracing::error!(%cause, "a request failed");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "server_error", "the server failed; its log says why")
    }

    /// Sampling parameters that the vocabulary cannot follow.
    pub fn of_chain(error: &ChainError) -> Self {
        match error {
            ChainError::Tokenize { field, .. } | ChainError::Nul { field } => Self::invalid(field, error),
            ChainError::Token { .. } => Self::invalid("logit_bias", error),
            ChainError::Grammar(error) => Self::of_grammar(error),
            other => Self::internal(other),
        }
    }

    /// A grammar or a schema that cannot be followed.
    pub fn of_grammar(error: &GrammarError) -> Self {
        Self::invalid(error.field, error)
    }

    /// A prompt that cannot be read.
    pub fn of_prompt(param: &str, error: &PromptError) -> Self {
        match error {
            PromptError::Tokenize { source, .. } => Self::of_tokens(param, source, error),
            _ => Self::invalid(param, error),
        }
    }

    /// A text that has no tokens, or too many. `shown` is what the client reads where there is nothing better to say.
    pub fn of_tokens(param: &str, error: &TokenizeError, shown: impl fmt::Display) -> Self {
        match error {
            TokenizeError::TooMany { at_least, max } => {
                Self { param: Some(param.to_owned()), ..Self::too_long(*at_least, *max) }
            }
            TokenizeError::Cancelled => Self::shutting_down(),
            TokenizeError::Failed | TokenizeError::Stack { .. } => Self::internal(error),
            _ => Self::invalid(param, shown),
        }
    }

    /// A text that cannot be generated.
    pub fn of_decoding(error: &DecodeError) -> Self {
        match error {
            DecodeError::EmptyPrompt => Self::bad_request("the prompt is empty; give at least one token"),
            DecodeError::PromptTooLong { n_prompt, n_ctx } => Self::too_long(*n_prompt, *n_ctx),
            DecodeError::Chain(ChainFault::NoCandidate) => Self::bad_request(error),
            DecodeError::Chain(ChainFault::Grammar { field }) => Self::invalid(field, error),
            other => Self::internal(other),
        }
    }

    /// An ARM that failed.
    pub fn of_guide(error: &GuideError) -> Self {
        match error.source {
            crate::ExpertError::ContextFull { wanted, n_ctx } => Self::too_long(wanted, n_ctx),
            _ => Self::internal(error),
        }
    }

    /// OpenAI's body.
    pub fn body(&self) -> Value {
        let Self { message, kind, param, code, .. } = self;
        let mut error = json!({ "message": message, "type": kind, "param": param, "code": code });
        if let Some((n_tokens, n_ctx)) = self.overflow.as_deref() {
            error["n_prompt_tokens"] = (*n_tokens).into();
            error["n_ctx"] = (*n_ctx).into();
        }
        json!({ "error": error })
    }

    /// Its kind and its message.
    pub fn parts(&self) -> (&'static str, &str) {
        (self.code.unwrap_or(self.kind), &self.message)
    }
}

/// Whether a message holds a field's name as a word.
fn names(message: &str, param: &str) -> bool {
    let in_word = |c: char| c.is_alphanumeric() || c == '_';
    message
        .match_indices(param)
        .any(|(at, _)| !message[..at].ends_with(in_word) && !message[at + param.len()..].starts_with(in_word))
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(self.body())).into_response();
        if let Some(seconds) = self.retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}
