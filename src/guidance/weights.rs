//! Preference weights that change while text is being generated.

use std::sync::{Arc, PoisonError, RwLock};

/// One weight per ARM, shared between threads: a clone is another handle on the same numbers.
///
/// A change is atomic, and holds from the next token on.
#[derive(Debug, Clone)]
pub struct Weights {
    names: Arc<[String]>,
    values: Arc<RwLock<Vec<f32>>>,
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
        Self { names: names.into(), values: Arc::new(RwLock::new(values)) }
    }

    /// The ARMs' names, in order.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// The weights now, in the order of [`names`](Self::names).
    pub fn get(&self) -> Vec<f32> {
        self.values.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Copies the weights into `out` without allocating. `out` has one place an ARM.
    pub(crate) fn copy_to(&self, out: &mut [f32]) {
        out.copy_from_slice(&self.values.read().unwrap_or_else(PoisonError::into_inner));
    }

    /// Sets one ARM's weight.
    ///
    /// # Errors
    ///
    /// [`WeightError::Unknown`], [`WeightError::NotFinite`]; the weights are then as before.
    pub fn set(&self, name: &str, value: f32) -> Result<(), WeightError> {
        let index = self.names.iter().position(|n| n == name).ok_or_else(|| {
            let known = if self.names.is_empty() { "none".to_owned() } else { self.names.join(", ") };
            WeightError::Unknown { name: name.to_owned(), known }
        })?;
        if !value.is_finite() {
            return Err(WeightError::NotFinite { name: name.to_owned(), value });
        }
        self.values.write().unwrap_or_else(PoisonError::into_inner)[index] = value;
        Ok(())
    }

    /// Sets all weights at once.
    ///
    /// # Errors
    ///
    /// [`WeightError::Count`], [`WeightError::NotFinite`]; the weights are then as before.
    pub fn set_all(&self, values: &[f32]) -> Result<(), WeightError> {
        if values.len() != self.names.len() {
            return Err(WeightError::Count { got: values.len(), n_arms: self.names.len() });
        }
        if let Some((name, value)) = self.names.iter().zip(values).find(|(_, w)| !w.is_finite()) {
            return Err(WeightError::NotFinite { name: name.clone(), value: *value });
        }
        self.values.write().unwrap_or_else(PoisonError::into_inner).copy_from_slice(values);
        Ok(())
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

    #[test]
    fn clones_share_the_numbers() {
        let weights = Weights::new([("a".to_owned(), 1.0)]);
        weights.clone().set("a", -0.5).unwrap();
        assert_eq!(weights.get(), [-0.5]);
    }
}
