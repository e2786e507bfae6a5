//! What one expert adds to a step, and what that took.

use std::time::Duration;

use super::combine::floor;

/// Where the time of guidance went.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Timing {
    /// Evaluating ARMs.
    pub arms: Duration,
    /// Adding their logits.
    pub combine: Duration,
}

/// What one expert adds to a step, as [`Guide::terms`](super::Guide::terms) hands it out.
pub struct Term<'a> {
    /// Its factor in the law, not 0: the weight of its ARM, less the weights of those whose reference it is.
    pub factor: f32,
    /// That of the base's own logits in the same step: 1, less the weights of all ARMs whose reference it is.
    pub base_factor: f32,
    /// `k` rows of `n_vocab` raw logits, oldest first.
    pub rows: &'a [f32],
    /// Length of a row: of the ARM's vocabulary, which may differ from the base's by an unused tail.
    pub n_vocab: usize,
    pub(super) padded: bool,
}

impl Term<'_> {
    /// The logits of row `i` and the floor of the tokens that it does not have.
    pub fn row(&self, i: usize) -> (&[f32], f32) {
        let row = &self.rows[i * self.n_vocab..][..self.n_vocab];
        // Costs a pass over the row, so it is taken only where it is used.
        (row, if self.padded { floor(row) } else { 0.0 })
    }
}
