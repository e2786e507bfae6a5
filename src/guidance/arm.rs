//! An ARM: an expert, and what it reads where the base reads the text.

use super::error::GuideError;
use super::vocabulary::{Contract, Tail};
use crate::expert::{Expert, Token};
use crate::logits_cache::LogitsCache;

/// What an ARM reads before a text that is given in tokens.
struct Prefix {
    tokens: Vec<Token>,
    /// The token that begins a text.
    bos: Option<Token>,
}

/// An autoregressive reward model: an expert with a name.
pub struct Arm {
    pub(super) name: String,
    pub(super) expert: Box<dyn Expert + Send>,
    /// Whether the base has tokens after the ARM's last.
    pub(super) padded: bool,
    /// The ARM's own rendering of the prompt; `None` reads the base's tokens.
    pub(super) prompt: Option<Vec<Token>>,
    /// What it reads before the base's tokens where it has no rendering of its own.
    prefix: Option<Prefix>,
    /// Prompt and response as the ARM reads them; kept to be reused.
    history: Vec<Token>,
    /// Rows of single steps, where a drafter goes step by step.
    pub(super) rows: Option<LogitsCache>,
}

impl Arm {
    /// An ARM whose vocabulary has been [checked](super::check_vocabulary) against the base's.
    pub fn new(name: impl Into<String>, expert: Box<dyn Expert + Send>, contract: Contract) -> Self {
        let padded = matches!(contract.tail, Tail::Base(_));
        Self { name: name.into(), expert, padded, prompt: None, prefix: None, history: Vec::new(), rows: None }
    }

    /// Lets it read `tokens` before the base's: after `bos`, where a text begins with that.
    #[must_use]
    pub fn with_prefix(self, tokens: Vec<Token>, bos: Option<Token>) -> Self {
        Self { prefix: Some(Prefix { tokens, bos }), ..self }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The expert behind it.
    pub fn expert(&mut self) -> &mut (dyn Expert + Send + 'static) {
        &mut *self.expert
    }

    /// Drops all that it holds, rows that were kept for drafts too: what follows does not depend, by a rounding, on
    /// what was read before.
    pub fn forget(&mut self) {
        self.expert.forget();
        if let Some(rows) = &mut self.rows {
            *rows = LogitsCache::default();
        }
    }

    /// Begins a text whose first `n_prompt` tokens are the base's prompt; `prompt` is what the ARM reads instead.
    pub(super) fn begin(&mut self, prompt: Option<Vec<Token>>, n_prompt: usize) {
        self.prompt = prompt;
        let own = match (&self.prompt, &self.prefix) {
            (Some(prompt), _) => prompt.len(),
            (None, Some(prefix)) => prefix.tokens.len() + n_prompt,
            (None, None) => n_prompt,
        };
        self.set_own_prompt_len(own);
    }

    /// Says how many tokens of its own histories are a prompt.
    pub(super) fn set_own_prompt_len(&mut self, n_prompt: usize) {
        let changes = self.expert.set_prompt_len(n_prompt);
        if let (true, Some(rows)) = (changes, &mut self.rows) {
            *rows = LogitsCache::default();
        }
    }

    pub(super) fn advance(&mut self, history: &[Token], n_prompt: usize, k: usize) -> Result<&[f32], GuideError> {
        let wanted = own_history(self.prompt.as_deref(), self.prefix.as_ref(), &mut self.history, history, n_prompt);
        let fail = |source| GuideError { arm: self.name.clone(), source };
        match &mut self.rows {
            Some(rows) => rows.advance(&mut *self.expert, wanted, k).map_err(fail),
            None => self.expert.advance(wanted, k).map_err(fail),
        }
    }

    pub(super) fn prepare(&mut self, history: &[Token], n_prompt: usize, k: usize) {
        let wanted = own_history(self.prompt.as_deref(), self.prefix.as_ref(), &mut self.history, history, n_prompt);
        match &mut self.rows {
            Some(rows) => rows.prepare(&mut *self.expert, wanted, k),
            None => self.expert.prepare(wanted, k),
        }
    }

    /// Tokens by which a history of `len` base tokens may grow before the ARM is full.
    pub(super) fn room(&self, len: usize, n_prompt: usize) -> usize {
        let before = self.prefix.as_ref().map_or(0, |prefix| prefix.tokens.len());
        let own = self.prompt.as_ref().map_or(before + len, |prompt| prompt.len() + len.saturating_sub(n_prompt));
        self.expert.n_ctx().saturating_sub(own)
    }

    /// Announces the next `max` tokens, if the ARM lacks more than that. False where it does not.
    pub(super) fn prepare_chunk(&mut self, history: &[Token], n_prompt: usize, max: usize) -> bool {
        let wanted = own_history(self.prompt.as_deref(), self.prefix.as_ref(), &mut self.history, history, n_prompt);
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
    prefix: Option<&Prefix>,
    buffer: &'a mut Vec<Token>,
    history: &'a [Token],
    n_prompt: usize,
) -> &'a [Token] {
    let (begin, own, rest) = match (prompt, prefix) {
        (Some(prompt), _) => (&[][..], prompt, history.get(n_prompt..).unwrap_or_default()),
        (None, Some(Prefix { tokens, bos })) => {
            let (begin, rest) =
                history.split_at(usize::from(history.first().is_some_and(|first| Some(*first) == *bos)));
            (begin, &tokens[..], rest)
        }
        (None, None) => return history,
    };
    buffer.clear();
    [begin, own, rest].into_iter().for_each(|part| buffer.extend_from_slice(part));
    buffer
}
