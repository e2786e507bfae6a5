//! `PATCH /v1/generations/{id}`: other weights for an answer that is being written.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use indexmap::IndexMap;
use serde_json::{Value, json};

use super::body::Body;
use crate::server::error::ApiError;
use crate::server::openai::steering::Steering;
use crate::server::state::Server;

/// Changes the weights of all texts of an answer that still run, each from its next step on.
pub async fn change(
    State(server): State<Arc<Server>>,
    Path(id): Path<String>,
    body: Body<Steering>,
) -> Result<Json<Value>, ApiError> {
    let running = server.running.get(&id).ok_or_else(|| ApiError::not_running(&id))?;
    if running.replays {
        return Err(ApiError::bad_request("this answer follows its weights_log; its weights cannot be changed"));
    }
    let config = &running.config;
    let change = running.live.change(|weights| body.0.change(config, weights));
    // A text that reads a long prompt takes the weights over after its step.
    let changed = tokio::time::timeout(server.limits.request_timeout, change).await;
    let (weights, tokens) = changed.map_err(|_| ApiError::timed_out())??;
    let choices = tokens.iter().enumerate();
    let choices: Vec<_> =
        choices.filter_map(|(index, token)| Some(json!({ "index": index, "token": (*token)? }))).collect();
    if choices.is_empty() {
        return Err(ApiError::not_running(&id));
    }
    let weights: IndexMap<_, _> = config.weight_names().into_iter().zip(weights).collect();
    Ok(Json(json!({ "id": id, "weights": weights, "choices": choices })))
}
