//! The ARMs of one text, brought along with its history.

use std::time::{Duration, Instant};

use super::combine::{add_weighted, floor};
use super::gate::Gate;
use super::vocabulary::{Contract, Tail};
use super::weights::Weights;
use crate::expert::{Expert, ExpertError, Token};
use crate::rows::RowStore;

/// An autoregressive reward model: an expert with a name.
pub struct Arm {
    name: String,
    expert: Box<dyn Expert + Send>,
    /// Whether the base has tokens after the ARM's last.
    padded: bool,
    /// The ARM's own rendering of the prompt; `None` reads the base's tokens.
    prompt: Option<Vec<Token>>,
    /// Prompt and response as the ARM reads them; kept to be reused.
    history: Vec<Token>,
    /// Rows of single steps, where a drafter goes step by step.
    rows: Option<RowStore>,
}

impl Arm {
    /// An ARM whose vocabulary has been [checked](super::check_vocabulary) against the base's.
    pub fn new(name: impl Into<String>, expert: Box<dyn Expert + Send>, contract: Contract) -> Self {
        let padded = matches!(contract.tail, Tail::Base(_));
        Self { name: name.into(), expert, padded, prompt: None, history: Vec::new(), rows: None }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The expert behind it.
    pub fn expert(&mut self) -> &mut (dyn Expert + Send) {
        &mut *self.expert
    }

    /// Drops all that it holds, rows that were kept for drafts too: what follows does not depend, by a rounding, on what was read
    /// before.
    pub fn forget(&mut self) {
        self.expert.forget();
        if let Some(rows) = &mut self.rows {
            *rows = RowStore::default();
        }
    }

    fn advance(&mut self, history: &[Token], n_prompt: usize, k: usize) -> Result<&[f32], GuideError> {
        let wanted = own_history(self.prompt.as_deref(), &mut self.history, history, n_prompt);
        let fail = |source| GuideError { arm: self.name.clone(), source };
        match &mut self.rows {
            Some(rows) => rows.advance(&mut *self.expert, wanted, k).map_err(fail),
            None => self.expert.advance(wanted, k).map_err(fail),
        }
    }

    fn prepare(&mut self, history: &[Token], n_prompt: usize, k: usize) {
        let wanted = own_history(self.prompt.as_deref(), &mut self.history, history, n_prompt);
        match &mut self.rows {
            Some(rows) => rows.prepare(&mut *self.expert, wanted, k),
            None => self.expert.prepare(wanted, k),
        }
    }

    /// Tokens by which a history of `len` base tokens may grow before the ARM is full.
    fn room(&self, len: usize, n_prompt: usize) -> usize {
        let own = self.prompt.as_ref().map_or(len, |prompt| prompt.len() + len.saturating_sub(n_prompt));
        self.expert.n_ctx().saturating_sub(own)
    }

    /// Announces the next `max` tokens, if the ARM lacks more than that. False where it does not.
    fn prepare_chunk(&mut self, history: &[Token], n_prompt: usize, max: usize) -> bool {
        let wanted = own_history(self.prompt.as_deref(), &mut self.history, history, n_prompt);
        let end = self.expert.n_cached(wanted) + max;
        // A prompt that does not fit is refused by the step itself.
        let lacks_more = end < wanted.len() && wanted.len() <= self.expert.n_ctx();
        if lacks_more {
            self.expert.prepare(&wanted[..end], 1);
        }
        lacks_more
    }
}

/// What an ARM reads where the base reads `history`: its own prompt, if it has one, and the common response.
fn own_history<'a>(
    prompt: Option<&[Token]>,
    buffer: &'a mut Vec<Token>,
    history: &'a [Token],
    n_prompt: usize,
) -> &'a [Token] {
    let Some(prompt) = prompt else { return history };
    buffer.clear();
    buffer.extend_from_slice(prompt);
    buffer.extend_from_slice(history.get(n_prompt..).unwrap_or_default());
    buffer
}

/// Why guidance failed at a step.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("ARM \"{arm}\": {source}")]
pub struct GuideError {
    /// Which ARM.
    pub arm: String,
    /// What happened to it.
    pub source: ExpertError,
}

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

    /// Tokens by which a history of `len` tokens may grow before an ARM that is heard is full.
    pub fn room(&mut self, len: usize) -> usize {
        self.weights.copy_to(&mut self.now);
        let heard = self.arms.iter().zip(&self.now).filter(|(_, weight)| **weight != 0.0);
        heard.map(|(arm, _)| arm.room(len, self.n_prompt)).min().unwrap_or(usize::MAX)
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

    /// Whether ARMs with weight 0 are read along, because each step will be [explained](super::Report::explain).
    pub fn read_all(&mut self, all: bool) {
        self.reads_all = all;
    }

    /// Announces that [`terms`](Self::terms) follows with the same arguments, so that ARMs which share a batch with the base are
    /// decoded along with it.
    pub fn prepare(&mut self, history: &[Token], k: usize) {
        let n_prompt = self.n_prompt;
        self.needed().for_each(|arm| arm.prepare(history, n_prompt, k));
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
    /// As [`terms`](Self::terms); `logits` are then as before.
    pub fn add(&mut self, history: &[Token], k: usize, logits: &mut [f32]) -> Result<(), GuideError> {
        let n_vocab = logits.len() / k.max(1);
        self.terms(history, k, |term| {
            for (i, logits) in logits.chunks_exact_mut(n_vocab).enumerate() {
                let (row, floor) = term.row(i);
                add_weighted(logits, row, floor, term.weight);
            }
        })
    }

    /// The raw logits of every ARM after `history`, also of those with weight 0, over the base's `n_vocab` tokens.
    ///
    /// # Errors
    ///
    /// As [`terms`](Self::terms).
    pub fn all_logits(&mut self, history: &[Token], n_vocab: usize) -> Result<Vec<Vec<f32>>, GuideError> {
        let n_prompt = self.n_prompt;
        let logits = |arm: &mut Arm| {
            let mut row = arm.advance(history, n_prompt, 1)?.to_vec();
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
mod tests {
    use super::*;
    use crate::TableExpert;

    fn counting_arm(name: &str, n_ctx: usize) -> Arm {
        let expert = TableExpert::new(4, n_ctx, |history, logits| {
            logits.fill(0.0);
            logits[history.len() % 4] = 1.0;
        });
        Arm::new(name, Box::new(expert), Contract { n_common: 4, tail: Tail::None })
    }

    fn guide(weights: &[f32]) -> Guide {
        let names: Vec<_> = (0..weights.len()).map(|i| format!("arm{i}")).collect();
        let arms = names.iter().map(|name| counting_arm(name, 100)).collect();
        Guide::new(arms, Weights::new(names.into_iter().zip(weights.iter().copied())))
    }

    #[test]
    fn weight_zero_evaluates_no_arm_and_changes_nothing() {
        let mut guide = guide(&[0.0, 0.0]);
        let mut logits = [1.0, -2.0, 3.5, 0.0];
        guide.add(&[0, 1, 2], 1, &mut logits).unwrap();
        assert_eq!((logits, guide.n_decoded(), guide.is_active()), ([1.0, -2.0, 3.5, 0.0], 0, false));
    }

    #[test]
    fn each_step_decodes_one_token_an_arm() {
        let mut guide = guide(&[1.0, 0.5]);
        guide.add(&[0, 1, 2], 1, &mut [0.0; 4]).unwrap();
        assert_eq!(guide.n_decoded(), 6);
        let mut logits = [0.0; 4];
        guide.add(&[0, 1, 2, 3], 1, &mut logits).unwrap();
        assert_eq!((guide.n_decoded(), logits), (8, [1.5, 0.0, 0.0, 0.0]));
        guide.add(&[0, 1, 2, 3], 1, &mut logits).unwrap();
        assert_eq!(guide.n_decoded(), 8);
    }

    #[test]
    fn an_arm_that_forgets_reads_again_what_was_kept_for_drafts() {
        let mut guide = guide(&[1.0]);
        guide.keep_rows();
        guide.add(&[0, 1, 2], 1, &mut [0.0; 4]).unwrap();
        guide.add(&[0, 1, 2], 1, &mut [0.0; 4]).unwrap();
        assert_eq!(guide.n_decoded(), 3);
        guide.arms()[0].forget();
        guide.add(&[0, 1, 2], 1, &mut [0.0; 4]).unwrap();
        assert_eq!(guide.n_decoded(), 6);
    }

    #[test]
    fn a_changed_weight_reads_nothing_again() {
        let mut guide = guide(&[1.0]);
        guide.add(&[0, 1, 2], 1, &mut [0.0; 4]).unwrap();
        guide.weights().set("arm0", -1.0).unwrap();
        let mut logits = [0.0; 4];
        guide.add(&[0, 1, 2], 1, &mut logits).unwrap();
        assert_eq!((logits, guide.n_decoded()), ([0.0, 0.0, 0.0, -1.0], 3));
    }

    #[test]
    fn an_arm_reads_its_own_prompt_and_the_common_response() {
        let mut guide = guide(&[1.0]);
        guide.begin(2, vec![Some(vec![3, 3, 3, 3, 3])]);
        let mut logits = [0.0; 4];
        guide.add(&[0, 1, 2], 1, &mut logits).unwrap();
        assert_eq!((logits, guide.n_decoded()), ([0.0, 0.0, 1.0, 0.0], 6));
    }

    #[test]
    fn several_rows_are_added_at_once() {
        let mut guide = guide(&[2.0]);
        let mut logits = [0.0; 8];
        guide.add(&[0, 1, 2], 2, &mut logits).unwrap();
        assert_eq!(logits, [0.0, 0.0, 2.0, 0.0, 0.0, 0.0, 0.0, 2.0]);
    }

    #[test]
    fn long_prompts_are_read_in_chunks_by_those_that_lack_them() {
        let mut guide = guide(&[1.0, 0.0]);
        guide.begin(2, vec![Some(vec![3; 10]), Some(vec![3; 20])]);
        let chunks = |guide: &mut Guide| {
            let mut n = 0;
            while guide.prepare_chunk(&[0, 1], 4) {
                guide.read().unwrap();
                n += 1;
            }
            n
        };
        assert_eq!((chunks(&mut guide), guide.n_decoded()), (2, 8));
        guide.read_all(true);
        assert_eq!((chunks(&mut guide), guide.n_decoded()), (4, 8 + 16), "the ARM without a weight reads too");
        guide.begin(2, vec![Some(vec![3; 101]), None]);
        assert_eq!(chunks(&mut guide), 0, "what does not fit is left to the step to refuse");
    }

    #[test]
    fn a_full_arm_is_named() {
        let weights = Weights::new([("small".to_owned(), 1.0)]);
        let mut guide = Guide::new(vec![counting_arm("small", 2)], weights);
        let full = guide.add(&[0, 1, 2], 1, &mut [0.0; 4]).unwrap_err();
        assert_eq!(full.source, ExpertError::ContextFull { wanted: 3, n_ctx: 2 });
        assert!(full.to_string().contains("\"small\""));
    }
}
