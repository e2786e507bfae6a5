//! Who decides between two texts: a reward, or a language model that is asked.

mod client;
mod criterion;
mod error;

pub use client::Client;
pub use criterion::{Criterion, scores};
pub use error::JudgeError;

use rand::{Rng, SeedableRng};
use serde::{Deserialize, Serialize};

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

/// Asks a language model about all cases. It sees both answers at once, in an order drawn by `seed`.
///
/// # Errors
///
/// [`JudgeError`], when the judge cannot be asked at all.
pub fn compare(
    client: &Client,
    criterion: &Criterion,
    cases: &[Case<'_>],
    seed: u64,
) -> Result<Vec<Verdict>, JudgeError> {
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
