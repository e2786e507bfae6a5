//! An ARM: an expert, and what it reads where the base reads the text.

use std::sync::Arc;

use super::error::GuideError;
use super::translate::{Translation, Translator};
use super::vocabulary::{Contract, Tail};
use crate::expert::{Expert, ExpertError, Token};
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
    reader: Reader,
}

/// How an ARM reads the base's text.
enum Reader {
    /// In the base's own tokens.
    Same(Box<SameTokens>),
    /// In tokens of its own.
    Translated(Box<Translator>),
}

/// An ARM with the base's vocabulary.
struct SameTokens {
    expert: Box<dyn Expert + Send>,
    /// Whether the base has tokens after the ARM's last.
    padded: bool,
    /// The ARM's own rendering of the prompt; `None` reads the base's tokens.
    prompt: Option<Vec<Token>>,
    /// What it reads before the base's tokens where it has no rendering of its own.
    prefix: Option<Prefix>,
    /// Prompt and response as the ARM reads them; kept to be reused.
    history: Vec<Token>,
    /// Rows of single steps, where a drafter goes step by step.
    rows: Option<LogitsCache>,
}

/// Rows of an ARM, and what the base's tokens after their end take.
pub(super) struct ArmRows<'a> {
    /// `k` rows of `n_vocab`, oldest first.
    pub rows: &'a [f32],
    /// Length of a row.
    pub n_vocab: usize,
    /// Whether the base has tokens after the ARM's last.
    pub padded: bool,
}

impl Arm {
    /// An ARM whose vocabulary has been [checked](super::check_vocabulary) against the base's.
    pub fn new(name: impl Into<String>, expert: Box<dyn Expert + Send>, contract: Contract) -> Self {
        let padded = matches!(contract.tail, Tail::Base(_));
        let same = SameTokens { expert, padded, prompt: None, prefix: None, history: Vec::new(), rows: None };
        Self { name: name.into(), reader: Reader::Same(Box::new(same)) }
    }

    /// An ARM of another vocabulary than the base's.
    pub fn translated(name: impl Into<String>, expert: Box<dyn Expert + Send>, with: Arc<Translation>) -> Self {
        Self { name: name.into(), reader: Reader::Translated(Box::new(Translator::new(expert, with))) }
    }

    /// Lets it read `tokens` of its own before the base's: after `bos`, where a text begins with that.
    #[must_use]
    pub fn with_prefix(mut self, tokens: Vec<Token>, bos: Option<Token>) -> Self {
        match &mut self.reader {
            Reader::Same(same) => same.prefix = Some(Prefix { tokens, bos }),
            Reader::Translated(translator) => translator.set_prefix(tokens),
        }
        self
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether its vocabulary is another than the base's.
    pub fn is_translated(&self) -> bool {
        matches!(self.reader, Reader::Translated(_))
    }

    /// The expert behind it, with its own vocabulary.
    pub fn expert(&mut self) -> &mut (dyn Expert + Send + 'static) {
        match &mut self.reader {
            Reader::Same(same) => &mut *same.expert,
            Reader::Translated(translator) => translator.expert(),
        }
    }

    /// Tokens of the base's vocabulary, where it is another than the ARM's.
    pub(super) fn n_base(&self) -> Option<usize> {
        match &self.reader {
            Reader::Same(_) => None,
            Reader::Translated(translator) => Some(translator.n_base()),
        }
    }

    /// Tokens that the expert has decoded.
    pub(super) fn n_decoded(&self) -> u64 {
        match &self.reader {
            Reader::Same(same) => same.expert.n_decoded(),
            Reader::Translated(translator) => translator.n_decoded(),
        }
    }

    /// Drops all that it holds, rows that were kept for drafts too: what follows does not depend, by a rounding, on
    /// what was read before.
    pub fn forget(&mut self) {
        match &mut self.reader {
            Reader::Same(same) => {
                same.expert.forget();
                same.drop_rows();
            }
            Reader::Translated(translator) => translator.forget(),
        }
    }

    /// Keeps the rows of single steps, for drafts. A translated ARM always does.
    pub(super) fn keep_rows(&mut self) {
        if let Reader::Same(same) = &mut self.reader {
            same.rows.get_or_insert_default();
        }
    }

    /// Begins a text whose first `n_prompt` tokens are the base's prompt; `prompt` is what the ARM reads instead.
    pub(super) fn begin(&mut self, prompt: Option<Vec<Token>>, n_prompt: usize) {
        match &mut self.reader {
            Reader::Same(same) => same.begin(prompt, n_prompt),
            Reader::Translated(translator) => translator.begin(prompt, n_prompt),
        }
    }

    /// Changes how much each of its objectives is preferred, from the next token that it decodes on.
    pub(super) fn set_coefficients(&mut self, coefficients: &[f32]) {
        match &mut self.reader {
            Reader::Same(same) => same.set_coefficients(coefficients),
            Reader::Translated(translator) => translator.set_coefficients(coefficients),
        }
    }

    /// Brings it to `history`, with what the rows of its last `k` positions need.
    pub(super) fn advance(&mut self, history: &[Token], n_prompt: usize, k: usize) -> Result<(), GuideError> {
        let done = match &mut self.reader {
            Reader::Same(same) => same.advance(history, n_prompt, k).map(|_| ()),
            Reader::Translated(translator) => translator.advance(history, k),
        };
        done.map_err(|source| GuideError { arm: self.name.clone(), source })
    }

    /// The rows of the last `k` positions of `history`. `base` are the base's rows there, which a translated ARM
    /// needs; without them it divides what it cannot decide evenly.
    pub(super) fn rows(
        &mut self,
        history: &[Token],
        n_prompt: usize,
        k: usize,
        base: &[f32],
    ) -> Result<ArmRows<'_>, GuideError> {
        let Self { name, reader } = self;
        let fail = |source| GuideError { arm: name.clone(), source };
        match reader {
            Reader::Same(same) => {
                let (n_vocab, padded) = (same.expert.n_vocab(), same.padded);
                let rows = same.advance(history, n_prompt, k).map_err(fail)?;
                Ok(ArmRows { rows, n_vocab, padded })
            }
            Reader::Translated(translator) => {
                let n_vocab = translator.n_base();
                Ok(ArmRows { rows: translator.rows(history, k, base).map_err(fail)?, n_vocab, padded: false })
            }
        }
    }

    /// The log-probability of each of the last `k` tokens of `history`, of a translated ARM: `None` says that the rows
    /// have it.
    pub(super) fn rewards(&mut self, history: &[Token], k: usize) -> Result<Option<Vec<f32>>, GuideError> {
        let Reader::Translated(translator) = &mut self.reader else { return Ok(None) };
        let mut rewards = Vec::new();
        match translator.rewards(history, k, &mut rewards) {
            Ok(()) => Ok(Some(rewards)),
            Err(source) => Err(GuideError { arm: self.name.clone(), source }),
        }
    }

    pub(super) fn prepare(&mut self, history: &[Token], n_prompt: usize, k: usize) {
        match &mut self.reader {
            Reader::Same(same) => same.prepare(history, n_prompt, k),
            Reader::Translated(translator) => translator.prepare(history),
        }
    }

    /// Tokens by which a history of `len` base tokens may grow before the ARM is full.
    pub(super) fn room(&self, len: usize, n_prompt: usize) -> usize {
        match &self.reader {
            Reader::Same(same) => same.room(len, n_prompt),
            Reader::Translated(translator) => translator.room(len),
        }
    }

    /// Announces the next `max` tokens, if the ARM lacks more than that. False where it does not.
    pub(super) fn prepare_chunk(&mut self, history: &[Token], n_prompt: usize, max: usize) -> bool {
        match &mut self.reader {
            Reader::Same(same) => same.prepare_chunk(history, n_prompt, max),
            Reader::Translated(translator) => translator.prepare_chunk(history, max),
        }
    }
}

impl SameTokens {
    fn drop_rows(&mut self) {
        if let Some(rows) = &mut self.rows {
            *rows = LogitsCache::default();
        }
    }

    fn begin(&mut self, prompt: Option<Vec<Token>>, n_prompt: usize) {
        self.prompt = prompt;
        let own = match (&self.prompt, &self.prefix) {
            (Some(prompt), _) => prompt.len(),
            (None, Some(prefix)) => prefix.tokens.len() + n_prompt,
            (None, None) => n_prompt,
        };
        if self.expert.set_prompt_len(own) {
            self.drop_rows();
        }
    }

    fn set_coefficients(&mut self, coefficients: &[f32]) {
        if self.expert.set_coefficients(coefficients) {
            self.drop_rows();
        }
    }

    fn advance(&mut self, history: &[Token], n_prompt: usize, k: usize) -> Result<&[f32], ExpertError> {
        let wanted = own_history(self.prompt.as_deref(), self.prefix.as_ref(), &mut self.history, history, n_prompt);
        match &mut self.rows {
            Some(rows) => rows.advance(&mut *self.expert, wanted, k),
            None => self.expert.advance(wanted, k),
        }
    }

    fn prepare(&mut self, history: &[Token], n_prompt: usize, k: usize) {
        let wanted = own_history(self.prompt.as_deref(), self.prefix.as_ref(), &mut self.history, history, n_prompt);
        match &mut self.rows {
            Some(rows) => rows.prepare(&mut *self.expert, wanted, k),
            None => self.expert.prepare(wanted, k),
        }
    }

    fn room(&self, len: usize, n_prompt: usize) -> usize {
        let before = self.prefix.as_ref().map_or(0, |prefix| prefix.tokens.len());
        let own = self.prompt.as_ref().map_or(before + len, |prompt| prompt.len() + len.saturating_sub(n_prompt));
        self.expert.n_ctx().saturating_sub(own)
    }

    fn prepare_chunk(&mut self, history: &[Token], n_prompt: usize, max: usize) -> bool {
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
