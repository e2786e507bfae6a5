//! The weighted sum, written once for rows of logits and for llama.cpp's candidates.

use super::lanes;

/// Adds `weight · arm[v]` to `logits[v]`, for every token `v`. Shapes: both `n_vocab`.
///
/// A token that either side forbids (−inf) stays forbidden, under negative weights too: `−inf · −1` would otherwise
/// raise a token that a grammar or a mask has ruled out, or make a NaN. Tokens of `logits` after the end of `arm` are
/// its padding: they get the ARM's `floor`.
///
/// ```
/// let mut logits = [1.0, 2.0, f32::NEG_INFINITY];
/// genarm::guidance::add_weighted(&mut logits, &[0.5, -1.0, -3.0], 0.0, -2.0);
/// assert_eq!(logits, [0.0, 4.0, f32::NEG_INFINITY]);
/// ```
pub fn add_weighted(logits: &mut [f32], arm: &[f32], floor: f32, weight: f32) {
    let common = logits.len().min(arm.len());
    let (head, tail) = logits.split_at_mut(common);
    for (logit, term) in head.iter_mut().zip(arm) {
        *logit = added(*logit, *term, weight);
    }
    for logit in tail {
        *logit = added(*logit, floor, weight);
    }
}

/// Multiplies the base's logits by its factor; −∞ stays −∞, under a negative factor too. A factor of 1 changes no bit.
pub(super) fn scaled(logits: &mut [f32], factor: f32) {
    if factor != 1.0 {
        logits.iter_mut().for_each(|logit| *logit = scaled_one(*logit, factor));
    }
}

/// One token's part of it.
#[inline(always)]
pub(crate) fn scaled_one(logit: f32, factor: f32) -> f32 {
    let product = factor * logit;
    if logit == f32::NEG_INFINITY || factor == 1.0 { logit } else { product }
}

/// One token's part of [`add_weighted`].
#[inline(always)]
pub(crate) fn added(logit: f32, term: f32, weight: f32) -> f32 {
    let sum = weight.mul_add(term, logit);
    // Selected rather than branched on, so that the loop is vectorised.
    if logit == f32::NEG_INFINITY || term == f32::NEG_INFINITY { f32::NEG_INFINITY } else { sum }
}

/// The smallest finite logit of a row: what the law's sum takes for a token that the row does not have.
pub(crate) fn floor(row: &[f32]) -> f32 {
    let least = lanes::least_finite(row);
    if least.is_finite() { least } else { 0.0 }
}

/// The same where a token of `n_vocab` may be missing in the row; a row that has all of them needs none.
pub(super) fn floor_within(row: &[f32], n_vocab: usize) -> f32 {
    if row.len() < n_vocab { floor(row) } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_forbidden_token_stays_forbidden_under_every_weight() {
        for weight in [-2.0, -0.0, 0.0, 0.5, 3.0] {
            for (logit, term) in
                [(f32::NEG_INFINITY, 1.0), (1.0, f32::NEG_INFINITY), (f32::NEG_INFINITY, f32::NEG_INFINITY)]
            {
                let mut logits = [logit, 0.0];
                add_weighted(&mut logits, &[term, 0.0], 0.0, weight);
                assert_eq!(logits, [f32::NEG_INFINITY, 0.0], "{weight} {logit} {term}");
            }
        }
    }

    #[test]
    fn padding_gets_the_floor() {
        let mut logits = [1.0, 1.0, 1.0];
        add_weighted(&mut logits, &[3.0], -4.0, 0.5);
        assert_eq!(logits, [2.5, -1.0, -1.0]);
        assert_eq!(floor(&[f32::NEG_INFINITY, -3.0, 2.0]), -3.0);
        assert_eq!(floor(&[f32::NEG_INFINITY]), 0.0);
    }

    proptest! {
        #[test]
        fn adding_a_constant_to_an_arm_changes_no_probability(
            base in prop::collection::vec(-10f32..10.0, 8),
            arm in prop::collection::vec(-10f32..10.0, 8),
            weight in -2f32..2.0,
            shift in -5f32..5.0,
        ) {
            let shifted: Vec<_> = arm.iter().map(|x| x + shift).collect();
            let (mut a, mut b) = (base.clone(), base);
            add_weighted(&mut a, &arm, 0.0, weight);
            add_weighted(&mut b, &shifted, 0.0, weight);
            for (x, y) in crate::guidance::log_softmax(&a, 1.0).iter().zip(crate::guidance::log_softmax(&b, 1.0)) {
                prop_assert!((x - y).abs() < 1e-4);
            }
        }

        #[test]
        fn arms_add_in_any_order(
            base in prop::collection::vec(-10f32..10.0, 8),
            first in prop::collection::vec(-10f32..10.0, 8),
            second in prop::collection::vec(-10f32..10.0, 8),
        ) {
            let (mut a, mut b) = (base.clone(), base);
            add_weighted(&mut a, &first, 0.0, 0.7);
            add_weighted(&mut a, &second, 0.0, -0.4);
            add_weighted(&mut b, &second, 0.0, -0.4);
            add_weighted(&mut b, &first, 0.0, 0.7);
            for (x, y) in a.iter().zip(b) {
                prop_assert!((x - y).abs() < 1e-4);
            }
        }
    }
}
