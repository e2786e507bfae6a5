//! Losses and outcomes, summed over examples that one pass reads.

use super::backbone::Packed;
use super::objective::{Objective, PairLogProbs};
use super::pairs::Example;
use super::parm::{Judged, Mixture};
use super::report::Record;

/// Sums over some examples.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Totals {
    pub loss: f64,
    pub margin: f64,
    /// Pairs ranked rightly; a tie is half of one.
    pub correct: f64,
    /// Examples, or scored tokens for sft; where several objectives judge a pair, their weights.
    pub weight: f64,
}

/// How the examples of a pass are judged.
pub(super) struct Judge<'a> {
    pub objective: Objective,
    /// Log-probabilities under the frozen backbone, for dpo.
    pub reference: Option<Vec<f32>>,
    /// Several objectives, in place of one.
    pub mixture: Option<Mixture<'a>>,
}

impl Judge<'_> {
    /// Pair `n` of the pass.
    fn pair(&self, n: usize, p: PairLogProbs) -> Judged {
        match &self.mixture {
            Some(mixture) => mixture.pair(n, p),
            None => {
                let one = self.objective.pair(p);
                Judged {
                    loss: one.loss,
                    margin: one.margin,
                    correct: one.outcome(),
                    weight: 1.0,
                    d_chosen: one.d_chosen,
                }
            }
        }
    }
}

impl Totals {
    /// Adds the packed examples and returns ∂(mean loss)/∂(log-probability) of each scored token.
    pub fn add(&mut self, judge: &Judge<'_>, packed: &Packed, values: &[f32], weight: f64) -> Vec<f32> {
        let sums = |values: &[f32]| -> Vec<f64> {
            let mut rest = values;
            packed
                .scored
                .iter()
                .map(|n| {
                    let (head, tail) = rest.split_at(*n);
                    rest = tail;
                    head.iter().map(|v| f64::from(*v)).sum()
                })
                .collect()
        };
        if judge.objective == Objective::Sft {
            self.loss -= values.iter().map(|v| f64::from(*v)).sum::<f64>();
            self.weight += values.len() as f64;
            return vec![(-1.0 / weight) as f32; values.len()];
        }
        let (policy, reference) = (sums(values), judge.reference.as_deref().map(sums));
        let mut coefficients = Vec::with_capacity(values.len());
        for i in (0..policy.len()).step_by(2) {
            let of = |sums: &Option<Vec<f64>>, i: usize| sums.as_ref().map_or(0.0, |s| s[i]);
            let judged = judge.pair(
                i / 2,
                PairLogProbs {
                    chosen: policy[i],
                    rejected: policy[i + 1],
                    reference_chosen: of(&reference, i),
                    reference_rejected: of(&reference, i + 1),
                },
            );
            self.loss += judged.loss;
            self.margin += judged.margin;
            self.correct += judged.correct;
            self.weight += judged.weight;
            let d = (judged.d_chosen / weight) as f32;
            coefficients.extend(std::iter::repeat_n(d, packed.scored[i]));
            coefficients.extend(std::iter::repeat_n(-d, packed.scored[i + 1]));
        }
        coefficients
    }

    /// The mean loss, where there are examples.
    pub fn loss(&self) -> Option<f64> {
        (self.weight > 0.0).then(|| self.loss / self.weight)
    }

    /// The share of pairs ranked rightly, a tie counting one half; `None` for sft.
    pub fn accuracy(&self, objective: Objective) -> Option<f64> {
        (self.weight > 0.0 && objective != Objective::Sft).then(|| self.correct / self.weight)
    }

    /// The means, as the log has them.
    pub fn record(&self, objective: Objective) -> Record {
        // A batch whose objectives all have a preference of 0 has nothing to say.
        let is_weighed = self.weight > 0.0;
        let margin = (is_weighed && objective != Objective::Sft).then(|| self.margin / self.weight);
        let loss = is_weighed.then(|| self.loss / self.weight);
        Record { loss, accuracy: self.accuracy(objective), margin, ..Record::default() }
    }
}

/// Lays examples one after another; a pair takes two sequences, chosen first.
pub(super) fn pack<'a>(examples: impl Iterator<Item = &'a Example>) -> Packed {
    let mut packed = Packed::default();
    for e in examples {
        packed.push_adapted(&[e.prompt.as_slice(), &e.chosen].concat(), e.prompt.len(), e.adapted_from);
        if !e.rejected.is_empty() {
            packed.push_adapted(&[e.prompt.as_slice(), &e.rejected].concat(), e.prompt.len(), e.adapted_from);
        }
    }
    packed
}
