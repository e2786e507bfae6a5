//! Weights and preferences that change while text is being generated.

use std::sync::{Arc, PoisonError, RwLock};

/// One weight per ARM, then the preferences of ARMs with several objectives; shared between threads: a clone is another
/// handle on the same numbers.
///
/// A change is atomic, and holds from the next token on.
#[derive(Debug, Clone)]
pub struct Weights {
    names: Arc<[String]>,
    /// Of the names after those of the ARMs.
    preferences: Arc<[Preference]>,
    values: Arc<RwLock<Vec<f32>>>,
}

/// How much a text prefers one of an ARM's objectives. It is a coefficient inside the ARM; the ARM's weight multiplies
/// what comes out.
#[derive(Debug, Clone, PartialEq)]
pub struct Preference {
    /// The ARM's place among the ARMs.
    pub arm: usize,
    /// The objective.
    pub objective: String,
    /// The preference to begin with.
    pub value: f32,
    /// The least and the greatest.
    pub range: [f32; 2],
}

/// Why weights were not changed.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum WeightError {
    /// No ARM has this name.
    #[error("there is no ARM \"{name}\"; there is {known}")]
    Unknown {
        /// The name asked for.
        name: String,
        /// The names that there are, or "none".
        known: String,
    },
    /// A preference that the ARM was not trained for.
    #[error("{name} must be between {} and {}, got {value}", range[0], range[1])]
    OutOfRange {
        /// Which preference, as `ARM.OBJECTIVE`.
        name: String,
        /// What was given.
        value: f32,
        /// The least and the greatest.
        range: [f32; 2],
    },
    /// NaN or infinite.
    #[error("the weight of \"{name}\" must be a finite number, got {value}")]
    NotFinite {
        /// Whose weight.
        name: String,
        /// What was given.
        value: f32,
    },
    /// As many weights as ARMs are needed.
    #[error("got {got} weights for {n_arms} ARMs")]
    Count {
        /// How many were given.
        got: usize,
        /// How many ARMs there are.
        n_arms: usize,
    },
}

impl Weights {
    /// Weights by name, in the order of the ARMs.
    pub fn new(named: impl IntoIterator<Item = (String, f32)>) -> Self {
        let (names, values): (Vec<_>, Vec<_>) = named.into_iter().unzip();
        Self { names: names.into(), preferences: Arc::new([]), values: Arc::new(RwLock::new(values)) }
    }

    /// The same weights under a new handle, then these preferences, each by the name `ARM.OBJECTIVE`.
    ///
    /// # Panics
    ///
    /// When a preference is of an ARM that there is not.
    #[must_use]
    pub fn with_preferences(&self, preferences: Vec<Preference>) -> Self {
        let (arms, n) = (self.arm_names(), self.n_arms());
        let name = |of: &Preference| format!("{}.{}", arms[of.arm], of.objective);
        let names = arms.iter().cloned().chain(preferences.iter().map(name)).collect::<Vec<_>>();
        let values = self.get().into_iter().take(n).chain(preferences.iter().map(|of| of.value)).collect();
        Self { names: names.into(), preferences: preferences.into(), values: Arc::new(RwLock::new(values)) }
    }

    /// The same numbers under a handle of their own: a change of one is no change of the other.
    #[must_use]
    pub fn detached(&self) -> Self {
        Self { values: Arc::new(RwLock::new(self.get())), ..self.clone() }
    }

    /// All names, in order: the ARMs', then of each preference `ARM.OBJECTIVE`.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// How many of the names are ARMs.
    pub fn n_arms(&self) -> usize {
        self.names.len() - self.preferences.len()
    }

    /// The ARMs' names, in order.
    pub fn arm_names(&self) -> &[String] {
        &self.names[..self.n_arms()]
    }

    /// What the names after the ARMs' stand for.
    pub fn preferences(&self) -> &[Preference] {
        &self.preferences
    }

    /// The numbers now, in the order of [`names`](Self::names).
    pub fn get(&self) -> Vec<f32> {
        self.values.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The weights of the ARMs alone.
    pub fn of_arms(&self) -> Vec<f32> {
        let mut weights = self.get();
        weights.truncate(self.n_arms());
        weights
    }

    /// Copies weights and preferences without allocating. `weights` has one place an ARM, `preferences` one a
    /// preference.
    pub(crate) fn copy_to(&self, weights: &mut [f32], preferences: &mut [f32]) {
        let values = self.values.read().unwrap_or_else(PoisonError::into_inner);
        let (of_arms, of_preferences) = values.split_at(self.n_arms());
        weights.copy_from_slice(of_arms);
        preferences.copy_from_slice(of_preferences);
    }

    /// Sets one ARM's weight, or one preference.
    ///
    /// # Errors
    ///
    /// [`WeightError::Unknown`], [`WeightError::NotFinite`], [`WeightError::OutOfRange`]; all are then as before.
    pub fn set(&self, name: &str, value: f32) -> Result<(), WeightError> {
        let index = self.names.iter().position(|n| n == name).ok_or_else(|| {
            let known = if self.names.is_empty() { "none".to_owned() } else { self.names.join(", ") };
            WeightError::Unknown { name: name.to_owned(), known }
        })?;
        self.check(index, value)?;
        self.values.write().unwrap_or_else(PoisonError::into_inner)[index] = value;
        Ok(())
    }

    /// Sets all at once: the weights of all ARMs, then all preferences or none, which then stay.
    ///
    /// # Errors
    ///
    /// [`WeightError::Count`], [`WeightError::NotFinite`], [`WeightError::OutOfRange`]; all are then as before.
    pub fn set_all(&self, values: &[f32]) -> Result<(), WeightError> {
        if ![self.n_arms(), self.names.len()].contains(&values.len()) {
            return Err(WeightError::Count { got: values.len(), n_arms: self.n_arms() });
        }
        values.iter().enumerate().try_for_each(|(index, value)| self.check(index, *value))?;
        self.values.write().unwrap_or_else(PoisonError::into_inner)[..values.len()].copy_from_slice(values);
        Ok(())
    }

    /// Whether the number at `index` may be this.
    fn check(&self, index: usize, value: f32) -> Result<(), WeightError> {
        let name = || self.names[index].clone();
        if !value.is_finite() {
            return Err(WeightError::NotFinite { name: name(), value });
        }
        match index.checked_sub(self.n_arms()).map(|at| self.preferences[at].range) {
            Some(range) if !(range[0]..=range[1]).contains(&value) => {
                Err(WeightError::OutOfRange { name: name(), value, range })
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_weight_leaves_all_as_they_were() {
        let weights = Weights::new([("a".to_owned(), 1.0), ("b".to_owned(), 2.0)]);
        assert!(weights.set("c", 0.0).unwrap_err().to_string().contains("there is a, b"));
        assert!(weights.set("a", f32::NAN).is_err());
        assert!(weights.set_all(&[3.0]).is_err());
        assert!(weights.set_all(&[3.0, f32::INFINITY]).is_err());
        assert_eq!(weights.get(), [1.0, 2.0]);
    }

    fn with_preferences() -> Weights {
        let preference =
            |objective: &str| Preference { arm: 1, objective: objective.to_owned(), value: 0.5, range: [0.0, 1.0] };
        let weights = Weights::new([("a".to_owned(), 1.0), ("b".to_owned(), 2.0)]);
        weights.with_preferences(vec![preference("kind"), preference("brief")])
    }

    #[test]
    fn preferences_are_set_by_dotted_names_and_stay_where_only_weights_are_set() {
        let weights = with_preferences();
        assert_eq!(weights.names(), ["a", "b", "b.kind", "b.brief"]);
        weights.set("b.brief", 0.25).unwrap();
        weights.set_all(&[3.0, 4.0]).unwrap();
        assert_eq!(weights.get(), [3.0, 4.0, 0.5, 0.25]);
        weights.set_all(&[3.0, 4.0, 0.0, 1.0]).unwrap();
        assert_eq!(weights.get(), [3.0, 4.0, 0.0, 1.0]);
    }

    #[test]
    fn a_preference_outside_of_its_range_changes_nothing() {
        let weights = with_preferences();
        assert_eq!(weights.set("b.kind", 1.5).unwrap_err().to_string(), "b.kind must be between 0 and 1, got 1.5");
        assert!(weights.set_all(&[3.0, 4.0, 0.0, -0.5]).is_err());
        assert_eq!(weights.get(), [1.0, 2.0, 0.5, 0.5]);
    }

    #[test]
    fn clones_share_the_numbers() {
        let weights = Weights::new([("a".to_owned(), 1.0)]);
        weights.clone().set("a", -0.5).unwrap();
        assert_eq!(weights.get(), [-0.5]);
    }
}
