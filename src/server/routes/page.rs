//! The page at `/`: files that are part of the binary. `marked.js` and `purify.js` come from elsewhere (`vendor/page`).

use std::sync::Arc;

use axum::Router;
use axum::http::{HeaderName, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use crate::server::state::Server;

/// Nothing but the page's own files, no inline code, no frames, no other host.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const SCRIPT: &str = "text/javascript; charset=utf-8";

/// A file of the page: its path, its type and its text.
type File = (&'static str, &'static str, &'static str);

const FILES: [File; 13] = [
    ("/", "text/html; charset=utf-8", include_str!("../page/page.html")),
    ("/page.css", "text/css; charset=utf-8", include_str!("../page/page.css")),
    ("/page.js", SCRIPT, include_str!("../page/page.js")),
    ("/conversations.js", SCRIPT, include_str!("../page/conversations.js")),
    ("/weights.js", SCRIPT, include_str!("../page/weights.js")),
    ("/tokens.js", SCRIPT, include_str!("../page/tokens.js")),
    ("/rewards.js", SCRIPT, include_str!("../page/rewards.js")),
    ("/share.js", SCRIPT, include_str!("../page/share.js")),
    ("/talk.js", SCRIPT, include_str!("../page/talk.js")),
    ("/duel.js", SCRIPT, include_str!("../page/duel.js")),
    ("/marked.js", SCRIPT, include_str!("../../../vendor/page/marked.umd.js")),
    ("/purify.js", SCRIPT, include_str!("../../../vendor/page/purify.min.js")),
    ("/favicon.svg", "image/svg+xml", include_str!("../page/favicon.svg")),
];

/// Its routes.
pub fn routes() -> Router<Arc<Server>> {
    FILES.into_iter().fold(Router::new(), |router, file| router.route(file.0, get(async move || answer(file))))
}

/// Whether a path is that of one of its files. They hold no secrets.
pub fn is_file(path: &str) -> bool {
    FILES.iter().any(|file| file.0 == path)
}

fn answer((_, kind, text): File) -> Response {
    let headers: [(HeaderName, HeaderValue); 4] = [
        // A link that a model writes must not be looked up before it is clicked.
        (HeaderName::from_static("x-dns-prefetch-control"), HeaderValue::from_static("off")),
        (header::CONTENT_TYPE, HeaderValue::from_static(kind)),
        (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY)),
        // A newer binary has a newer page.
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
    ];
    (headers, text).into_response()
}
