//! `POST /v1/responses`: OpenAI's newer way to ask.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;

use super::body::Body;
use super::chat::answer;
use crate::server::error::ApiError;
use crate::server::openai::responses::{ResponsesFormat, ResponsesRequest};
use crate::server::state::Server;

/// Answers a conversation.
pub async fn complete(State(server): State<Arc<Server>>, body: Body<ResponsesRequest>) -> Result<Response, ApiError> {
    let ResponsesRequest { chat, repeated } = body.0;
    answer(&server, chat, body.1, "resp_", |reader| ResponsesFormat::new(reader, repeated)).await
}
