//! Means and shares, with how far they can be trusted.

use serde::Serialize;

/// The normal deviate of a two-sided 95 % interval.
const Z95: f64 = 1.959_963_984_540_054;

/// A mean and its standard error; `NaN` where there is nothing, or only one value, to take it of.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Mean {
    /// The mean.
    pub mean: f64,
    /// Its standard error.
    pub error: f64,
}

impl Mean {
    /// Of these values.
    pub fn of(values: &[f64]) -> Self {
        let n = values.len() as f64;
        let mean = values.iter().sum::<f64>() / n;
        let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (n - 1.0);
        Self { mean, error: (variance / n).sqrt() }
    }
}

impl std::fmt::Display for Mean {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:.2} ± {:.2}", self.mean, self.error)
    }
}

/// A share with its 95 % interval, all in [0, 1].
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Proportion {
    /// The share itself.
    pub share: f64,
    /// Lower end of the interval.
    pub low: f64,
    /// Upper end of the interval.
    pub high: f64,
    /// Of how many.
    pub n: usize,
}

impl Proportion {
    /// `successes` of `n`, with Wilson's score interval. A tie may count as half a success: ties vary less than
    /// wins and losses of the same share, so the interval is then wider than it must be, never narrower.
    ///
    /// ```
    /// let share = genarm::eval::stats::Proportion::of(8.0, 10);
    /// assert!((share.low - 0.490).abs() < 1e-3 && (share.high - 0.943).abs() < 1e-3);
    /// ```
    pub fn of(successes: f64, n: usize) -> Self {
        if n == 0 {
            return Self { share: f64::NAN, low: 0.0, high: 1.0, n };
        }
        let (trials, z2) = (n as f64, Z95 * Z95);
        let p = successes / trials;
        let centre = (p + z2 / (2.0 * trials)) / (1.0 + z2 / trials);
        let half = Z95 / (1.0 + z2 / trials) * (p * (1.0 - p) / trials + z2 / (4.0 * trials * trials)).sqrt();
        Self { share: p, low: (centre - half).max(0.0), high: (centre + half).min(1.0), n }
    }

    /// Of outcomes of a comparison: 1 for right, ½ for a tie, 0 for wrong.
    pub fn of_outcomes(outcomes: impl Iterator<Item = f64>) -> Self {
        let (sum, n) = outcomes.fold((0.0, 0), |(sum, n), outcome| (sum + outcome, n + 1));
        Self::of(sum, n)
    }
}

impl std::fmt::Display for Proportion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.n == 0 {
            return f.write_str("–");
        }
        write!(f, "{:.1} % [{:.1}, {:.1}]", self.share * 100.0, self.low * 100.0, self.high * 100.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{Rng, SeedableRng};

    /// How often the interval holds the truth, over simulated experiments of `n` draws.
    fn coverage(n: usize, win: f64, tie: f64) -> f64 {
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(7);
        let truth = win + tie / 2.0;
        let outcome = |x: f64| {
            if x < win {
                1.0
            } else if x < win + tie {
                0.5
            } else {
                0.0
            }
        };
        let runs = 4000;
        let held = (0..runs).filter(|_| {
            let share = Proportion::of_outcomes((0..n).map(|_| outcome(rng.random())));
            share.low <= truth && truth <= share.high
        });
        held.count() as f64 / f64::from(runs)
    }

    #[test]
    fn the_interval_holds_the_truth_as_often_as_it_says() {
        // A discrete interval's coverage swings around its nominal value; 4000 runs have a standard error of 0.003.
        for n in [20, 100, 400] {
            for p in [0.1, 0.3, 0.5, 0.75, 0.9] {
                let held = coverage(n, p, 0.0);
                assert!((0.925..=0.985).contains(&held), "{n} {p}: {held}");
            }
        }
    }

    #[test]
    fn with_ties_the_interval_is_never_too_narrow() {
        for (win, tie) in [(0.3, 0.3), (0.1, 0.8), (0.5, 0.2)] {
            let held = coverage(100, win, tie);
            assert!(held >= 0.94, "{win} {tie}: {held}");
        }
    }

    #[test]
    fn nothing_says_nothing() {
        let share = Proportion::of(0.0, 0);
        assert!(share.share.is_nan() && share.low == 0.0 && share.high == 1.0);
        assert_eq!(share.to_string(), "–");
    }

    #[test]
    fn a_mean_has_the_standard_error_of_the_textbook() {
        let Mean { mean, error } = Mean::of(&[1.0, 2.0, 3.0, 4.0]);
        assert!((mean - 2.5).abs() < 1e-12 && (error - (5.0f64 / 3.0 / 4.0).sqrt()).abs() < 1e-12);
    }
}
