//! The page at `/`: five files that are part of the binary.

use axum::http::{HeaderName, HeaderValue, header};
use axum::response::{IntoResponse, Response};

/// Nothing but the page's own files, no inline code, no frames, no other host.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The page.
pub async fn html() -> Response {
    file("text/html; charset=utf-8", include_str!("../page/page.html"))
}

/// Its style.
pub async fn css() -> Response {
    file("text/css; charset=utf-8", include_str!("../page/page.css"))
}

/// Its program.
pub async fn js() -> Response {
    file("text/javascript; charset=utf-8", include_str!("../page/page.js"))
}

/// The part of its program that keeps conversations.
pub async fn conversations() -> Response {
    file("text/javascript; charset=utf-8", include_str!("../page/conversations.js"))
}

/// Its icon.
pub async fn icon() -> Response {
    file("image/svg+xml", include_str!("../page/favicon.svg"))
}

fn file(kind: &'static str, text: &'static str) -> Response {
    let headers: [(HeaderName, HeaderValue); 3] = [
        (header::CONTENT_TYPE, HeaderValue::from_static(kind)),
        (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY)),
        // A newer binary has a newer page.
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
    ];
    (headers, text).into_response()
}
