//! The HTTP server: OpenAI's API with a vector of preference weights in each request, and a page to steer by hand.
//!
//! ```text
//! listen ── access ── routes ──▶ engine::Queue ──▶ engine::Worker (one thread, owns the Session)
//!                        ▲                               │
//!                        └── stream ◀── events ◀─────────┘
//! ```
//!
//! Nothing in a request names a model or a template, nor a file, except a saved slot in the folder for them.

mod access;
mod answers;
mod connections;
mod engine;
mod error;
mod fields;
mod listen;
mod metrics;
mod openai;
mod options;
mod readers;
mod reload;
mod routes;
mod running;
mod signals;
mod state;
mod stream;

pub use engine::Stuck;
pub use listen::{Listening, serve};
pub use options::{Limits, Options};
pub use routes::app;
pub use state::Server;
