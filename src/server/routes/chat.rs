//! `POST /v1/chat/completions`

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;

use super::answer::respond;
use super::body::Body;
use crate::server::error::ApiError;
use crate::server::openai::chat::{ChatFormat, ChatRequest};
use crate::server::state::Server;

/// Answers a conversation.
pub async fn complete(State(server): State<Arc<Server>>, body: Body<ChatRequest>) -> Result<Response, ApiError> {
    let ChatRequest { asked, messages, begun, .. } = body.0;
    respond(&server, asked, "chatcmpl", ChatFormat, move |prompts| {
        let prompt = prompts.chat(&messages, &begun);
        Ok(vec![prompt.map_err(|error| ApiError::of_prompt("messages", &error))?])
    })
    .await
}
