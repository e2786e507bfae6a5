//! Bodies of requests: JSON objects within the bounds.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{FromRequest, Request};
use axum::http::{StatusCode, header};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::server::error::ApiError;
use crate::server::openai::request::Body;
use crate::server::state::Server;

impl<T: DeserializeOwned> FromRequest<Arc<Server>> for Body<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, server: &Arc<Server>) -> Result<Self, ApiError> {
        Self::read(object(request, server).await?)
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
    let read = tokio::time::timeout(server.limits.idle_timeout, Bytes::from_request(request, server));
    let bytes = read.await.map_err(|_| ApiError::body_incomplete())?.map_err(|rejection| match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => ApiError::body_too_large(server.limits.body),
        _ => ApiError::body_incomplete(),
    })?;
    match serde_json::from_slice(&bytes) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err(ApiError::bad_request("the body must be a JSON object")),
        Err(error) => Err(ApiError::bad_request(format!("the body is not JSON: {error}"))),
    }
}
