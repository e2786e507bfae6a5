//! How far logits depend on the way in which a text is batched: the same tokens, read in other batches, give sums that
//! are rounded otherwise.
//!
//! Every position of a fixed text is compared with the same position in a reference reading. What counts is what
//! sampling sees: log-probabilities of likely tokens, the gap between the two likeliest, and whether the likeliest is
//! another one.

use serde::Serialize;

use crate::expert::{Expert, ExpertError, Token};

/// Tokens of a position that are compared.
const N_TOP: usize = 10;

/// The likeliest tokens of a position, likeliest first, with their log-probabilities.
#[derive(Debug, Clone, PartialEq)]
pub struct Position {
    /// Ids.
    pub ids: Vec<Token>,
    /// Their log-probabilities, in nats.
    pub logprobs: Vec<f32>,
}

impl Position {
    /// Of a row of logits.
    pub fn of(row: &[f32]) -> Self {
        let mut ids: Vec<Token> = (0..row.len() as Token).collect();
        let by_logit = |a: &Token, b: &Token| row[*b as usize].total_cmp(&row[*a as usize]).then(a.cmp(b));
        let n = N_TOP.min(ids.len());
        if n < ids.len() {
            ids.select_nth_unstable_by(n, by_logit);
            ids.truncate(n);
        }
        ids.sort_unstable_by(by_logit);
        let logprobs = log_probs(row, &ids);
        Self { ids, logprobs }
    }

    /// Against a reference, as far as the tokens of both are known.
    pub fn differs_from(&self, reference: &Self) -> Difference {
        let of = |id: &Token| self.ids.iter().position(|own| own == id).map(|at| self.logprobs[at]);
        let other: Vec<_> = reference.ids.iter().map(of).collect();
        let changes = reference.logprobs.iter().zip(&other).filter_map(|(a, b)| Some((a - (*b)?).abs()));
        let gap = match other[..] {
            [Some(first), Some(second), ..] => ((first - second) - reference.gap()).abs(),
            _ => 0.0,
        };
        let flipped = self.ids.first() != reference.ids.first();
        Difference { logprob: changes.fold(0.0, f32::max), gap, flipped_at: flipped.then(|| reference.gap()) }
    }

    /// The gap between the two likeliest tokens.
    pub fn gap(&self) -> f32 {
        match self.logprobs[..] {
            [first, second, ..] => first - second,
            _ => f32::INFINITY,
        }
    }
}

/// Log-probabilities of some tokens of a row.
fn log_probs(row: &[f32], ids: &[Token]) -> Vec<f32> {
    let max = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = row.iter().map(|x| f64::from(x - max).exp()).sum();
    ids.iter().map(|id| ((f64::from(row[*id as usize]) - f64::from(max)) - sum.ln()) as f32).collect()
}

/// A position that was read in another way, beside the reference.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Difference {
    /// The largest change of a log-probability among the reference's likeliest tokens, in nats.
    pub logprob: f32,
    /// The change of the gap between its two likeliest.
    pub gap: f32,
    /// Where the likeliest token is another one: the reference's gap.
    pub flipped_at: Option<f32>,
}

impl Difference {
    /// Between the reference and a row.
    pub fn of(reference: &Position, row: &[f32]) -> Self {
        let other = log_probs(row, &reference.ids);
        let changes = reference.logprobs.iter().zip(&other).map(|(a, b)| (a - b).abs());
        let gap = match other[..] {
            [first, second, ..] => ((first - second) - reference.gap()).abs(),
            _ => 0.0,
        };
        let best = (0..row.len()).max_by(|a, b| row[*a].total_cmp(&row[*b]).then(b.cmp(a)));
        let flipped = best.is_some_and(|best| Some(&(best as Token)) != reference.ids.first());
        Self { logprob: changes.fold(0.0, f32::max), gap, flipped_at: flipped.then(|| reference.gap()) }
    }
}

/// The differences of all positions.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Noise {
    /// Positions.
    pub n: usize,
    /// The largest change of a log-probability among the likeliest tokens: median, 99.9th percentile and maximum, in
    /// nats.
    pub logprob: [f32; 3],
    /// The same of the gap between the two likeliest.
    pub gap: [f32; 3],
    /// Positions whose likeliest token is another one.
    pub n_flipped: usize,
    /// The largest gap at which it was.
    pub flipped_up_to: f32,
}

impl Noise {
    /// Of all positions.
    pub fn of(differences: &[Difference]) -> Self {
        let spread = |of: fn(&Difference) -> f32| {
            let mut all: Vec<f32> = differences.iter().map(of).collect();
            all.sort_unstable_by(f32::total_cmp);
            let at =
                |share: f64| all.get(((all.len() as f64 * share) as usize).min(all.len().saturating_sub(1))).copied();
            [0.5, 0.999, 1.0].map(|share| at(share).unwrap_or(0.0))
        };
        let flipped = || differences.iter().filter_map(|difference| difference.flipped_at);
        Self {
            n: differences.len(),
            logprob: spread(|difference| difference.logprob),
            gap: spread(|difference| difference.gap),
            n_flipped: flipped().count(),
            flipped_up_to: flipped().fold(0.0, f32::max),
        }
    }
}

/// Shows `each` the row of every position of a text that the first expert reads in batches of `chunk` tokens. The
/// others read texts of their own beside it, as rows of the same batches where they share a context.
///
/// # Errors
///
/// What decoding reports.
pub fn read(
    experts: &mut [(&mut dyn Expert, &[Token])],
    chunk: usize,
    each: &mut dyn FnMut(usize, &[f32]),
) -> Result<(), ExpertError> {
    experts.iter_mut().for_each(|(expert, _)| expert.forget());
    let len = experts.first().map_or(0, |(_, text)| text.len());
    let mut start = 0;
    while start < len {
        let end = (start + chunk).min(len);
        // Texts beside that are shorter stay where they are.
        for (expert, text) in experts.iter_mut().filter(|(_, text)| text.len() >= end) {
            expert.prepare(&text[..end], end - start);
        }
        for (at, (expert, text)) in experts.iter_mut().enumerate().filter(|(_, (_, text))| text.len() >= end) {
            let n_vocab = expert.n_vocab();
            let rows = expert.advance(&text[..end], end - start)?;
            if at == 0 {
                rows.chunks(n_vocab).enumerate().for_each(|(i, row)| each(start + i, row));
            }
        }
        start = end;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_rows_differ_by_nothing_and_a_constant_changes_no_probability() {
        let row = [1.0, 3.0, 2.5, -1.0];
        let reference = Position::of(&row);
        assert_eq!(reference.ids, [1, 2, 0, 3]);
        assert!((reference.gap() - 0.5).abs() < 1e-6);
        let same = Difference::of(&reference, &row.map(|x| x + 7.0));
        assert!(same.logprob < 1e-6 && same.gap < 1e-6 && same.flipped_at.is_none(), "{same:?}");
    }

    #[test]
    fn a_row_whose_best_token_is_another_is_counted_with_the_gap_it_crossed() {
        let reference = Position::of(&[1.0, 3.0, 2.5, -1.0]);
        let other = Difference::of(&reference, &[1.0, 3.0, 3.25, -1.0]);
        assert!((other.gap - 0.75).abs() < 1e-5, "{other:?}");
        assert!(other.flipped_at.is_some_and(|gap| (gap - 0.5).abs() < 1e-5), "{other:?}");
        let noise = Noise::of(&[other, Difference::of(&reference, &[1.0, 3.0, 2.5, -1.0])]);
        assert_eq!((noise.n, noise.n_flipped), (2, 1));
        assert!((noise.flipped_up_to - 0.5).abs() < 1e-5 && (noise.gap[2] - 0.75).abs() < 1e-5, "{noise:?}");
    }
}
