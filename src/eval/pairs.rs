//! Preference pairs without annotators: several answers to each prompt are rated, and the best is set against the
//! worst.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::results::Results;
use super::scorers::{Item, Scorer, ScorerSpec};
use super::sweep::SweepError;
use crate::decode::Finish;
use crate::decode::text_generator::{GeneratedText, TextGenerator, TextRequest, seed_of};
use crate::guidance::score::Totals;

/// An answer to a prompt.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// The text.
    pub text: String,
    /// Why it ended. At the limit of tokens it is cut off: no end-of-sequence token belongs after it.
    pub finish: Finish,
    /// Its tokens.
    pub n_tokens: usize,
    /// Its rating; absent where the rater's answer is no number.
    pub score: Option<f64>,
}

/// The answers to one prompt: a line of the file of answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Answered {
    /// Index of the prompt.
    pub prompt: usize,
    /// In the order in which they were drawn.
    pub answers: Vec<Answer>,
}

/// Who rates the answers.
pub enum Rater {
    /// An ARM, by its place among the weights: Σ log π · β_r.
    Arm(usize, f64),
    /// A scorer.
    Scorer(Box<dyn Scorer>),
}

/// Who rates, as the command line names it.
#[derive(Debug, Clone)]
pub enum RaterSpec {
    /// `arm:NAME`: an ARM of the configuration.
    Arm(String),
    /// A scorer.
    Scorer(ScorerSpec),
}

impl FromStr for RaterSpec {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.strip_prefix("arm:") {
            Some(name) if !name.is_empty() => Ok(Self::Arm(name.to_owned())),
            _ => text.parse().map(Self::Scorer),
        }
    }
}

impl std::fmt::Display for RaterSpec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Arm(name) => write!(f, "arm:{name}"),
            Self::Scorer(spec) => spec.fmt(f),
        }
    }
}

/// How answers are made and rated.
pub struct Asked<'a> {
    /// The prompts, as raters read them.
    pub prompts: &'a [String],
    /// Answers per prompt.
    pub n_answers: usize,
    /// ARMs of the session. All have weight 0: the base answers alone.
    pub n_arms: usize,
    /// Who rates.
    pub rater: &'a Rater,
    /// Of all draws.
    pub seed: u32,
    /// Prompts that are answered together, and written together.
    pub unit: usize,
}

impl Asked<'_> {
    /// Answers the prompts that `done` lacks, unit by unit, into `results`; returns all. `each` is called with every
    /// answer.
    ///
    /// # Errors
    ///
    /// [`SweepError`].
    pub fn run(
        &self,
        generator: &mut dyn TextGenerator,
        results: &mut Results,
        done: Vec<Answered>,
        each: &mut dyn FnMut(),
    ) -> Result<Vec<Answered>, SweepError> {
        let mut answered = done;
        let left: Vec<usize> = (answered.len()..self.prompts.len()).collect();
        for unit in left.chunks(self.unit.max(1)) {
            let made = self.unit(generator, unit, each)?;
            results.append(&made)?;
            answered.extend(made);
        }
        Ok(answered)
    }

    /// Rates answers that were made before, but for those that `done` has already, into `results`; returns all. `each`
    /// is called with every answer.
    ///
    /// # Errors
    ///
    /// [`SweepError`].
    ///
    /// # Panics
    ///
    /// If an ARM rates: it needs the tokens.
    pub fn rate_again(
        &self,
        made: Vec<Answered>,
        results: &mut Results,
        done: Vec<Answered>,
        each: &mut dyn FnMut(),
    ) -> Result<Vec<Answered>, SweepError> {
        let Rater::Scorer(scorer) = self.rater else { panic!("an ARM rates tokens, not texts") };
        let mut answered = done;
        let mut left = made.into_iter().skip(answered.len()).collect::<Vec<_>>();
        for unit in left.chunks_mut(self.unit.max(1)) {
            let answers = unit.iter().flat_map(|of| of.answers.iter().map(|answer| (of.prompt, &answer.text)));
            let items = answers.map(|(prompt, response)| Item { prompt: &self.prompts[prompt], response });
            let scores = scorer.score(&items.collect::<Vec<_>>())?;
            for (answer, score) in unit.iter_mut().flat_map(|of| &mut of.answers).zip(scores) {
                answer.score = Some(score).filter(|score| score.is_finite());
                each();
            }
            results.append(unit)?;
            answered.extend_from_slice(unit);
        }
        Ok(answered)
    }

    fn unit(
        &self,
        generator: &mut dyn TextGenerator,
        unit: &[usize],
        each: &mut dyn FnMut(),
    ) -> Result<Vec<Answered>, SweepError> {
        let base_alone = vec![0.0; self.n_arms];
        let request = |prompt: usize, copy| TextRequest {
            prompt,
            weights: base_alone.clone(),
            seed: seed_of(self.seed, prompt, copy),
            candidates: None,
        };
        let copies = |prompt: &usize| (0..self.n_answers).map(|copy| request(*prompt, copy)).collect::<Vec<_>>();
        let requests: Vec<TextRequest> = unit.iter().flat_map(copies).collect();
        let texts = generator.generate(&requests, each)?;
        let scores = self.rate(generator, &requests, &texts)?;
        let answer = |(text, score): (GeneratedText, f64)| Answer {
            text: text.text,
            finish: text.finish,
            n_tokens: text.tokens.len(),
            score: Some(score).filter(|score| score.is_finite()),
        };
        let mut answers = texts.into_iter().zip(scores).map(answer);
        Ok(unit
            .iter()
            .map(|&prompt| Answered { prompt, answers: answers.by_ref().take(self.n_answers).collect() })
            .collect())
    }

    fn rate<'a>(
        &'a self,
        generator: &mut dyn TextGenerator,
        requests: &[TextRequest],
        texts: &'a [GeneratedText],
    ) -> Result<Vec<f64>, SweepError> {
        match self.rater {
            Rater::Arm(arm, beta_r) => {
                let mut reward = |(request, text): (&TextRequest, &GeneratedText)| {
                    let scores = generator.score(request.prompt, &text.tokens, &request.weights)?;
                    Ok(beta_r * Totals::of(&scores, self.n_arms).arms[*arm])
                };
                requests.iter().zip(texts).map(&mut reward).collect()
            }
            Rater::Scorer(scorer) => {
                let item = |(request, text): (&TextRequest, &'a GeneratedText)| Item {
                    prompt: &self.prompts[request.prompt],
                    response: &text.text,
                };
                let items: Vec<_> = requests.iter().zip(texts).map(item).collect();
                Ok(scorer.score(&items)?)
            }
        }
    }
}

impl Answered {
    /// Up to `max` pairs of answers that were rated: the best against the worst, the second best against the second
    /// worst, and so on, as far as they differ and their ratings are further apart than `margin`. Of answers with the
    /// same rating the first one counts.
    pub fn pairs(&self, margin: f64, max: usize) -> Vec<(&Answer, &Answer)> {
        let rated = self.answers.iter().filter(|answer| !answer.text.trim().is_empty());
        let mut best: Vec<_> = rated.filter_map(|answer| Some((answer.score?, answer))).collect();
        let mut worst = best.clone();
        // Both sorts keep the order of equal ones.
        best.sort_by(|(a, _), (b, _)| b.total_cmp(a));
        worst.sort_by(|(a, _), (b, _)| a.total_cmp(b));
        let n = (best.len() / 2).min(max);
        let pairs = best.into_iter().zip(worst).take(n);
        let differ = |((most, chosen), (least, rejected)): &((f64, &Answer), (f64, &Answer))| {
            most - least > margin && chosen.text != rejected.text
        };
        pairs.filter(differ).map(|((_, chosen), (_, rejected))| (chosen, rejected)).collect()
    }
}

#[cfg(test)]
#[path = "pairs_tests.rs"]
mod tests;
