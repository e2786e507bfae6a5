//! Whether a step asks the ARMs at all.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A gate on the base's own next-token distribution: where the base is sure, the step uses the base alone.
///
/// Explicitly approximate: what the ARMs would have changed at a gated step is lost. The ARMs read the tokens of gated
/// steps later, in one batch.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum Gate {
    /// Ask the ARMs where the base's entropy, in nats, is at least this.
    Entropy(f32),
    /// Ask the ARMs where the base's best token has a probability below this.
    TopP(f32),
}

impl Gate {
    /// Whether the base is so sure of its raw `logits` (at temperature 1) that the ARMs are not asked.
    ///
    /// ```
    /// use genarm::guidance::Gate;
    ///
    /// let sure = [9.0, 0.0, 0.0];
    /// assert!(Gate::TopP(0.9).is_sure(sure) && Gate::Entropy(0.1).is_sure(sure));
    /// assert!(!Gate::TopP(0.9).is_sure([1.0, 1.0]) && !Gate::Entropy(0.1).is_sure([1.0, 1.0]));
    /// ```
    pub fn is_sure(self, logits: impl IntoIterator<Item = f32, IntoIter: Clone>) -> bool {
        let logits = logits.into_iter();
        let max = logits.clone().fold(f32::NEG_INFINITY, f32::max);
        let (mut sum, mut weighted) = (0.0f64, 0.0f64);
        for logit in logits.filter(|l| *l > f32::NEG_INFINITY) {
            let above = f64::from(logit - max);
            let e = above.exp();
            sum += e;
            weighted += above * e;
        }
        sum > 0.0 && self.passes((sum.ln() - weighted / sum) as f32, (1.0 / sum) as f32)
    }

    /// The same where the base's `entropy` in nats and the probability of its best token are known.
    pub fn passes(self, entropy: f32, top_p: f32) -> bool {
        match self {
            Self::TopP(p) => top_p >= p,
            Self::Entropy(nats) => entropy < nats,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_entropy_of_a_uniform_row_is_the_logarithm_of_its_length() {
        let row = [2.5f32; 8];
        let entropy = 8f32.ln();
        assert!(Gate::Entropy(entropy * 1.001).is_sure(row) && !Gate::Entropy(entropy * 0.999).is_sure(row));
        assert!(Gate::TopP(0.124).is_sure(row) && !Gate::TopP(0.126).is_sure(row));
    }

    #[test]
    fn at_its_bound_a_probability_is_sure_and_an_entropy_is_not() {
        assert!(Gate::TopP(0.5).passes(0.7, 0.5));
        assert!(!Gate::Entropy(0.7).passes(0.7, 0.5));
    }

    #[test]
    fn forbidden_tokens_count_for_nothing_and_no_token_makes_nobody_sure() {
        let forbidden = f32::NEG_INFINITY;
        assert!(Gate::TopP(0.999).is_sure([1.0, forbidden, forbidden]));
        assert!(!Gate::TopP(0.0).is_sure([forbidden]) && !Gate::Entropy(1.0).is_sure([]));
    }
}
