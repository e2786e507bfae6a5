//! How often one way to answer beats another.

use serde::Serialize;

use super::judges::Verdict;
use super::stats::Proportion;

/// What the verdicts come to, seen from the second answer.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct WinRate {
    /// Times the second answer is better.
    pub wins: usize,
    /// Times neither is.
    pub ties: usize,
    /// Times the first is.
    pub losses: usize,
    /// Times the judge's answer could not be read; in no other number.
    pub failures: usize,
    /// (wins + ½ ties) / (wins + ties + losses), with its interval.
    pub rate: Proportion,
}

impl WinRate {
    /// Of these verdicts.
    pub fn of(verdicts: &[Verdict]) -> Self {
        let count = |verdict: Verdict| verdicts.iter().filter(|v| **v == verdict).count();
        let (wins, ties, losses) = (count(Verdict::B), count(Verdict::Tie), count(Verdict::A));
        let rate = Proportion::of(wins as f64 + ties as f64 / 2.0, wins + ties + losses);
        Self { wins, ties, losses, failures: count(Verdict::Failed), rate }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_no_tie() {
        use Verdict::{A, B, Failed, Tie};
        let rate = WinRate::of(&[B, B, B, A, Tie, Tie, Failed, Failed]);
        assert_eq!((rate.wins, rate.ties, rate.losses, rate.failures, rate.rate.n), (3, 2, 1, 2, 6));
        assert!((rate.rate.share - 4.0 / 6.0).abs() < 1e-12);
    }
}
