//! What guidance costs: base, ARMs and guided decoding, timed in turns so that a noisy machine slows all of them alike.

use std::time::{Duration, Instant};

use serde::Serialize;

use crate::decode::{ChainFault, GuidedChain, read_rows};
use crate::expert::{Expert, ExpertError, Token};

/// Seconds a token of each part, the median of the repeats.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StepTimes {
    /// The base alone.
    pub base: f64,
    /// Each ARM alone.
    pub arms: Vec<f64>,
    /// Guided decoding: base, ARMs, combination and sampling.
    pub guided: f64,
    /// Combination and sampling within it.
    pub overhead: f64,
    /// The median over the repeats of (base + ARMs) / guided, each from one repeat: 1 is the serial ideal.
    pub guided_to_ideal: f64,
    /// The median over the repeats of overhead / guided.
    pub overhead_share: f64,
}

/// One repeat.
#[derive(Debug, Clone, Default)]
pub struct Repeat {
    /// As in [`StepTimes`].
    pub base: f64,
    /// As in [`StepTimes`].
    pub arms: Vec<f64>,
    /// As in [`StepTimes`].
    pub guided: f64,
    /// As in [`StepTimes`].
    pub overhead: f64,
}

impl StepTimes {
    /// The medians. `repeats` is not empty.
    pub fn of(repeats: &[Repeat]) -> Self {
        let over = |f: &dyn Fn(&Repeat) -> f64| median(repeats.iter().map(f).collect());
        let n_arms = repeats.first().map_or(0, |r| r.arms.len());
        Self {
            base: over(&|r| r.base),
            arms: (0..n_arms).map(|i| over(&|r| r.arms[i])).collect(),
            guided: over(&|r| r.guided),
            overhead: over(&|r| r.overhead),
            guided_to_ideal: over(&|r| (r.base + r.arms.iter().sum::<f64>()) / r.guided),
            overhead_share: over(&|r| r.overhead / r.guided),
        }
    }
}

/// The median. `values` is not empty.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() % 2 {
        1 => values[middle],
        _ => (values[middle - 1] + values[middle]) / 2.0,
    }
}

/// A text in the ids of an expert, whose vocabulary of `n_vocab` tokens may be smaller than the base's.
pub fn own_text(text: &[Token], n_vocab: usize) -> Vec<Token> {
    let n_vocab = Token::try_from(n_vocab).unwrap_or(Token::MAX).max(1);
    text.iter().map(|token| token % n_vocab).collect()
}

/// Seconds a token of an expert that reads `text` one token at a time after its first `n_prompt`.
///
/// # Errors
///
/// When the expert fails.
pub fn time_expert(expert: &mut dyn Expert, text: &[Token], n_prompt: usize) -> Result<f64, ExpertError> {
    expert.advance(&text[..n_prompt], 1)?;
    let start = Instant::now();
    for n in n_prompt + 1..=text.len() {
        expert.advance(&text[..n], 1)?;
    }
    Ok(start.elapsed().as_secs_f64() / (text.len() - n_prompt) as f64)
}

/// Seconds of batches by their size, in ascending order.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Batches(pub Vec<(usize, f64)>);

impl Batches {
    /// Seconds of a batch of `n` tokens, between the measured sizes by a straight line; 0 where nothing was measured.
    pub fn seconds(&self, n: usize) -> f64 {
        let after = self.0.partition_point(|(size, _)| *size < n);
        match (after.checked_sub(1).map(|i| self.0[i]), self.0.get(after)) {
            (_, Some(&(size, s))) if size == n => s,
            (Some((a, s)), Some(&(b, t))) => s + (t - s) * (n - a) as f64 / (b - a) as f64,
            (Some((a, s)), None) => s * n as f64 / a as f64,
            (None, Some(&(_, s))) => s,
            (None, None) => 0.0,
        }
    }

    /// Adds another expert's batches of the same sizes.
    pub fn add(&mut self, other: &Self) {
        if self.0.is_empty() {
            self.0.clone_from(&other.0);
        } else {
            self.0.iter_mut().zip(&other.0).for_each(|(mine, (_, s))| mine.1 += s);
        }
    }
}

/// Times batches of up to 16 tokens, each with the logits of all, at the end of `text`: medians of three.
///
/// # Errors
///
/// When the expert fails.
pub fn time_batches(expert: &mut dyn Expert, text: &[Token]) -> Result<Batches, ExpertError> {
    let start = text.len() - 16;
    let mut batches = Vec::new();
    for n in [1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 16] {
        let mut times = Vec::new();
        for _ in 0..3 {
            // Back to where the batch begins: another token there makes the old rows useless.
            expert.advance(&text[..start - 1], 1)?;
            expert.advance(&text[..start], 1)?;
            let clock = Instant::now();
            expert.advance(&text[..start + n], n)?;
            times.push(clock.elapsed().as_secs_f64());
        }
        batches.push((n, median(times)));
    }
    Ok(Batches(batches))
}

/// Seconds a token of guided decoding over the same positions. The tokens are drawn, but the text goes on with `text`,
/// so that all parts read the same.
///
/// # Errors
///
/// When the base or an ARM fails.
pub fn time_guided(
    base: &mut dyn Expert,
    chain: &mut dyn GuidedChain,
    text: &[Token],
    n_prompt: usize,
) -> Result<Duration, ChainFault> {
    let failed = ChainFault::Base;
    text[..n_prompt].iter().for_each(|token| chain.accept(*token, false));
    let rows = read_rows(base, chain, &text[..n_prompt], 1).map_err(failed)?;
    chain.sample(rows)?;
    let start = Instant::now();
    for n in n_prompt + 1..=text.len() {
        chain.accept(text[n - 1], false);
        let rows = read_rows(base, chain, &text[..n], 1).map_err(failed)?;
        chain.sample(rows)?;
    }
    Ok(start.elapsed())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TableExpert;
    use crate::decode::Greedy;

    #[test]
    fn every_part_reads_the_same_tokens() {
        let expert = || TableExpert::new(3, 100, |_, logits| logits.fill(0.0));
        let text = [0, 1, 2, 0, 1, 2, 0, 1];
        let (mut alone, mut guided) = (expert(), expert());
        time_expert(&mut alone, &text, 3).unwrap();
        time_guided(&mut guided, &mut Greedy, &text, 3).unwrap();
        assert_eq!((alone.n_decoded(), guided.n_decoded()), (8, 8));
    }

    #[test]
    fn batches_between_the_measured_sizes_lie_on_a_line() {
        let mut batches = Batches(vec![(1, 2.0), (2, 3.0), (4, 4.0)]);
        batches.add(&Batches(vec![(1, 0.0), (2, 0.0), (4, 2.0)]));
        assert_eq!([1, 2, 3, 4, 8].map(|n| batches.seconds(n)), [2.0, 3.0, 4.5, 6.0, 12.0]);
        assert_eq!(Batches::default().seconds(3), 0.0);
        let mut expert = TableExpert::new(3, 100, |_, logits| logits.fill(0.0));
        let sizes: Vec<_> = time_batches(&mut expert, &[0; 40]).unwrap().0.iter().map(|(n, _)| *n).collect();
        assert_eq!(sizes, [1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 16]);
    }

    #[test]
    fn ratios_are_taken_within_a_repeat() {
        let repeat =
            |slow: f64| Repeat { base: 3.0 * slow, arms: vec![slow], guided: 4.0 * slow, overhead: 0.04 * slow };
        let timings = StepTimes::of(&[repeat(1.0), repeat(10.0), repeat(2.0)]);
        assert_eq!((timings.guided_to_ideal, timings.base), (1.0, 6.0));
        assert!((timings.overhead_share - 0.01).abs() < 1e-12);
    }
}
