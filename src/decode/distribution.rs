//! Next-token probabilities after truncation: a few tokens of the vocabulary.

use crate::expert::Token;

/// Tokens with their probabilities; a token that is not there has probability 0.
///
/// ```
/// use genarm::decode::Distribution;
///
/// let mut p = Distribution::default();
/// p.set([(7, 1.0), (3, 3.0)]);
/// assert_eq!((p.of(3), p.of(7), p.of(5)), (0.75, 0.25, 0.0));
/// assert_eq!((p.draw(0.1), p.draw(0.9)), (Some(7), Some(3)));
/// ```
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Distribution {
    entries: Vec<(Token, f64)>,
}

impl Distribution {
    /// Takes these weights, at least 0, and divides them by their sum. Keeps its memory; weights without a sum leave it
    /// empty.
    pub fn set(&mut self, weights: impl IntoIterator<Item = (Token, f64)>) {
        self.entries.clear();
        self.entries.extend(weights.into_iter().filter(|(_, w)| *w > 0.0));
        let sum: f64 = self.entries.iter().map(|(_, w)| w).sum();
        self.entries.iter_mut().for_each(|(_, w)| *w /= sum);
    }

    /// The softmax of these logits.
    pub fn set_logits(&mut self, logits: impl Iterator<Item = (Token, f32)> + Clone) {
        let max = logits.clone().fold(f32::NEG_INFINITY, |max, (_, l)| max.max(l));
        self.set(logits.filter(|(_, l)| *l > f32::NEG_INFINITY).map(|(t, l)| (t, f64::from(l - max).exp())));
    }

    /// Keeps the entries that `keep` names by their place, as they stand, and gives what the others had to the
    /// `other`'s tokens.
    pub(crate) fn mix(&mut self, keep: impl Fn(usize) -> bool, other: &Distribution) {
        let mut at = 0;
        self.entries.retain(|_| {
            at += 1;
            keep(at - 1)
        });
        let lost = 1.0 - self.entries.iter().map(|(_, p)| p).sum::<f64>();
        self.entries.extend(other.entries.iter().map(|(token, p)| (*token, lost * p)));
        self.entries.sort_unstable_by_key(|(token, _)| *token);
        self.entries.dedup_by(|again, first| {
            let same = again.0 == first.0;
            if same {
                first.1 += again.1;
            }
            same
        });
    }

    /// The probability of a token.
    pub fn of(&self, token: Token) -> f64 {
        self.entries.iter().find(|(t, _)| *t == token).map_or(0.0, |(_, p)| *p)
    }

    /// The token at which the cumulated probability passes `u`, which is in [0, 1); `None` where there is no token.
    pub fn draw(&self, u: f64) -> Option<Token> {
        let mut left = u;
        for (token, p) in &self.entries {
            left -= p;
            if left < 0.0 {
                return Some(*token);
            }
        }
        // Rounding may leave a sum just below 1.
        self.entries.last().map(|(token, _)| *token)
    }

    /// The tokens that have a probability, in no order.
    pub fn entries(&self) -> &[(Token, f64)] {
        &self.entries
    }

    /// Whether no token has one.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mass_of_dropped_tokens_goes_to_the_other_distribution() {
        let (mut p, mut other) = (Distribution::default(), Distribution::default());
        p.set([(5, 0.5), (1, 0.3), (2, 0.2)]);
        other.set([(1, 0.5), (7, 0.5)]);
        p.mix(|place| place != 0, &other);
        for (token, expected) in [(1, 0.55), (2, 0.2), (7, 0.25), (5, 0.0)] {
            assert!((p.of(token) - expected).abs() < 1e-12, "{token}: {}", p.of(token));
        }
    }

    #[test]
    fn what_has_no_weight_is_never_drawn() {
        let mut p = Distribution::default();
        p.set_logits([(0, f32::NEG_INFINITY), (1, 3.0), (2, f32::NEG_INFINITY)].into_iter());
        assert_eq!((p.entries(), p.draw(0.0), p.draw(1.0 - f64::EPSILON)), (&[(1, 1.0)][..], Some(1), Some(1)));
        p.set_logits([(0, f32::NEG_INFINITY)].into_iter());
        assert_eq!((p.is_empty(), p.draw(0.5)), (true, None));
    }
}
