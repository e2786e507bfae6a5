//! What the server counts, for Prometheus.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use std::sync::Arc;

/// The counters; a clone counts into the same ones.
#[derive(Clone)]
pub struct Metrics {
    registry: Arc<Registry>,
    /// Answers by route and status.
    pub requests: Family<RequestLabels, Counter>,
    /// Tokens of prompts.
    pub prompt_tokens: Counter,
    /// Tokens generated.
    pub generated_tokens: Counter,
    /// Tokens drafted.
    pub drafted_tokens: Counter,
    /// Drafted tokens that were kept.
    pub accepted_tokens: Counter,
    /// Texts whose client went away, or did not read.
    pub cancelled: Counter,
    /// Configurations taken over while running, by result.
    pub reloads: Family<Reload, Counter>,
    /// Slots with a text.
    pub slots_busy: Gauge,
    /// Jobs in the queue.
    pub queue_length: Gauge,
    /// Waiting for a slot.
    pub queue_seconds: Histogram,
    /// From a request to its first token.
    pub first_token_seconds: Histogram,
    /// One step of all texts.
    pub step_seconds: Histogram,
}

/// Which answers.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct RequestLabels {
    /// The route as it is written, never the path that was asked for.
    pub route: String,
    /// HTTP's status.
    pub status: u16,
}

/// How a reload went.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct Reload {
    /// "ok" or "failed".
    pub result: &'static str,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("genarm");
        let seconds = |from| Histogram::new((0..14).map(move |i| from * f64::from(1 << i)));
        let metrics = (Counter::default(), Counter::default(), Counter::default());
        let (prompt_tokens, generated_tokens, cancelled) = metrics;
        let (drafted_tokens, accepted_tokens) = (Counter::default(), Counter::default());
        let (requests, reloads) = (Family::<RequestLabels, Counter>::default(), Family::<Reload, Counter>::default());
        let (slots_busy, queue_length) = (Gauge::default(), Gauge::default());
        let (queue_seconds, first_token_seconds, step_seconds) = (seconds(0.001), seconds(0.005), seconds(0.0005));
        registry.register("http_requests", "Answers by route and status", requests.clone());
        registry.register("prompt_tokens", "Tokens of prompts", prompt_tokens.clone());
        registry.register("generated_tokens", "Tokens generated", generated_tokens.clone());
        registry.register("drafted_tokens", "Tokens drafted", drafted_tokens.clone());
        registry.register("accepted_tokens", "Drafted tokens that were kept", accepted_tokens.clone());
        registry.register("cancelled", "Texts whose client went away or did not read", cancelled.clone());
        registry.register("reloads", "Configurations taken over while running", reloads.clone());
        registry.register("slots_busy", "Slots with a text", slots_busy.clone());
        registry.register("queue_length", "Texts that wait for a slot", queue_length.clone());
        registry.register("queue_seconds", "Waiting for a slot", queue_seconds.clone());
        registry.register("first_token_seconds", "From a request to its first token", first_token_seconds.clone());
        registry.register("step_seconds", "One step of all texts", step_seconds.clone());
        Self {
            registry: Arc::new(registry),
            requests,
            prompt_tokens,
            generated_tokens,
            drafted_tokens,
            accepted_tokens,
            cancelled,
            reloads,
            slots_busy,
            queue_length,
            queue_seconds,
            first_token_seconds,
            step_seconds,
        }
    }
}

impl Metrics {
    /// All of them in OpenMetrics text.
    pub fn encode(&self) -> String {
        let mut text = String::new();
        // Writing into a string does not fail.
        let _ = encode(&mut text, &self.registry);
        text
    }
}
