//! Weights in the direction of θ.

use super::Fit;

/// Weights whose sizes add up to a given strength, and their standard errors.
#[derive(Debug, Clone, PartialEq)]
pub struct Direction {
    /// One weight per objective.
    pub weights: Vec<f64>,
    /// Their standard errors. That of a single objective is 0 once its sign is sure: only that is learned.
    pub errors: Vec<f64>,
}

impl Direction {
    /// The weights that have the direction of θ and this sum of sizes. Where nothing is known, all are alike.
    pub fn of(fit: &Fit, strength: f64) -> Self {
        let n = fit.theta.len();
        let size: f64 = fit.theta.iter().map(|x| x.abs()).sum();
        if size == 0.0 {
            return Self { weights: vec![strength / n as f64; n], errors: vec![f64::INFINITY; n] };
        }
        let weights = |theta: &[f64]| {
            let size: f64 = theta.iter().map(|x| x.abs()).sum();
            theta.iter().map(|x| strength * x / size).collect::<Vec<_>>()
        };
        let middle = weights(&fit.theta);
        let mut squares = vec![0.0; n];
        for theta in fit.around() {
            let off = weights(&theta).into_iter().zip(&middle).map(|(w, middle)| (w - middle).powi(2));
            squares.iter_mut().zip(off).for_each(|(sum, square)| *sum += square / (2 * n) as f64);
        }
        Self { weights: middle, errors: squares.into_iter().map(f64::sqrt).collect() }
    }
}
