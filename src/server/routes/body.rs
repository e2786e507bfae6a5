//! Bodies of requests: JSON objects within the bounds.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{FromRequest, Request};
use axum::http::{StatusCode, header};
use serde_json::{Map, Value};
use tokio_stream::StreamExt;

use crate::server::connections::Place;
use crate::server::error::ApiError;
use crate::server::fields::{self, Fields};
use crate::server::state::Server;

/// A request, read from its body, and the names of its fields that have no effect.
pub struct Body<T>(pub T, pub Vec<String>);

impl<T: fields::FromFields> FromRequest<Arc<Server>> for Body<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, server: &Arc<Server>) -> Result<Self, ApiError> {
        let fields = Fields::new(object(request, server).await?);
        fields.into_request(server.strict_fields).map(|(request, ignored)| Self(request, ignored))
    }
}

async fn object(request: Request, server: &Arc<Server>) -> Result<Map<String, Value>, ApiError> {
    // A page from elsewhere can send text/plain here without asking first; it cannot send JSON.
    let content_type = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let is_json =
        |value: &str| value.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json"));
    if !content_type.is_some_and(is_json) {
        return Err(ApiError::not_json());
    }
    let length =
        request.headers().get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
    if length.is_some_and(|length| length > server.limits.body) {
        let _ = tokio::time::timeout(server.limits.idle_timeout, drain(request, DRAIN * server.limits.body)).await;
        return Err(ApiError::body_too_large(server.limits.body));
    }
    let place = request.extensions().get::<Place>().cloned();
    let read = tokio::time::timeout(server.limits.idle_timeout, Bytes::from_request(request, server));
    let bytes = read.await.map_err(|_| ApiError::body_incomplete())?.map_err(|rejection| match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => ApiError::body_too_large(server.limits.body),
        _ => ApiError::body_incomplete(),
    })?;
    // The request is whole: from here on the client waits for the server.
    if let Some(place) = place {
        place.set_waiting(false);
    }
    match serde_json::from_slice(&bytes) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err(ApiError::bad_request("the body must be a JSON object")),
        Err(error) => Err(ApiError::bad_request(format!("the body is not JSON: {error}"))),
    }
}

/// How many times the limit is read of a body that is refused.
const DRAIN: usize = 16;

/// Reads a body for nothing. A connection that is closed over unread bytes takes the answer with it, before the client
/// reads it.
async fn drain(request: Request, max: usize) {
    let (mut stream, mut n) = (request.into_body().into_data_stream(), 0);
    while let Some(Ok(bytes)) = stream.next().await {
        n += bytes.len();
        if n > max {
            return;
        }
    }
}
