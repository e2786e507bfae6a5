//! What a search has found.

use std::collections::BTreeMap;

use super::reading::Next;

/// How much of the ARM's probability goes to what.
#[derive(Debug, Default, Clone, serde::Serialize, serde::Deserialize)]
pub struct Answer {
    /// ln of the probability that the ARM's text begins with the text so far, however the base reads it.
    pub ln_text: f64,
    /// The share of texts that the base reads as other tokens than the chosen ones,
    pub disagree: f64,
    /// and of control tokens.
    pub control: f64,
    /// Shares of the others: paths that go on with this token for certain,
    #[serde(with = "list")]
    pub settled: BTreeMap<Next, f64>,
    /// paths that do so if they go on as it seems,
    #[serde(with = "list")]
    pub open: BTreeMap<Next, f64>,
    /// paths that were not read this far.
    pub unread: f64,
    /// Of the paths that were open once and are settled now, the share that has not become what it seemed to be.
    pub changed: f64,
    pub n_decodes: usize,
}

impl Answer {
    /// The share that is not certain.
    pub fn rest(&self) -> f64 {
        self.open.values().sum::<f64>() + self.unread
    }

    /// The share that may be wrong, if open paths change as often as those before them did.
    pub fn doubt(&self) -> f64 {
        self.rest() * self.changed + self.unread
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

/// Maps as lists: the names in JSON's objects are texts.
mod list {
    use std::collections::BTreeMap;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::Next;

    pub fn serialize<S: Serializer>(map: &BTreeMap<Next, f64>, to: S) -> Result<S::Ok, S::Error> {
        map.iter().collect::<Vec<_>>().serialize(to)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<BTreeMap<Next, f64>, D::Error> {
        Ok(Vec::deserialize(from)?.into_iter().collect())
    }
}
