//! Weights learned from choices: which of two answers a user prefers says how much each objective matters to them.
//!
//! The model is Bradley and Terry's. An answer has one reward per objective: the mean per token of what its ARM adds to
//! the base's log-probability, in nats ([`Objectives::rewards`]). What the user likes is linear in them, so
//!
//! ```text
//! P(a over b) = σ(θ · (r(a) − r(b)))
//! ```
//!
//! - **θ has the direction of the weights.** The policy that is best for the reward θ·r, at a price β on leaving the
//!   base, is π_base · Π π_i^(θ_i / β): GenARM's law with weights θ/β.
//! - **Only the direction is learned.** |θ| says how decided the user is, not how far to leave the base: β appears in no
//!   choice between two finished answers. So the sum of the weights stays as configured ([`Direction`]).
//! - **A mean per token, less the base's.** A sum grows with the length of the answer. What base and ARMs share, how
//!   fluent a text is, would make the rewards of all ARMs one number.
//! - **A Gaussian prior** on θ in units of each reward's own spread ([`Fit`]), so that the first choices do not run off
//!   to infinity. The loss is convex: Newton's method finds its one minimum, and its curvature gives standard errors.
//! - **"Both are alike"** counts half for either side, as in `eval::stats`.
//! - **Undo** is a fit without the last choice ([`Choices`]). Nothing else is kept.
//!
//! A utility of the weights themselves, with a peak somewhere, would need d(d + 3)/2 numbers in place of d, and would
//! blame the weights for the luck of one text. The rewards are those of the two texts that the user has read.
//!
//! The next pair is the one that teaches most: of a few answers under [`spread`] weights, the two with the largest
//! p(1 − p) · xᵀ H⁻¹ x ([`most_telling`]). This is pure mathematics: `cli::duel` and the server make the answers.

mod choices;
mod direction;
mod fit;
mod next;
mod objectives;
#[cfg(test)]
mod tests;

pub use choices::{Choice, Choices, Estimate, Learned};
pub use direction::Direction;
pub use fit::{Comparison, Fit, Scale};
pub use next::{most_telling, spread};
pub use objectives::{Objective, Objectives};
