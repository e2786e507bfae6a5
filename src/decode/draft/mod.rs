//! Who proposes tokens, and with which probabilities.
//!
//! A drafter's distribution q may be anything: what is exact does not depend on it, only how many tokens are kept.

mod arm;
mod base;
mod head;
mod lookup;
mod model;

pub use arm::ArmDrafter;
pub use base::BaseDrafter;
pub use head::HeadDrafter;
pub use lookup::LookupDrafter;
pub use model::ModelDrafter;

use rand::Rng;
use rand_chacha::ChaCha8Rng;

use super::{ChainFault, Distribution, GuidedChain};
use crate::expert::{Expert, ExpertError, Token};

/// Proposes the next tokens of a text.
pub trait Drafter: Send {
    /// Its name in reports: `backbone`, `draft`, `base`, `mtp`, `arm:NAME`, `lookup`.
    fn name(&self) -> &str;

    /// What it could draft after `history`, told at no cost.
    fn offer(&mut self, history: &[Token]) -> Offer {
        let _ = history;
        Offer::default()
    }

    /// Whether it drafts with the base, whose rows must then be kept.
    fn keeps_base(&self) -> bool {
        false
    }

    /// Whether it drafts with the ARMs, which have then read the draft, but for its last token, when it is verified.
    fn keeps_arms(&self) -> bool {
        false
    }

    /// Whether it drafts with the base's own head, which must then read along ([`Expert::draft_row`]).
    fn uses_head(&self) -> bool {
        false
    }

    /// The model that it drafts with, where that is no other's.
    fn expert(&mut self) -> Option<&mut (dyn Expert + Send + 'static)> {
        None
    }

    /// Brings what it drafts with to `history`, so that the time of a prompt is not taken for that of a token.
    ///
    /// # Errors
    ///
    /// When a model fails.
    fn catch_up(&mut self, work: &mut Work<'_>) -> Result<(), ChainFault> {
        let _ = work;
        Ok(())
    }

    /// Drafts up to `k` tokens after `work.history`: into `draft`, and at the end of the history too.
    ///
    /// # Errors
    ///
    /// When a model fails. The tokens that are drafted by then are good.
    fn draft(&mut self, work: &mut Work<'_>, k: usize, draft: &mut Draft) -> Result<(), ChainFault>;
}

/// What a drafter has to offer now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Offer {
    /// Tokens that it can draft at most; 0 where it has nothing to say.
    pub max: usize,
    /// How sure it is, below [`N_CLASSES`]: acceptance is measured for each class.
    pub class: usize,
    /// How many tokens of the text the model that it drafts with has not read yet.
    pub behind: usize,
}

impl Offer {
    /// Of a drafter that has nothing to say.
    pub const NOTHING: Self = Self { max: 0, class: 0, behind: 0 };
}

/// Classes of offers.
pub const N_CLASSES: usize = 3;

impl Default for Offer {
    fn default() -> Self {
        Self { max: usize::MAX, class: 0, behind: 0 }
    }
}

/// What a drafter works with.
pub struct Work<'a> {
    /// The base.
    pub base: &'a mut dyn Expert,
    /// Guidance and truncation.
    pub chain: &'a mut dyn GuidedChain,
    /// The text; drafted tokens are added to it.
    pub history: &'a mut Vec<Token>,
    /// Randomness of its own, seeded with the text's seed.
    pub rng: &'a mut ChaCha8Rng,
}

impl Work<'_> {
    /// Draws a token from the truncated distribution of `logits`, and adds it to draft and history.
    fn draw(&mut self, logits: &[f32], draft: &mut Draft) -> Result<(), ChainFault> {
        let drafted = self.chain.draft_distribution(logits, draft.push(0));
        draft.draw_last(drafted, self.rng, self.history)
    }
}

/// Drafted tokens, and the distributions that they were drawn from.
#[derive(Debug, Default)]
pub struct Draft {
    tokens: Vec<Token>,
    /// At least one a token; more are kept for later.
    q: Vec<Distribution>,
}

impl Draft {
    /// The tokens, in order.
    pub fn tokens(&self) -> &[Token] {
        &self.tokens
    }

    /// What token `i` was drawn from.
    pub fn q(&self, i: usize) -> &Distribution {
        &self.q[i]
    }

    /// Number of tokens.
    pub fn len(&self) -> usize {
        self.tokens.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }

    /// Begins anew.
    pub fn clear(&mut self) {
        self.tokens.clear();
    }

    /// Adds a token; returns the place for what it was drawn from.
    pub fn push(&mut self, token: Token) -> &mut Distribution {
        self.tokens.push(token);
        if self.q.len() < self.tokens.len() {
            self.q.push(Distribution::default());
        }
        &mut self.q[self.tokens.len() - 1]
    }

    /// Draws the last token from its distribution, and adds it to `history`; where that `failed`, the token is dropped.
    fn draw_last(
        &mut self,
        failed: Result<(), ChainFault>,
        rng: &mut ChaCha8Rng,
        history: &mut Vec<Token>,
    ) -> Result<(), ChainFault> {
        let at = self.tokens.len() - 1;
        self.tokens.truncate(at);
        failed?;
        let token = self.q[at].draw(rng.random()).ok_or(ChainFault::NoCandidate)?;
        self.tokens.push(token);
        history.push(token);
        Ok(())
    }
}

/// Copies a row of an expert whose vocabulary may have another padding; tokens that it lacks are never drafted.
fn copy_row(row: &[f32], out: &mut [f32]) {
    let common = row.len().min(out.len());
    out[..common].copy_from_slice(&row[..common]);
    out[common..].fill(f32::NEG_INFINITY);
}

fn failed(error: ExpertError) -> ChainFault {
    ChainFault::Draft(error)
}
