//! The whole law against an independent computation in f64: references, signs, −∞, equal experts, plausibility, a limit
//! in nats.

use proptest::prelude::*;

use super::*;
use crate::TableExpert;
use crate::guidance::{Arm, Contract, Guide, Tail, Weights};

const N: usize = 7;
const FORBIDDEN: f32 = f32::NEG_INFINITY;

/// One case: rows of the base and of three experts, the directions between them, their weights, and the limits.
#[derive(Debug, Clone)]
struct Case {
    base: [f32; N],
    experts: [[f32; N]; 3],
    directions: Vec<Direction>,
    weights: Vec<f32>,
    limits: Limits,
}

fn guide(case: &Case) -> Guide {
    let contract = Contract { n_common: N, tail: Tail::None };
    let experts = case.experts.iter().enumerate().map(|(i, row)| {
        let row = *row;
        let expert = TableExpert::new(N, 100, move |_, logits| logits.copy_from_slice(&row));
        Arm::new(format!("expert{i}"), Box::new(expert), contract)
    });
    let names = (0..case.weights.len()).map(|i| format!("arm{i}"));
    let weights = Weights::new(names.zip(case.weights.iter().copied()));
    let mut guide = Guide::with_references(experts.collect(), case.directions.clone(), weights);
    guide.set_limits(case.limits);
    guide
}

/// base + λ Σ w (arm − reference), written down as the paper and the documentation do, with a bisection for λ.
fn expected(case: &Case) -> Vec<f64> {
    let row = |source| match source {
        Source::Base => case.base,
        Source::Expert(at) => case.experts[at],
    };
    // An expert whose factor is 0 is not evaluated: it forbids nothing.
    let mut experts = [0.0; 3];
    factors(&case.directions, &case.weights, &mut experts);
    let evaluated = |source| !matches!(source, Source::Expert(at) if experts[at] == 0.0);
    let active = case.weights.iter().any(|w| *w != 0.0);
    let mut allowed = [true; N];
    let mut shift = [0.0f64; N];
    for (direction, weight) in case.directions.iter().zip(&case.weights).filter(|(_, w)| **w != 0.0) {
        for (source, sign) in [(Some(direction.arm), 1.0), (direction.reference, -1.0)] {
            let Some(source) = source.filter(|source| evaluated(*source)) else { continue };
            for v in 0..N {
                let logit = row(source)[v];
                allowed[v] &= logit > FORBIDDEN;
                shift[v] += sign * f64::from(*weight) * if logit > FORBIDDEN { f64::from(logit) } else { 0.0 };
            }
        }
    }
    let base = case.base.map(f64::from);
    allowed.iter_mut().zip(case.base).for_each(|(allowed, base)| *allowed &= base > FORBIDDEN);
    if let Some(share) = case.limits.plausible.filter(|_| active) {
        let best = (0..N).filter(|v| allowed[*v]).map(|v| base[v]).fold(f64::NEG_INFINITY, f64::max);
        (0..N).for_each(|v| allowed[v] &= base[v] >= best + f64::from(share).ln() - 1e-6);
    }
    let at = |lambda: f64| -> Vec<f64> {
        (0..N).map(|v| if allowed[v] { base[v] + lambda * shift[v] } else { f64::NEG_INFINITY }).collect()
    };
    let p = |logits: &[f64]| -> Vec<f64> {
        let best = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let z: f64 = logits.iter().map(|l| (l - best).exp()).sum();
        logits.iter().map(|l| (l - best).exp() / z).collect()
    };
    let kl = |lambda: f64| -> f64 {
        p(&at(lambda)).iter().zip(p(&at(0.0))).filter(|(p, _)| **p > 0.0).map(|(p, q)| p * (p / q).ln()).sum()
    };
    let lambda = match case.limits.max_kl {
        Some(most) if active && allowed.contains(&true) && kl(1.0) > f64::from(most) => {
            let (mut low, mut high) = (0.0, 1.0);
            for _ in 0..60 {
                let middle = 0.5 * (low + high);
                if kl(middle) <= f64::from(most) { low = middle } else { high = middle }
            }
            low
        }
        _ => 1.0,
    };
    p(&at(lambda))
}

fn guided(case: &Case) -> Vec<f64> {
    let mut logits = case.base;
    guide(case).add(&[0], 1, &mut logits).expect("sound rows");
    let best = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let weights: Vec<_> = logits.iter().map(|l| f64::from(l - best).exp()).collect();
    let z: f64 = weights.iter().sum();
    weights.iter().map(|w| w / z).collect()
}

fn logit() -> impl Strategy<Value = f32> {
    prop_oneof![8 => -6f32..6.0, 1 => Just(FORBIDDEN)]
}

fn source() -> impl Strategy<Value = Source> {
    prop_oneof![1 => Just(Source::Base), 3 => (0usize..3).prop_map(Source::Expert)]
}

fn cases() -> impl Strategy<Value = Case> {
    let direction = (source(), prop::option::of(source())).prop_map(|(arm, reference)| Direction { arm, reference });
    let weight = prop_oneof![4 => -3f32..3.0, 1 => Just(0.0), 1 => Just(1.0), 1 => Just(-1.0)];
    let limits = (prop::option::of(0.0f32..2.0), prop::option::of(0.01f32..1.0));
    (
        prop::array::uniform7(logit()),
        prop::array::uniform3(prop::array::uniform7(logit())),
        prop::collection::vec((direction, weight), 1..4),
        limits,
    )
        .prop_filter("something may be drawn", |(base, experts, ..)| {
            (0..N).any(|v| base[v] > FORBIDDEN && experts.iter().all(|row| row[v] > FORBIDDEN))
        })
        .prop_map(|(base, experts, arms, (max_kl, plausible))| {
            let (directions, weights) = arms.into_iter().unzip();
            Case { base, experts, directions, weights, limits: Limits { max_kl, plausible } }
        })
}

proptest! {
    #[test]
    fn every_law_is_what_it_says(case in cases()) {
        let (p, expected) = (guided(&case), expected(&case));
        let near = if case.limits.max_kl.is_some() { 5e-3 } else { 1e-4 };
        for (p, expected) in p.iter().zip(&expected) {
            prop_assert!((p - expected).abs() < near, "{p} {expected} in {case:?}");
        }
    }

    #[test]
    fn without_references_and_limits_every_bit_is_that_of_the_papers_law(case in cases()) {
        let directions: Vec<_> = (0..3).map(Direction::of_arm).collect();
        let weights = vec![0.5, -1.25, 0.0];
        let case = Case { directions, weights: weights.clone(), limits: Limits::default(), ..case };
        let mut logits = case.base;
        guide(&case).add(&[0], 1, &mut logits).expect("sound rows");
        let mut plain = case.base;
        for (row, weight) in case.experts.iter().zip(&weights).filter(|(_, w)| **w != 0.0) {
            crate::guidance::add_weighted(&mut plain, row, 0.0, *weight);
        }
        prop_assert_eq!(logits.map(f32::to_bits), plain.map(f32::to_bits));
    }
}

#[test]
fn experts_that_stand_in_several_directions_are_evaluated_once() {
    let [a, b] = [Source::Expert(0), Source::Expert(1)];
    let case = Case {
        base: [0.0; N],
        experts: [[1.0; N], [2.0; N], [3.0; N]],
        directions: vec![
            Direction { arm: a, reference: Some(b) },
            Direction { arm: b, reference: Some(a) },
            Direction { arm: a, reference: Some(Source::Base) },
        ],
        weights: vec![0.5, -0.25, 1.0],
        limits: Limits::default(),
    };
    let mut guide = guide(&case);
    guide.add(&[0, 1], 1, &mut [0.0; N]).expect("sound rows");
    assert_eq!(guide.n_decoded(), 4, "two experts, two tokens each; the third has no direction");
    let of_base = guide.terms(&[0, 1], 1, &[], |term| assert_eq!(term.base_factor, 0.0)).expect("sound rows");
    assert_eq!(of_base, 0.0);
}

#[test]
fn experts_that_cancel_are_not_evaluated() {
    let a = Source::Expert(0);
    let case = Case {
        base: [0.0; N],
        experts: [[1.0; N]; 3],
        directions: vec![Direction::of_arm(0), Direction { arm: a, reference: None }],
        weights: vec![2.0, -2.0],
        limits: Limits::default(),
    };
    let mut guide = guide(&case);
    guide.add(&[0], 1, &mut [0.0; N]).expect("sound rows");
    assert_eq!(guide.n_decoded(), 0);
}
