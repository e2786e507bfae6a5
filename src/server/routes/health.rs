//! `GET /health` and `GET /metrics`

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use crate::server::error::ApiError;
use crate::server::state::Server;

/// Whether requests are taken, and how many there are.
pub async fn health(State(server): State<Arc<Server>>) -> Result<Json<Value>, ApiError> {
    if server.queue.is_closed() {
        return Err(ApiError::shutting_down());
    }
    let (running, waiting) = server.queue.load();
    let (n_slots, room) = (server.queue.n_slots(), server.limits.queue);
    Ok(Json(json!({ "status": "ok", "slots": n_slots, "running": running, "waiting": waiting, "queue": room })))
}

/// The counters, in OpenMetrics text.
pub async fn metrics(State(server): State<Arc<Server>>) -> Result<Response, ApiError> {
    if !server.shows_metrics {
        return Err(ApiError::not_supported("metrics are off; start the server with --metrics"));
    }
    let (_, waiting) = server.queue.load();
    server.metrics.queue_length.set(waiting as i64);
    let kind = HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");
    Ok(([(header::CONTENT_TYPE, kind)], server.metrics.encode()).into_response())
}
