//! The numbers that steer, by name: the weight of each ARM, then each preference as `ARM.OBJECTIVE`.

use indexmap::IndexMap;

use super::error::{ConfigError, Problem};
use super::types::{ArmSpec, Config, PreferenceSpec};
use crate::guidance::{Preference, Weights};
use crate::nearest::suggestion;

/// Where a number is: the weight of an ARM, or one of its preferences.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Knob {
    arm: usize,
    preference: Option<usize>,
}

/// All numbers, in their order.
fn knobs(arms: &[ArmSpec]) -> impl Iterator<Item = Knob> + Clone {
    let weights = (0..arms.len()).map(|arm| Knob { arm, preference: None });
    let of_arm =
        |(arm, spec): (usize, &ArmSpec)| (0..spec.preferences.len()).map(move |i| Knob { arm, preference: Some(i) });
    weights.chain(arms.iter().enumerate().flat_map(of_arm))
}

/// The place of the number called `name`.
pub(super) fn find(arms: &[ArmSpec], name: &str) -> Option<Knob> {
    knobs(arms).find(|knob| knob.name(arms) == name)
}

/// Sets the numbers that a profile names.
pub(super) fn set_named(arms: &mut [ArmSpec], named: &IndexMap<String, f32>) {
    for (name, value) in named {
        find(arms, name).into_iter().for_each(|knob| knob.set(arms, *value));
    }
}

/// What to say of a name that there is not.
pub(super) fn near(arms: &[ArmSpec], name: &str) -> String {
    let names: Vec<_> = knobs(arms).map(|knob| knob.name(arms)).collect();
    suggestion(name, names.iter().map(String::as_str))
}

impl Knob {
    fn name(self, arms: &[ArmSpec]) -> String {
        let arm = &arms[self.arm];
        match self.preference {
            None => arm.name.clone(),
            Some(i) => format!("{}.{}", arm.name, arm.preferences[i].objective),
        }
    }

    /// The name of its ARM; that of the objective, if it is a preference.
    pub(super) fn names(self, arms: &[ArmSpec]) -> (&str, Option<&str>) {
        let arm = &arms[self.arm];
        (&arm.name, self.preference.map(|i| arm.preferences[i].objective.as_str()))
    }

    /// All preferences of its ARM as a mapping of YAML, as `arms:` gives them.
    pub(super) fn all(self, arms: &[ArmSpec]) -> String {
        let one = |of: &PreferenceSpec| format!("{:?}: {:?}", of.objective, of.default_value);
        format!("{{{}}}", arms[self.arm].preferences.iter().map(one).collect::<Vec<_>>().join(", "))
    }

    fn get(self, arms: &[ArmSpec]) -> f32 {
        let arm = &arms[self.arm];
        self.preference.map_or(arm.weight, |i| arm.preferences[i].value)
    }

    fn default(self, arms: &[ArmSpec]) -> f32 {
        let arm = &arms[self.arm];
        self.preference.map_or(arm.default_weight, |i| arm.preferences[i].default_value)
    }

    pub(super) fn set(self, arms: &mut [ArmSpec], value: f32) {
        let arm = &mut arms[self.arm];
        match self.preference {
            None => arm.weight = value,
            Some(i) => arm.preferences[i].value = value,
        }
    }

    pub(super) fn set_default(self, arms: &mut [ArmSpec], value: f32) {
        let arm = &mut arms[self.arm];
        match self.preference {
            None => arm.default_weight = value,
            Some(i) => arm.preferences[i].default_value = value,
        }
    }

    /// Whether it may be this number; else what it must be.
    pub(super) fn check(self, arms: &[ArmSpec], value: f32) -> Result<(), String> {
        let range = self.preference.map(|i| arms[self.arm].preferences[i].range);
        check(range, value)
    }
}

/// Whether a number may be this; else what it must be.
pub(super) fn check(range: Option<[f32; 2]>, value: f32) -> Result<(), String> {
    match range {
        _ if !value.is_finite() => Err(format!("must be a finite number, got {value}")),
        Some([low, high]) if !(low..=high).contains(&value) => {
            Err(format!("must be between {low} and {high}, got {value}"))
        }
        _ => Ok(()),
    }
}

impl Config {
    /// The names of all numbers that steer: the ARMs', then of each preference `ARM.OBJECTIVE`.
    pub fn weight_names(&self) -> Vec<String> {
        knobs(&self.arms).map(|knob| knob.name(&self.arms)).collect()
    }

    /// The numbers to start with: one weight for each of `arms`, then the preferences.
    pub fn weights(&self) -> Vec<f32> {
        knobs(&self.arms).map(|knob| knob.get(&self.arms)).collect()
    }

    /// Starts with these numbers instead: the weights, or the weights and the preferences.
    pub fn start_with(&mut self, weights: &[f32]) {
        for (knob, weight) in knobs(&self.arms.clone()).zip(weights) {
            knob.set(&mut self.arms, *weight);
        }
    }

    /// The place of a weight or a preference among [`weight_names`](Self::weight_names).
    ///
    /// # Errors
    ///
    /// [`Problem::UnknownName`] with the nearest name.
    pub fn weight_index(&self, name: &str) -> Result<usize, ConfigError> {
        knobs(&self.arms).position(|knob| knob.name(&self.arms) == name).ok_or_else(|| self.unknown_weight(name))
    }

    pub(super) fn unknown_weight(&self, name: &str) -> ConfigError {
        let (key, name, suggestion) = (String::new(), name.to_owned(), near(&self.arms, name));
        ConfigError::usage(Problem::UnknownName { key, what: "ARM", name, suggestion })
    }

    /// Whether the number called `name` may be this; else what it must be. A name that there is not may be anything.
    ///
    /// # Errors
    ///
    /// Words that follow the name: "must be between 0 and 1, got 2".
    pub fn check_weight(&self, name: &str, value: f32) -> Result<(), String> {
        find(&self.arms, name).map_or(Ok(()), |knob| knob.check(&self.arms, value))
    }

    /// The numbers of a profile: those it names, and for the others those of `arms:`.
    ///
    /// # Errors
    ///
    /// [`Problem::UnknownName`] with the nearest profile.
    pub fn profile(&self, name: &str) -> Result<Vec<f32>, ConfigError> {
        let named = self.profiles.get(name).ok_or_else(|| {
            let suggestion = suggestion(name, self.profiles.keys().map(String::as_str));
            let (key, name) = (String::new(), name.to_owned());
            ConfigError::usage(Problem::UnknownName { key, what: "profile", name, suggestion })
        })?;
        let of = |knob: Knob| named.get(&knob.name(&self.arms)).copied().unwrap_or_else(|| knob.default(&self.arms));
        Ok(knobs(&self.arms).map(of).collect())
    }

    /// A handle on the numbers, by which a text is steered.
    pub fn steering(&self) -> Weights {
        let weights = Weights::new(self.arms.iter().map(|arm| (arm.name.clone(), arm.weight)));
        let of_arm = |(arm, spec): (usize, &ArmSpec)| {
            let preference = move |of: &PreferenceSpec| Preference {
                arm,
                objective: of.objective.clone(),
                value: of.value,
                range: of.range,
            };
            spec.preferences.iter().map(preference).collect::<Vec<_>>()
        };
        weights.with_preferences(self.arms.iter().enumerate().flat_map(of_arm).collect())
    }
}
