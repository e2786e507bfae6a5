//! An [`Expert`] whose logits come from a function: tests, examples and docs without a GGUF.

use crate::expert::{Expert, ExpertError, Token, check_request, common_prefix};

/// Writes the logits that follow a history.
type LogitsFn = Box<dyn Fn(&[Token], &mut [f32]) + Send>;

/// An expert that computes its logits from the last tokens of the history with a pure function.
///
/// It counts decoded tokens as a real engine would, so that tests of prefix reuse and rollback run on it.
///
/// ```
/// use genarm::{Expert, TableExpert};
///
/// // A bigram model over 3 tokens: after token t, token t + 1 (mod 3) is favoured.
/// let mut expert = TableExpert::bigram(vec![
///     vec![0.0, 1.0, 0.0],
///     vec![0.0, 0.0, 1.0],
///     vec![1.0, 0.0, 0.0],
/// ]);
/// assert_eq!(expert.advance(&[0, 1], 1).unwrap(), [0.0, 0.0, 1.0]);
/// assert_eq!(expert.advance(&[0, 1, 2], 1).unwrap(), [1.0, 0.0, 0.0]);
/// assert_eq!(expert.n_decoded(), 3); // the common prefix was kept
/// ```
pub struct TableExpert {
    n_vocab: usize,
    n_ctx: usize,
    row: LogitsFn,
    cached: Vec<Token>,
    logits: Vec<f32>,
    rows: usize,
    /// What was announced and not read yet.
    wanted: Option<Vec<Token>>,
    n_decoded: u64,
}

impl TableExpert {
    /// An expert whose logits after a history are written by `row(history, logits)`.
    pub fn new(n_vocab: usize, n_ctx: usize, row: impl Fn(&[Token], &mut [f32]) + Send + 'static) -> Self {
        Self {
            n_vocab,
            n_ctx,
            row: Box::new(row),
            cached: Vec::new(),
            logits: Vec::new(),
            rows: 0,
            wanted: None,
            n_decoded: 0,
        }
    }

    /// An expert whose logits depend only on the last token: `table[last]` has one logit a token.
    ///
    /// # Panics
    ///
    /// When the table is not square.
    pub fn bigram(table: Vec<Vec<f32>>) -> Self {
        let n_vocab = table.len();
        assert!(table.iter().all(|row| row.len() == n_vocab), "a bigram table is n_vocab × n_vocab");
        Self::new(n_vocab, usize::MAX, move |history, logits| {
            let last = history[history.len() - 1];
            logits.copy_from_slice(&table[last as usize]);
        })
    }

    /// The same expert with a context of `n_ctx` tokens.
    #[must_use]
    pub fn with_n_ctx(mut self, n_ctx: usize) -> Self {
        self.n_ctx = n_ctx;
        self
    }
}

impl Expert for TableExpert {
    fn n_vocab(&self) -> usize {
        self.n_vocab
    }

    fn n_ctx(&self) -> usize {
        self.n_ctx
    }

    fn advance(&mut self, history: &[Token], k: usize) -> Result<&[f32], ExpertError> {
        check_request(history, k, self.n_ctx, self.n_vocab)?;
        if history != self.cached || k > self.rows {
            // Rows are computed only for decoded tokens: the last k must be among them.
            let kept = common_prefix(history, &self.cached).min(history.len() - k);
            self.n_decoded += (history.len() - kept) as u64;
            self.logits.resize(k * self.n_vocab, 0.0);
            for (i, row) in self.logits.chunks_exact_mut(self.n_vocab).enumerate() {
                (self.row)(&history[..history.len() - k + 1 + i], row);
            }
            self.cached.clear();
            self.cached.extend_from_slice(history);
            self.rows = k;
        }
        Ok(&self.logits[(self.rows - k) * self.n_vocab..])
    }

    fn prepare(&mut self, history: &[Token], k: usize) {
        if check_request(history, k, self.n_ctx, self.n_vocab).is_ok() {
            self.wanted = Some(history.to_vec());
        }
    }

    fn start(&mut self) -> bool {
        false
    }

    fn n_cached(&self, history: &[Token]) -> usize {
        common_prefix(history, &self.cached)
    }

    fn read(&mut self) -> Result<(), ExpertError> {
        match self.wanted.take() {
            Some(history) => self.advance(&history, 1).map(|_| ()),
            None => Ok(()),
        }
    }

    fn forget(&mut self) {
        self.cached.clear();
        self.rows = 0;
    }

    fn n_decoded(&self) -> u64 {
        self.n_decoded
    }
}
