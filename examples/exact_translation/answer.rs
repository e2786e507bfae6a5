//! What a search has found.

use std::collections::BTreeMap;

use super::reading::Next;

/// How much of the ARM's probability goes to what.
#[derive(Debug, Default, Clone)]
pub struct Answer {
    /// ln of the probability that the ARM's text begins with the text so far, however the base reads it.
    pub ln_text: f64,
    /// Shares of that probability: paths that go on with this token for certain,
    pub settled: BTreeMap<Next, f64>,
    /// paths that do so if they go on as it seems,
    pub open: BTreeMap<Next, f64>,
    /// paths that were not read this far,
    pub unread: f64,
    /// texts that the base reads as other tokens than the chosen ones,
    pub disagree: f64,
    /// paths with control tokens.
    pub control: f64,
    /// Of the paths that were open once and are settled now, the share that has not become what it seemed to be.
    pub changed: f64,
    pub n_decodes: usize,
}

impl Answer {
    /// The share that is not certain.
    pub fn rest(&self) -> f64 {
        self.open.values().sum::<f64>() + self.unread
    }

    /// q, the most probable first.
    pub fn q(&self) -> Vec<(Next, f64)> {
        let mut sum = self.settled.clone();
        self.open.iter().for_each(|(next, share)| *sum.entry(*next).or_default() += share);
        let whole: f64 = sum.values().sum();
        let mut q: Vec<_> = sum.into_iter().map(|(next, share)| (next, share / whole)).collect();
        q.sort_by(|a, b| b.1.total_cmp(&a.1));
        q
    }
}
