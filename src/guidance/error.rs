//! Why a step could not be guided, and whose fault it was.

use crate::expert::ExpertError;

/// Why guidance failed at a step.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: {source}", who(arm))]
pub struct GuideError {
    /// Which ARM, or [`BASE`](Self::BASE).
    pub arm: String,
    /// What happened to it.
    pub source: ExpertError,
}

impl GuideError {
    /// What the base is called.
    pub const BASE: &'static str = "base";

    /// A failure of the base, met where its logits are guided.
    pub fn of_base(source: ExpertError) -> Self {
        Self { arm: Self::BASE.to_owned(), source }
    }

    /// Whether the base failed: then there is nothing to fall back to.
    pub fn is_of_base(&self) -> bool {
        self.arm == Self::BASE
    }
}

fn who(arm: &str) -> String {
    if arm == GuideError::BASE { arm.to_owned() } else { format!("ARM \"{arm}\"") }
}
