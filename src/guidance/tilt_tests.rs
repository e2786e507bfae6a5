use proptest::prelude::*;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::*;

/// KL(p_λ ‖ p_0) straight from the definition, in f64, among the tokens that are left.
fn kl(base: &[f32], shift: &[f32], lambda: f64) -> f64 {
    let softmax = |x: Vec<f64>| {
        let max = x.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let z: f64 = x.iter().map(|x| (x - max).exp()).sum();
        x.into_iter().map(|x| (x - max).exp() / z).collect::<Vec<_>>()
    };
    let p_0 = softmax(base.iter().map(|b| f64::from(*b)).collect());
    let p = softmax(base.iter().zip(shift).map(|(b, d)| f64::from(*b) + lambda * f64::from(*d)).collect());
    p.iter().zip(p_0).filter(|(p, _)| **p > 0.0).map(|(p, q)| p * (p / q).ln()).sum()
}

/// The largest λ by bisection of the definition.
fn bisected(base: &[f32], shift: &[f32], max_kl: f64) -> f64 {
    if kl(base, shift, 1.0) <= max_kl {
        return 1.0;
    }
    let (mut low, mut high) = (0.0, 1.0);
    for _ in 0..60 {
        let middle = 0.5 * (low + high);
        if kl(base, shift, middle) <= max_kl { low = middle } else { high = middle }
    }
    low
}

fn row(rng: &mut ChaCha8Rng, n: usize, width: f32) -> Vec<f32> {
    (0..n).map(|_| rng.random_range(-width..width) + if rng.random_bool(0.01) { 3.0 * width } else { 0.0 }).collect()
}

proptest! {
    #[test]
    fn the_limit_is_reached_and_never_passed(
        seed: u64,
        n in 2usize..3000,
        width in 0.1f32..12.0,
        strength in 0.01f32..20.0,
        max_kl in prop::sample::select(vec![1e-4, 1e-2, 0.1, 0.5, 3.0]),
    ) {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let (base, shift) = (row(&mut rng, n, width), row(&mut rng, n, strength));
        let lambda = largest(&base, &shift, max_kl);
        prop_assert!((0.0..=1.0).contains(&lambda));
        let reached = kl(&base, &shift, lambda);
        prop_assert!(reached <= max_kl * 1.002 + 3e-5, "{reached} > {max_kl}");
        if lambda < 1.0 {
            // Where KL jumps, as between two tokens of nearly equal sums, λ still is the right one.
            let right = bisected(&base, &shift, max_kl);
            prop_assert!(reached >= max_kl * 0.99 - 3e-5 || (lambda - right).abs() < 1e-3, "{reached}, λ {lambda}, {right}");
        }
    }

    #[test]
    fn exp_is_that_of_the_library(x in -87f32..0.0) {
        let error = (exp(x) / x.exp() - 1.0).abs();
        prop_assert!(error < 3e-7, "{x}: {error}");
    }
}

#[test]
fn divergences_are_those_of_the_definition_under_every_sign() {
    let mut rng = ChaCha8Rng::seed_from_u64(2);
    let (base, shift) = (row(&mut rng, 2000, 5.0), row(&mut rng, 2000, 3.0));
    let lambdas = [-4.0, -0.5, 0.0, 0.25, 1.0, 8.0];
    let mut found = [1.0; 6];
    add_divergences(&base, &shift, &lambdas, &mut found);
    for (lambda, found) in lambdas.into_iter().zip(found) {
        let expected = 1.0 + kl(&base, &shift, f64::from(lambda));
        assert!((found - expected).abs() < 1e-3 * expected, "{lambda}: {found} {expected}");
    }
}

#[test]
fn no_limit_is_needed_where_guidance_stays_within_it() {
    let (base, shift) = ([1.0, 0.5, 0.0], [0.1, 0.0, -0.1]);
    assert_eq!(largest(&base, &shift, 0.5), 1.0);
    assert_eq!(largest(&base, &[2.0; 3], 1e-9), 1.0, "the same for every token changes nothing");
    assert_eq!(largest(&base, &shift, 0.0), 0.0);
    assert_eq!(largest(&[f32::NEG_INFINITY; 3], &shift, 0.5), 1.0, "nothing is left to limit");
}

#[test]
fn a_row_of_large_logits_loses_no_digits() {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let shift = row(&mut rng, 5000, 4.0);
    let base = row(&mut rng, 5000, 6.0);
    let raised: Vec<_> = base.iter().map(|b| b + 300.0).collect();
    let further: Vec<_> = shift.iter().map(|d| d - 500.0).collect();
    let (here, there) = (largest(&base, &shift, 0.3), largest(&raised, &further, 0.3));
    assert!((here - there).abs() < 1e-3, "{here} {there}");
}

#[test]
fn forbidden_and_implausible_tokens_take_no_part() {
    let none = f32::NEG_INFINITY;
    let rows = [(3.0, 5.0), (2.9, none), (2.0, 2.0), (none, none), (-4.0, 9.0)];
    let limits = Limits { max_kl: Some(0.2), plausible: Some(0.1) };
    let mut tilt = Tilt::default();
    let strength = tilt.strength(limits, rows.iter().copied());
    assert_eq!(strength.least, 3.0 + 0.1f32.ln());
    let expected = bisected(&[3.0, 2.0], &[2.0, 0.0], 0.2);
    assert!((f64::from(strength.lambda) - expected).abs() < 2e-3, "{strength:?} {expected}");
    let after: Vec<_> = rows.iter().map(|(base, guided)| strength.apply(*base, *guided)).collect();
    assert_eq!([after[1], after[3], after[4]], [none; 3]);
    assert!((after[0] - (3.0 + 2.0 * strength.lambda)).abs() < 1e-6 && after[2] == 2.0);
}

#[test]
fn a_token_is_left_where_an_arm_forbids_the_bases_best() {
    let rows = [(9.0, f32::NEG_INFINITY), (0.0, 1.0), (-9.0, 1.0)];
    let strength = Tilt::default().strength(Limits { max_kl: None, plausible: Some(0.5) }, rows.iter().copied());
    assert_eq!(strength.apply(0.0, 1.0), 1.0);
    assert_eq!(strength.apply(-9.0, 1.0), f32::NEG_INFINITY);
}
