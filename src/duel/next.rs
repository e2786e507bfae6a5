//! What to ask next.

use rand::Rng;

use super::Fit;
use super::fit::difference;
use crate::dirichlet::dirichlet;

/// Weights for `n` objectives that are drawn far apart: none is negative, and their sum is at most `strength`. Many lie
/// near a corner, one objective or the base alone; others between (Dirichlet, ½ each).
pub fn spread(n: usize, strength: f64, rng: &mut impl Rng) -> Vec<f64> {
    dirichlet(n + 1, 0.5, rng).iter().take(n).map(|part| strength * part).collect()
}

/// The two of these answers, by their rewards, between which a choice tells most of θ: the one that shrinks the
/// posterior most. `None` where no two answers differ.
pub fn most_telling(fit: &Fit, rewards: &[Vec<f64>]) -> Option<(usize, usize)> {
    let pairs = (0..rewards.len()).flat_map(|a| (a + 1..rewards.len()).map(move |b| (a, b)));
    let with_gain = pairs.map(|(a, b)| ((a, b), gain(fit, &difference(&rewards[a], &rewards[b]))));
    let telling = with_gain.filter(|(_, gain)| *gain > 0.0).max_by(|(_, a), (_, b)| a.total_cmp(b));
    telling.map(|(pair, _)| pair)
}

/// p(1 − p) · xᵀ H⁻¹ x: the determinant of H grows by 1 + this (D-optimal design).
fn gain(fit: &Fit, difference: &[f64]) -> f64 {
    let p = fit.probability(difference);
    p * (1.0 - p) * fit.variance(difference)
}
