//! Sequences of the ARMs, leased to texts.

use crate::expert::{Token, common_prefix};
use crate::guidance::Guide;
use crate::session::SessionError;

/// Makes a guide with sequences of its own.
pub type Make = Box<dyn Fn() -> Result<Guide, SessionError> + Send>;

/// Guides, each with sequences of its own, that take turns at more texts than there are guides.
///
/// A text keeps its guide as long as it lives. What a finished text leaves behind is taken over by the one that shares
/// the most with it: the next turn of a chat finds what the last one has read.
pub struct Pool {
    make: Make,
    max: usize,
    guides: Vec<Leased>,
    /// Counts leases: the order of use.
    clock: u64,
}

struct Leased {
    guide: Guide,
    /// What it was asked for last.
    history: Vec<Token>,
    n_prompt: usize,
    owner: Option<u64>,
    used: u64,
}

impl Pool {
    /// A pool of at most `max` guides, made when they are needed.
    pub fn new(max: usize, make: Make) -> Self {
        Self { make, max: max.max(1), guides: Vec::new(), clock: 0 }
    }

    /// Makes the first guide.
    ///
    /// # Errors
    ///
    /// What making it gave.
    pub fn warm_up(&mut self) -> Result<(), SessionError> {
        if self.guides.is_empty() {
            self.grow()?;
        }
        Ok(())
    }

    /// The guide of text `owner`, which is about to be asked for `history`, whose first `n_prompt` tokens are a prompt.
    ///
    /// # Errors
    ///
    /// What making the first guide gave. Where a further one cannot be made, texts share those that are there.
    pub fn lease(&mut self, owner: u64, history: &[Token], n_prompt: usize) -> Result<&mut Guide, SessionError> {
        let index = match self.guides.iter().position(|g| g.owner == Some(owner)) {
            Some(own) => own,
            None => self.find(history)?,
        };
        self.clock += 1;
        let leased = &mut self.guides[index];
        if leased.owner.replace(owner) != Some(owner) || leased.n_prompt != n_prompt {
            leased.n_prompt = n_prompt;
            leased.guide.set_prompt_len(n_prompt);
        }
        leased.used = self.clock;
        let common = common_prefix(&leased.history, history);
        leased.history.truncate(common);
        leased.history.extend_from_slice(&history[common..]);
        Ok(&mut leased.guide)
    }

    /// Frees what `owner` had.
    pub fn release(&mut self, owner: u64) {
        if let Some(leased) = self.guides.iter_mut().find(|g| g.owner == Some(owner)) {
            leased.owner = None;
        }
    }

    /// Guides that have been made.
    pub fn len(&self) -> usize {
        self.guides.len()
    }

    /// Whether none has been made.
    pub fn is_empty(&self) -> bool {
        self.guides.is_empty()
    }

    /// Tokens that all of them have decoded.
    pub fn n_decoded(&self) -> u64 {
        self.guides.iter().map(|g| g.guide.n_decoded()).sum()
    }

    fn find(&mut self, history: &[Token]) -> Result<usize, SessionError> {
        let free = self.guides.iter().enumerate().filter(|(_, g)| g.owner.is_none());
        // The most in common, then the least recently used.
        let best = free.max_by_key(|(_, g)| (common_prefix(&g.history, history), std::cmp::Reverse(g.used)));
        if let Some((index, _)) = best {
            return Ok(index);
        }
        if self.guides.len() < self.max {
            match self.grow() {
                Ok(index) => return Ok(index),
                Err(error) if self.guides.is_empty() => return Err(error),
                Err(error) => {
                    self.max = self.guides.len();
                    tracing::warn!(%error, sequences = self.max, "cannot make more ARM sequences; texts take turns with the existing ones");
                }
            }
        }
        let oldest = self.guides.iter().enumerate().min_by_key(|(_, g)| g.used);
        Ok(oldest.map_or(0, |(index, _)| index))
    }

    fn grow(&mut self) -> Result<usize, SessionError> {
        let guide = (self.make)()?;
        self.guides.push(Leased { guide, history: Vec::new(), n_prompt: 0, owner: None, used: 0 });
        Ok(self.guides.len() - 1)
    }
}
