//! The base's own row after a response.

use genarm::guidance::log_softmax;

use super::token_bytes::TokenBytes;

/// The base's logits, and the sums of its probabilities.
pub struct BaseRow<'a> {
    pub logits: Vec<f32>,
    pub vocabulary: &'a TokenBytes,
    /// Of the tokens before each, in the vocabulary's order.
    sums: Vec<f64>,
}

impl<'a> BaseRow<'a> {
    pub fn new(logits: Vec<f32>, vocabulary: &'a TokenBytes) -> Self {
        let ln_p = log_softmax(&logits, 1.0);
        let mut sums = vec![0.0];
        let mut sum = 0.0;
        for token in vocabulary.all() {
            sum += f64::from(ln_p[*token as usize].exp());
            sums.push(sum);
        }
        Self { logits, vocabulary, sums }
    }

    /// The probability of tokens that begin with these bytes and go on.
    pub fn going_on(&self, bytes: &[u8]) -> f64 {
        let range = self.vocabulary.going_on(bytes);
        self.sums[range.end] - self.sums[range.start]
    }
}
