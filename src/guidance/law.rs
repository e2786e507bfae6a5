//! What the weights multiply: ARMs, less their references, and the limits on all of them together.
//!
//! ```text
//! logits = base + λ · Σ_i w_i · (arm_i − reference_i)
//! ```
//!
//! Without references and limits this is the paper's law. `reference = base` costs no evaluation: the base's logits are
//! only multiplied by another factor. It is proxy-tuning, decoding-time realignment and context steering, as the ARM is
//! a tuned model, an aligned one, or the base under another prompt.

use serde::Serialize;

/// Where logits come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// The base, at the same position. It costs no evaluation.
    Base,
    /// The expert at this place of the guide's experts.
    Expert(usize),
}

impl Source {
    /// The place of the expert; `None` is the base.
    pub fn expert(self) -> Option<usize> {
        match self {
            Self::Base => None,
            Self::Expert(at) => Some(at),
        }
    }
}

/// What one weight multiplies: an ARM's logits, less those of its reference.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Direction {
    /// The ARM.
    pub arm: Source,
    /// What is subtracted from it; `None` is the paper's law.
    pub reference: Option<Source>,
}

impl Direction {
    /// An ARM without a reference, as in the paper.
    pub fn of_arm(expert: usize) -> Self {
        Self { arm: Source::Expert(expert), reference: None }
    }
}

/// Bounds on what guidance may do at a step. They act on the base's and the ARMs' logits at temperature 1, before any
/// sampler.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Limits {
    /// Most nats by which a step may leave the base: KL(guided ‖ base) at temperature 1. All weights are multiplied by
    /// the largest factor λ of at most 1 that keeps to it. Default: no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_kl: Option<f32>,
    /// Keeps only the tokens whose probability under the base is at least this share of the best one's (the constraint
    /// of contrastive decoding, which uses 0.1): it tames negative weights. Default: keeps all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub plausible: Option<f32>,
}

impl Limits {
    /// Whether there is none.
    pub fn is_none(&self) -> bool {
        self.max_kl.is_none() && self.plausible.is_none()
    }

    /// What is wrong with them: the field, and what it must be.
    ///
    /// # Errors
    ///
    /// Where `max_kl` is negative or no finite number, or `plausible` is not above 0 and at most 1.
    pub fn check(&self) -> Result<(), (&'static str, String)> {
        match *self {
            Self { max_kl: Some(nats), .. } if !(nats.is_finite() && nats >= 0.0) => {
                Err(("max_kl", format!("must be a finite number of nats, at least 0, got {nats}")))
            }
            Self { plausible: Some(share), .. } if !(share > 0.0 && share <= 1.0) => {
                Err(("plausible", format!("must be above 0 and at most 1, got {share}")))
            }
            _ => Ok(()),
        }
    }

    /// These, where they are given, and `other` for what is left out.
    pub fn or(self, other: Self) -> Self {
        Self { max_kl: self.max_kl.or(other.max_kl), plausible: self.plausible.or(other.plausible) }
    }
}

/// Adds up the factor of every expert into `experts`, and returns the base's.
///
/// Experts that stand in several directions are evaluated once. A factor of 0 needs no evaluation.
pub(super) fn factors(directions: &[Direction], weights: &[f32], experts: &mut [f32]) -> f32 {
    let mut base = 1.0;
    experts.fill(0.0);
    let mut add = |source, factor: f32| match source {
        Source::Base => base += factor,
        Source::Expert(at) => experts[at] += factor,
    };
    for (direction, &weight) in directions.iter().zip(weights) {
        add(direction.arm, weight);
        if let Some(reference) = direction.reference {
            add(reference, -weight);
        }
    }
    base
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_takes_its_weight_from_its_expert_and_equal_experts_add_up() {
        let [a, b] = [Source::Expert(0), Source::Expert(1)];
        let directions = [
            Direction { arm: a, reference: Some(Source::Base) },
            Direction { arm: a, reference: Some(b) },
            Direction { arm: b, reference: None },
        ];
        let mut experts = [9.0; 2];
        assert_eq!(factors(&directions, &[2.0, 0.5, 0.25], &mut experts), -1.0);
        assert_eq!(experts, [2.5, -0.25]);
    }

    #[test]
    fn an_arm_that_is_the_base_itself_cancels_against_the_base() {
        let persona = Direction { arm: Source::Base, reference: Some(Source::Base) };
        assert_eq!(factors(&[persona], &[0.7], &mut []), 1.0);
    }

    #[test]
    fn limits_that_are_left_out_are_those_of_the_other() {
        let (one, other) =
            (Limits { max_kl: Some(1.0), plausible: None }, Limits { max_kl: Some(2.0), plausible: Some(0.1) });
        assert_eq!(one.or(other), Limits { max_kl: Some(1.0), plausible: Some(0.1) });
        assert_eq!(Limits::default().or(other), other);
    }

    #[test]
    fn limits_out_of_range_are_named() {
        let max_kl = |nats| Limits { max_kl: Some(nats), plausible: None };
        let plausible = |share| Limits { max_kl: None, plausible: Some(share) };
        for bad in [-0.1, f32::NAN, f32::INFINITY] {
            assert_eq!(max_kl(bad).check().unwrap_err().0, "max_kl");
        }
        for bad in [0.0, -1.0, 1.1, f32::NAN] {
            assert_eq!(plausible(bad).check().unwrap_err().0, "plausible");
        }
        assert_eq!((max_kl(0.0).check(), plausible(1.0).check()), (Ok(()), Ok(())));
    }
}

#[cfg(test)]
#[path = "law_tests.rs"]
mod against_the_definition;
