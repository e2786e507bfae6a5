//! `POST /v1/chat/completions`

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;

use super::answer::respond;
use super::body::Body;
use crate::chat::TemplateError;
use crate::server::error::ApiError;
use crate::server::openai::chat::{ChatFormat, ChatRequest};
use crate::server::state::Server;
use crate::session::PromptError;

/// Answers a conversation.
pub async fn complete(State(server): State<Arc<Server>>, body: Body<ChatRequest>) -> Result<Response, ApiError> {
    let ChatRequest { asked, messages, begun, variables } = body.0;
    respond(&server, asked, "chatcmpl", ChatFormat, move |prompts| {
        let field = |error: &PromptError| match error {
            PromptError::Template { source: TemplateError::Variable(_), .. } => "chat_template_kwargs",
            _ => "messages",
        };
        let prompt = prompts.chat(&messages, &begun, &variables);
        Ok(vec![prompt.map_err(|error| ApiError::of_prompt(field(&error), &error))?])
    })
    .await
}
