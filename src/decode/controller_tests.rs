//! The controller in worlds whose costs and acceptance are known.

use super::*;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Costs in plain tokens, and the share of drafted tokens that are kept.
#[derive(Clone, Copy)]
struct World {
    token: f64,
    batch: fn(usize) -> f64,
    acceptance: f64,
}

impl World {
    fn cycle(&self, k: usize) -> f64 {
        k as f64 * self.token + (self.batch)(k + 1)
    }

    /// Tokens in the time of a plain token, at the best length.
    fn ceiling(&self, max: usize) -> f64 {
        let tokens = |k: usize| (0..=k).map(|i| self.acceptance.powi(i as i32)).sum::<f64>();
        (1..=max).map(|k| tokens(k) / self.cycle(k)).fold(1.0, f64::max)
    }
}

const PRIOR: Prior = Prior { token: 0.15, row: 0.2, acceptance: [0.7; N_CLASSES] };

/// Generates `n` tokens, and returns the time in plain tokens. Times are noisy by 5 %.
fn run(controller: &mut Controller, world: World, n: usize, rng: &mut ChaCha8Rng) -> f64 {
    let (mut tokens, mut time) = (0, 0.0);
    while tokens < n {
        let plan = controller.plan(&[Offer::default()]);
        let mut noise = || rng.random_range(0.95..1.05);
        let (kept, exact) = match plan {
            None => (0, 1.0),
            Some(plan) => {
                let exact = world.cycle(plan.k) * noise();
                ((0..plan.k).take_while(|_| rng.random::<f64>() < world.acceptance).count(), exact)
            }
        };
        let seconds = 0.03 * exact;
        controller.record(&Cycle { plan, kept, emitted: kept + 1, seconds });
        tokens += kept + 1;
        time += exact;
    }
    // The last cycle may have given more than was asked for.
    time * n as f64 / tokens as f64
}

fn cheap_batch(n: usize) -> f64 {
    0.85 + 0.15 * n as f64
}

/// Sizes that are multiples of 4 run well, the others as badly as the next one.
fn stepped_batch(n: usize) -> f64 {
    0.6 + 0.1 * n.next_multiple_of(4) as f64
}

fn dear_batch(n: usize) -> f64 {
    n as f64
}

#[test]
fn it_reaches_the_ceiling_of_the_cost_model() {
    for (token, batch, acceptance) in [
        (0.15, cheap_batch as fn(usize) -> f64, 0.85),
        (0.15, cheap_batch, 0.6),
        (0.05, cheap_batch, 0.95),
        (0.0, cheap_batch, 0.97),
        (0.1, stepped_batch, 0.8),
    ] {
        let world = World { token, batch, acceptance };
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let mut controller = Controller::new(DRAFT_MAX, [PRIOR]);
        let n = 2000;
        let gain = n as f64 / run(&mut controller, world, n, &mut rng);
        let ceiling = world.ceiling(DRAFT_MAX);
        assert!(gain > 0.9 * ceiling, "{token} {acceptance}: {gain} of {ceiling}");
    }
}

#[test]
fn it_is_never_slower_than_plain_decoding_by_more_than_3_percent() {
    for (token, batch, acceptance) in [
        (0.15, dear_batch as fn(usize) -> f64, 0.5),
        (0.15, cheap_batch, 0.0),
        (0.9, cheap_batch, 0.8),
        (0.15, cheap_batch, 0.2),
        (5.0, dear_batch, 0.0),
    ] {
        let world = World { token, batch, acceptance };
        let mut worst = 0.0f64;
        for seed in 0..20 {
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            let mut controller = Controller::new(DRAFT_MAX, [PRIOR]);
            worst = worst.max(run(&mut controller, world, 256, &mut rng) / 256.0);
        }
        // One draft at the beginning may be dear beyond all expectation.
        let first = world.cycle(DRAFT_MAX.min(4)) / 256.0;
        assert!(worst < 1.03 + first, "{token} {acceptance}: {worst}");
    }
}

#[test]
fn it_leaves_a_drafter_that_has_become_useless_and_comes_back() {
    let good = World { token: 0.1, batch: cheap_batch, acceptance: 0.9 };
    let bad = World { acceptance: 0.05, ..good };
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    let mut controller = Controller::new(DRAFT_MAX, [PRIOR]);
    assert!(run(&mut controller, good, 500, &mut rng) < 400.0);
    assert!(run(&mut controller, bad, 1000, &mut rng) < 1050.0);
    run(&mut controller, good, 1500, &mut rng);
    assert!(run(&mut controller, good, 500, &mut rng) < 400.0, "it has come back");
}

#[test]
fn of_two_drafters_the_better_one_is_used() {
    let offers = [Offer::default(); 2];
    let mut controller = Controller::new(8, [PRIOR, PRIOR]);
    let mut rng = ChaCha8Rng::seed_from_u64(5);
    let mut used = [0; 2];
    for _ in 0..600 {
        let plan = controller.plan(&offers);
        let (k, acceptance) = plan.map_or((0, 0.0), |plan| (plan.k, [0.5, 0.9][plan.drafter]));
        let kept = (0..k).take_while(|_| rng.random::<f64>() < acceptance).count();
        let seconds = 0.02 * (cheap_batch(k + 1) + 0.1 * k as f64);
        controller.record(&Cycle { plan, kept, emitted: kept + 1, seconds });
        if let Some(plan) = plan {
            used[plan.drafter] += 1;
        }
    }
    assert!(used[1] > 4 * used[0], "{used:?}");
}

#[test]
fn a_drafter_without_an_offer_and_a_text_without_room_are_decoded_plainly() {
    let mut controller = Controller::new(8, [PRIOR]);
    for _ in 0..10 {
        controller.record(&Cycle { plan: None, kept: 0, emitted: 1, seconds: 0.02 });
    }
    assert_eq!(controller.plan(&[Offer::NOTHING]), None);
    let plan = controller.plan(&[Offer { max: 1, ..Offer::default() }]).expect("the prior says that it pays");
    assert_eq!(plan.k, 1);
}

#[test]
fn times_that_no_longer_hold_are_forgotten_and_acceptance_is_not() {
    let rng = &mut ChaCha8Rng::seed_from_u64(7);
    let mut controller = Controller::new(DRAFT_MAX, [PRIOR]);
    let world = World { token: 0.1, batch: cheap_batch, acceptance: 0.9 };
    run(&mut controller, world, 500, rng);
    assert!(controller.plan(&[Offer::default()]).is_some_and(|plan| plan.k >= 3));
    controller.forget_times();
    assert_eq!((controller.plain_seconds(), controller.plan(&[Offer::default()])), (None, None));
    for _ in 0..FIRST {
        controller.record(&Cycle { plan: None, kept: 0, emitted: 1, seconds: 0.3 });
    }
    assert!(controller.plan(&[Offer::default()]).is_some_and(|plan| plan.k >= 3));
}
