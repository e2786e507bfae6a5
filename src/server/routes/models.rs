//! `GET /v1/models`

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use serde_json::{Value, json};

use crate::server::error::ApiError;
use crate::server::state::Server;

fn model(server: &Server) -> Value {
    let meta = json!({ "n_ctx": server.n_ctx, "n_vocab": server.prompts.vocab().n_tokens(), "chat": server.prompts.can_chat() });
    json!({
        "id": server.model, "object": "model", "created": server.created, "owned_by": "genarm",
        "aliases": server.aliases, "tags": [], "meta": meta,
    })
}

/// The one model that there is.
pub async fn list(State(server): State<Arc<Server>>) -> Json<Value> {
    Json(json!({ "object": "list", "data": [model(&server)] }))
}

/// The same by its name.
pub async fn one(State(server): State<Arc<Server>>, Path(name): Path<String>) -> Result<Json<Value>, ApiError> {
    if server.aliases.contains(&name) {
        Ok(Json(model(&server)))
    } else {
        Err(ApiError::not_found(&format!("model {name}")))
    }
}
