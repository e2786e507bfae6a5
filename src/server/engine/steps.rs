//! The weights of a running text, which change between its steps.

use std::collections::VecDeque;

use super::{Job, LiveChoice, Task, WeightChange};
use crate::guidance::{WeightError, Weights};

/// Changes that are to come, and those that were.
pub(super) struct WeightSteps {
    /// The slot's handle.
    weights: Weights,
    /// Changes that a client makes.
    live: Option<LiveChoice>,
    /// Changes that the request replays.
    to_come: VecDeque<WeightChange>,
    /// The weights from token 0 on, and every change.
    log: Vec<WeightChange>,
    has_changed: bool,
}

impl WeightSteps {
    /// Of a job that begins in a slot with these weights.
    pub fn new(job: &mut Job, weights: Weights) -> Self {
        let to_come = match &mut job.task {
            Task::Generate(generate) => std::mem::take(&mut generate.changes).into(),
            Task::Score(_) => VecDeque::new(),
        };
        let log = vec![WeightChange { token: 0, weights: job.weights.clone() }];
        Self { weights, live: job.live.take(), to_come, log, has_changed: false }
    }

    /// A step begins, after `n` tokens: takes changes over. Returns the token of the next one, which the step must not
    /// cross.
    pub fn begin_step(&mut self, n: usize) -> Option<usize> {
        if let Some(weights) = self.live.as_ref().and_then(|live| live.begin_step(n)) {
            self.change(n, weights);
        }
        while self.to_come.front().is_some_and(|change| change.token <= n) {
            let change = self.to_come.pop_front();
            change.into_iter().for_each(|change| self.change(n, change.weights));
        }
        self.to_come.front().map(|change| change.token)
    }

    /// The step has ended, and there are `n` tokens.
    pub fn end_step(&self, n: usize) {
        self.live.iter().for_each(|live| live.end_step(n));
    }

    /// The text has ended.
    pub fn end(&self) {
        self.live.iter().for_each(LiveChoice::end);
    }

    /// The weights from token 0 on and their changes; empty where nothing has changed.
    pub fn take_log(&mut self) -> Vec<WeightChange> {
        if self.has_changed { std::mem::take(&mut self.log) } else { Vec::new() }
    }

    fn change(&mut self, n: usize, weights: Vec<f32>) {
        if self.log.last().is_some_and(|last| last.weights == weights) || set_first(&self.weights, &weights).is_err() {
            return;
        }
        self.has_changed = true;
        // No token was drawn under weights that changed again at once.
        self.log.pop_if(|last| last.token == n);
        self.log.push(WeightChange { token: n, weights });
    }
}

/// Sets the weights of the first ARMs and the preferences after them, and the other weights to 0: those of places that
/// wait for a persona.
pub(super) fn set_first(weights: &Weights, first: &[f32]) -> Result<(), WeightError> {
    let (of_arms, preferences) = first.split_at(n_arms_of(weights, first));
    let mut all = of_arms.to_vec();
    all.resize(weights.n_arms().max(of_arms.len()), 0.0);
    all.extend_from_slice(preferences);
    weights.set_all(&all)
}

/// How many of a job's numbers are weights of ARMs.
pub(super) fn n_arms_of(weights: &Weights, first: &[f32]) -> usize {
    first.len().saturating_sub(weights.preferences().len())
}
