//! How far a step may leave the base: the largest λ at which KL(guided ‖ base) stays within a limit.
//!
//! With d the sum of all weighted directions, the guided distribution is p_λ ∝ p_0 · e^(λd), and
//!
//! ```text
//! K(λ) = KL(p_λ ‖ p_0) = λ·E_λ[d] − log Σ p_0 e^(λd)        K'(λ) = λ·Var_λ(d) ≥ 0
//! ```
//!
//! K never decreases, so the largest λ of at most 1 is found by Newton steps between two bounds. K is neither convex
//! nor concave: without the bounds a step may leap away. A pass over the vocabulary takes one exponential and three
//! sums per token.

use super::exponential::exp;
use super::law::Limits;

/// The logits of one step, as two rows: what the base gives, and what guidance adds. Kept from step to step, so that
/// nothing is allocated per token.
#[derive(Debug, Default)]
pub(crate) struct Tilt {
    /// The base's logits; −∞ where the token is forbidden or implausible.
    base: Vec<f32>,
    /// What guidance adds.
    shift: Vec<f32>,
}

/// What became of a step under limits.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Strength {
    /// The factor on all weights.
    pub lambda: f32,
    /// Base logits below this are implausible.
    pub least: f32,
}

/// Passes after which the search ends with its lower bound: it needs 3 as a rule, and 8 at most in trials.
const MAX_PASSES: usize = 24;
/// How near to the limit is near enough.
const TOLERANCE: f64 = 1e-3;

impl Tilt {
    /// The strength of a step whose tokens have these logits under the base and under guidance. Forbidden tokens stay
    /// out: KL is counted among those that are left, as if the base had never had the others.
    ///
    /// # Cost
    ///
    /// One pass for `plausible`, and for `max_kl` one that copies and 2 to 8 that add up.
    pub fn strength(&mut self, limits: Limits, rows: impl Iterator<Item = (f32, f32)> + Clone) -> Strength {
        let least = match limits.plausible {
            // The best of what is allowed: so a token is left whatever an ARM forbids.
            Some(share) => best(rows.clone()) + share.ln(),
            None => f32::NEG_INFINITY,
        };
        let Some(max_kl) = limits.max_kl else { return Strength { lambda: 1.0, least } };
        self.base.clear();
        self.shift.clear();
        for (base, guided) in rows {
            let stays = guided > f32::NEG_INFINITY && base >= least;
            self.base.push(if stays { base } else { f32::NEG_INFINITY });
            self.shift.push(if stays { guided - base } else { 0.0 });
        }
        Strength { lambda: largest(&self.base, &self.shift, f64::from(max_kl)) as f32, least }
    }
}

impl Strength {
    /// Whether it changes any logit.
    pub fn acts(self) -> bool {
        self.lambda != 1.0 || self.least > f32::NEG_INFINITY
    }

    /// The logit of a token under this strength.
    #[inline(always)]
    pub fn apply(self, base: f32, guided: f32) -> f32 {
        let limited = if self.lambda == 1.0 { guided } else { (guided - base).mul_add(self.lambda, base) };
        if guided == f32::NEG_INFINITY || base < self.least { f32::NEG_INFINITY } else { limited }
    }
}

fn best(rows: impl Iterator<Item = (f32, f32)>) -> f32 {
    rows.fold(f32::NEG_INFINITY, |best, (base, guided)| if guided > f32::NEG_INFINITY { best.max(base) } else { best })
}

/// Sums over the tilted distribution at one λ.
#[derive(Debug, Clone, Copy)]
struct Sums {
    /// log Σ exp(base + λ·shift).
    log_z: f64,
    mean: f64,
    variance: f64,
}

/// The largest λ in [0, 1] at which KL stays within `max_kl`. Shapes: both `n_vocab`.
fn largest(base: &[f32], shift: &[f32], max_kl: f64) -> f64 {
    let start = sums(base, shift, 0.0, 0.0);
    if !start.log_z.is_finite() {
        return 1.0; // no token is left
    }
    if max_kl <= 0.0 {
        return 0.0;
    }
    // After the mean, so that digits go to what differs.
    let centre = start.mean as f32;
    let at = |lambda: f64| {
        let sums = sums(base, shift, centre, lambda as f32);
        let kl = lambda * sums.mean - (sums.log_z - start.log_z);
        (kl.max(0.0), sums.variance)
    };
    if at(1.0).0 <= max_kl {
        return 1.0;
    }
    let (mut low, mut high) = (0.0f64, 1.0f64);
    // Near 0, K is λ²·Var/2.
    let mut lambda = (2.0 * max_kl / start.variance.max(f64::MIN_POSITIVE)).sqrt();
    for _ in 0..MAX_PASSES {
        if !(low < lambda && lambda < high) {
            lambda = 0.5 * (low + high);
        }
        let (kl, variance) = at(lambda);
        if kl <= max_kl {
            low = lambda;
            if kl >= max_kl * (1.0 - TOLERANCE) {
                break;
            }
        } else {
            high = lambda;
        }
        // Newton on √K, which is nearly straight, towards the middle of what is near enough.
        let (root, wanted) = (kl.sqrt(), (max_kl * (1.0 - 0.5 * TOLERANCE)).sqrt());
        lambda += (wanted - root) * 2.0 * root / (lambda * variance).max(f64::MIN_POSITIVE);
    }
    low
}

/// KL(p_λ ‖ p_0) in nats at each of `lambdas`, which may be negative or above 1: added to `out`. Shapes: `base` and
/// `shift` are `n_vocab`, `lambdas` and `out` are equally long.
pub(super) fn add_divergences(base: &[f32], shift: &[f32], lambdas: &[f32], out: &mut [f64]) {
    let start = sums(base, shift, 0.0, 0.0);
    let centre = start.mean as f32;
    for (lambda, out) in lambdas.iter().zip(out) {
        let sums = sums(base, shift, centre, *lambda);
        *out += (f64::from(*lambda) * sums.mean - (sums.log_z - start.log_z)).max(0.0);
    }
}

/// Tokens that are added up in f32 before their sum goes into f64: few enough to lose no digits that matter, and in
/// cache.
const BLOCK: usize = 1024;
/// Sums side by side, so that the loop is vectorised.
const LANES: usize = 16;

fn sums(base: &[f32], shift: &[f32], centre: f32, lambda: f32) -> Sums {
    let mut total = [0.0f64; 3];
    let mut max = f64::NEG_INFINITY;
    let mut x = [0.0f32; BLOCK];
    for (base, shift) in base.chunks(BLOCK).zip(shift.chunks(BLOCK)) {
        let x = &mut x[..base.len()];
        let mut best = f32::NEG_INFINITY;
        for ((x, base), shift) in x.iter_mut().zip(base).zip(shift) {
            *x = (shift - centre).mul_add(lambda, *base);
            best = if *x > best { *x } else { best };
        }
        if best == f32::NEG_INFINITY {
            continue;
        }
        let block = block(x, shift, best, centre);
        // The larger maximum becomes the common one.
        let new = max.max(f64::from(best));
        let (old, fresh) = ((max - new).exp(), (f64::from(best) - new).exp());
        for (total, block) in total.iter_mut().zip(block) {
            *total = *total * old + block * fresh;
        }
        max = new;
    }
    let [n, first, second] = total;
    let mean = first / n;
    Sums { log_z: max + n.ln(), mean, variance: (second / n - mean * mean).max(0.0) }
}

/// Σ e, Σ e·d and Σ e·d² of a block, with e = exp(x − best) and d = shift − centre.
fn block(x: &[f32], shift: &[f32], best: f32, centre: f32) -> [f64; 3] {
    let mut lanes = [[0.0f32; LANES]; 3];
    let (x, x_rest) = x.as_chunks::<LANES>();
    let (shift, shift_rest) = shift.as_chunks::<LANES>();
    for (x, shift) in x.iter().zip(shift) {
        for i in 0..LANES {
            let (e, d) = (exp(x[i] - best), shift[i] - centre);
            lanes[0][i] += e;
            lanes[1][i] = e.mul_add(d, lanes[1][i]);
            lanes[2][i] = (e * d).mul_add(d, lanes[2][i]);
        }
    }
    let mut sums = lanes.map(|lanes| lanes.iter().map(|x| f64::from(*x)).sum::<f64>());
    for (x, shift) in x_rest.iter().zip(shift_rest) {
        let (e, d) = (f64::from(exp(x - best)), f64::from(shift - centre));
        sums[0] += e;
        sums[1] += e * d;
        sums[2] += e * d * d;
    }
    sums
}

#[cfg(test)]
#[path = "tilt_tests.rs"]
mod tests;
