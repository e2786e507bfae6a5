//! `POST /v1/messages`: Anthropic's way to ask.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use serde_json::{Value, json};

use super::body::Body;
use super::chat::{answer, n_prompt};
use crate::server::error::ApiError;
use crate::server::openai::messages::{MessagesFormat, MessagesRequest};
use crate::server::state::Server;

/// Answers a conversation.
pub async fn complete(State(server): State<Arc<Server>>, body: Body<MessagesRequest>) -> Result<Response, ApiError> {
    answer(&server, body.0.0, body.1, "msg_", MessagesFormat::new).await
}

/// The length of a conversation's prompt.
pub async fn count_tokens(
    State(server): State<Arc<Server>>,
    body: Body<MessagesRequest>,
) -> Result<Json<Value>, ApiError> {
    Ok(Json(json!({ "input_tokens": n_prompt(&server, body.0.0).await? })))
}
