//! Learning rate over the steps: linear warm-up, then cosine or linear decay to zero.

use serde::{Deserialize, Serialize};

/// How the learning rate falls after the warm-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Schedule {
    /// Half a cosine, as the paper has it.
    #[default]
    Cosine,
    /// A straight line.
    Linear,
    /// No decay.
    Constant,
}

impl Schedule {
    /// Factor on the peak learning rate for update `step` (from 0) of `total`.
    pub fn factor(self, step: usize, warmup: usize, total: usize) -> f64 {
        if step < warmup {
            return (step + 1) as f64 / warmup as f64;
        }
        let progress = (step - warmup) as f64 / total.saturating_sub(warmup).max(1) as f64;
        match self {
            Self::Cosine => 0.5 * (1.0 + (std::f64::consts::PI * progress.min(1.0)).cos()),
            Self::Linear => (1.0 - progress).max(0.0),
            Self::Constant => 1.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_climbs_then_falls_to_nothing() {
        assert_eq!(Schedule::Cosine.factor(0, 10, 110), 0.1);
        assert_eq!(Schedule::Cosine.factor(10, 10, 110), 1.0);
        assert!((Schedule::Cosine.factor(60, 10, 110) - 0.5).abs() < 1e-12);
        assert!((Schedule::Linear.factor(85, 10, 110) - 0.25).abs() < 1e-12);
        assert!(Schedule::Cosine.factor(110, 10, 110) < 1e-12);
    }
}
