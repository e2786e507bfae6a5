//! How often a reward ranks a pair as people did, how sure it is, and whether it is sure for good reason.

use serde::Serialize;

use super::stats::Proportion;

/// A pair, scored by one model.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct PairScore {
    /// Σ log π of the preferred response, in nats.
    pub chosen: f64,
    /// Σ log π of the other one.
    pub rejected: f64,
    /// Tokens of the preferred response.
    pub n_chosen: usize,
    /// Tokens of the other one.
    pub n_rejected: usize,
}

impl PairScore {
    /// By how much the preferred response wins; with `per_token`, by how much its mean log-probability does.
    pub fn margin(&self, per_token: bool) -> f64 {
        let value = |sum: f64, n: usize| if per_token { sum / n.max(1) as f64 } else { sum };
        value(self.chosen, self.n_chosen) - value(self.rejected, self.n_rejected)
    }

    /// 1 where the pair is ranked rightly, ½ where the responses tie, 0 otherwise.
    pub fn outcome(&self, per_token: bool) -> f64 {
        match self.margin(per_token) {
            margin if margin > 0.0 => 1.0,
            0.0 => 0.5,
            // Both responses are impossible: −∞ less −∞ is no number.
            _ if self.chosen == self.rejected => 0.5,
            _ => 0.0,
        }
    }

    /// Tokens of the longer response.
    pub fn n_tokens(&self) -> usize {
        self.n_chosen.max(self.n_rejected)
    }
}

/// The share of pairs that are ranked rightly.
pub fn accuracy(pairs: &[PairScore], per_token: bool) -> Proportion {
    Proportion::of_outcomes(pairs.iter().map(|pair| pair.outcome(per_token)))
}

/// Pairs of a range of lengths.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Bucket {
    /// Shortest pair, in tokens of its longer response.
    pub from: usize,
    /// Longest pair that there is.
    pub to: usize,
    /// The share ranked rightly.
    pub accuracy: Proportion,
}

/// Accuracy by the length of the longer response, in ranges that double: 1–16, 17–32, 33–64 …; empty ones are left out.
pub fn by_length(pairs: &[PairScore], per_token: bool) -> Vec<Bucket> {
    let range = |n: usize| n.max(16).next_power_of_two();
    let mut tops: Vec<usize> = pairs.iter().map(|pair| range(pair.n_tokens())).collect();
    tops.sort_unstable();
    tops.dedup();
    let bucket = |&top: &usize| {
        let within = pairs.iter().filter(|pair| range(pair.n_tokens()) == top);
        let from = if top == 16 { 1 } else { top / 2 + 1 };
        Bucket { from, to: top, accuracy: Proportion::of_outcomes(within.map(|pair| pair.outcome(per_token))) }
    };
    tops.iter().map(bucket).collect()
}

/// Pairs about which the model is about equally sure.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Bin {
    /// The mean of its confidence, σ(|β · margin|), in [½, 1].
    pub confidence: f64,
    /// The share ranked rightly.
    pub accuracy: Proportion,
}

/// Whether confidence and accuracy agree.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Reliability {
    /// β_r that turns a margin into a confidence.
    pub beta: f64,
    /// From unsure to sure.
    pub bins: Vec<Bin>,
    /// The mean of |confidence − accuracy| over the bins, weighed by their pairs: the expected calibration error.
    pub error: f64,
}

/// Bins that a reliability curve has at most.
const BINS: usize = 8;

/// The reliability curve under the Bradley-Terry model, in bins of equally many pairs: p(chosen ≻ rejected) = σ(β ·
/// margin).
pub fn reliability(pairs: &[PairScore], beta: f64) -> Reliability {
    let confidence = |pair: &PairScore| 1.0 / (1.0 + (-beta * pair.margin(false).abs()).exp());
    let mut sorted: Vec<(f64, f64)> = pairs.iter().map(|pair| (confidence(pair), pair.outcome(false))).collect();
    sorted.sort_by(|a, b| a.0.total_cmp(&b.0));
    let bins: Vec<Bin> = sorted
        .chunks(sorted.len().div_ceil(BINS).max(1))
        .map(|chunk| Bin {
            confidence: chunk.iter().map(|(c, _)| c).sum::<f64>() / chunk.len() as f64,
            accuracy: Proportion::of_outcomes(chunk.iter().map(|(_, outcome)| *outcome)),
        })
        .collect();
    let gaps = bins.iter().map(|bin| (bin.confidence - bin.accuracy.share).abs() * bin.accuracy.n as f64);
    let error = gaps.sum::<f64>() / pairs.len().max(1) as f64;
    Reliability { beta, bins, error }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{Rng, SeedableRng};

    fn pair(chosen: f64, rejected: f64, n_chosen: usize, n_rejected: usize) -> PairScore {
        PairScore { chosen, rejected, n_chosen, n_rejected }
    }

    #[test]
    fn longer_responses_lose_by_the_sum_and_may_win_by_the_mean() {
        let pair = pair(-30.0, -20.0, 30, 10);
        assert_eq!((pair.outcome(false), pair.outcome(true)), (0.0, 1.0));
        assert_eq!((pair.margin(false), pair.margin(true)), (-10.0, 1.0));
    }

    #[test]
    fn ties_count_half() {
        let pairs = [pair(-1.0, -1.0, 1, 1), pair(-1.0, -2.0, 1, 1)];
        assert_eq!(accuracy(&pairs, false).share, 0.75);
        let impossible = pair(f64::NEG_INFINITY, f64::NEG_INFINITY, 1, 1);
        assert_eq!((impossible.outcome(false), pair(f64::NAN, -1.0, 1, 1).outcome(false)), (0.5, 0.0));
    }

    #[test]
    fn lengths_fall_into_ranges_that_double() {
        let pairs = [pair(0.0, -1.0, 3, 16), pair(0.0, -1.0, 17, 2), pair(-1.0, 0.0, 32, 2), pair(0.0, -1.0, 100, 1)];
        let found: Vec<_> = by_length(&pairs, false).iter().map(|b| (b.from, b.to, b.accuracy.share)).collect();
        assert_eq!(found, [(1, 16, 1.0), (17, 32, 0.5), (65, 128, 1.0)]);
    }

    #[test]
    fn a_model_that_is_right_as_often_as_it_says_is_reliable() {
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(3);
        let beta = 0.5;
        let draw = |rng: &mut rand_chacha::ChaCha8Rng, sure: f64| {
            let margin: f64 = rng.random_range(0.0..8.0);
            let right = rng.random::<f64>() < 1.0 / (1.0 + (-beta * sure * margin).exp());
            if right { pair(margin, 0.0, 1, 1) } else { pair(0.0, margin, 1, 1) }
        };
        let honest: Vec<_> = (0..8000).map(|_| draw(&mut rng, 1.0)).collect();
        let boastful: Vec<_> = (0..8000).map(|_| draw(&mut rng, 0.2)).collect();
        assert!(reliability(&honest, beta).error < 0.02);
        assert!(reliability(&boastful, beta).error > 0.15);
        assert_eq!(reliability(&honest, beta).bins.len(), BINS);
        assert_eq!(reliability(&[], beta).bins, []);
    }
}
