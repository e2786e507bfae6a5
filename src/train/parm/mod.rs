//! Preference-conditioned ARMs (PARM): one adapter for k objectives, which reads the preferences α among them.
//!
//! Of a frozen matrix n_out × n_in, with the ranks r1 of the shared part and r2 of the steered one:
//!
//! ```text
//! A: (r1 + r2) × n_in    B: n_out × (r1 + r2)    W1: r1 × r1    W2: k × r2²
//! ΔW(α) = s · B · blockdiag(W1, Σ α_i · M_i) · A,    M_i = row i of W2, read row by row as r2 × r2,    s = alpha / r2
//! ```
//!
//! ΔW is affine in α, so a file holds k + 1 ordinary LoRAs one after another: `(A[:r1], s·B[:, :r1]·W1)` for the shared
//! part, and `(A[r1:], s·B[:, r1:]·M_i)` for objective i.

mod draw;
mod factors;
mod grid;
mod mixture;

pub(super) use draw::preferences;
pub use factors::Factors;
pub use grid::{ObjectiveAccuracy, Point};
pub(super) use grid::{accuracies, corners_and_middle};
pub(super) use mixture::{Judged, Mixture, shares};
