//! The ARM's rows after its readings.

use super::paths::{Path, Paths};
use crate::expert::{Expert, ExpertError, Token, check_finite};
use crate::guidance::combine::floor;
use crate::guidance::exponential::{exp, sum_exp_below};
use crate::guidance::lanes;

/// A row of the ARM's logits.
#[derive(Debug, Default)]
pub(super) struct KeptRow {
    /// The reading that it follows.
    path: Path,
    /// When it was last asked for.
    used: u64,
    pub logits: Vec<f32>,
    /// log Σ exp of the logits.
    pub lse: f32,
    /// The least log-probability.
    pub floor: f32,
    /// Whether the ARM forbids a token.
    pub forbids: bool,
}

impl KeptRow {
    fn fill(&mut self, path: Path, logits: &[f32]) {
        self.path = path;
        self.logits.clear();
        self.logits.extend_from_slice(logits);
        let max = lanes::max(logits);
        self.lse = max + sum_exp_below(logits, max).ln() as f32;
        self.floor = floor(logits) - self.lse;
        self.forbids = logits.contains(&f32::NEG_INFINITY);
    }

    /// The probability of a token.
    pub fn p(&self, token: Token) -> f32 {
        exp(self.ln_p(token))
    }

    /// Its logarithm.
    pub fn ln_p(&self, token: Token) -> f32 {
        self.logits[token as usize] - self.lse
    }
}

/// KeptRows kept at most, beyond those of one batch.
const MAX_ROWS: usize = 12;

/// An ARM's expert, and the rows that it gave after readings of this text.
pub(super) struct KeptRows {
    pub expert: Box<dyn Expert + Send>,
    /// The ARM's prompt.
    pub prompt: Vec<Token>,
    /// Prompt and reading, while they are asked for.
    history: Vec<Token>,
    rows: Vec<KeptRow>,
    /// How many of them hold something.
    n: usize,
    clock: u64,
    max: usize,
}

impl KeptRows {
    pub fn new(expert: Box<dyn Expert + Send>) -> Self {
        let (prompt, history, rows) = (Vec::new(), Vec::new(), Vec::new());
        Self { expert, prompt, history, rows, n: 0, clock: 0, max: MAX_ROWS }
    }

    /// Drops the rows of readings from the `len`-th on.
    pub fn truncate(&mut self, len: usize) {
        let mut at = 0;
        while at < self.n {
            if (self.rows[at].path as usize) < len {
                at += 1;
            } else {
                self.n -= 1;
                self.rows.swap(at, self.n);
            }
        }
    }

    /// Keeps room for the rows of `n` positions at once, and drops what is beyond that.
    pub fn make_room(&mut self, n: usize) {
        self.max = MAX_ROWS + 2 * n;
        if self.rows.len() > self.max {
            self.rows[..self.n].sort_unstable_by_key(|row| std::cmp::Reverse(row.used));
            self.n = self.n.min(self.max);
            self.rows.truncate(self.max);
        }
    }

    /// Keeps room for the rows of a batch of `n` tokens too.
    pub fn make_room_for(&mut self, n: usize) {
        self.max = self.max.max(MAX_ROWS + n);
    }

    fn find(&self, path: Path) -> Option<usize> {
        self.rows[..self.n].iter().position(|row| row.path == path)
    }

    /// Whether the row after a reading is there.
    pub fn has(&self, path: Path) -> bool {
        self.find(path).is_some()
    }

    /// The row after a reading that is known to be there.
    pub fn at(&self, path: Path) -> Option<&KeptRow> {
        self.find(path).map(|at| &self.rows[at])
    }

    /// The row after a reading.
    pub fn get(&mut self, paths: &Paths, path: Path) -> Result<&KeptRow, ExpertError> {
        self.clock += 1;
        let at = match self.find(path) {
            Some(at) => at,
            None => {
                self.read(paths, &[path])?;
                self.find(path).unwrap_or_else(|| unreachable!("it was just read"))
            }
        };
        self.rows[at].used = self.clock;
        Ok(&self.rows[at])
    }

    /// What the expert reads for a reading.
    fn write_history(&mut self, paths: &Paths, path: Path) {
        self.history.clear();
        self.history.extend_from_slice(&self.prompt);
        paths.tokens(path, &mut self.history);
    }

    /// Announces [`read`](Self::read).
    pub fn prepare(&mut self, paths: &Paths, readings: &[Path]) {
        if let Some(last) = readings.last() {
            self.write_history(paths, *last);
            self.expert.prepare(&self.history, readings.len().min(self.expert.max_rows()));
        }
    }

    /// Reads the rows after readings that follow each other: each is the one before and one token more.
    pub fn read(&mut self, paths: &Paths, readings: &[Path]) -> Result<(), ExpertError> {
        for few in readings.chunks(self.expert.max_rows().max(1)) {
            let Some(last) = few.last() else { continue };
            self.write_history(paths, *last);
            let n_vocab = self.expert.n_vocab();
            let rows = self.expert.advance(&self.history, few.len())?;
            for (path, logits) in few.iter().zip(rows.chunks_exact(n_vocab)) {
                check_finite(logits)?;
                self.clock += 1;
                let known = self.rows[..self.n].iter().position(|row| row.path == *path);
                let at = match known {
                    Some(at) => at,
                    None if self.n < self.max => {
                        if self.n == self.rows.len() {
                            self.rows.push(KeptRow::default());
                        }
                        self.n += 1;
                        self.n - 1
                    }
                    None => (0..self.n).min_by_key(|at| self.rows[*at].used).unwrap_or(0),
                };
                self.rows[at].fill(*path, logits);
                self.rows[at].used = self.clock;
            }
        }
        Ok(())
    }
}
