//! What of the sequences that are due goes into the next batch.

use super::{BatchPart, Seq, SharedContext};
use crate::expert::common_prefix;

impl SharedContext {
    /// Puts a batch together from the sequences that are due.
    pub(super) fn fill(&mut self, batch: &mut Vec<BatchPart>) {
        let in_step = self.ctx.is_in_step().then(|| self.step_in_common());
        let (mut n_logits, mut last_at) = (0, None);
        for at in 0..self.seqs.len() {
            if !self.is_ready(at) || (last_at.is_some_and(|last| !self.ctx.can_follow(last, at))) {
                continue;
            }
            let (seq, room) = (&self.seqs[at], self.ctx.room());
            let n_tokens = match in_step {
                None => seq.n_next(room),
                Some(n) if n <= room && seq.can_take(n) => n,
                Some(_) => 0,
            };
            if n_tokens == 0 {
                continue;
            }
            last_at = Some(at);
            let last = seq.cached.len() + n_tokens == seq.wanted.len();
            let start = seq.cached.len();
            let k = if last { seq.due } else { 0 };
            let (plain, adapted) = seq.wanted[start..start + n_tokens].split_at(seq.n_plain(start, n_tokens));
            let k_adapted = k.min(adapted.len());
            let (part, coefficients) = (seq.part.map(|part| part.block), seq.read_with.now());
            self.ctx.push(at, plain, start, k - k_adapted, None, coefficients);
            self.ctx.push(at, adapted, start + plain.len(), k_adapted, part, coefficients);
            batch.push(BatchPart { at, n_tokens, first: last.then_some(n_logits) });
            n_logits += k;
        }
    }

    fn is_ready(&self, at: usize) -> bool {
        self.seqs[at].due > 0 && !self.waits(at)
    }

    /// Whether another sequence is about to decode what this one reads without its adapter.
    fn waits(&self, at: usize) -> bool {
        let seq = &self.seqs[at];
        let is_due = |other: &Seq| {
            let n = common_prefix(&other.wanted, &seq.wanted).min(seq.adapted_from);
            other.part.is_none() && other.due > 0 && n > seq.cached.len() && n > other.cached.len()
        };
        seq.lacks_plain() && self.seqs.iter().any(is_due)
    }

    /// How many tokens each sequence of the next batch brings, where all must bring equally many: as many as the
    /// shortest needs and all have room for; or where that would cut through the rows of every one, what the first needs.
    fn step_in_common(&self) -> usize {
        let ready = || (0..self.seqs.len()).filter(|at| self.is_ready(*at)).map(|at| &self.seqs[at]);
        let room = self.ctx.room();
        let least = ready().map(Seq::n_left).min().unwrap_or(0);
        let n = least.min((room / ready().count().max(1)).max(1));
        match ready().any(|seq| seq.can_take(n)) {
            true => n,
            false => ready().next().map_or(0, |seq| seq.n_next(room)),
        }
    }
}

impl Seq {
    /// Tokens until the next place where its state is saved, or until all are decoded.
    fn n_left(&self) -> usize {
        self.places.last().unwrap_or(&self.wanted.len()) - self.cached.len()
    }

    /// Of these the last ones that go into one batch.
    fn n_together(&self) -> usize {
        if self.places.is_empty() { self.due } else { 0 }
    }

    /// How many of them a batch with this much room takes.
    fn n_next(&self, room: usize) -> usize {
        let left = self.n_left();
        if left <= room { left } else { room.min(left - self.n_together()) }
    }

    /// Whether a batch can take exactly `n` of them.
    fn can_take(&self, n: usize) -> bool {
        let left = self.n_left();
        left == n || left - self.n_together() >= n
    }
}
