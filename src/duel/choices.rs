//! Choices so far, and what follows from them.

use indexmap::IndexMap;
use rand::Rng;
use serde::{Deserialize, Serialize};

use super::fit::difference;
use super::{Comparison, Direction, Fit, Objectives, Scale, most_telling, spread};

/// A choice as it is kept: the rewards of both answers by the names of the objectives.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Choice {
    /// Of the preferred answer; of the first one, if both were alike.
    pub chosen_rewards: IndexMap<String, f64>,
    /// Of the other answer.
    pub rejected_rewards: IndexMap<String, f64>,
    /// Whether both were alike.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub tie: bool,
}

/// What is known of one objective.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Learned {
    /// Its name.
    pub name: String,
    /// Log-odds of a choice per nat per token.
    pub theta: f64,
    /// The standard error of θ.
    pub theta_error: f64,
    /// The weight in the direction of θ.
    pub weight: f64,
    /// Its standard error; infinite before the first choice.
    pub weight_error: f64,
}

/// What is known after some choices.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Estimate {
    /// Choices, ties among them.
    pub n_choices: usize,
    /// Choices that found both answers alike.
    pub n_ties: usize,
    /// The sum of the sizes of the weights. It is given, not learned.
    pub strength: f64,
    /// One per objective.
    pub objectives: Vec<Learned>,
    /// The weights and preferences to set, by name.
    pub weights: IndexMap<String, f64>,
}

/// The choices of one user.
#[derive(Debug, Clone)]
pub struct Choices {
    objectives: Objectives,
    strength: f64,
    made: Vec<Comparison>,
}

impl Choices {
    /// None so far; weights will have this strength, or that of the configuration.
    pub fn new(objectives: Objectives, strength: Option<f64>) -> Self {
        Self { strength: strength.unwrap_or_else(|| objectives.strength()), objectives, made: Vec::new() }
    }

    /// What the user may care about.
    pub fn objectives(&self) -> &Objectives {
        &self.objectives
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.made.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.made.is_empty()
    }

    /// A choice between two answers with these rewards, by the names of the objectives.
    pub fn choice(&self, chosen: &[f64], rejected: &[f64], tie: bool) -> Choice {
        let named = |rewards: &[f64]| self.objectives.names().map(str::to_owned).zip(rewards.iter().copied()).collect();
        Choice { chosen_rewards: named(chosen), rejected_rewards: named(rejected), tie }
    }

    /// Adds a choice.
    ///
    /// # Errors
    ///
    /// What is wrong with it, in one line: rewards of other objectives, or that are no numbers.
    pub fn add(&mut self, choice: &Choice) -> Result<(), String> {
        let (chosen, rejected) = (self.rewards(&choice.chosen_rewards)?, self.rewards(&choice.rejected_rewards)?);
        self.made.push(Comparison::new(&chosen, &rejected, choice.tie));
        Ok(())
    }

    /// Takes the last one back.
    pub fn undo(&mut self) {
        self.made.pop();
    }

    fn rewards(&self, named: &IndexMap<String, f64>) -> Result<Vec<f64>, String> {
        let names = || self.objectives.names().collect::<Vec<_>>().join(", ");
        if named.len() != self.objectives.len() {
            let given: Vec<_> = named.keys().map(String::as_str).collect();
            return Err(format!("it has rewards of other objectives ({}, not {})", given.join(", "), names()));
        }
        let reward = |name: &str| {
            let reward = named.get(name).copied().filter(|reward| reward.is_finite());
            reward.ok_or_else(|| format!("it has no reward of {name}; the objectives are {}", names()))
        };
        self.objectives.names().map(reward).collect()
    }

    fn fit(&self) -> Fit {
        Fit::of(self.objectives.len(), &self.made)
    }

    /// Weights of the objectives under which `n` answers to the next prompt are made: those that are known so far, and
    /// others far apart.
    pub fn proposals(&self, n: usize, rng: &mut impl Rng) -> Vec<Vec<f64>> {
        let known = (!self.is_empty()).then(|| Direction::of(&self.fit(), self.strength).weights);
        let n_more = n - usize::from(known.is_some());
        let more = (0..n_more).map(|_| spread(self.objectives.len(), self.strength, rng));
        known.into_iter().chain(more.collect::<Vec<_>>()).collect()
    }

    /// The two of these answers, by their rewards, between which a choice tells most; `None` where all are alike. An
    /// answer without rewards is left out.
    pub fn pair(&self, answers: &[Option<Vec<f64>>]) -> Option<(usize, usize)> {
        let (places, rewards): (Vec<_>, Vec<_>) =
            answers.iter().enumerate().filter_map(|(i, rewards)| Some((i, rewards.clone()?))).unzip();
        let fit = if self.is_empty() {
            // Nothing is known of the units yet but what these answers show.
            let first = rewards.first()?;
            let apart: Vec<_> = rewards.iter().map(|rewards| difference(rewards, first)).collect();
            Fit::scaled(&Scale::of(self.objectives.len(), apart.iter().map(Vec::as_slice)), &[])
        } else {
            self.fit()
        };
        most_telling(&fit, &rewards).map(|(a, b)| (places[a], places[b]))
    }

    /// What is known now.
    pub fn estimate(&self) -> Estimate {
        let fit = self.fit();
        let direction = Direction::of(&fit, self.strength);
        let errors = fit.errors();
        let learned = |(i, name): (usize, &str)| Learned {
            name: name.to_owned(),
            theta: fit.theta[i],
            theta_error: errors[i],
            weight: direction.weights[i],
            weight_error: direction.errors[i],
        };
        Estimate {
            n_choices: self.made.len(),
            n_ties: self.made.iter().filter(|choice| choice.tie).count(),
            strength: self.strength,
            objectives: self.objectives.names().enumerate().map(learned).collect(),
            weights: self.objectives.named(&self.objectives.numbers(&direction.weights)),
        }
    }
}
