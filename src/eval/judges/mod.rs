//! Who decides between two texts: a reward, or a language model that is asked.

mod client;
mod criterion;

pub use client::{Client, JudgeError};
pub use criterion::{Criterion, scores};

use rand::{Rng, SeedableRng};
use serde::{Deserialize, Serialize};

use super::scorers::{Item, Kind, Scorer, ScorerError, ScorerSpec};

/// Two answers to one prompt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Case<'a> {
    /// The prompt.
    pub prompt: &'a str,
    /// The first answer.
    pub a: &'a str,
    /// The second one.
    pub b: &'a str,
}

/// What a judge says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// The first is better.
    A,
    /// The second is better.
    B,
    /// Neither.
    Tie,
    /// The judge's answer cannot be read. Counted as a failure, never as a tie.
    Failed,
}

impl Verdict {
    /// From the two ratings.
    pub fn of(a: f64, b: f64) -> Self {
        match a.partial_cmp(&b) {
            Some(std::cmp::Ordering::Greater) => Self::A,
            Some(std::cmp::Ordering::Less) => Self::B,
            Some(std::cmp::Ordering::Equal) => Self::Tie,
            None => Self::Failed,
        }
    }
}

/// Decides all cases. A language model sees both answers at once, in an order drawn by `seed`; anybody else rates each by itself.
///
/// # Errors
///
/// When the judge cannot be asked at all.
pub fn judge(
    spec: &ScorerSpec,
    client: &Client,
    cases: &[Case<'_>],
    seed: u64,
) -> Result<Vec<Verdict>, ScorerError> {
    if let Kind::Judge(url) = &spec.kind {
        return compare(&client.at(url), &Criterion::named(&spec.name)?, cases, seed);
    }
    by_reward(&*spec.open(client)?, cases)
}

fn by_reward(scorer: &dyn Scorer, cases: &[Case<'_>]) -> Result<Vec<Verdict>, ScorerError> {
    let a: Vec<_> = cases.iter().map(|case| Item { prompt: case.prompt, response: case.a }).collect();
    let b: Vec<_> = cases.iter().map(|case| Item { prompt: case.prompt, response: case.b }).collect();
    let (a, b) = (scorer.score(&a)?, scorer.score(&b)?);
    Ok(a.into_iter().zip(b).map(|(a, b)| Verdict::of(a, b)).collect())
}

fn compare(client: &Client, criterion: &Criterion, cases: &[Case<'_>], seed: u64) -> Result<Vec<Verdict>, ScorerError> {
    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
    let swapped: Vec<bool> = cases.iter().map(|_| rng.random()).collect();
    let question = |(case, swap): (&Case<'_>, &bool)| {
        let (first, second) = if *swap { (case.b, case.a) } else { (case.a, case.b) };
        criterion.compare(case.prompt, first, second)
    };
    let questions: Vec<_> = cases.iter().zip(&swapped).map(question).collect();
    let answers = client.ask_all(&questions)?;
    let verdict = |(answer, swap): (&String, &bool)| match scores::<2>(answer) {
        Some([first, second]) if *swap => Verdict::of(second, first),
        Some([first, second]) => Verdict::of(first, second),
        None => Verdict::Failed,
    };
    Ok(answers.iter().zip(&swapped).map(verdict).collect())
}
