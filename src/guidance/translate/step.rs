//! One step: the ARM's rows after its readings, as one row over the base's tokens.

use super::cover::{Care, Cover, Reading};
use super::doubts::{Doubts, LEAST_OPEN, Place};
use super::lexicon::Translation;
use super::rows::{KeptRow, KeptRows};
use super::spellings::Spellings;
use crate::expert::{ExpertError, Token};
use crate::guidance::exponential::{exp, ln};
use crate::guidance::lanes;

/// What a step works with; kept from step to step.
#[derive(Default)]
pub(super) struct Step {
    /// The base's probabilities, but for a common factor.
    base: Vec<f32>,
    window: Vec<Token>,
    shared: Vec<Token>,
    doubts: Doubts,
}

/// The share of a reading's mass below which a token that reaches across the end of the text is passed over.
const LEAST_ACROSS: f32 = 1e-5;
/// The same, for looking at the base's longer tokens that begin as its rest does.
const LEAST_LONGER: f32 = 1e-3;
/// The base's probability, as a share of its likeliest token's, below which a longer token is passed over.
const LEAST_OF_BASE: f32 = 1e-5;

impl Step {
    /// Writes ln q of every token of the base after the first `at` tokens of the text. `base` are the base's logits
    /// there: they divide the probability of an ARM's token among the base's tokens that may begin where it does.
    /// Without them each gets an equal part.
    pub fn write(
        &mut self,
        with: &Translation,
        cover: &mut Cover,
        rows: &mut KeptRows,
        spellings: &mut Spellings,
        (at, base): (usize, Option<&[f32]>),
        q: &mut [f32],
    ) -> Result<(), ExpertError> {
        self.base.clear();
        match base {
            Some(base) => {
                let max = lanes::max(base);
                self.base.extend(base.iter().map(|logit| exp(logit - max)));
                self.base.resize(q.len(), 0.0);
            }
            None => self.base.resize(q.len(), 1.0),
        }
        q.fill(0.0);
        self.doubts.clear();
        let (mut floor, mut forbids) = (f32::INFINITY, false);
        for reading in cover.readings(at) {
            let Some(row) = rows.at(reading.path) else { unreachable!("the rows of a step are read before it") };
            let share = (reading.path_mass - cover.mass(at)).exp() as f32;
            if reading.pending == 0 {
                self.add_aligned(with, reading, row, share, q);
                forbids |= row.forbids;
            } else {
                self.add_across(with, cover, (at, reading), row, share, spellings, q);
            }
            floor = floor.min(row.floor);
        }
        // Without the base's row there is no saying what matters.
        let care = Care { n_rows: if base.is_some() { cover.care.n_rows } else { 0 }, ..cover.care };
        let mut place = Place { with, cover, at, rows, spellings, base: &self.base };
        let left = self.doubts.settle(&mut place, care, q)?;
        let whole = -left.max(f32::EPSILON).ln();
        // What the ARM itself forbids stays forbidden.
        let alone = forbids && cover.readings(at).len() == 1;
        if alone {
            for (i, q) in q.iter_mut().enumerate() {
                *q = match *q == 0.0 && with.lexicon.is_reachable(i) {
                    true => f32::NEG_INFINITY,
                    false => log(*q, whole, floor),
                };
            }
        } else {
            q.iter_mut().for_each(|q| *q = log(*q, whole, floor));
        }
        Ok(())
    }

    /// A reading that ends where the text does: each token of the ARM to what the base may say first for it.
    fn add_aligned(&mut self, with: &Translation, reading: &Reading, row: &KeptRow, share: f32, q: &mut [f32]) {
        for (token, logit) in row.logits.iter().enumerate() {
            let p = if *logit == f32::NEG_INFINITY { 0.0 } else { share * exp(logit - row.lse) };
            self.divide((reading, token as Token), with.lexicon.openings(token as Token), p, q);
        }
    }

    /// Divides the probability `p` of a token of the ARM among tokens of the base, as the base would. Where there is much
    /// to divide, that is left open.
    #[inline(always)]
    fn divide(&mut self, (reading, token): (&Reading, Token), among: &[Token], p: f32, q: &mut [f32]) {
        match among {
            [] => {}
            [only] => q[*only as usize] += p,
            several if p >= LEAST_OPEN => self.doubts.add((reading.path, reading.pending), token, p, several),
            several => {
                let all: f32 = several.iter().map(|token| self.base[*token as usize]).sum();
                match p / all {
                    factor if factor.is_finite() => {
                        several.iter().for_each(|token| q[*token as usize] += factor * self.base[*token as usize]);
                    }
                    // The base forbids all of them.
                    _ => several.iter().for_each(|token| q[*token as usize] += p / several.len() as f32),
                }
            }
        }
    }

    /// A reading with pending bytes: each token of the ARM that begins with them and reaches further, to what the base
    /// may say first for the rest of it.
    #[allow(clippy::too_many_arguments)] // the parts of a translator
    fn add_across(
        &mut self,
        with: &Translation,
        cover: &Cover,
        (at, reading): (usize, &Reading),
        row: &KeptRow,
        share: f32,
        spellings: &mut Spellings,
        q: &mut [f32],
    ) {
        let bytes = cover.bytes(at);
        let pending = &bytes[bytes.len() - reading.pending..];
        let across = with.lexicon.arm.extending(pending);
        let all: f32 = across.iter().map(|token| row.p(*token)).sum();
        let (mut window, mut shared) = (std::mem::take(&mut self.window), std::mem::take(&mut self.shared));
        cover.write_window(with, at, reading.pending, &mut window);
        for token in across {
            let p = row.p(*token);
            if p < all * LEAST_ACROSS {
                continue;
            }
            shared.clear();
            shared.extend_from_slice(spellings.next(with, &window, &[*token], reading.pending));
            if shared.is_empty() {
                continue;
            }
            if p >= all * LEAST_LONGER {
                let rest = &with.lexicon.arm.get(*token)[reading.pending..];
                let likely = |base: &&Token| self.base[**base as usize] >= LEAST_OF_BASE;
                for base in with.lexicon.base.extending(rest).iter().filter(likely) {
                    if !shared.contains(base) && spellings.spelled(with, pending, *base).first() == Some(token) {
                        shared.push(*base);
                    }
                }
            }
            self.divide((reading, *token), &shared, share * p, q);
        }
        (self.window, self.shared) = (window, shared);
    }
}

/// ln of a share q of a whole, of which `whole` is −ln. A token that is passed over takes the row's floor, so that a
/// negative weight does not raise it without bound.
#[inline(always)]
fn log(q: f32, whole: f32, floor: f32) -> f32 {
    // The logarithm is computed in any case, so that a loop over a row has no branch.
    let ln = ln(if q >= f32::MIN_POSITIVE { q } else { f32::MIN_POSITIVE }) + whole;
    if q >= f32::MIN_POSITIVE && ln > floor { ln } else { floor }
}
