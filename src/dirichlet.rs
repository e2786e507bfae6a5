//! Numbers that add up to 1: preferences in training, weights in duels.

use rand::Rng;

/// A draw from Dirichlet(p, …, p) of k numbers.
pub(crate) fn dirichlet(k: usize, p: f64, rng: &mut impl Rng) -> Vec<f64> {
    // In logarithms: for a small p the numbers themselves are too small for 64 bits.
    let logs: Vec<f64> = (0..k).map(|_| ln_gamma_draw(p, rng)).collect();
    let most = logs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let numbers: Vec<f64> = logs.iter().map(|ln| (ln - most).exp()).collect();
    let sum: f64 = numbers.iter().sum();
    numbers.iter().map(|x| x / sum).collect()
}

/// The logarithm of a draw from Gamma(p): that of Gamma(p + 1) by Marsaglia and Tsang, times U^(1/p).
fn ln_gamma_draw(p: f64, rng: &mut impl Rng) -> f64 {
    let d = p + 1.0 - 1.0 / 3.0;
    let c = 1.0 / (9.0 * d).sqrt();
    loop {
        let x = normal(rng);
        let v = (1.0 + c * x).powi(3);
        if v > 0.0 && open(rng).ln() < 0.5 * x * x + d - d * v + d * v.ln() {
            return (d * v).ln() + open(rng).ln() / p;
        }
    }
}

fn normal(rng: &mut impl Rng) -> f64 {
    (-2.0 * open(rng).ln()).sqrt() * (std::f64::consts::TAU * rng.random::<f64>()).cos()
}

/// Uniform in (0, 1].
fn open(rng: &mut impl Rng) -> f64 {
    1.0 - rng.random::<f64>()
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::*;

    #[test]
    fn draws_have_the_mean_and_the_variance_of_a_dirichlet_distribution() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        for (k, p) in [(2, 0.5), (3, 1.0), (3, 0.05), (5, 4.0)] {
            let n = 20_000;
            let draws: Vec<Vec<f64>> = (0..n).map(|_| dirichlet(k, p, &mut rng)).collect();
            assert!(draws.iter().all(|alpha| (alpha.iter().sum::<f64>() - 1.0).abs() < 1e-12));
            let mean = 1.0 / k as f64;
            let variance = mean * (1.0 - mean) / (k as f64 * p + 1.0);
            for i in 0..k {
                let got = draws.iter().map(|alpha| alpha[i]).sum::<f64>() / f64::from(n);
                let spread = draws.iter().map(|alpha| (alpha[i] - mean).powi(2)).sum::<f64>() / f64::from(n);
                // Five standard errors of the mean.
                assert!((got - mean).abs() < 5.0 * (variance / f64::from(n)).sqrt(), "{k} {p}: mean {got}");
                assert!((spread / variance - 1.0).abs() < 0.06, "{k} {p}: variance {spread}, not {variance}");
            }
        }
        // No number of 64 bits is as small as these.
        let alpha = dirichlet(4, 1e-6, &mut rng);
        assert!(alpha.iter().all(|x| x.is_finite()) && (alpha.iter().sum::<f64>() - 1.0).abs() < 1e-12, "{alpha:?}");
    }
}
