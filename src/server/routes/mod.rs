//! The routes: one file each, and what lies around all of them.

mod answer;
mod body;
mod chat;
mod completions;
mod constraint;
mod conversation;
mod duel;
mod generations;
mod health;
mod llama;
mod messages;
mod models;
mod page;
mod plan;
mod preferences;
mod responses;
mod score;
mod slots;

use std::sync::Arc;

use axum::Router;
use axum::extract::{DefaultBodyLimit, MatchedPath, Request, State};
use axum::http::{HeaderValue, Method, header};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, patch, post};
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::cors::{AllowHeaders, AllowOrigin, CorsLayer};

use super::access::Peer;
use super::error::ApiError;
use super::metrics;
use super::state::Server;

/// All routes of a server.
pub fn app(server: Arc<Server>) -> Router {
    let max_body = server.limits.body;
    let router = Router::new()
        .merge(if server.has_page { page::routes() } else { Router::new() })
        .route("/health", get(health::health))
        .route("/v1/health", get(health::health))
        .route("/metrics", get(health::metrics))
        .route("/v1/models", get(models::list))
        .route("/models", get(models::list))
        .route("/v1/models/{model}", get(models::one))
        .route("/v1/chat/completions", post(chat::complete))
        .route("/chat/completions", post(chat::complete))
        .route("/v1/chat/completions/input_tokens", post(chat::count_tokens))
        .route("/chat/completions/input_tokens", post(chat::count_tokens))
        .route("/v1/responses", post(responses::complete))
        .route("/responses", post(responses::complete))
        .route("/v1/messages", post(messages::complete))
        .route("/v1/messages/count_tokens", post(messages::count_tokens))
        .route("/apply-template", post(chat::apply_template))
        .route("/v1/completions", post(completions::complete))
        .route("/v1/score", post(score::score))
        .route("/v1/duel", post(duel::duel))
        .route("/v1/preferences", get(preferences::get).put(preferences::put))
        .route("/v1/generations/{id}", patch(generations::change))
        .route("/completion", post(llama::completion))
        .route("/completions", post(llama::completion))
        .route("/tokenize", post(llama::tokenize))
        .route("/detokenize", post(llama::detokenize))
        .route("/props", get(llama::props))
        .route("/slots", get(slots::list))
        .route("/slots/{id}", post(slots::act))
        .route("/v1/embeddings", post(embeddings))
        .route("/embeddings", post(embeddings))
        .route("/embedding", post(embeddings))
        .fallback(|request: Request| async move { ApiError::not_found(request.uri().path()) })
        .method_not_allowed_fallback(|request: Request| async move {
            ApiError::method(request.method().as_str(), request.uri().path())
        })
        .layer(DefaultBodyLimit::max(max_body))
        .layer(from_fn_with_state(Arc::clone(&server), guard))
        .layer(from_fn_with_state(Arc::clone(&server), count))
        .layer(from_fn(harden))
        .layer(CatchPanicLayer::custom(|_: Box<dyn std::any::Any + Send>| {
            ApiError::internal("internal error: a request handler panicked; see the server's log").into_response()
        }));
    let router = match cors(&server.cors_origins) {
        Some(cors) => router.layer(cors),
        None => router,
    };
    router.with_state(server)
}

/// A model that writes text has no embeddings worth having.
async fn embeddings() -> ApiError {
    ApiError::not_supported(
        "this server makes no embeddings; run llama-server --embedding with an embedding model beside it",
    )
}

/// Without `--cors-origin` pages from elsewhere get nothing.
fn cors(origins: &[String]) -> Option<CorsLayer> {
    let origins: Vec<HeaderValue> = origins.iter().filter_map(|origin| origin.parse().ok()).collect();
    (!origins.is_empty()).then(|| {
        CorsLayer::new()
            .allow_origin(AllowOrigin::list(origins))
            .allow_methods([Method::GET, Method::POST, Method::PUT, Method::PATCH])
            // OpenAI's clients send headers of their own; what they may not send is no matter of headers.
            .allow_headers(AllowHeaders::mirror_request())
    })
}

/// Lets a request through, or answers it.
async fn guard(State(server): State<Arc<Server>>, request: Request, next: Next) -> Response {
    let peer = request.extensions().get::<Peer>();
    let path = request.uri().path();
    // The page holds no secrets and asks for the key itself; a check of the server's health needs none.
    let is_open = page::is_file(path) || matches!(path, "/health" | "/v1/health");
    match server.access.check(is_open, request.headers(), peer) {
        Ok(()) => next.run(request).await,
        Err(error) => error.into_response(),
    }
}

/// Counts answers under the route's pattern: a path from outside is no label.
async fn count(State(server): State<Arc<Server>>, request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>().map_or("none", MatchedPath::as_str).to_owned();
    let response = next.run(request).await;
    let label = metrics::RequestLabels { route, status: response.status().as_u16() };
    server.metrics.requests.get_or_create(&label).inc();
    response
}

/// Headers that keep a browser from taking an answer for something else, or keeping it.
async fn harden(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

/// The requests of all routes that are not OpenAI's, for tests over all of them.
#[cfg(test)]
pub(in crate::server) mod requests {
    pub use super::duel::DuelRequest;
    pub use super::llama::{CompletionRequest as LlamaRequest, DetokenizeRequest, TokenizeRequest};
    pub use super::score::ScoreRequest;
}
