//! The law of guidance, in pure Rust: weights, the weighted sum of logits, rewards, and the vocabulary contract.
//!
//! ```text
//! p(v | x, y<t)  ∝  exp((log π_base(v) + Σ_i w_i · log π_i(v)) / T)          GenARM, ICLR 2025, equation 8
//! ```
//!
//! An ARM's raw logits differ from its log-probabilities by one constant a step, and constants cancel in the softmax:
//! so raw logits are added as they are, and never divided by `1 + Σ w`. Logarithms are taken only where a probability
//! is shown ([`StepReport`]).
//!
//! An ARM may have a reference, whose logits are subtracted from its own ([`Direction`]), and a step may be bounded
//! ([`Limits`]).

mod arm;
mod combine;
mod error;
mod exponential;
mod gate;
mod guide;
mod lanes;
mod law;
mod report;
pub mod score;
mod term;
mod tilt;
pub mod translate;
mod vocabulary;
mod weights;

pub use arm::Arm;
pub use combine::add_weighted;
pub(crate) use combine::{added as combine_one, scaled_one};
pub use error::GuideError;
pub use gate::Gate;
pub use guide::Guide;
pub use law::{Direction, Limits, Source};
pub use report::{ArmReward, StepReport, TokenReport, kl_divergence, log_softmax, log_sum_exp};
pub use term::Timing;
pub use vocabulary::{Contract, Difference, Mismatch, Tail, TokenKind, TokenTable, check_vocabulary};
pub use weights::{Preference, WeightError, Weights};
