//! An ARM's expert behind the base's tokens.

use std::sync::Arc;

use super::cover::{Bounds, Care, Cover};
use super::lexicon::Translation;
use super::paths::Path;
use super::prompt::{render, text_start};
use super::rows::KeptRows;
use super::spellings::Spellings;
use super::step::Step;
use crate::expert::{Expert, ExpertError, Token};

/// An ARM of another vocabulary, brought along with the base's tokens of one text.
pub(crate) struct Translator {
    with: Arc<Translation>,
    rows: KeptRows,
    cover: Cover,
    spellings: Spellings,
    step: Step,
    /// The ARM's own rendering of the prompt; without it the ARM reads that of the base's tokens.
    own: Option<Vec<Token>>,
    /// What it reads before the base's tokens where it has no rendering of its own.
    prefix: Vec<Token>,
    n_prompt: usize,
    /// Where the text begins that is read token by token.
    start: usize,
    /// The base's tokens before it, where the ARM reads them.
    before: Vec<Token>,
    /// Whether the prompt has been read since [`begin`](Self::begin).
    begun: bool,
    /// Whether its preferences have changed since the text began.
    mixed: bool,
    /// The row that was made last, and after how many tokens of the text.
    q: Vec<f32>,
    made: Option<usize>,
    /// Buffers.
    all: Vec<f32>,
    window: Vec<Token>,
    bytes: Vec<u8>,
    tokens: Vec<Token>,
    ahead: Vec<Path>,
}

impl Translator {
    pub fn new(expert: Box<dyn Expert + Send>, with: Arc<Translation>) -> Self {
        let n_base = with.lexicon.base.n_tokens();
        Self {
            with,
            rows: KeptRows::new(expert),
            cover: Cover::new(Bounds::DEFAULT, Care::DEFAULT),
            spellings: Spellings::default(),
            step: Step::default(),
            own: None,
            prefix: Vec::new(),
            n_prompt: 0,
            start: 0,
            before: Vec::new(),
            begun: false,
            mixed: false,
            q: vec![0.0; n_base],
            made: None,
            all: Vec::new(),
            window: Vec::new(),
            bytes: Vec::new(),
            tokens: Vec::new(),
            ahead: Vec::new(),
        }
    }

    /// Lets it read `tokens` of the ARM before the base's, after what begins a text.
    pub fn set_prefix(&mut self, tokens: Vec<Token>) {
        self.prefix = tokens;
    }

    /// The ARM's own expert.
    pub fn expert(&mut self) -> &mut (dyn Expert + Send + 'static) {
        &mut *self.rows.expert
    }

    pub fn n_decoded(&self) -> u64 {
        self.rows.expert.n_decoded()
    }

    /// Tokens of the base's vocabulary: the length of its rows.
    pub fn n_base(&self) -> usize {
        self.q.len()
    }

    /// Leaves out less, or more.
    #[cfg(test)]
    pub(super) fn set_bounds(&mut self, bounds: Bounds, care: Care) {
        (self.cover.bounds, self.cover.care) = (bounds, care);
    }

    /// Readings of the text so far.
    #[cfg(test)]
    pub fn n_readings(&self) -> usize {
        self.cover.readings(self.cover.len()).len()
    }

    /// Begins a text whose first `n_prompt` tokens are the base's prompt; `own` is what the ARM reads instead.
    pub fn begin(&mut self, own: Option<Vec<Token>>, n_prompt: usize) {
        // Keys and values that were read under other preferences belong to the text before.
        if std::mem::take(&mut self.mixed) {
            self.drop_text();
        }
        (self.own, self.n_prompt, self.begun, self.made) = (own, n_prompt, false, None);
    }

    /// Changes how much each of the ARM's objectives is preferred. KeptRows from before are of other preferences.
    pub fn set_coefficients(&mut self, coefficients: &[f32]) {
        if self.rows.expert.set_coefficients(coefficients) {
            self.rows.truncate(0);
            (self.made, self.mixed) = (None, true);
        }
    }

    /// Drops all that it holds.
    pub fn forget(&mut self) {
        self.rows.expert.forget();
        self.drop_text();
        self.begun = false;
    }

    fn drop_text(&mut self) {
        self.cover = Cover::new(self.cover.bounds, self.cover.care);
        self.rows.truncate(0);
        self.made = None;
    }

    /// Reads the prompt of `history`, if that has not been done, takes back what `history` does not have, and returns the
    /// text after the prompt.
    fn follow<'a>(&mut self, history: &'a [Token]) -> Result<&'a [Token], ExpertError> {
        if !self.begun || !history.starts_with(&self.before) {
            let (start, prompt) = match self.own.clone() {
                Some(own) => (self.n_prompt, own),
                None => {
                    let prompt = &history[..self.n_prompt.min(history.len())];
                    self.check(prompt)?;
                    let start = text_start(&self.with, &self.prefix, prompt);
                    (start, render(&self.with, &self.prefix, &history[..start])?)
                }
            };
            // With a prompt of its own the base's is of no account.
            let before = if self.own.is_some() { &[] } else { &history[..start] };
            if prompt != self.rows.prompt || start != self.start || self.before != before {
                self.drop_text();
                self.rows.prompt = prompt;
                self.start = start;
                self.before.clear();
                self.before.extend_from_slice(before);
            }
            // The expert is to know that a text begins, if only of the same prompt again.
            self.rows.expert.set_prompt_len(self.rows.prompt.len());
            self.begun = true;
        }
        let text = history.get(self.start..).unwrap_or_default();
        let common = self.cover.common(text);
        self.check(&text[common..])?;
        if common < self.cover.len() && common < text.len() {
            self.cover.truncate(common);
            self.rows.truncate(self.cover.paths.len());
            self.made = self.made.filter(|at| *at <= common);
        }
        Ok(text)
    }

    /// Refuses tokens that the base does not have.
    fn check(&self, tokens: &[Token]) -> Result<(), ExpertError> {
        let n_vocab = self.q.len();
        let bad = tokens.iter().find(|token| usize::try_from(**token).map_or(true, |token| token >= n_vocab));
        bad.map_or(Ok(()), |token| Err(ExpertError::BadToken { token: *token, n_vocab }))
    }

    /// The readings that the ARM most likely has after the tokens of `text` that have not been read: what one batch
    /// reads.
    fn look_ahead(&mut self, text: &[Token]) {
        self.ahead.clear();
        let from = self.cover.len();
        let Some(reading) = self.cover.readings(from).first().copied() else { return };
        let lexicon = &self.with.lexicon;
        let known = self.cover.bytes(from);
        self.bytes.clear();
        self.bytes.extend_from_slice(&known[known.len() - reading.pending..]);
        let new = &text[from.min(text.len())..];
        for token in new.iter().take_while(|token| lexicon.base.adds_text(**token)) {
            self.bytes.extend_from_slice(lexicon.base.get(*token));
        }
        let n_bytes = self.bytes.len();
        if n_bytes == reading.pending {
            self.bytes.clear();
        }
        // The last space of a run is the next word's.
        if self.bytes.last().is_some_and(u8::is_ascii_whitespace) {
            self.bytes.push(b'a');
        }
        self.tokens.clear();
        lexicon.arm.spell(&*self.with.arm, &self.bytes, &mut self.tokens);
        let (mut path, mut end) = (reading.path, 0);
        for token in &self.tokens {
            end += lexicon.arm.get(*token).len();
            if end > n_bytes {
                break;
            }
            path = self.cover.paths.child(path, *token);
            self.ahead.push(path);
        }
        if self.ahead.is_empty() {
            self.ahead.push(path);
        }
        // Those that are there need not be read.
        let n_there = self.ahead.iter().take_while(|path| self.rows.has(**path)).count();
        self.ahead.drain(..n_there);
    }

    /// Announces [`advance`](Self::advance).
    pub fn prepare(&mut self, history: &[Token]) {
        // What is wrong with the history is reported when it is read.
        if let Ok(text) = self.follow(history)
            && text.len() >= self.cover.len()
        {
            self.look_ahead(text);
            self.rows.prepare(&self.cover.paths, &self.ahead);
        }
    }

    /// Announces the next `max` tokens of the prompt, if the ARM lacks more than that.
    pub fn prepare_chunk(&mut self, history: &[Token], max: usize) -> bool {
        if self.follow(history).is_err() {
            return false;
        }
        let (expert, prompt) = (&mut self.rows.expert, &self.rows.prompt);
        let end = expert.n_cached(prompt) + max;
        // A prompt that does not fit is refused by the step itself.
        let lacks_more = end < prompt.len() && prompt.len() <= expert.n_ctx();
        if lacks_more {
            expert.prepare(&prompt[..end], 1);
        }
        lacks_more
    }

    /// Brings the ARM to `history`, with all that the rows of its last `k` positions need.
    pub fn advance(&mut self, history: &[Token], k: usize) -> Result<(), ExpertError> {
        if k == 0 || k > history.len() {
            return Err(ExpertError::BadRows { k, len: history.len() });
        }
        let text = self.follow(history)?;
        let n_new = text.len().saturating_sub(self.cover.len());
        self.rows.make_room(k.max(n_new).min(MAX_AHEAD));
        while self.cover.len() < text.len() {
            let end = text.len().min(self.cover.len() + MAX_AHEAD);
            self.read_to(&text[..end])?;
        }
        for at in (text.len() + 1).saturating_sub(k)..=text.len() {
            self.read_rows(at)?;
        }
        Ok(())
    }

    /// Reads what is missing of the rows after the first `at` tokens of the text.
    fn read_rows(&mut self, at: usize) -> Result<(), ExpertError> {
        // The main reading last: the next step goes on from it.
        for i in (0..self.cover.readings(at).len()).rev() {
            let path = self.cover.readings(at)[i].path;
            self.rows.get(&self.cover.paths, path)?;
        }
        Ok(())
    }

    /// Reads the tokens of the text that have not been read yet.
    fn read_to(&mut self, text: &[Token]) -> Result<(), ExpertError> {
        self.look_ahead(text);
        self.rows.make_room_for(self.ahead.len());
        self.rows.read(&self.cover.paths, &self.ahead)?;
        let with = Arc::clone(&self.with);
        for token in &text[self.cover.len()..] {
            let Self { cover, rows, spellings, window, .. } = self;
            match with.lexicon.base.adds_text(*token) {
                true => cover.read(&with, rows, spellings, window, *token)?,
                false => cover.mark(&with, rows, *token)?,
            }
        }
        Ok(())
    }

    /// ln q of every token of the base after each of the last `k` tokens of `history`: `k` rows of
    /// [`n_base`](Self::n_base). `base` are the base's rows there, or empty.
    pub fn rows(&mut self, history: &[Token], k: usize, base: &[f32]) -> Result<&[f32], ExpertError> {
        self.advance(history, k)?;
        let (n_text, n_base) = (history.len().saturating_sub(self.start), self.q.len());
        // A host's rows may be shorter than the vocabulary.
        let width = base.len() / k;
        let mut all = std::mem::take(&mut self.all);
        match k {
            1 => all = Vec::new(),
            _ => all.resize(k * n_base, 0.0),
        }
        for i in 0..k {
            // A position in the prompt is not asked for; it has the row of the prompt's end.
            let at = (n_text + 1 + i).saturating_sub(k);
            // Asked again at a position, with a grammar's mask on the base's logits for example, it answers as before.
            if self.made != Some(at) {
                self.read_rows(at)?;
                let of_base = (width > 0).then(|| &base[i * width..][..width.min(n_base)]);
                let Self { with, cover, rows, spellings, step, q, .. } = self;
                step.write(with, cover, rows, spellings, (at, of_base), q)?;
                self.made = of_base.map(|_| at);
            }
            if k > 1 {
                all[i * n_base..(i + 1) * n_base].copy_from_slice(&self.q);
            }
        }
        self.all = all;
        Ok(if k > 1 { &self.all[..k * n_base] } else { &self.q })
    }

    /// ln of the probability that the ARM's text goes on with each of the last `k` tokens of `history`. Over a text
    /// they add up to the log-probability of the text.
    pub fn rewards(&mut self, history: &[Token], k: usize, out: &mut Vec<f32>) -> Result<(), ExpertError> {
        let text = self.follow(history)?;
        if self.cover.len() < text.len() {
            self.read_to(text)?;
        }
        out.clear();
        for at in text.len() + 1 - k.min(text.len())..=text.len() {
            out.push(self.reward(text[at - 1], at)?);
        }
        Ok(())
    }

    fn reward(&mut self, token: Token, at: usize) -> Result<f32, ExpertError> {
        if !self.with.base.is_end(token) {
            return Ok((self.cover.mass(at) - self.cover.mass(at - 1)) as f32);
        }
        // The end of the text: whichever of its ends the ARM takes.
        let with = Arc::clone(&self.with);
        let mut sum = 0.0;
        for i in 0..self.cover.readings(at - 1).len() {
            let reading = self.cover.readings(at - 1)[i];
            if reading.pending == 0 {
                let row = self.rows.get(&self.cover.paths, reading.path)?;
                let ends: f64 = with.lexicon.arm_ends().iter().map(|end| f64::from(row.p(*end))).sum();
                sum += (reading.mass - self.cover.mass(at - 1)).exp() * ends;
            }
        }
        Ok(sum.ln().max(-87.0) as f32)
    }

    /// Tokens by which the base's history may grow before the ARM is full, by a careful estimate.
    pub fn room(&self, len: usize) -> usize {
        let depth = self.cover.readings(self.cover.len()).first().map_or(0, |main| self.cover.paths.depth(main.path));
        let n_new = len.saturating_sub(self.start + self.cover.len());
        let used = self.rows.prompt.len() + depth + n_new;
        self.rows.expert.n_ctx().saturating_sub(used) / MOST_PER_TOKEN
    }
}

/// Tokens of a text that are read at once.
const MAX_AHEAD: usize = 64;

/// Tokens of the ARM that a token of the base is counted for where there must be room for it.
const MOST_PER_TOKEN: usize = 4;
