//! The ARMs of one text, brought along with its history.

use std::time::Instant;

use super::arm::{Arm, ArmRows};
use super::combine::{add_weighted, floor, floor_within, scaled};
use super::error::GuideError;
use super::gate::Gate;
use super::law::{Direction, Limits, Source, factors};
use super::term::{Term, Timing};
use super::tilt::{Strength, Tilt};
use super::weights::Weights;
use crate::expert::{ExpertError, Token, check_finite};

/// The ARMs that steer one text, with their weights.
///
/// A direction is an ARM, less its reference; the experts are what is evaluated for them: one per ARM,
/// but for ARMs that equal each other or the base.
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
    experts: Vec<Arm>,
    directions: Vec<Direction>,
    limits: Limits,
    weights: Weights,
    /// The weights of this step.
    now: Vec<f32>,
    /// Its preferences.
    preferences: Vec<f32>,
    /// What they make of each expert's logits, and of the base's.
    factors: Vec<f32>,
    of_base: f32,
    tilt: Tilt,
    /// The base's rows before they were guided, where there are limits.
    before: Vec<f32>,
    /// The base's row by the ids of its tokens, where an expert is translated.
    base_row: Vec<f32>,
    /// Tokens of the base's prompt, which ARMs with a prompt of their own do not read.
    n_prompt: usize,
    gate: Option<Gate>,
    n_gated: u64,
    /// Whether ARMs with weight 0 are to be at hand too.
    reads_all: bool,
    /// The first so many ARMs are in use.
    n_used: usize,
    /// Which experts they need.
    used: Vec<bool>,
    timing: Timing,
}

impl Guide {
    /// A guide of `arms` by the paper's law, steered through `weights`.
    ///
    /// # Panics
    ///
    /// When `weights` are not those of `arms`.
    pub fn new(arms: Vec<Arm>, weights: Weights) -> Self {
        assert!(arms.iter().map(Arm::name).eq(weights.arm_names()), "a weight for each ARM, in the same order");
        let directions = (0..arms.len()).map(Direction::of_arm).collect();
        Self::with_references(arms, directions, weights)
    }

    /// A guide of `directions`, one per weight, between the base and these experts.
    ///
    /// # Panics
    ///
    /// When there is not one direction per weight, or a direction names an expert that there is not.
    pub fn with_references(experts: Vec<Arm>, directions: Vec<Direction>, weights: Weights) -> Self {
        assert_eq!(directions.len(), weights.n_arms(), "a direction for each weight");
        let exists = |source| !matches!(source, Source::Expert(at) if at >= experts.len());
        assert!(directions.iter().all(|d| exists(d.arm) && d.reference.is_none_or(exists)), "an expert that there is");
        let (now, factors) = (vec![0.0; directions.len()], vec![0.0; experts.len()]);
        let (n_used, used) = (directions.len(), vec![true; experts.len()]);
        let preferences = vec![0.0; weights.preferences().len()];
        Self {
            experts,
            directions,
            limits: Limits::default(),
            weights,
            now,
            preferences,
            factors,
            of_base: 1.0,
            tilt: Tilt::default(),
            before: Vec::new(),
            base_row: Vec::new(),
            n_prompt: 0,
            gate: None,
            n_gated: 0,
            reads_all: false,
            n_used,
            used,
            timing: Timing::default(),
        }
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

    /// What is evaluated: the ARMs in order, but for those that equal others or the base, then references that are no
    /// ARMs. So the place of an ARM's expert is [`expert_of`](Self::expert_of), and not that of its weight.
    pub fn experts(&mut self) -> &mut [Arm] {
        &mut self.experts
    }

    /// What each expert's logits are multiplied by under the weights as they are now; 0 where it is not needed.
    pub fn factors(&mut self) -> &[f32] {
        self.update();
        &self.factors
    }

    /// What each weight multiplies.
    pub fn directions(&self) -> &[Direction] {
        &self.directions
    }

    /// The expert of the ARM at `index`; `None` where it is the base itself.
    pub fn expert_of(&self, index: usize) -> Option<usize> {
        self.directions.get(index)?.arm.expert()
    }

    /// Bounds what guidance may do, from the next step on.
    pub fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// The bounds.
    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// Starts a text whose first `n_prompt` tokens are the base's prompt. `prompts` has one place per expert: what it
    /// reads instead, rendered through its own template, or `None` for the base's tokens.
    ///
    /// # Panics
    ///
    /// When `prompts` has not one place per expert.
    pub fn begin(&mut self, n_prompt: usize, prompts: Vec<Option<Vec<Token>>>) {
        assert_eq!(prompts.len(), self.experts.len(), "a prompt for each expert");
        self.n_prompt = n_prompt;
        for (expert, prompt) in self.experts.iter_mut().zip(prompts) {
            expert.begin(prompt, n_prompt);
        }
    }

    /// Says that the first `n_prompt` tokens of the base's histories are a prompt, where each expert reads the base's
    /// tokens.
    pub fn set_prompt_len(&mut self, n_prompt: usize) {
        self.n_prompt = n_prompt;
        self.experts.iter_mut().for_each(|expert| expert.begin(None, n_prompt));
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

    /// Counts a step at which the gate was asked, where it left the step to the base.
    pub(crate) fn count_gated(&mut self, sure: bool) {
        self.n_gated += u64::from(sure);
    }

    /// Keeps the rows of single steps, so that a draft which the ARMs helped to write is verified without reading it
    /// again.
    pub fn keep_rows(&mut self) {
        self.experts.iter_mut().for_each(Arm::keep_rows);
    }

    /// Takes over weights and preferences as they are now.
    pub(super) fn update(&mut self) {
        self.weights.copy_to(&mut self.now, &mut self.preferences);
        self.of_base = factors(&self.directions, &self.now, &mut self.factors);
        let mut first = 0;
        for of_arm in self.weights.preferences().chunk_by(|a, b| a.arm == b.arm) {
            let preferences = &self.preferences[first..first + of_arm.len()];
            first += of_arm.len();
            if let Some(at) = self.directions[of_arm[0].arm].arm.expert() {
                self.experts[at].set_coefficients(preferences);
            }
        }
    }

    /// Tokens by which a history of `len` tokens may grow before an expert that is needed is full.
    pub fn room(&mut self, len: usize) -> usize {
        self.update();
        let needed = self.experts.iter().zip(&self.factors).filter(|(_, factor)| **factor != 0.0);
        needed.map(|(expert, _)| expert.room(len, self.n_prompt)).min().unwrap_or(usize::MAX)
    }

    /// The logits of the expert at `index`, needed or not, after `history`: one row of its own vocabulary; of a
    /// translated one, a row of the base's.
    ///
    /// # Errors
    ///
    /// [`GuideError`] when it fails.
    pub fn expert_row(&mut self, index: usize, history: &[Token]) -> Result<&[f32], GuideError> {
        self.update();
        let start = Instant::now();
        let row = self.experts[index].rows(history, self.n_prompt, 1, &[]);
        self.timing.arms += start.elapsed();
        row.map(|row| row.rows)
    }

    /// Whether ARMs with weight 0 are read along, because each step will be [explained](super::StepReport::explain).
    pub fn read_all(&mut self, all: bool) {
        self.reads_all = all;
    }

    /// Leaves out the ARMs from the `n`-th on: they are neither read along nor reported. Their weights must be 0.
    #[cfg_attr(not(feature = "server"), allow(dead_code))]
    pub(crate) fn use_first(&mut self, n: usize) {
        self.n_used = n.min(self.directions.len());
        self.used.fill(false);
        for direction in &self.directions[..self.n_used] {
            let sources = std::iter::once(direction.arm).chain(direction.reference);
            sources.filter_map(Source::expert).for_each(|at| self.used[at] = true);
        }
    }

    /// The names and directions of the ARMs in use.
    pub(super) fn in_use(&self) -> impl Iterator<Item = (&String, &Direction)> + Clone {
        self.weights.arm_names().iter().zip(&self.directions[..self.n_used])
    }

    /// Which experts the ARMs in use need.
    pub(super) fn used_experts(&self) -> &[bool] {
        &self.used
    }

    /// Announces that [`terms`](Self::terms) follows with the same arguments, so that ARMs which share a batch with the
    /// base are decoded along with it.
    pub fn prepare(&mut self, history: &[Token], k: usize) {
        let n_prompt = self.n_prompt;
        self.needed().for_each(|arm| arm.prepare(history, n_prompt, k));
    }

    /// Starts what was announced to ARMs on devices.
    pub fn start(&mut self) {
        self.needed().for_each(|arm| {
            arm.expert().start();
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
            .try_for_each(|arm| arm.expert().read().map_err(|source| GuideError { arm: arm.name.clone(), source }))
    }

    /// The experts that the next step needs.
    fn needed(&mut self) -> impl Iterator<Item = &mut Arm> {
        self.update();
        let all = self.reads_all;
        let Self { experts, factors, used, .. } = self;
        let needs = experts.iter_mut().zip(factors.iter().zip(&*used));
        needs.filter(move |(_, (factor, used))| (all && **used) || **factor != 0.0).map(|(expert, _)| expert)
    }

    /// Brings every expert whose factor is not 0 to `history`, then hands its last `k` rows to `each`, with that
    /// factor. Returns the base's own, for the case that there is no such expert. All factors are of the same weights,
    /// whoever changes them meanwhile.
    ///
    /// `base` are the base's last `k` rows before they are guided, where an expert [is translated](Self::translates);
    /// otherwise they are not read, and may be empty.
    ///
    /// # Errors
    ///
    /// [`GuideError`] of the first that fails; `each` has then seen none, so a step is guided by all ARMs or not at
    /// all.
    pub fn terms(
        &mut self,
        history: &[Token],
        k: usize,
        base: &[f32],
        mut each: impl FnMut(Term<'_>),
    ) -> Result<f32, GuideError> {
        self.advance(history, k)?;
        let (advanced, base_factor) = (Instant::now(), self.of_base);
        for (expert, &factor) in self.experts.iter_mut().zip(&self.factors).filter(|(_, factor)| **factor != 0.0) {
            // Decodes nothing: the rows are there.
            let ArmRows { rows, n_vocab, padded } = expert.rows(history, self.n_prompt, k, base)?;
            each(Term { factor, base_factor, rows, n_vocab, padded });
        }
        self.timing.combine += advanced.elapsed();
        Ok(base_factor)
    }

    /// Brings every expert whose factor is not 0 to `history`, with its last `k` rows: [`terms`](Self::terms) of any of
    /// these positions then decodes nothing.
    ///
    /// # Errors
    ///
    /// [`GuideError`] of the first that fails.
    pub fn advance(&mut self, history: &[Token], k: usize) -> Result<(), GuideError> {
        self.update();
        let start = Instant::now();
        for (expert, _) in self.experts.iter_mut().zip(&self.factors).filter(|(_, factor)| **factor != 0.0) {
            expert.advance(history, self.n_prompt, k)?;
        }
        self.timing.arms += start.elapsed();
        Ok(())
    }

    /// Whether an expert that the next step needs has another vocabulary than the base: [`terms`](Self::terms) then
    /// needs the base's rows.
    pub fn translates(&mut self) -> bool {
        self.update();
        let needed = self.experts.iter().zip(&self.factors).filter(|(_, factor)| **factor != 0.0);
        needed.into_iter().any(|(expert, _)| expert.is_translated())
    }

    /// The base's row from its candidates, if [`terms`](Self::terms) will need it; otherwise empty. A token without a
    /// candidate is forbidden. [`keep_base_row`](Self::keep_base_row) takes it back, so that nothing is allocated per
    /// token.
    pub(crate) fn base_row(&mut self, candidates: impl Iterator<Item = (Token, f32)>) -> Vec<f32> {
        let mut row = std::mem::take(&mut self.base_row);
        row.clear();
        if self.translates() {
            row.resize(self.experts.iter().find_map(Arm::n_base).unwrap_or(0), f32::NEG_INFINITY);
            for (token, logit) in candidates {
                if let Some(place) = usize::try_from(token).ok().and_then(|token| row.get_mut(token)) {
                    *place = logit;
                }
            }
        }
        row
    }

    /// Keeps the memory of [`base_row`](Self::base_row).
    pub(crate) fn keep_base_row(&mut self, row: Vec<f32>) {
        self.base_row = row;
    }

    /// Guides the base's last `k` rows after `history`, as the sampler would. Shape of `logits`: `k × n_vocab` of the
    /// base.
    ///
    /// # Errors
    ///
    /// As [`terms`](Self::terms), and where an expert's logits are no numbers; `logits` are then as before.
    pub fn add(&mut self, history: &[Token], k: usize, logits: &mut [f32]) -> Result<(), GuideError> {
        let n_vocab = logits.len() / k.max(1);
        self.check(history, k)?;
        let mut before = std::mem::take(&mut self.before);
        before.clear();
        if !self.limits.is_none() || self.translates() {
            before.extend_from_slice(logits);
        }
        let mut is_first = true;
        let of_base = self.terms(history, k, &before, |term| {
            if std::mem::take(&mut is_first) {
                scaled(logits, term.base_factor);
            }
            for (i, logits) in logits.chunks_exact_mut(n_vocab).enumerate() {
                let (row, floor) = term.row(i);
                add_weighted(logits, row, floor, term.factor);
            }
        })?;
        if is_first {
            scaled(logits, of_base);
        }
        for (base, guided) in before.chunks_exact(n_vocab).zip(logits.chunks_exact_mut(n_vocab)) {
            self.limit(base, guided);
        }
        self.before = before;
        Ok(())
    }

    /// Keeps a row of guided logits within the limits, given the base's: returns λ, the factor on all weights.
    pub(super) fn limit(&mut self, base: &[f32], guided: &mut [f32]) -> f32 {
        let Some(strength) = self.strength(base.iter().copied().zip(guided.iter().copied())) else { return 1.0 };
        if strength.acts() {
            guided.iter_mut().zip(base).for_each(|(guided, base)| *guided = strength.apply(*base, *guided));
        }
        strength.lambda
    }

    /// Whether limits act on the step: there are some, and a weight is not 0.
    pub(crate) fn is_limited(&self) -> bool {
        !self.limits.is_none() && self.now.iter().any(|weight| *weight != 0.0)
    }

    /// How far a step may go whose tokens have these logits under the base and under guidance; `None` where there is no
    /// limit, or all weights are 0.
    pub(crate) fn strength(&mut self, rows: impl Iterator<Item = (f32, f32)> + Clone) -> Option<Strength> {
        if !self.is_limited() {
            return None;
        }
        let start = Instant::now();
        let strength = self.tilt.strength(self.limits, rows);
        self.timing.combine += start.elapsed();
        Some(strength)
    }

    /// Refuses rows that are no numbers, or are none under their factors, of the experts whose factor is not 0.
    ///
    /// # Errors
    ///
    /// [`GuideError`] of the first such expert, and as [`terms`](Self::terms).
    ///
    /// # Cost
    ///
    /// A pass over each row. The sampler looks for faults in the pass that adds them, and comes here only when it has
    /// found one.
    pub(crate) fn check(&mut self, history: &[Token], k: usize) -> Result<(), GuideError> {
        self.advance(history, k)?;
        let experts = self.experts.iter_mut().zip(&self.factors);
        // The rows of a translated expert are checked where they are made.
        for (expert, &factor) in experts.filter(|(expert, factor)| **factor != 0.0 && !expert.is_translated()) {
            let ArmRows { rows, n_vocab, .. } = expert.rows(history, self.n_prompt, k, &[])?;
            let overflows = |logit: &f32| *logit > f32::NEG_INFINITY && !(factor * logit).is_finite();
            let fault = rows.chunks_exact(n_vocab).find_map(|row| {
                let token = || row.iter().position(overflows).map(|at| at as Token);
                check_finite(row).err().or_else(|| Some(ExpertError::NotFinite { what: "+inf", token: token()? }))
            });
            if let Some(source) = fault {
                return Err(GuideError { arm: expert.name.clone(), source });
            }
        }
        Ok(())
    }

    /// The logits of every expert in use after `history`, also of those that are not needed, over the base's `n_vocab`
    /// tokens. Those of the others are empty. `base` is the base's row there, as for [`terms`](Self::terms).
    ///
    /// # Errors
    ///
    /// As [`terms`](Self::terms), and where an expert's logits are no numbers.
    pub fn expert_logits(
        &mut self,
        history: &[Token],
        base: &[f32],
        n_vocab: usize,
    ) -> Result<Vec<Vec<f32>>, GuideError> {
        self.update();
        let n_prompt = self.n_prompt;
        let logits = |(expert, used): (&mut Arm, &bool)| {
            if !used {
                return Ok(Vec::new());
            }
            let mut row = expert.rows(history, n_prompt, 1, base)?.rows.to_vec();
            check_finite(&row).map_err(|source| GuideError { arm: expert.name.clone(), source })?;
            let floor = floor(&row);
            row.resize(n_vocab, floor);
            Ok(row)
        };
        self.experts.iter_mut().zip(&self.used).map(logits).collect()
    }

    /// The law under `weights` on a row of the base's logits, given rows of all experts; returns λ, the factor on all
    /// weights.
    pub(super) fn combine(
        &mut self,
        weights: &[f32],
        base: &[f32],
        experts: &[impl AsRef<[f32]>],
        out: &mut Vec<f32>,
    ) -> f32 {
        let n_arms = self.now.len();
        self.now.copy_from_slice(&weights[..n_arms]);
        self.of_base = factors(&self.directions, &self.now, &mut self.factors);
        out.clear();
        out.extend_from_slice(base);
        scaled(out, self.of_base);
        for (row, &factor) in experts.iter().zip(&self.factors).filter(|(_, factor)| **factor != 0.0) {
            let row = row.as_ref();
            add_weighted(out, row, floor_within(row, base.len()), factor);
        }
        self.limit(base, out)
    }

    /// Whether any weight is not 0.
    pub fn is_active(&mut self) -> bool {
        self.update();
        self.now.iter().any(|w| *w != 0.0)
    }

    /// Where the time went since the guide was made.
    pub fn timing(&self) -> Timing {
        self.timing
    }

    /// Tokens that all experts have decoded.
    pub fn n_decoded(&self) -> u64 {
        self.experts.iter().map(Arm::n_decoded).sum()
    }
}

#[cfg(test)]
#[path = "guide_tests.rs"]
mod tests;
