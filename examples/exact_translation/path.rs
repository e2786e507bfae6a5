//! A path of the ARM's tokens.

use genarm::Token;

/// A path, as its last token and the path before it.
pub struct Path {
    pub before: usize,
    pub token: Token,
    pub n_bytes: usize,
    pub mass: f64,
    /// Of its mass, what is known to begin with the text.
    pub reached: f64,
    /// The base's next token, as far as one can see.
    pub next: Option<Token>,
}

impl Path {
    /// The share of its mass that is known to begin with the text.
    pub fn share_reached(&self) -> f64 {
        self.reached / self.mass
    }
}

/// A path that begins with the text and is still open, ordered by what it is worth.
pub struct Open(pub f64, pub usize);

impl PartialEq for Open {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Open {}

impl PartialOrd for Open {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Open {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.total_cmp(&other.0).then(other.1.cmp(&self.1))
    }
}
