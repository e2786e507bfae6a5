//! Drafters, the policy that chooses among them, and what they achieved.

use std::time::Duration;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::Serialize;

use super::accept::{Accept, Exact};
use super::controller::{Controller, DraftPlan};
use super::draft::{Draft, Drafter, Offer};
use super::{Chain, ChainFault, Distribution};
use crate::expert::{Expert, Token};
use crate::logits_cache::LogitsCache;

/// Which drafter drafts how many tokens.
pub enum Policy {
    /// The first drafter that has something to offer, so many tokens: what a seed gives does not depend on measured
    /// times.
    Fixed(usize),
    /// What pays, plain decoding included.
    Auto(Box<Controller>),
}

/// What speculation did for a text.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
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
#[non_exhaustive]
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

/// Drafters, the policy that chooses among them, and the buffers of the loop. One a session: what it has measured
/// stays.
pub struct Speculator {
    pub(super) drafters: Vec<Box<dyn Drafter>>,
    pub(super) policy: Policy,
    rule: Box<dyn Accept>,
    pub(super) rng: ChaCha8Rng,
    /// The base's rows, which are kept where it drafts itself.
    pub(super) base_rows: LogitsCache,
    pub(super) draft: Draft,
    p: Distribution,
    pub(super) offers: Vec<Offer>,
    /// For each drafter whether it has failed, and is left out.
    pub(super) failed: Vec<bool>,
    /// The base's [pace](Expert::pace) at which times were measured.
    pace: u64,
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
            base_rows: LogitsCache::default(),
            draft: Draft::default(),
            p: Distribution::default(),
            offers: vec![Offer::default(); n],
            failed: vec![false; n],
            pace: 0,
        }
    }

    /// Whether any drafter drafts with the base's own head.
    pub fn uses_head(&self) -> bool {
        self.drafters.iter().any(|drafter| drafter.uses_head())
    }

    /// Judges by another rule: for tests, which must notice a wrong one.
    #[must_use]
    pub fn with_rule(mut self, rule: Box<dyn Accept>) -> Self {
        self.rule = rule;
        self
    }

    /// Begins the randomness anew. It is a generator of its own, so a seed gives another text than plain decoding, of
    /// the same distribution.
    pub fn seed(&mut self, seed: u64) {
        self.rng = ChaCha8Rng::seed_from_u64(seed);
    }

    /// Whether the ARMs read a draft while it is written.
    pub fn keeps_arms(&self) -> bool {
        self.drafters.iter().any(|drafter| drafter.keeps_arms())
    }

    /// The models that drafters have for themselves, with the drafters' names.
    pub(crate) fn experts(&mut self) -> impl Iterator<Item = (String, &mut (dyn Expert + Send + 'static))> {
        self.drafters.iter_mut().filter_map(|drafter| Some((drafter.name().to_owned(), drafter.expert()?)))
    }

    /// Drops what drafters hold of a text, and rows that were kept.
    pub(crate) fn forget(&mut self) {
        self.base_rows = LogitsCache::default();
        self.experts().for_each(|(_, expert)| expert.forget());
    }

    /// The controller, where there is one.
    pub fn controller(&self) -> Option<&Controller> {
        match &self.policy {
            Policy::Auto(controller) => Some(controller),
            Policy::Fixed(_) => None,
        }
    }

    /// Forgets the times that were measured at another pace of the base.
    pub(super) fn keep_pace(&mut self, pace: u64) {
        if std::mem::replace(&mut self.pace, pace) != pace
            && let Policy::Auto(controller) = &mut self.policy
        {
            controller.forget_times();
        }
    }

    /// Who drafts next, and how many tokens, where at most `room` have a place.
    pub(super) fn plan(&mut self, history: &[Token], room: usize) -> Option<DraftPlan> {
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
                Some(DraftPlan { drafter: at, class: self.offers[at].class, k: self.offers[at].max.min(*k) })
            }
        }
    }

    /// Draws the token of row `i`: whether it is the drafted one.
    pub(super) fn judge<C: Chain + ?Sized>(
        &mut self,
        chain: &mut C,
        logits: &[f32],
        i: usize,
    ) -> Result<(Token, bool), ChainFault> {
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
