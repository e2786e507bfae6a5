//! Several tokens at a time, without loss: a drafter proposes, all experts read the proposal as one batch, the acceptance rule
//! keeps what the guided distribution would have drawn.
//!
//! ```text
//! history h ──drafter──▶ d1 … dk ──one batch h+d──▶ p1 … pk, pk+1 ──accept──▶ d1 … di, then one token of the target's own
//! ```
//!
//! The target chain goes through the draft token by token and is only told of tokens that are kept, so penalties, DRY, grammars
//! and XTC act as in the plain loop and are never rolled back. The experts are: the next call asks for a shorter history.

use std::time::{Duration, Instant};

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::Serialize;

use super::accept::{Accept, Exact};
use super::controller::{Controller, Cycle, Plan};
use super::draft::{Draft, Drafter, Offer, Work};
use super::plain::ending;
use super::{ChainFault, DecodeError, Distribution, Finish, Flow, Generated, Step, TargetChain, Text};
use crate::expert::{Expert, ExpertError, Token};
use crate::rows::{Kept, RowStore};

/// Which drafter drafts how many tokens.
pub enum Policy {
    /// The first drafter that has something to offer, so many tokens: what a seed gives does not depend on measured times.
    Fixed(usize),
    /// What pays, plain decoding included.
    Auto(Box<Controller>),
}

/// What speculation did for a text.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Speculation {
    /// Batches that the experts read after the prompt; a plain step is one.
    pub cycles: u64,
    /// Of them, those with a draft.
    pub drafts: u64,
    /// Tokens drafted.
    pub drafted: u64,
    /// Drafted tokens that were kept.
    pub accepted: u64,
    /// Tokens that these batches gave.
    pub tokens: u64,
    /// Time in which drafters read the prompt and what they had missed.
    pub catch_up: Duration,
    /// Time of drafting.
    pub draft: Duration,
    /// Time of base and ARMs.
    pub verify: Duration,
    /// Time of truncating, judging and drawing.
    pub sampling: Duration,
    /// The work of each drafter, in the order in which they are asked.
    pub drafters: Vec<DrafterCount>,
}

/// The work of one drafter.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct DrafterCount {
    /// Its name.
    pub name: String,
    /// Tokens drafted.
    pub drafted: u64,
    /// Of them, those that were kept.
    pub accepted: u64,
}

impl Speculation {
    /// Share of the drafted tokens that were kept; 0 where none was drafted.
    pub fn rate(&self) -> f64 {
        if self.drafted == 0 { 0.0 } else { self.accepted as f64 / self.drafted as f64 }
    }

    /// Tokens that a batch gave, on average; 0 where there was none.
    pub fn tokens_per_cycle(&self) -> f64 {
        if self.cycles == 0 { 0.0 } else { self.tokens as f64 / self.cycles as f64 }
    }
}

/// Drafters, the policy that chooses among them, and the buffers of the loop. One a session: what it has measured stays.
pub struct Speculator {
    drafters: Vec<Box<dyn Drafter>>,
    policy: Policy,
    rule: Box<dyn Accept>,
    rng: ChaCha8Rng,
    /// The base's rows, which are kept where it drafts itself.
    base_rows: RowStore,
    draft: Draft,
    p: Distribution,
    offers: Vec<Offer>,
    /// For each drafter whether it has failed, and is left out.
    failed: Vec<bool>,
}

impl Speculator {
    /// A speculator of these drafters, in the order in which a fixed policy asks them.
    pub fn new(drafters: Vec<Box<dyn Drafter>>, policy: Policy) -> Self {
        let n = drafters.len();
        Self {
            drafters,
            policy,
            rule: Box::new(Exact::default()),
            rng: ChaCha8Rng::seed_from_u64(0),
            base_rows: RowStore::default(),
            draft: Draft::default(),
            p: Distribution::default(),
            offers: vec![Offer::default(); n],
            failed: vec![false; n],
        }
    }

    /// Judges by another rule: for tests, which must notice a wrong one.
    #[must_use]
    pub fn with_rule(mut self, rule: Box<dyn Accept>) -> Self {
        self.rule = rule;
        self
    }

    /// Begins the randomness anew. It is a generator of its own, so a seed gives another text than plain decoding, of the same
    /// distribution.
    pub fn seed(&mut self, seed: u64) {
        self.rng = ChaCha8Rng::seed_from_u64(seed);
    }

    /// Whether the drafters have the ARMs read the draft as it is written.
    pub fn keeps_arms(&self) -> bool {
        self.drafters.iter().any(|drafter| drafter.keeps_arms())
    }

    /// The controller, where there is one.
    pub fn controller(&self) -> Option<&Controller> {
        match &self.policy {
            Policy::Auto(controller) => Some(controller),
            Policy::Fixed(_) => None,
        }
    }

    /// Who drafts next, and how many tokens, where at most `room` have a place.
    fn plan(&mut self, history: &[Token], room: usize) -> Option<Plan> {
        if room == 0 {
            return None;
        }
        for ((offer, drafter), failed) in self.offers.iter_mut().zip(&mut self.drafters).zip(&self.failed) {
            *offer = if *failed { Offer::NOTHING } else { drafter.offer(history) };
            offer.max = offer.max.min(room);
        }
        match &mut self.policy {
            Policy::Auto(controller) => controller.plan(&self.offers),
            Policy::Fixed(k) => {
                let at = self.offers.iter().position(|offer| offer.max > 0)?;
                Some(Plan { drafter: at, class: self.offers[at].class, k: self.offers[at].max.min(*k) })
            }
        }
    }
}

impl Speculator {
    /// Draws the token of row `i`: whether it is the drafted one.
    fn judge(&mut self, chain: &mut dyn TargetChain, logits: &[f32], i: usize) -> Result<(Token, bool), ChainFault> {
        let Self { draft, p, rule, rng, .. } = self;
        if draft.is_empty() {
            return Ok((chain.sample(logits)?, false));
        }
        chain.target_distribution(logits, p)?;
        let Some(&drafted) = draft.tokens().get(i) else {
            return Ok((p.draw(rng.random()).ok_or(ChainFault::NoCandidate)?, false));
        };
        Ok(rule.judge(p, draft, i, rng).map_or((drafted, true), |other| (other, false)))
    }
}

/// Continues `prompt` as [`generate`](super::generate) does: every token has the distribution that it has there, and every text
/// ends alike. At temperature 0 the tokens are the same, but for ties nearer than the noise between batch sizes.
///
/// # Errors
///
/// [`DecodeError`]. Tokens that `each` has seen remain valid. A drafter that fails is left out, and the text goes on.
pub fn speculate(
    base: &mut dyn Expert,
    chain: &mut dyn TargetChain,
    speculator: &mut Speculator,
    prompt: &[Token],
    n_predict: usize,
    is_eog: &dyn Fn(Token) -> bool,
    each: &mut dyn FnMut(Step<'_>) -> Flow,
) -> Result<Generated, DecodeError> {
    let mut text = Text::begin(base, chain, prompt, n_predict)?;
    while text.finish().is_none() {
        text.cycle(base, chain, speculator, is_eog, each)?;
    }
    Ok(text.into_generated())
}

impl Text {
    /// Drafts, verifies and draws: one token at least, several where a draft is kept, or the end of the text. Does nothing once
    /// it has ended.
    ///
    /// # Errors
    ///
    /// As [`step`](Self::step). A drafter that fails is left out, and the text goes on.
    pub fn cycle(
        &mut self,
        base: &mut dyn Expert,
        chain: &mut dyn TargetChain,
        speculator: &mut Speculator,
        is_eog: &dyn Fn(Token) -> bool,
        each: &mut dyn FnMut(Step<'_>) -> Flow,
    ) -> Result<(), DecodeError> {
        if self.finish.is_some() {
            return Ok(());
        }
        if self.speculation.drafters.is_empty() {
            let names = speculator.drafters.iter().map(|drafter| drafter.name().to_owned());
            self.speculation.drafters = names.map(|name| DrafterCount { name, ..DrafterCount::default() }).collect();
        }
        let mut store = std::mem::take(&mut speculator.base_rows);
        let mut kept;
        let base: &mut dyn Expert = if speculator.drafters.iter().any(|drafter| drafter.keeps_base()) {
            kept = Kept { expert: base, store: &mut store };
            &mut kept
        } else {
            base
        };
        let finish = Run { base, chain, text: self, is_eog, each }.cycle(speculator);
        speculator.base_rows = store;
        self.finish = finish?;
        if self.finish.is_none() && self.response().len() >= self.n_predict {
            self.finish = Some(Finish::Length);
        }
        Ok(())
    }
}

/// One cycle of a text.
struct Run<'a> {
    base: &'a mut dyn Expert,
    chain: &'a mut dyn TargetChain,
    text: &'a mut Text,
    is_eog: &'a dyn Fn(Token) -> bool,
    each: &'a mut dyn FnMut(Step<'_>) -> Flow,
}

impl Run<'_> {
    /// Why the text has ended, if it has.
    fn cycle(&mut self, spec: &mut Speculator) -> Result<Option<Finish>, DecodeError> {
        let start = Instant::now();
        let (len, n) = (self.text.history.len(), self.text.response().len());
        let first = n == 0;
        let room = self.base.n_ctx().saturating_sub(len).min(self.chain.room(len));
        let room = room.min(self.text.n_predict - n - 1);
        // The first token waits for nobody: the prompt is read by base and ARMs alone.
        let plan = if first { None } else { spec.plan(&self.text.history, room) };
        spec.draft.clear();
        let (mut drafting, mut catch_up) = (Duration::ZERO, Duration::ZERO);
        if let Some(plan) = plan
            && let Err(fault) = self.draft(spec, plan, &mut catch_up, &mut drafting)
        {
            self.text.history.truncate(len);
            return ending(fault, false).map(Some);
        }
        let judged = match self.verify(spec, len, first) {
            Ok(judged) => judged,
            Err(Fault::Base(ExpertError::ContextFull { .. })) => return Ok(Some(Finish::Length)),
            Err(Fault::Base(ExpertError::Interrupted)) => return Ok(Some(Finish::Interrupted)),
            Err(Fault::Base(error)) => return Err(error.into()),
            Err(Fault::Chain(fault)) => return ending(fault, first).map(Some),
        };
        let drafted = spec.draft.len();
        let plan = plan.filter(|_| drafted > 0).map(|plan| Plan { k: drafted, ..plan });
        if !first {
            let total = start.elapsed();
            let (kept, emitted) = (judged.kept, judged.kept + usize::from(judged.own.is_some()));
            self.count(plan, emitted, kept, [catch_up, drafting, total, judged.sampling]);
            if let Policy::Auto(controller) = &mut spec.policy {
                controller.record(&Cycle { plan, kept, emitted, seconds: (total - catch_up).as_secs_f64() });
            }
        }
        Ok(judged.finish)
    }

    fn count(&mut self, plan: Option<Plan>, emitted: usize, kept: usize, times: [Duration; 4]) {
        let [catch_up, drafting, total, sampling] = times;
        let stats = &mut self.text.speculation;
        stats.cycles += 1;
        stats.tokens += emitted as u64;
        stats.catch_up += catch_up;
        stats.draft += drafting;
        stats.sampling += sampling;
        stats.verify += total.saturating_sub(catch_up + drafting + sampling);
        if let Some(plan) = plan {
            stats.drafts += 1;
            stats.drafted += plan.k as u64;
            stats.accepted += kept as u64;
            stats.drafters[plan.drafter].drafted += plan.k as u64;
            stats.drafters[plan.drafter].accepted += kept as u64;
        }
    }

    /// Fills `spec.draft`, and adds it to the history. An error ends the text; a drafter that merely fails is left out from now on.
    fn draft(
        &mut self,
        spec: &mut Speculator,
        plan: Plan,
        catch_up: &mut Duration,
        drafting: &mut Duration,
    ) -> Result<(), ChainFault> {
        /// So many tokens behind it is no longer in step.
        const BEHIND: usize = 32;
        let start = Instant::now();
        let drafter = &mut spec.drafters[plan.drafter];
        let behind = spec.offers[plan.drafter].behind;
        let mut work = Work { base: self.base, chain: self.chain, history: &mut self.text.history, rng: &mut spec.rng };
        let mut result = if behind > BEHIND { drafter.catch_up(&mut work) } else { Ok(()) };
        *catch_up = start.elapsed();
        if result.is_ok() {
            result = drafter.draft(&mut work, plan.k, &mut spec.draft);
        }
        *drafting = start.elapsed() - *catch_up;
        let Err(fault) = result else { return Ok(()) };
        let source = match &fault {
            ChainFault::Draft(source) | ChainFault::Base(source) => Some(source),
            ChainFault::Guide(fault) => Some(&fault.source),
            ChainFault::NoCandidate | ChainFault::Grammar { .. } => None,
        };
        match source {
            Some(ExpertError::Interrupted) => return Err(fault),
            None | Some(ExpertError::ContextFull { .. }) => {}
            Some(_) => {
                tracing::warn!(drafter = drafter.name(), %fault, "the drafter failed, decoding goes on without it");
                spec.failed[plan.drafter] = true;
            }
        }
        Ok(())
    }

    /// Reads the draft and draws from it. Afterwards the history holds the text, also where something failed.
    fn verify(&mut self, spec: &mut Speculator, len: usize, first: bool) -> Result<Judged, Fault> {
        let n = spec.draft.len() + 1;
        let start = Instant::now();
        self.chain.prepare(&self.text.history, n);
        let rows = match self.base.advance(&self.text.history, n) {
            Ok(rows) => rows,
            Err(error) => {
                self.text.history.truncate(len);
                return Err(Fault::Base(error));
            }
        };
        *(if first { &mut self.text.prompt } else { &mut self.text.base }) += start.elapsed();
        let mut judged = Judged::default();
        let start = match self.chain.verify(&self.text.history, rows, n) {
            Ok(()) => Instant::now(),
            Err(fault) => {
                self.text.history.truncate(len);
                return Err(fault.into());
            }
        };
        let n_vocab = rows.len() / n;
        let Self { chain, text, is_eog, each, .. } = self;
        let mut result = Ok(());
        for (i, logits) in rows.chunks_exact(n_vocab).enumerate() {
            let (token, keeps) = match spec.judge(*chain, logits, i) {
                Ok(judged) => judged,
                Err(fault) => {
                    result = Err(fault);
                    break;
                }
            };
            if is_eog(token) {
                // Drafted or not, it is no token of the text.
                judged.finish = Some(Finish::Eos);
                break;
            }
            let flow = each(Step { token, history: &text.history[..len + i], logits });
            chain.accept(token, true);
            if keeps {
                judged.kept += 1
            } else {
                judged.own = Some(token)
            }
            if flow == Flow::Stop {
                judged.finish = Some(Finish::Stop);
            }
            if !keeps || judged.finish.is_some() {
                break;
            }
        }
        judged.sampling = start.elapsed();
        self.text.history.truncate(len + judged.kept);
        self.text.history.extend(judged.own);
        Ok(result.map(|()| judged)?)
    }
}

/// What became of a draft.
#[derive(Default)]
struct Judged {
    /// Drafted tokens that were kept.
    kept: usize,
    /// The target's own token after them; `None` where the text ended before.
    own: Option<Token>,
    finish: Option<Finish>,
    sampling: Duration,
}

/// What went wrong while a draft was verified.
enum Fault {
    Base(ExpertError),
    Chain(ChainFault),
}

impl From<ChainFault> for Fault {
    fn from(fault: ChainFault) -> Self {
        Self::Chain(fault)
    }
}
