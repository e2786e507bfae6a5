//! What a user may care about, and the numbers that steer by it.

use indexmap::IndexMap;

use crate::guidance::Weights;
use crate::guidance::score::TokenScore;

/// An ARM, or one objective of a PARM.
#[derive(Debug, Clone, PartialEq)]
pub struct Objective {
    /// The ARM's name, or `ARM.OBJECTIVE`.
    pub name: String,
    arm: usize,
    /// Of a PARM's: its place among all preferences.
    preference: Option<usize>,
}

/// To three digits: more have no effect that could be seen.
fn rounded(number: f64) -> f64 {
    (number * 1000.0).round() / 1000.0
}

/// The objectives of a configuration, in the order of its numbers.
#[derive(Debug, Clone)]
pub struct Objectives {
    weights: Weights,
    list: Vec<Objective>,
}

impl Objectives {
    /// One for each ARM; a PARM's own in its place.
    pub fn of(weights: &Weights) -> Self {
        let (names, preferences) = (weights.names(), weights.preferences());
        let n_arms = weights.n_arms();
        let mut list = Vec::new();
        for (arm, name) in weights.arm_names().iter().enumerate() {
            let own = preferences.iter().enumerate().filter(|(_, preference)| preference.arm == arm);
            let own: Vec<_> = own.map(|(i, _)| (names[n_arms + i].clone(), Some(i))).collect();
            let all = if own.is_empty() { vec![(name.clone(), None)] } else { own };
            list.extend(all.into_iter().map(|(name, preference)| Objective { name, arm, preference }));
        }
        Self { weights: weights.detached(), list }
    }

    /// Their names.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.list.iter().map(|objective| objective.name.as_str())
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// The sum of the sizes of the configured weights, 1 where all are 0: what [`super::Direction`] keeps.
    pub fn strength(&self) -> f64 {
        let sum: f64 = self.weights.of_arms().iter().map(|w| f64::from(w.abs())).sum();
        if sum > 0.0 { sum } else { 1.0 }
    }

    /// The configuration's numbers for these weights of the objectives. A PARM's weight is the sum of its objectives',
    /// and its preferences are their shares of it: the weight acts outside the ARM, preferences inside. No preference
    /// is negative: a PARM is not trained for that.
    pub fn numbers(&self, of_objectives: &[f64]) -> Vec<f32> {
        let mut numbers = self.weights.get();
        let n_arms = self.weights.n_arms();
        for arm in 0..n_arms {
            let own = || self.list.iter().zip(of_objectives).filter(move |(objective, _)| objective.arm == arm);
            let total: f64 = own()
                .map(|(objective, weight)| if objective.preference.is_some() { weight.max(0.0) } else { *weight })
                .sum();
            numbers[arm] = rounded(total) as f32;
            for (objective, weight) in own() {
                let Some(at) = objective.preference.filter(|_| total > 0.0) else { continue };
                numbers[n_arms + at] = self.within(at, weight.max(0.0) / total);
            }
        }
        numbers
    }

    /// Numbers by their names.
    pub fn named(&self, numbers: &[f32]) -> IndexMap<String, f64> {
        let numbers = numbers.iter().map(|number| rounded(f64::from(*number)));
        self.weights.names().iter().cloned().zip(numbers).collect()
    }

    fn within(&self, preference: usize, value: f64) -> f32 {
        let [low, high] = self.weights.preferences()[preference].range;
        (rounded(value) as f32).max(low).min(high)
    }

    /// The numbers under which an answer is scored, so that every objective has a reward: once, or as often as a PARM
    /// has objectives, each time under one of them alone.
    pub fn scorings(&self) -> Vec<Vec<f32>> {
        let most = (0..self.weights.n_arms()).map(|arm| self.n_objectives(arm)).max().unwrap_or(1);
        let alone = |turn: usize| {
            let mut numbers = self.weights.get();
            for objective in &self.list {
                let Some(at) = objective.preference else { continue };
                let is_it = self.turn(objective) == turn;
                numbers[self.weights.n_arms() + at] = self.within(at, if is_it { 1.0 } else { 0.0 });
            }
            numbers
        };
        (0..most).map(alone).collect()
    }

    fn n_objectives(&self, arm: usize) -> usize {
        self.list.iter().filter(|objective| objective.arm == arm).count()
    }

    /// The scoring that an objective's reward comes from: its place among those of its ARM.
    fn turn(&self, objective: &Objective) -> usize {
        self.list.iter().take_while(|other| *other != objective).filter(|other| other.arm == objective.arm).count()
    }

    /// The rewards of an answer from its [`scorings`](Self::scorings): of each objective the mean per token of its
    /// ARM's log-probability less that of its reference, or of the base where it has none. `None` where one is no
    /// finite number, or the answer has no token.
    pub fn rewards(&self, scored: &[Vec<TokenScore>]) -> Option<Vec<f64>> {
        let reward = |objective: &Objective| {
            let tokens = scored.get(self.turn(objective))?;
            let arm = objective.arm;
            let of_token = |t: &TokenScore| f64::from(t.arms[arm] - t.references[arm].unwrap_or(t.base));
            let mean = tokens.iter().map(of_token).sum::<f64>() / tokens.len() as f64;
            mean.is_finite().then_some(mean)
        };
        self.list.iter().map(reward).collect()
    }
}
