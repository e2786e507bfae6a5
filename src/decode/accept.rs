//! The acceptance rule of speculative sampling (Leviathan et al. 2023; Chen et al. 2023).

use rand::Rng;
use rand_chacha::ChaCha8Rng;

use super::Distribution;
use super::draft::Draft;
use crate::expert::Token;

/// Judges drafted tokens. Only tests have another one than [`Exact`]: wrong ones, which must be noticed.
pub trait Accept: Send {
    /// Judges token `i` of `draft`, where `p` is the target's distribution: `None` keeps it, `Some` puts another in its
    /// place.
    fn judge(&mut self, p: &Distribution, draft: &Draft, i: usize, rng: &mut ChaCha8Rng) -> Option<Token>;
}

/// Keeps a token with probability min(1, p/q); else draws from max(0, p − q), normalised.
///
/// Then the token is distributed as p, whatever q is: P(x) = q·min(1, p/q) + P(rejected)·max(0, p − q)/Σ max(0, p − q),
/// and P(rejected) is that sum.
#[derive(Debug, Default)]
pub struct Exact {
    /// q by token; all 0 between calls.
    dense: Vec<f64>,
    residual: Distribution,
}

impl Accept for Exact {
    fn judge(&mut self, p: &Distribution, draft: &Draft, i: usize, rng: &mut ChaCha8Rng) -> Option<Token> {
        let (token, q) = (draft.tokens()[i], draft.q(i));
        if rng.random::<f64>() * q.of(token) < p.of(token) {
            return None;
        }
        let Self { dense, residual } = self;
        for (token, q) in q.entries() {
            let at = *token as usize;
            if at >= dense.len() {
                dense.resize(at + 1, 0.0);
            }
            dense[at] = *q;
        }
        let of = |token: Token| dense.get(token as usize).copied().unwrap_or(0.0);
        residual.set(p.entries().iter().map(|(token, p)| (*token, p - of(*token))));
        q.entries().iter().for_each(|(token, _)| dense[*token as usize] = 0.0);
        let u = rng.random();
        // Where p and q are equal but for rounding there is no residual, and p itself is right.
        residual.draw(u).or_else(|| p.draw(u))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rand::{Rng, SeedableRng};

    /// What becomes of a token drafted from q, exactly: the law that `judge` samples.
    fn outcome(p: &Distribution, q: &Distribution, n: i32) -> Vec<f64> {
        let kept = |t| q.of(t).min(p.of(t));
        let rejected = 1.0 - (0..n).map(kept).sum::<f64>();
        let surplus = |t| (p.of(t) - q.of(t)).max(0.0);
        let total: f64 = (0..n).map(surplus).sum();
        (0..n).map(|t| kept(t) + if total > 0.0 { rejected * surplus(t) / total } else { 0.0 }).collect()
    }

    #[test]
    fn a_judgement_leaves_nothing_to_the_next_one() {
        let of = |weights: &[(Token, f64)]| {
            let mut d = Distribution::default();
            d.set(weights.iter().copied());
            d
        };
        let (mut rule, mut rng, mut draft) = (Exact::default(), ChaCha8Rng::seed_from_u64(1), Draft::default());
        let mut judge = |p: &Distribution, q: Distribution| {
            draft.clear();
            let token = q.entries()[0].0;
            draft.push(token).clone_from(&q);
            rule.judge(p, &draft, 0, &mut rng)
        };
        let p = of(&[(0, 1.0), (2, 1.0)]);
        let mut drawn = [0; 3];
        for _ in 0..64 {
            // q of the first has all of token 0, that of the second nothing.
            judge(&p, of(&[(0, 1.0)]));
            drawn[judge(&p, of(&[(1, 1.0)])).expect("p does not have the drafted token") as usize] += 1;
        }
        assert!(drawn[0] > 16 && drawn[1] == 0 && drawn[2] > 16, "{drawn:?}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn a_judged_token_is_distributed_as_p(
            p in prop::collection::vec(0f64..1.0, 4), q in prop::collection::vec(0f64..1.0, 4), seed in 0u64..1000,
        ) {
            prop_assume!(p.iter().sum::<f64>() > 0.1 && q.iter().sum::<f64>() > 0.1);
            let make = |w: Vec<f64>| {
                let mut d = Distribution::default();
                d.set(w.into_iter().enumerate().map(|(t, w)| (t as Token, if w < 0.2 { 0.0 } else { w })));
                d
            };
            let (p, q) = (make(p), make(q));
            prop_assume!(!p.is_empty() && !q.is_empty());
            for (t, x) in outcome(&p, &q, 4).iter().enumerate() {
                prop_assert!((x - p.of(t as Token)).abs() < 1e-12);
            }
            let (mut rule, mut rng, mut draft) = (Exact::default(), ChaCha8Rng::seed_from_u64(seed), Draft::default());
            let (n, mut counts) = (20_000, [0.0f64; 4]);
            for _ in 0..n {
                draft.clear();
                let token = q.draw(rng.random()).unwrap();
                draft.push(token).clone_from(&q);
                counts[rule.judge(&p, &draft, 0, &mut rng).unwrap_or(token) as usize] += 1.0;
            }
            for (t, count) in counts.iter().enumerate() {
                let p = p.of(t as Token);
                prop_assert!((count / n as f64 - p).abs() < 5.0 * (p * (1.0 - p) / n as f64).sqrt() + 1e-9);
            }
        }
    }
}
