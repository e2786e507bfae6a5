//! How the server is set up.

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

/// The settings of `genarm serve`, apart from the configuration of the models.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where to listen.
    pub host: IpAddr,
    /// The port; 0 takes a free one.
    pub port: u16,
    /// Texts that are generated at once.
    pub parallel: usize,
    /// File of API keys, one a line.
    pub api_key_file: Option<PathBuf>,
    /// Further API keys.
    pub api_keys: Vec<String>,
    /// Whether answers repeat the prompt that the model read, as `__verbose`.
    pub verbose: bool,
    /// Whether an address that others can reach may be served without a key.
    pub no_api_key: bool,
    /// Whether grammars and schemas of requests are refused.
    pub no_grammar: bool,
    /// Whether unknown fields of requests are refused on all routes.
    pub strict_fields: bool,
    /// Names under which the model is listed; without any, that of its file.
    pub aliases: Vec<String>,
    /// Most tokens per text where a request does not say.
    pub n_predict: Option<u32>,
    /// Variables for the chat template where a request does not give them.
    pub variables: serde_json::Map<String, serde_json::Value>,
    /// Whether there is a page.
    pub page: bool,
    /// Whether there is `/slots`.
    pub slots: bool,
    /// The folder in which requests may save slots.
    pub slot_save_path: Option<PathBuf>,
    /// Whether there is `/metrics`.
    pub metrics: bool,
    /// Requests a second and client.
    pub rate_limit: Option<NonZeroU32>,
    /// Origins whose pages may use the API.
    pub cors_origins: Vec<String>,
    /// Bounds.
    pub limits: Limits,
}

/// What a request, and all of them together, may take.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Texts that wait for a slot.
    pub queue: usize,
    /// Time that a text may wait.
    pub queue_timeout: Duration,
    /// Time from a request to its last token.
    pub request_timeout: Duration,
    /// Time that a client may take to send the next bytes, or to take what is there for it.
    pub idle_timeout: Duration,
    /// Time that running texts have to end when the server shuts down.
    pub shutdown_timeout: Duration,
    /// Bytes of a request's body.
    pub body: usize,
    /// Connections at once.
    pub connections: usize,
}

impl Default for Limits {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self {
            queue: 64,
            queue_timeout: seconds(120),
            request_timeout: seconds(600),
            idle_timeout: seconds(30),
            shutdown_timeout: seconds(30),
            body: 1 << 20,
            connections: 512,
        }
    }
}

/// Personas that `--max-personas` may allow.
pub const MAX_PERSONAS: usize = 16;
/// Bytes of a persona's system prompt.
pub const MAX_PERSONA_BYTES: usize = 16 << 10;
/// Choices of a request for a duel.
pub const MAX_DUELS: usize = 1000;
/// Changes of weights that a request may replay.
pub const MAX_WEIGHT_CHANGES: usize = 4096;
/// Texts that one request may ask for.
pub const MAX_CHOICES: usize = 16;
/// Tools of a request.
pub const MAX_TOOLS: usize = 256;
/// Stop strings of a request.
pub const MAX_STOP: usize = 128;
/// Bytes of a stop string.
pub const MAX_STOP_BYTES: usize = 512;
/// Alternatives that are listed beside a token, as in OpenAI's API.
pub const MAX_TOP_LOGPROBS: usize = 20;
/// Samplers of a chain.
pub const MAX_SAMPLERS: usize = 32;
/// Bytes of a grammar or a schema.
pub const MAX_GRAMMAR_BYTES: usize = 64 << 10;
/// Tokens with a bias.
pub const MAX_LOGIT_BIAS: usize = 1024;
/// The largest bias, as in OpenAI's API.
pub const MAX_BIAS: f32 = 100.0;
/// The largest weight of an ARM, either way: beyond it sums of logits leave the range of a float.
pub const MAX_WEIGHT: f32 = 100.0;
