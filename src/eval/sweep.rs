//! Many weights at once: which texts they give, and what becomes of every reward.

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};

use super::pareto;
use super::results::{Results, ResultsError};
use super::scorers::{Item, Scorer, ScorerError};
use super::stats::Mean;
use super::strategy::{Strategy, make};
use crate::decode::Finish;
use crate::decode::text_generator::{GenerateError, TextGenerator};

/// What stands at one place of the sweep.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// A profile's name, or what a baseline is called; absent for the points of the grid.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// How its texts are made.
    #[serde(flatten)]
    pub strategy: Strategy,
}

/// A text of the sweep.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Index of the point.
    pub point: usize,
    /// Index of the prompt.
    pub prompt: usize,
    /// The text.
    pub text: String,
    /// Why it ended.
    pub finish: Finish,
    /// Its tokens.
    pub n_tokens: usize,
    /// How far it is from the base, in nats.
    pub kl: f64,
    /// Positions at which guidance changes the likeliest token.
    pub n_flipped: usize,
    /// Rewards: of each ARM (`arm:NAME`, Σ log π · β_r) and of each scorer; absent where the scorer failed.
    pub rewards: IndexMap<String, Option<f64>>,
}

/// A scorer with its name.
pub type Named = (String, Box<dyn Scorer>);

/// An ARM's name, and β_r, which turns its log-probabilities into rewards.
pub type ArmScale = (String, f64);

/// What is swept.
pub struct Sweep<'a> {
    /// The points.
    pub points: &'a [Point],
    /// The prompts, as the scorers read them.
    pub prompts: &'a [String],
    /// The ARMs, in the order of the weights.
    pub arms: &'a [ArmScale],
    /// Who else rates.
    pub scorers: &'a [Named],
    /// Of all draws.
    pub seed: u32,
    /// Texts that are made together, and written together.
    pub unit: usize,
}

/// Why a sweep stopped. What is done is in the file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SweepError {
    /// A text was not made.
    #[error(transparent)]
    TextGenerator(#[from] GenerateError),
    /// A scorer failed.
    #[error(transparent)]
    Scorer(#[from] ScorerError),
    /// The file cannot be written.
    #[error(transparent)]
    Results(#[from] ResultsError),
}

impl Sweep<'_> {
    /// Texts in all.
    pub fn n_texts(&self) -> usize {
        self.points.len() * self.prompts.len()
    }

    /// Makes what `done` has not yet, unit by unit, into `results`; returns all records. `each` is called with every
    /// text.
    ///
    /// # Errors
    ///
    /// [`SweepError`].
    pub fn run(
        &self,
        generator: &mut dyn TextGenerator,
        results: &mut Results,
        done: Vec<Record>,
        each: &mut dyn FnMut(),
    ) -> Result<Vec<Record>, SweepError> {
        let mut records = done;
        let items: Vec<(usize, usize)> = (0..self.points.len())
            .flat_map(|point| (0..self.prompts.len()).map(move |prompt| (point, prompt)))
            .collect();
        let left = items[records.len().min(items.len())..].to_vec();
        for unit in left.chunks(self.unit) {
            let made = self.unit(generator, unit, each)?;
            results.append(&made)?;
            records.extend(made);
        }
        Ok(records)
    }

    fn unit(
        &self,
        generator: &mut dyn TextGenerator,
        unit: &[(usize, usize)],
        each: &mut dyn FnMut(),
    ) -> Result<Vec<Record>, SweepError> {
        let strategies: Vec<_> = unit.iter().map(|(point, prompt)| (*prompt, &self.points[*point].strategy)).collect();
        let made = make(generator, &strategies, self.seed, each)?;
        let items: Vec<Item<'_>> = unit
            .iter()
            .zip(&made)
            .map(|((_, prompt), made)| Item { prompt: &self.prompts[*prompt], response: &made.text.text })
            .collect();
        let ratings = self
            .scorers
            .iter()
            .map(|(name, scorer)| Ok((name, scorer.score(&items)?)))
            .collect::<Result<Vec<_>, ScorerError>>()?;
        let record = |(i, (&(point, prompt), made)): (usize, (&(usize, usize), &super::strategy::Made))| {
            let of_arms = self.arms.iter().zip(&made.totals.arms);
            let mut rewards: IndexMap<_, _> =
                of_arms.map(|((name, beta), sum)| (format!("arm:{name}"), Some(beta * sum))).collect();
            let finite = |x: f64| Some(x).filter(|x| x.is_finite());
            rewards.extend(ratings.iter().map(|(name, ratings)| ((*name).clone(), finite(ratings[i]))));
            Record {
                point,
                prompt,
                text: made.text.text.clone(),
                finish: made.text.finish,
                n_tokens: made.text.tokens.len(),
                kl: made.kl,
                n_flipped: made.totals.n_flipped,
                rewards,
            }
        };
        Ok(unit.iter().zip(&made).enumerate().map(record).collect())
    }
}

/// The means of one point.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Summary {
    /// The point.
    #[serde(flatten)]
    pub point: Point,
    /// Mean reward by name.
    pub rewards: IndexMap<String, Mean>,
    /// Mean divergence from the base, in nats.
    pub kl: Mean,
    /// Mean share of positions at which guidance changes the likeliest token.
    pub flipped: f64,
    /// Mean length, in tokens.
    pub n_tokens: f64,
    /// Ratings that failed.
    pub n_failed: usize,
}

/// The means of all points.
pub fn summarise(points: &[Point], records: &[Record]) -> Vec<Summary> {
    points.iter().enumerate().map(|(i, point)| summary(point, records.iter().filter(|r| r.point == i))).collect()
}

fn summary<'a>(point: &Point, records: impl Iterator<Item = &'a Record>) -> Summary {
    let records: Vec<&Record> = records.collect();
    let mean = |f: &dyn Fn(&Record) -> f64| Mean::of(&records.iter().map(|r| f(r)).collect::<Vec<_>>());
    let names = records.first().map(|r| r.rewards.keys().cloned().collect::<Vec<_>>()).unwrap_or_default();
    let rated =
        |name: &String| records.iter().filter_map(|r| r.rewards.get(name).copied().flatten()).collect::<Vec<_>>();
    Summary {
        point: point.clone(),
        rewards: names.iter().map(|name| (name.clone(), Mean::of(&rated(name)))).collect(),
        kl: mean(&|r| r.kl),
        flipped: mean(&|r| r.n_flipped as f64 / r.n_tokens.max(1) as f64).mean,
        n_tokens: mean(&|r| r.n_tokens as f64).mean,
        n_failed: records.iter().flat_map(|r| r.rewards.values()).filter(|r| r.is_none()).count(),
    }
}

/// How good a sweep is as a whole, over some of its rewards.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Front {
    /// The rewards.
    pub objectives: Vec<String>,
    /// Indices of the points that none dominates; among all guided points and the base.
    pub points: Vec<usize>,
    /// Where the hypervolume is measured from: the worst mean of each reward over the same points.
    pub reference: Vec<f64>,
    /// The volume that they dominate.
    pub hypervolume: f64,
    /// Mean over the points of ⟨weights scaled to the sum 1, rewards⟩; absent where objectives are not the ARMs'.
    pub mean_inner_product: Option<f64>,
    /// Index of the recommended point, if a guided one is allowed.
    pub recommended: Option<usize>,
}

/// The front of the guided points. `preference` finds the ARM whose weight asks for an objective; `max_kl` bounds what
/// is recommended.
pub fn front(
    summaries: &[Summary],
    objectives: &[String],
    preference: &dyn Fn(&str) -> Option<usize>,
    max_kl: f64,
) -> Front {
    let guided: Vec<usize> = (0..summaries.len()).filter(|i| summaries[*i].point.strategy.best_of.is_none()).collect();
    let rewards: Vec<Vec<f64>> = guided.iter().map(|i| values(&summaries[*i], objectives)).collect();
    let reference = pareto::nadir(&rewards);
    let arms: Option<Vec<usize>> = objectives.iter().map(|name| preference(name)).collect();
    let mean_inner_product = arms.and_then(|arms| {
        let weight = |i: &usize| arms.iter().map(|a| f64::from(summaries[*i].point.strategy.weights[*a])).collect();
        pareto::mean_inner_product(&guided.iter().map(weight).collect::<Vec<_>>(), &rewards)
    });
    let allowed = |i: usize| {
        let summary = &summaries[guided[i]];
        !summary.point.strategy.is_base() && summary.kl.mean <= max_kl
    };
    Front {
        objectives: objectives.to_vec(),
        points: pareto::front(&rewards).into_iter().map(|i| guided[i]).collect(),
        hypervolume: pareto::hypervolume(&rewards, &reference),
        mean_inner_product,
        recommended: pareto::recommend(&rewards, allowed).map(|i| guided[i]),
        reference,
    }
}

/// The mean rewards of a point.
pub fn values(summary: &Summary, objectives: &[String]) -> Vec<f64> {
    objectives.iter().map(|name| summary.rewards.get(name).map_or(f64::NAN, |m| m.mean)).collect()
}

#[cfg(test)]
#[path = "sweep_tests.rs"]
mod tests;
