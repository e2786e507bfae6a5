//! The loss of a pair that several objectives judge.

use crate::train::objective::{Objective, PairLogProbs};
use crate::train::pairs::Example;

/// Σ_i w_i · loss_i, where each objective prefers one of the two responses, or neither.
pub(in crate::train) struct Mixture<'a> {
    pub losses: &'a [Objective],
    /// w of each objective.
    pub weights: Vec<f64>,
    /// Of each pair, what each objective prefers.
    pub signs: Vec<&'a [i8]>,
}

/// What a pair adds to the sums of a pass.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(in crate::train) struct Judged {
    pub loss: f64,
    pub margin: f64,
    /// 1 where the preferred response is the likelier one.
    pub correct: f64,
    /// What the above are weighted with.
    pub weight: f64,
    /// ∂loss / ∂ log π(chosen); that of the rejected response is its negative.
    pub d_chosen: f64,
}

impl Mixture<'_> {
    /// The weighted losses of pair `n`. Each objective's own derivative counts for the response that it prefers.
    pub fn pair(&self, n: usize, p: PairLogProbs) -> Judged {
        let mut sum = Judged::default();
        for ((loss, weight), sign) in self.losses.iter().zip(&self.weights).zip(self.signs[n]) {
            let (p, sign) = match sign {
                0 => continue,
                1 => (p, 1.0),
                _ => (p.exchanged(), -1.0),
            };
            let one = loss.pair(p);
            sum.loss += weight * one.loss;
            sum.margin += weight * one.margin;
            sum.correct += weight * one.outcome();
            sum.weight += weight;
            sum.d_chosen += weight * sign * one.d_chosen;
        }
        sum
    }
}

/// By how much an objective's examples weigh more than their number, so that the mean over all examples is the sum of
/// the objectives' own means: n / n_i; 0 for an objective without examples.
pub(in crate::train) fn shares(examples: &[Example], k: usize) -> Vec<f64> {
    let of = |i: usize| match examples.iter().filter(|example| example.signs[i] != 0).count() {
        0 => 0.0,
        n => examples.len() as f64 / n as f64,
    };
    (0..k).map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOSSES: [Objective; 2] = [
        Objective::Arm { beta_r: 0.2, gamma: 0.0, label_smoothing: 0.0, hinge: false },
        Objective::Arm { beta_r: 0.7, gamma: 0.1, label_smoothing: 0.1, hinge: false },
    ];

    fn mixture<'a>(weights: [f64; 2], signs: &'a [i8]) -> Mixture<'a> {
        Mixture { losses: &LOSSES, weights: weights.to_vec(), signs: vec![signs] }
    }

    fn pair(chosen: f64, rejected: f64) -> PairLogProbs {
        PairLogProbs { chosen, rejected, ..PairLogProbs::default() }
    }

    #[test]
    fn the_loss_is_the_sum_of_weighted_losses_for_the_sides_that_the_objectives_prefer() {
        let got = mixture([0.25, 0.75], &[1, -1]).pair(0, pair(-3.0, -5.0));
        let (one, other) = (LOSSES[0].pair(pair(-3.0, -5.0)), LOSSES[1].pair(pair(-5.0, -3.0)));
        assert!((got.loss - (0.25 * one.loss + 0.75 * other.loss)).abs() < 1e-12);
        // The first objective is served, the second is not.
        assert_eq!((got.correct, got.weight), (0.25, 1.0));
        // An objective without a preference has no part in it.
        let got = mixture([0.25, 0.75], &[1, 0]).pair(0, pair(-3.0, -5.0));
        assert_eq!((got.loss, got.weight), (0.25 * one.loss, 0.25));
    }

    #[test]
    fn the_derivative_agrees_with_finite_differences() {
        let h = 1e-5;
        for signs in [[1, 1], [1, -1], [-1, 1], [-1, -1], [0, -1]] {
            for (c, r) in [(-10.0, -12.0), (-12.0, -10.0), (-1.0, -1.2)] {
                let loss = |c, r| mixture([0.3, 0.7], &signs).pair(0, pair(c, r)).loss;
                let got = mixture([0.3, 0.7], &signs).pair(0, pair(c, r)).d_chosen;
                let (slope, other) =
                    ((loss(c + h, r) - loss(c - h, r)) / (2.0 * h), (loss(c, r + h) - loss(c, r - h)) / (2.0 * h));
                assert!((slope - got).abs() < 1e-7 && (other + got).abs() < 1e-7, "{signs:?}: {slope} {other} {got}");
            }
        }
    }

    #[test]
    fn objectives_with_few_examples_weigh_as_much_as_those_with_many() {
        let example = |signs: [i8; 2]| Example {
            prompt: Vec::new(),
            chosen: Vec::new(),
            rejected: Vec::new(),
            adapted_from: 0,
            signs: signs.to_vec(),
        };
        let examples = [[1, 0], [1, 0], [-1, 0], [0, 1]].map(example);
        let shares = shares(&examples, 2);
        assert_eq!(shares, [4.0 / 3.0, 4.0]);
        let sum = |i: usize| examples.iter().filter(|e| e.signs[i] != 0).map(|_| shares[i]).sum::<f64>();
        assert_eq!(sum(0), sum(1));
    }
}
