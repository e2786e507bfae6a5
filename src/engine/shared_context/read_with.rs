//! The coefficients that a sequence is read with, and those that the tokens in its memory were read with.
//!
//! Keys and values depend on them, unlike on an ARM's weight. Within a response a change leaves what is in memory as it
//! is. A prompt is read with the coefficients that the response begins with, so a text does not depend on what the slot
//! held before.

/// The coefficients of a sequence, and of the tokens in its memory.
#[derive(Default)]
pub(super) struct ReadWith {
    /// Those of the tokens to come.
    now: Vec<f32>,
    /// From each of these tokens on, until the next one's, those in memory were read with these.
    spans: Vec<(usize, Vec<f32>)>,
    /// A text has begun, and its prompt has not been read with `now` yet.
    is_new: bool,
}

impl ReadWith {
    /// Those of the tokens to come.
    pub(super) fn now(&self) -> &[f32] {
        &self.now
    }

    /// Changes those of the tokens to come. Returns whether they are others now.
    pub(super) fn set(&mut self, coefficients: &[f32]) -> bool {
        let changes = self.now != coefficients;
        if changes {
            self.now.clear();
            self.now.extend_from_slice(coefficients);
        }
        changes
    }

    /// Another text begins.
    pub(super) fn begin(&mut self) {
        self.is_new = true;
    }

    /// The whole prompt of the text has been read.
    pub(super) fn has_read_prompt(&mut self) {
        self.is_new = false;
    }

    /// Tokens at the beginning of the memory that are read as `len` tokens of a text want them, whose first `n_prompt`
    /// are a prompt. Tokens before `adapted_from` are read without the adapter.
    pub(super) fn n_valid(&self, len: usize, n_prompt: usize, adapted_from: usize) -> usize {
        if len > n_prompt && !self.is_new {
            return usize::MAX;
        }
        let ends = self.spans.iter().skip(1).map(|(first, _)| *first).chain([usize::MAX]);
        let mut others =
            self.spans.iter().zip(ends).filter(|((_, with), end)| *with != self.now && *end > adapted_from);
        others.next().map_or(usize::MAX, |((first, _), _)| (*first).max(adapted_from))
    }

    /// Tokens from `first` on have been read.
    pub(super) fn note(&mut self, first: usize) {
        self.truncate(first);
        if self.spans.last().is_none_or(|(_, with)| *with != self.now) {
            self.spans.push((first, self.now.clone()));
        }
    }

    /// Tokens from `n` on have been dropped.
    pub(super) fn truncate(&mut self, n: usize) {
        self.spans.truncate(self.spans.partition_point(|(first, _)| *first < n));
    }

    /// What the tokens in memory were read with, to be saved with them; empty where there are no coefficients.
    pub(super) fn spans(&self) -> Vec<(usize, Vec<f32>)> {
        if self.spans.iter().all(|(_, with)| with.is_empty()) { Vec::new() } else { self.spans.clone() }
    }

    /// The memory has been replaced by one that was read with these.
    pub(super) fn restore(&mut self, spans: &[(usize, Vec<f32>)]) {
        self.spans = if spans.is_empty() { vec![(0, Vec::new())] } else { spans.to_vec() };
        self.is_new = true;
    }

    /// The memory is empty.
    pub(super) fn forget(&mut self) {
        self.spans.clear();
    }
}
