//! `POST /v1/chat/completions`, and what answers conversations on other routes.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use serde_json::{Value, json};

use super::answer::{n_predict, respond};
use super::body::Body;
use super::plan::planned;
use crate::server::error::ApiError;
use crate::server::openai::chat::{ChatFormat, ChatRequest};
use crate::server::openai::reply::Format;
use crate::server::openai::request::Asked;
use crate::server::openai::tools::AnswerReader;
use crate::server::readers::Purpose;
use crate::server::state::Server;

/// Answers a conversation.
pub async fn complete(State(server): State<Arc<Server>>, body: Body<ChatRequest>) -> Result<Response, ApiError> {
    answer(&server, body.0, body.1, "chatcmpl-", ChatFormat::new).await
}

/// Answers a conversation in the way that `format` makes of what reads its answers; `id` begins the answer's id.
///
/// # Errors
///
/// [`ApiError`].
pub(super) async fn answer<F: Format>(
    server: &Arc<Server>,
    request: ChatRequest,
    ignored: Vec<String>,
    id: &str,
    format: impl FnOnce(AnswerReader) -> F,
) -> Result<Response, ApiError> {
    let ChatRequest { asked, dialogue, generates, truncates } = request;
    if !generates && dialogue.begun.is_none() {
        let message = "add_generation_prompt is false, and the last message is no answer that could be continued";
        return Err(ApiError::invalid("add_generation_prompt", message));
    }
    let plan = planned(server, dialogue).await?;
    let asked = Asked { ignored, calls: plan.calls, ..asked };
    let room = truncates.then(|| {
        // Of a context at least half is left for the conversation.
        let n_answer = match n_predict(server, asked.n_predict) {
            usize::MAX => server.n_ctx / 4,
            n => n,
        };
        server.n_ctx - n_answer.min(server.n_ctx / 2)
    });
    let (format, conversation) = (format(plan.reader), plan.conversation);
    respond(server, asked, id, format, move |prompts| conversation.read(prompts, room)).await
}

/// The text of a conversation's prompt: `POST /apply-template`.
pub async fn apply_template(
    State(server): State<Arc<Server>>,
    body: Body<ChatRequest>,
) -> Result<Json<Value>, ApiError> {
    let ChatRequest { dialogue, generates, .. } = body.0;
    let conversation = planned(&server, dialogue).await?.conversation;
    let prompts = Arc::clone(&server.prompts);
    let text = server.off_thread(Purpose::Prompt, move || conversation.text(&prompts, generates)).await?;
    Ok(Json(json!({ "prompt": text })))
}

/// The length of a conversation's prompt: `POST /v1/chat/completions/input_tokens`.
pub async fn count_tokens(State(server): State<Arc<Server>>, body: Body<ChatRequest>) -> Result<Json<Value>, ApiError> {
    let n = n_prompt(&server, body.0).await?;
    Ok(Json(json!({ "object": "response.input_tokens", "input_tokens": n })))
}

/// The tokens of the base's prompt for a conversation that is not answered.
pub(super) async fn n_prompt(server: &Arc<Server>, request: ChatRequest) -> Result<usize, ApiError> {
    let conversation = planned(server, request.dialogue).await?.conversation;
    let prompts = Arc::clone(&server.prompts);
    let read = move || Ok(conversation.prompt(&prompts.with_personas(&[]))?.base.len());
    server.off_thread(Purpose::Prompt, read).await
}
