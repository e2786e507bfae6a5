//! What a run did, for `--stats` and `--json`.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

use crate::decode::{DrafterCount, Speculation};
use crate::session::Shared;

/// Shared batches, speculation and gating. Milliseconds.
#[derive(Debug, Serialize)]
pub struct Stats {
    /// Experts on the same weights, and whether they are rows of one batch.
    shared_batch: Vec<Shared>,
    /// The setting.
    speculate: String,
    cycles: u64,
    drafts: u64,
    drafted: u64,
    accepted: u64,
    /// Accepted of drafted.
    rate: f64,
    tokens_per_cycle: f64,
    catch_up_ms: f64,
    draft_ms: f64,
    verify_ms: f64,
    sampling_ms: f64,
    /// Steps that `guidance.gate` left to the base.
    gated_steps: u64,
    drafters: Vec<DrafterCount>,
}

impl Stats {
    /// Of a text.
    pub fn new(shared: &[Shared], speculate: String, speculation: &Speculation, gated_steps: u64) -> Self {
        let ms = |d: Duration| d.as_secs_f64() * 1e3;
        Self {
            shared_batch: shared.to_vec(),
            speculate,
            cycles: speculation.cycles,
            drafts: speculation.drafts,
            drafted: speculation.drafted,
            accepted: speculation.accepted,
            rate: speculation.rate(),
            tokens_per_cycle: speculation.tokens_per_cycle(),
            catch_up_ms: ms(speculation.catch_up),
            draft_ms: ms(speculation.draft),
            verify_ms: ms(speculation.verify),
            sampling_ms: ms(speculation.sampling),
            gated_steps,
            drafters: speculation.drafters.clone(),
        }
    }
}

impl fmt::Display for Stats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { speculate, cycles, drafts, drafted, accepted, rate, tokens_per_cycle, .. } = self;
        for Shared { experts, shared, why_not, .. } in &self.shared_batch {
            let how = if *shared { "on" } else { "off" };
            let why = why_not.as_ref().map(|why| format!(" ({why})")).unwrap_or_default();
            writeln!(f, "shared batch: {how}{why}: {}", experts.join(", "))?;
        }
        write!(f, "speculate: {speculate}")?;
        for DrafterCount { name, drafted, accepted } in &self.drafters {
            write!(f, "; {name} drafted {drafted}, accepted {accepted}")?;
        }
        let percent = rate * 100.0;
        writeln!(
            f,
            "\ndrafted {drafted}, accepted {accepted} ({percent:.1} %), {tokens_per_cycle:.2} tokens a cycle ({drafts} of {cycles} cycles with a draft)"
        )?;
        let Self { catch_up_ms, draft_ms, verify_ms, sampling_ms, gated_steps, .. } = self;
        writeln!(
            f,
            "catch-up {catch_up_ms:.0} ms, draft {draft_ms:.0} ms, verify {verify_ms:.0} ms, sampling {sampling_ms:.0} ms"
        )?;
        write!(f, "gated steps: {gated_steps}")
    }
}
