//! The ARMs of one text, brought along with its history.

use std::time::{Duration, Instant};

use super::arm::Arm;
use super::combine::{add_weighted, floor};
use super::error::GuideError;
use super::gate::Gate;
use super::weights::Weights;
use crate::expert::{ExpertError, Token, check_finite};

/// Where the time of guidance went.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Timing {
    /// Evaluating ARMs.
    pub arms: Duration,
    /// Adding their logits.
    pub combine: Duration,
}

/// What one ARM says about a step, as [`Guide::terms`] hands it out.
pub struct Term<'a> {
    /// Its weight, not 0.
    pub weight: f32,
    /// `k` rows of `n_vocab` raw logits, oldest first.
    pub rows: &'a [f32],
    /// Length of a row: of the ARM's vocabulary, which may differ from the base's by an unused tail.
    pub n_vocab: usize,
    padded: bool,
}

impl Term<'_> {
    /// The logits of row `i` and the floor of the tokens that it does not have.
    pub fn row(&self, i: usize) -> (&[f32], f32) {
        let row = &self.rows[i * self.n_vocab..][..self.n_vocab];
        // Costs a pass over the row, so it is taken only where it is used.
        (row, if self.padded { floor(row) } else { 0.0 })
    }
}

/// The ARMs that steer one text, with their weights.
///
/// ```
/// use genarm::guidance::{Arm, Contract, Guide, Tail, Weights};
/// use genarm::TableExpert;
///
/// let arm = TableExpert::bigram(vec![vec![0.0, 1.0], vec![1.0, 0.0]]);
/// let contract = Contract { n_common: 2, tail: Tail::None };
/// let weights = Weights::new([("helpful".to_owned(), 0.5)]);
/// let mut guide = Guide::new(vec![Arm::new("helpful", Box::new(arm), contract)], weights.clone());
///
/// let mut logits = [3.0, 3.0];
/// guide.add(&[0], 1, &mut logits).unwrap();
/// assert_eq!(logits, [3.0, 3.5]);
/// weights.set("helpful", 0.0).unwrap(); // from any thread; the next token is the base's own
/// ```
pub struct Guide {
    arms: Vec<Arm>,
    weights: Weights,
    /// The weights of this step.
    now: Vec<f32>,
    /// Tokens of the base's prompt, which ARMs with a prompt of their own do not read.
    n_prompt: usize,
    gate: Option<Gate>,
    n_gated: u64,
    /// Whether ARMs with weight 0 are to be at hand too.
    reads_all: bool,
    timing: Timing,
}

impl Guide {
    /// A guide of `arms`, steered through `weights`.
    ///
    /// # Panics
    ///
    /// When `weights` are not those of `arms`.
    pub fn new(arms: Vec<Arm>, weights: Weights) -> Self {
        assert!(arms.iter().map(Arm::name).eq(weights.names()), "a weight for each ARM, in the same order");
        let now = vec![0.0; arms.len()];
        let (gate, n_gated) = (None, 0);
        Self { arms, weights, now, n_prompt: 0, gate, n_gated, reads_all: false, timing: Timing::default() }
    }

    /// The weights; a clone of them steers this guide from elsewhere.
    pub fn weights(&self) -> &Weights {
        &self.weights
    }

    /// Steers by other weights from the next token on: guides that take turns at several texts have those of each text.
    ///
    /// # Panics
    ///
    /// When `weights` are not those of the same ARMs.
    pub fn steer_by(&mut self, weights: &Weights) {
        assert!(self.weights.names() == weights.names(), "a weight for each ARM, in the same order");
        self.weights = weights.clone();
    }

    /// The ARMs, in order.
    pub fn arms(&mut self) -> &mut [Arm] {
        &mut self.arms
    }

    /// Starts a text whose first `n_prompt` tokens are the base's prompt. `prompts` has one place an ARM: what it reads
    /// instead, rendered through its own template, or `None` for the base's tokens.
    ///
    /// # Panics
    ///
    /// When `prompts` has not one place an ARM.
    pub fn begin(&mut self, n_prompt: usize, prompts: Vec<Option<Vec<Token>>>) {
        assert_eq!(prompts.len(), self.arms.len(), "a prompt for each ARM");
        self.n_prompt = n_prompt;
        for (arm, prompt) in self.arms.iter_mut().zip(prompts) {
            arm.prompt = prompt;
        }
    }

    /// Uses the base alone where `gate` says that it is sure; `None` asks the ARMs always.
    pub fn set_gate(&mut self, gate: Option<Gate>) {
        self.gate = gate;
    }

    /// The gate.
    pub fn gate(&self) -> Option<Gate> {
        self.gate
    }

    /// Steps that the gate left to the base since the guide was made.
    pub fn n_gated(&self) -> u64 {
        self.n_gated
    }

    /// Is told of a step at which the gate was asked, and whether it left the step to the base.
    pub(crate) fn count_gated(&mut self, sure: bool) {
        self.n_gated += u64::from(sure);
    }

    /// Keeps the rows of single steps, so that a draft which the ARMs helped to write is verified without reading it again.
    pub fn keep_rows(&mut self) {
        for arm in &mut self.arms {
            arm.rows.get_or_insert_default();
        }
    }

    /// Tokens by which a history of `len` tokens may grow before an ARM whose weight is not 0 is full.
    pub fn room(&mut self, len: usize) -> usize {
        self.weights.copy_to(&mut self.now);
        let weighted = self.arms.iter().zip(&self.now).filter(|(_, weight)| **weight != 0.0);
        weighted.map(|(arm, _)| arm.room(len, self.n_prompt)).min().unwrap_or(usize::MAX)
    }

    /// The raw logits of the ARM at `index`, heard or not, after `history`: one row of its own vocabulary.
    ///
    /// # Errors
    ///
    /// [`GuideError`] when it fails.
    pub fn arm_row(&mut self, index: usize, history: &[Token]) -> Result<&[f32], GuideError> {
        let start = Instant::now();
        let row = self.arms[index].advance(history, self.n_prompt, 1);
        self.timing.arms += start.elapsed();
        row
    }

    /// Whether ARMs with weight 0 are read along, because each step will be [explained](super::StepReport::explain).
    pub fn read_all(&mut self, all: bool) {
        self.reads_all = all;
    }

    /// Announces that [`terms`](Self::terms) follows with the same arguments, so that ARMs which share a batch with the base are
    /// decoded along with it.
    pub fn prepare(&mut self, history: &[Token], k: usize) {
        let n_prompt = self.n_prompt;
        self.needed().for_each(|arm| arm.prepare(history, n_prompt, k));
    }

    /// Starts what was announced to ARMs on devices.
    pub fn start(&mut self) {
        self.needed().for_each(|arm| {
            arm.expert.start();
        });
    }

    /// Announces the next `max` tokens of every ARM that lacks more than that of `history`. False where none does.
    pub fn prepare_chunk(&mut self, history: &[Token], max: usize) -> bool {
        let n_prompt = self.n_prompt;
        let mut some = false;
        // Every ARM is asked: not `any`, which stops at the first.
        self.needed().for_each(|arm| some |= arm.prepare_chunk(history, n_prompt, max));
        some
    }

    /// Decodes what was announced.
    ///
    /// # Errors
    ///
    /// [`GuideError`] of the first ARM that fails.
    pub fn read(&mut self) -> Result<(), GuideError> {
        self.needed()
            .try_for_each(|arm| arm.expert.read().map_err(|source| GuideError { arm: arm.name.clone(), source }))
    }

    /// The ARMs that the next step asks.
    fn needed(&mut self) -> impl Iterator<Item = &mut Arm> {
        self.weights.copy_to(&mut self.now);
        let all = self.reads_all;
        self.arms.iter_mut().zip(&self.now).filter(move |(_, weight)| all || **weight != 0.0).map(|(arm, _)| arm)
    }

    /// Brings every ARM whose weight is not 0 to `history`, then hands its last `k` rows to `each`.
    ///
    /// # Errors
    ///
    /// [`GuideError`] of the first ARM that fails; `each` has then seen none, so a step is guided by all ARMs or not at all.
    pub fn terms(&mut self, history: &[Token], k: usize, mut each: impl FnMut(Term<'_>)) -> Result<(), GuideError> {
        self.advance(history, k)?;
        let advanced = Instant::now();
        for (arm, &weight) in self.arms.iter_mut().zip(&self.now).filter(|(_, weight)| **weight != 0.0) {
            let (n_vocab, padded) = (arm.expert.n_vocab(), arm.padded);
            // Costs nothing: the rows are there.
            let rows = arm.advance(history, self.n_prompt, k)?;
            each(Term { weight, rows, n_vocab, padded });
        }
        self.timing.combine += advanced.elapsed();
        Ok(())
    }

    /// Brings every ARM whose weight is not 0 to `history`, with its last `k` rows: [`terms`](Self::terms) of any of these
    /// positions then decodes nothing.
    ///
    /// # Errors
    ///
    /// [`GuideError`] of the first ARM that fails.
    pub fn advance(&mut self, history: &[Token], k: usize) -> Result<(), GuideError> {
        self.weights.copy_to(&mut self.now);
        let start = Instant::now();
        for (arm, _) in self.arms.iter_mut().zip(&self.now).filter(|(_, weight)| **weight != 0.0) {
            arm.advance(history, self.n_prompt, k)?;
        }
        self.timing.arms += start.elapsed();
        Ok(())
    }

    /// Adds Σ w·logit to the base's last `k` rows after `history`. Shape of `logits`: `k × n_vocab` of the base.
    ///
    /// # Errors
    ///
    /// As [`terms`](Self::terms), and where an ARM's logits are no numbers; `logits` are then as before.
    pub fn add(&mut self, history: &[Token], k: usize, logits: &mut [f32]) -> Result<(), GuideError> {
        let n_vocab = logits.len() / k.max(1);
        self.check(history, k)?;
        self.terms(history, k, |term| {
            for (i, logits) in logits.chunks_exact_mut(n_vocab).enumerate() {
                let (row, floor) = term.row(i);
                add_weighted(logits, row, floor, term.weight);
            }
        })
    }

    /// Refuses rows that are no numbers, or are none under their weights, of the ARMs whose weight is not 0.
    ///
    /// # Errors
    ///
    /// [`GuideError`] of the first such ARM, and as [`terms`](Self::terms).
    ///
    /// # Cost
    ///
    /// A pass over each row: the sampler looks for faults in the pass that adds them, and comes here only when it has found one.
    pub(crate) fn check(&mut self, history: &[Token], k: usize) -> Result<(), GuideError> {
        self.advance(history, k)?;
        for (arm, &weight) in self.arms.iter_mut().zip(&self.now).filter(|(_, weight)| **weight != 0.0) {
            let n_vocab = arm.expert.n_vocab();
            let rows = arm.advance(history, self.n_prompt, k)?;
            let overflows = |logit: &f32| *logit > f32::NEG_INFINITY && !(weight * logit).is_finite();
            let fault = rows.chunks_exact(n_vocab).find_map(|row| {
                let token = || row.iter().position(overflows).map(|at| at as Token);
                check_finite(row).err().or_else(|| Some(ExpertError::NotFinite { what: "+inf", token: token()? }))
            });
            if let Some(source) = fault {
                return Err(GuideError { arm: arm.name.clone(), source });
            }
        }
        Ok(())
    }

    /// The raw logits of every ARM after `history`, also of those with weight 0, over the base's `n_vocab` tokens.
    ///
    /// # Errors
    ///
    /// As [`terms`](Self::terms), and where an ARM's logits are no numbers.
    pub fn all_logits(&mut self, history: &[Token], n_vocab: usize) -> Result<Vec<Vec<f32>>, GuideError> {
        let n_prompt = self.n_prompt;
        let logits = |arm: &mut Arm| {
            let mut row = arm.advance(history, n_prompt, 1)?.to_vec();
            check_finite(&row).map_err(|source| GuideError { arm: arm.name.clone(), source })?;
            let floor = floor(&row);
            row.resize(n_vocab, floor);
            Ok(row)
        };
        self.arms.iter_mut().map(logits).collect()
    }

    /// Whether any weight is not 0.
    pub fn is_active(&mut self) -> bool {
        self.weights.copy_to(&mut self.now);
        self.now.iter().any(|w| *w != 0.0)
    }

    /// Where the time went since the guide was made.
    pub fn timing(&self) -> Timing {
        self.timing
    }

    /// Tokens that all ARMs have decoded.
    pub fn n_decoded(&self) -> u64 {
        self.arms.iter().map(|arm| arm.expert.n_decoded()).sum()
    }
}

#[cfg(test)]
#[path = "guide_tests.rs"]
mod tests;
