//! What guidance did at one step: the likeliest tokens with the log-probabilities of base, guidance and ARMs,
//! divergence, flips.

use serde::Serialize;

use super::error::GuideError;
use super::guide::Guide;
use super::lanes::max;
use super::law::{Direction, Source};
use crate::expert::Token;

/// An ARM's log-probability of a token.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct ArmReward {
    /// The ARM's name.
    pub arm: String,
    /// Its log-probability of the token, natural: the token's reward, but for the factor β_r of its training.
    pub logprob: f32,
    /// That of its reference, if it has one: then the token's reward is the difference.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reference: Option<f32>,
}

/// One token of the guided distribution.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct TokenReport {
    /// Its id.
    pub token: Token,
    /// Guided log-probability: after guidance and temperature, before truncation; natural.
    pub logprob: f32,
    /// The base's log-probability, at temperature 1.
    pub base: f32,
    /// Every ARM's log-probability, at temperature 1; those with weight 0 too.
    pub arms: Vec<ArmReward>,
}

/// What guidance did at one step.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct StepReport {
    /// The likeliest tokens under guidance, likeliest first.
    pub top: Vec<TokenReport>,
    /// The token that was asked about.
    pub chosen: TokenReport,
    /// KL(guided ‖ base) at temperature 1, in nats.
    pub kl: f32,
    /// What all weights were multiplied by to keep to `max_kl`; `None` without that limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lambda: Option<f32>,
    /// Whether guidance changed the likeliest token.
    pub flipped: bool,
}

impl StepReport {
    /// Explains the step after `history`: `base` are the base's raw logits there, `chosen` the token that followed,
    /// `temp` the temperature (0, which has no distribution, is read as 1), `n_top` how many tokens to list.
    ///
    /// # Errors
    ///
    /// When an ARM fails.
    ///
    /// # Cost
    ///
    /// Evaluates every ARM, and takes a few passes over the vocabulary with `exp`; the decoding path does neither.
    pub fn explain(
        guide: &mut Guide,
        history: &[Token],
        base: &[f32],
        chosen: Token,
        temp: f32,
        n_top: usize,
    ) -> Result<Self, GuideError> {
        let experts = guide.expert_logits(history, base, base.len())?;
        let mut guided = Vec::with_capacity(base.len());
        let weights = guide.weights().get();
        let lambda = guide.combine(&weights, base, &experts, &mut guided);
        let log_base = log_softmax(base, 1.0);
        let log_experts: Vec<_> = experts.iter().map(|row| log_softmax(row, 1.0)).collect();
        let log_guided = log_softmax(&guided, if temp > 0.0 { temp } else { 1.0 });
        let log_of = |source, id: usize| match source {
            Source::Base => log_base[id],
            Source::Expert(at) => log_experts[at][id],
        };
        let named = guide.in_use();
        let reward = |id: usize, (name, direction): (&String, &Direction)| ArmReward {
            arm: name.clone(),
            logprob: log_of(direction.arm, id),
            reference: direction.reference.map(|source| log_of(source, id)),
        };
        let report = |id: usize| TokenReport {
            token: id as Token,
            logprob: log_guided[id],
            base: log_base[id],
            arms: named.clone().map(|of_arm| reward(id, of_arm)).collect(),
        };
        let mut ids: Vec<_> = (0..guided.len()).collect();
        let n_top = n_top.min(ids.len());
        let by_logprob = |a: &usize, b: &usize| guided[*b].total_cmp(&guided[*a]).then(a.cmp(b));
        if n_top > 0 && n_top < ids.len() {
            ids.select_nth_unstable_by(n_top - 1, by_logprob);
        }
        ids.truncate(n_top);
        ids.sort_unstable_by(by_logprob);
        Ok(Self {
            top: ids.into_iter().map(&report).collect(),
            chosen: report(usize::try_from(chosen).unwrap_or(0).min(guided.len().saturating_sub(1))),
            kl: kl_divergence(&log_softmax(&guided, 1.0), &log_base),
            lambda: guide.limits().max_kl.map(|_| lambda),
            flipped: argmax(&guided) != argmax(base),
        })
    }
}

/// log Σ exp(x), without overflow.
pub fn log_sum_exp(row: &[f32]) -> f32 {
    let max = max(row);
    if max == f32::NEG_INFINITY { max } else { max + log_sum_exp_below(row, max) }
}

/// log Σ exp(x − max): kept apart from `max`, beside whose size its digits would be lost.
fn log_sum_exp_below(row: &[f32], max: f32) -> f32 {
    // In f64: a sum of 128 thousand terms loses digits in f32.
    row.iter().map(|x| f64::from(x - max).exp()).sum::<f64>().ln() as f32
}

/// Natural log-probabilities of `row / temp`. `temp` is above 0.
pub fn log_softmax(row: &[f32], temp: f32) -> Vec<f32> {
    let max = max(row);
    let scaled: Vec<_> = row.iter().map(|x| (x - max) / temp).collect();
    let rest = log_sum_exp_below(&scaled, 0.0);
    scaled.into_iter().map(|x| x - rest).collect()
}

/// KL(p ‖ q) in nats, from log-probabilities.
pub fn kl_divergence(log_p: &[f32], log_q: &[f32]) -> f32 {
    let term = |(p, q): (&f32, &f32)| if *p == f32::NEG_INFINITY { 0.0 } else { f64::from(p.exp()) * f64::from(p - q) };
    log_p.iter().zip(log_q).map(term).sum::<f64>().max(0.0) as f32
}

pub(super) fn argmax(row: &[f32]) -> usize {
    (0..row.len()).max_by(|a, b| row[*a].total_cmp(&row[*b]).then(b.cmp(a))).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TableExpert;
    use crate::guidance::{Arm, Contract, Tail, Weights};

    #[test]
    fn a_report_is_the_law_in_logarithms() {
        let arm = TableExpert::bigram(vec![vec![0.0, 2.0, -1.0]; 3]);
        let contract = Contract { n_common: 3, tail: Tail::None };
        let weights = Weights::new([("a".to_owned(), 0.5)]);
        let mut guide = Guide::new(vec![Arm::new("a", Box::new(arm), contract)], weights);
        let base = [1.0, 0.5, 0.0];
        let report = StepReport::explain(&mut guide, &[0], &base, 2, 0.7, 2).unwrap();

        let expected = log_softmax(&[1.0, 1.5, -0.5], 0.7);
        assert_eq!(report.top.iter().map(|t| t.token).collect::<Vec<_>>(), [1, 0]);
        assert!((report.top[0].logprob - expected[1]).abs() < 1e-6);
        assert!((report.chosen.logprob - expected[2]).abs() < 1e-6);
        assert!((report.chosen.base - log_softmax(&base, 1.0)[2]).abs() < 1e-6);
        assert!((report.chosen.arms[0].logprob - log_softmax(&[0.0, 2.0, -1.0], 1.0)[2]).abs() < 1e-6);
        assert!(report.flipped && report.kl > 0.0);
    }

    #[test]
    fn probabilities_sum_to_one_and_forbidden_tokens_have_none() {
        let log_p = log_softmax(&[1e4, 1e4 - 1.0, f32::NEG_INFINITY], 1.0);
        assert!((log_p.iter().map(|x| x.exp()).sum::<f32>() - 1.0).abs() < 1e-5);
        assert_eq!(log_p[2], f32::NEG_INFINITY);
        assert_eq!(kl_divergence(&log_p, &log_p), 0.0);
    }
}
