//! How probable the rest of the text is after a path that ends within it.

/// For every position of the text, an estimate.
pub struct Prospects {
    after: Vec<f64>,
    /// The largest share of a path that is known to go on with the rest of the text.
    seen: Vec<f64>,
}

impl Prospects {
    /// For a text of `n_bytes`, before anything is known.
    pub fn new(n_bytes: usize) -> Self {
        Self { after: vec![1.0; n_bytes + 1], seen: vec![0.0; n_bytes + 1] }
    }

    pub fn after(&self, n_bytes: usize) -> f64 {
        self.after[n_bytes]
    }

    /// Notes a path of `n_bytes`, of which this share is known to go on with the text.
    pub fn note(&mut self, n_bytes: usize, share: f64) {
        self.seen[n_bytes] = self.seen[n_bytes].max(share);
    }

    /// Estimates anew. `usual` has the ARM's own tokens of the text: where each begins, and that share there.
    pub fn renew(&mut self, usual: &[(usize, f64)]) {
        let (mut end, mut after) = (self.after.len() - 1, 1.0);
        for (start, share) in usual.iter().rev() {
            // Inside a token: as if the rest of the token were certain.
            self.after[start + 1..=end].fill(after);
            (end, after) = (*start, *share);
        }
        self.after[..=end].fill(after);
        for (after, seen) in self.after.iter_mut().zip(&self.seen) {
            *after = after.max(*seen);
        }
    }
}
