//! Rows of logits that outlive the decode they came from.

use crate::expert::{Expert, ExpertError, Token, common_prefix};

/// Rows kept at most; a text's later rows take the place of its earlier ones.
const MAX_ROWS: usize = 64;

/// The logits of the last positions of an expert's history, whether they were decoded in one batch or one by one.
///
/// An expert that drafts goes token by token, and has seen every position but the last when the draft is verified.
/// llama.cpp holds only the rows of the last batch, so without this the expert would read its own draft again.
#[derive(Debug, Default)]
pub(crate) struct LogitsCache {
    /// The history that the last row follows.
    tokens: Vec<Token>,
    /// Position of the first row: it follows `tokens[..=first]`.
    first: usize,
    /// Rows, oldest first.
    rows: Vec<f32>,
    n_rows: usize,
}

impl LogitsCache {
    /// Positions, from [`first`](Self::first) on, whose rows serve the last `k` of `history`: 0 where none does.
    fn usable(&self, history: &[Token], k: usize) -> usize {
        let common = common_prefix(history, &self.tokens);
        let start = history.len() - k;
        if self.n_rows > 0 && self.first <= start && start <= common { common - self.first } else { 0 }
    }

    /// How many rows the expert has still to give for the last `k` positions of `history`.
    fn missing(&self, history: &[Token], k: usize) -> usize {
        match self.usable(history, k) {
            0 => k,
            usable => history.len() - self.first - usable,
        }
    }

    /// Does the work of [`Expert::advance`] on `expert`, and asks it only for rows that are not there.
    pub(crate) fn advance(
        &mut self,
        expert: &mut dyn Expert,
        history: &[Token],
        k: usize,
    ) -> Result<&[f32], ExpertError> {
        let n_vocab = expert.n_vocab();
        // The expert words the error.
        let missing = if k == 0 || k > history.len() { k.max(1) } else { self.missing(history, k) };
        if missing > 0 {
            let rows = expert.advance(history, if k == 0 { 0 } else { missing })?;
            self.n_rows = self.usable(history, k);
            let start = history.len() - k;
            if self.n_rows == 0 {
                self.first = start;
            }
            self.rows.truncate(self.n_rows * n_vocab);
            if self.n_rows + missing > MAX_ROWS.max(k) {
                self.rows.drain(..(start - self.first) * n_vocab);
                self.first = start;
            }
            self.rows.extend_from_slice(rows);
            self.n_rows = history.len() - self.first;
            self.tokens.clear();
            self.tokens.extend_from_slice(history);
        }
        // Rows after a shorter history stay: the positions of a draft are asked for one after the other.
        let at = history.len() - k - self.first;
        Ok(&self.rows[at * n_vocab..(at + k) * n_vocab])
    }

    /// What [`advance`](Self::advance) will ask of `expert`, announced.
    pub(crate) fn prepare(&self, expert: &mut dyn Expert, history: &[Token], k: usize) {
        if (1..=history.len()).contains(&k) {
            match self.missing(history, k) {
                0 => {}
                missing => expert.prepare(history, missing),
            }
        }
    }
}

/// An expert together with its [`LogitsCache`].
pub(crate) struct CachedExpert<'a> {
    pub(crate) expert: &'a mut dyn Expert,
    pub(crate) store: &'a mut LogitsCache,
}

impl Expert for CachedExpert<'_> {
    fn n_vocab(&self) -> usize {
        self.expert.n_vocab()
    }

    fn n_ctx(&self) -> usize {
        self.expert.n_ctx()
    }

    fn max_rows(&self) -> usize {
        self.expert.max_rows()
    }

    fn advance(&mut self, history: &[Token], k: usize) -> Result<&[f32], ExpertError> {
        self.store.advance(self.expert, history, k)
    }

    fn prepare(&mut self, history: &[Token], k: usize) {
        self.store.prepare(self.expert, history, k);
    }

    fn start(&mut self) -> bool {
        self.expert.start()
    }

    fn n_cached(&self, history: &[Token]) -> usize {
        self.expert.n_cached(history)
    }

    fn read(&mut self) -> Result<(), ExpertError> {
        self.expert.read()
    }

    fn draft_row(&mut self, history: &[Token], row: &mut [f32]) -> Result<bool, ExpertError> {
        self.expert.draft_row(history, row)
    }

    fn forget(&mut self) {
        *self.store = LogitsCache::default();
        self.expert.forget();
    }

    fn n_decoded(&self) -> u64 {
        self.expert.n_decoded()
    }

    fn pace(&self) -> u64 {
        self.expert.pace()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TableExpert;
    use proptest::prelude::*;

    fn expert() -> TableExpert {
        // Every history has a row of its own.
        TableExpert::new(3, 40, |history, logits| {
            let hash = history.iter().fold(7u32, |h, t| h.wrapping_mul(31).wrapping_add(*t as u32 + 1));
            logits.iter_mut().enumerate().for_each(|(i, l)| *l = (hash.rotate_left(i as u32) % 1000) as f32);
        })
    }

    #[test]
    fn rows_decoded_one_by_one_are_there_together() {
        let (mut expert, mut store) = (expert(), LogitsCache::default());
        let text = [0, 1, 2, 0, 1, 2];
        for n in 3..6 {
            store.advance(&mut expert, &text[..n], 1).unwrap();
        }
        assert_eq!(store.missing(&text, 4), 1);
        let found = store.advance(&mut expert, &text, 4).unwrap().to_vec();
        assert_eq!(expert.n_decoded(), 6, "no token is decoded twice");
        assert_eq!(found, super::tests::expert().advance(&text, 4).unwrap());
    }

    proptest! {
        #[test]
        fn a_store_answers_what_the_expert_would(
            calls in prop::collection::vec((0usize..30, prop::collection::vec(0i32..2, 0..6), 1usize..9), 1..40)
        ) {
            let (mut kept, mut fresh, mut store) = (expert(), expert(), LogitsCache::default());
            let mut history: Vec<Token> = vec![0];
            for (keep, more, k) in calls {
                history.truncate(keep.max(1));
                history.extend(more);
                let found = store.advance(&mut kept, &history, k).map(<[f32]>::to_vec);
                let expected = fresh.advance(&history, k).map(<[f32]>::to_vec);
                prop_assert_eq!(found, expected);
            }
        }
    }
}
