//! The paths of a search, and what has become of their probability.

use std::collections::{BTreeMap, BinaryHeap};

use anyhow::{Context, Result};
use genarm::Token;

use super::answer::Answer;
use super::path::{Open, Path};
use super::prospects::Prospects;
use super::question::{Decode, Question};
use super::reading::{Next, Reader, Reading};

/// Most open paths turn out as they seem, so their mass is known well enough. Those that the base goes on from do not.
const URGENCY: f64 = 30.0;
/// The share of a path that is looked at in any case.
const LARGE: f64 = 0.01;

pub struct Tree<'a> {
    question: &'a Question<'a>,
    grain: f64,
    paths: Vec<Path>,
    /// The ARM's own tokens of the text, path by path.
    usual: Vec<usize>,
    /// Paths that are a part of the text, and not extended.
    short: Vec<usize>,
    open: BinaryHeap<Open>,
    prospects: Prospects,
    /// Masses, not shares, until the end.
    found: Answer,
    /// Small children, by their next token.
    crumbs: BTreeMap<Option<Token>, f64>,
    /// The mass of open paths without a next token.
    unread: f64,
    /// Of the mass that is settled: what had become what it seemed to be, and what had not.
    kept: f64,
    changed: f64,
    pub n_decodes: usize,
}

impl<'a> Tree<'a> {
    pub fn new(question: &'a Question<'a>, grain: f64) -> Self {
        let root = Path { before: 0, token: -1, n_bytes: 0, mass: 1.0, reached: 0.0, next: None };
        let mut tree = Self {
            question,
            grain,
            paths: vec![root],
            usual: Vec::new(),
            short: Vec::new(),
            open: BinaryHeap::new(),
            prospects: Prospects::new(question.text.len()),
            found: Answer::default(),
            crumbs: BTreeMap::new(),
            unread: 0.0,
            kept: 0.0,
            changed: 0.0,
            n_decodes: 0,
        };
        if question.text.is_empty() {
            tree.paths[0].reached = 1.0;
            tree.open.push(Open(1.0, 0));
            tree.count_unread(0, 1.0);
        } else {
            tree.short.push(0);
        }
        tree
    }

    /// The mass that is known to begin with the text.
    pub fn whole(&self) -> f64 {
        self.paths[0].reached
    }

    /// Extends the ARM's own tokens of the text one by one, which shows how probable each part of it is.
    pub fn follow_usual(&mut self, reader: &mut Reader, decode: &mut Decode) -> Result<()> {
        let mut at = 0;
        let mut on_the_way = Vec::new();
        for token in self.question.usual {
            on_the_way.push(at);
            self.extend(&[at], reader, decode)?;
            let child = self.paths.iter().rposition(|path| path.before == at && path.token == *token);
            at = child.with_context(|| format!("the ARM's token {token} is not a part of its own text"))?;
        }
        if self.paths[at].n_bytes < self.question.text.len() {
            on_the_way.push(at);
            self.extend(&[at], reader, decode)?;
        }
        self.usual = on_the_way;
        self.look_ahead();
        Ok(())
    }

    /// Estimates anew what short paths are worth.
    fn look_ahead(&mut self) {
        let shares = self.usual.iter().map(|path| &self.paths[*path]).map(|path| (path.n_bytes, path.share_reached()));
        self.prospects.renew(&shares.collect::<Vec<_>>());
    }

    /// What a path that is a part of the text may be worth: as much of it as of the paths that have been read.
    fn worth(&self, path: usize) -> f64 {
        let agreeing = match self.whole() {
            0.0 => 1.0,
            whole => 1.0 - (self.found.disagree + self.found.control) / whole,
        };
        agreeing * self.paths[path].mass * self.prospects.after(self.paths[path].n_bytes)
    }

    /// What an open path is worth: its mass, or, as a share of the distribution under weight 1/2, what it may bring to
    /// the base's tokens that it has begun. Large ones come before all others.
    fn worth_of_open(&self, mass: f64, bytes: &[u8]) -> f64 {
        if mass > LARGE * self.whole() {
            return mass / LARGE;
        }
        let begun = (self.question.base)(&bytes[self.question.text.len()..]);
        mass.max(URGENCY * begun * (mass * self.whole()).sqrt()).min(self.whole())
    }

    fn worth_of_short(&self) -> f64 {
        self.short.iter().map(|path| self.worth(*path)).sum()
    }

    /// The mass of texts that the base reads as the chosen tokens and more, as far as one can see.
    pub fn agreeing(&self) -> f64 {
        self.whole() + self.worth_of_short() - self.found.disagree - self.found.control
    }

    /// The share that is not certain.
    pub fn rest(&self) -> f64 {
        1.0 - self.found.settled.values().sum::<f64>() / self.agreeing()
    }

    /// The share that may be wrong, if open paths change as often as those before them did.
    pub fn doubt(&self) -> f64 {
        let unread = (self.unread + self.worth_of_short()) / self.agreeing();
        self.rest() * self.share_changed() + unread
    }

    fn share_changed(&self) -> f64 {
        self.changed / (self.kept + self.changed).max(f64::MIN_POSITIVE)
    }

    /// Takes out the paths that are worth most.
    pub fn best(&mut self, n: usize) -> Vec<usize> {
        let mut best = Vec::new();
        let mut short: Vec<_> = self.short.iter().map(|path| (self.worth(*path), *path)).collect();
        short.sort_by(|a, b| a.0.total_cmp(&b.0));
        while best.len() < n {
            let worth = short.last().map_or(0.0, |(worth, _)| *worth);
            match self.open.peek() {
                Some(Open(of_open, path)) if *of_open >= worth => {
                    best.push(*path);
                    self.count_unread(*path, -1.0);
                    self.open.pop();
                }
                _ => match short.pop() {
                    Some((_, path)) => best.push(path),
                    None => break,
                },
            }
        }
        best
    }

    pub fn extend(&mut self, paths: &[usize], reader: &mut Reader, decode: &mut Decode) -> Result<()> {
        // In the order of their tokens, so that the ARM reads what they have in common once.
        let mut paths: Vec<_> = paths.iter().map(|path| (self.history(*path), *path)).collect();
        paths.sort();
        self.n_decodes += paths.len();
        self.short.retain(|path| !paths.iter().any(|(_, other)| other == path));
        for (history, path) in paths {
            let row = decode(&history)?;
            self.add_children(path, &probabilities(&row), reader);
        }
        self.look_ahead();
        Ok(())
    }

    fn history(&self, path: usize) -> Vec<Token> {
        let mut tokens = Vec::new();
        let mut at = path;
        while at != 0 {
            tokens.push(self.paths[at].token);
            at = self.paths[at].before;
        }
        let mut history = self.question.prompt.to_vec();
        history.extend(tokens.iter().rev());
        history
    }

    fn add_children(&mut self, path: usize, p: &[f64], reader: &mut Reader) {
        let n_prompt = self.question.prompt.len();
        let history = self.history(path);
        let mut bytes: Vec<u8> =
            history[n_prompt..].iter().flat_map(|token| self.question.vocabulary.bytes(*token)).copied().collect();
        let vocabulary = self.question.vocabulary;
        let left = self.question.text.get(bytes.len()..).unwrap_or_default();
        let mass = self.paths[path].mass;
        let of = |token: Token| mass * p[token as usize];
        let mut reaching = Vec::new();
        if left.is_empty() {
            self.add_ends(&bytes, p, mass, reader);
            reaching.extend(vocabulary.all());
        } else {
            for token in vocabulary.within(left) {
                let n_bytes = bytes.len() + vocabulary.bytes(token).len();
                if n_bytes == self.question.text.len() {
                    reaching.push(token);
                } else {
                    self.short.push(self.paths.len());
                    self.paths.push(Path { before: path, token, n_bytes, mass: of(token), reached: 0.0, next: None });
                }
            }
            reaching.extend(vocabulary.beyond(left));
            self.add_reached(path, reaching.iter().map(|token| of(*token)).sum());
        }
        let n_before = bytes.len();
        let grain = self.grain * self.whole();
        let next_of_path = self.paths[path].next;
        // Small children are only looked at one by one where the path itself has not shown the next token.
        let least = if next_of_path.is_none() { grain / 1000.0 } else { grain };
        let mut small = 0.0;
        for token in reaching {
            if of(token) < least {
                small += of(token);
                continue;
            }
            bytes.truncate(n_before);
            bytes.extend(vocabulary.bytes(token));
            if of(token) < grain {
                *self.crumbs.entry(reader.glance(&bytes)).or_default() += of(token);
                continue;
            }
            match reader.read(&bytes) {
                Reading::Settled(next) => {
                    *self.found.settled.entry(next).or_default() += of(token);
                    self.compare(next_of_path, Some(next), of(token));
                }
                Reading::Disagrees => {
                    self.found.disagree += of(token);
                    self.compare(next_of_path, None, of(token));
                }
                Reading::Open(next) => {
                    self.open.push(Open(self.worth_of_open(of(token), &bytes), self.paths.len()));
                    let n_bytes = bytes.len();
                    self.paths.push(Path { before: path, token, n_bytes, mass: of(token), reached: of(token), next });
                    self.count_unread(self.paths.len() - 1, 1.0);
                }
            }
        }
        *self.crumbs.entry(next_of_path).or_default() += small;
    }

    /// Notes that an open path without a next token comes (1) or goes (-1).
    fn count_unread(&mut self, path: usize, sign: f64) {
        if self.paths[path].next.is_none() {
            self.unread += sign * self.paths[path].mass;
        }
    }

    /// Notes whether a path has become what it seemed to be.
    fn compare(&mut self, seemed: Option<Token>, is: Option<Next>, mass: f64) {
        if let Some(seemed) = seemed {
            let kept = is == Some(Next::Token(seemed));
            *if kept { &mut self.kept } else { &mut self.changed } += mass;
        }
    }

    /// Counts texts that end here, and control tokens.
    fn add_ends(&mut self, bytes: &[u8], p: &[f64], mass: f64, reader: &Reader) {
        let vocabulary = self.question.vocabulary;
        let silent = |token: &Token| vocabulary.bytes(*token).is_empty();
        let (mut end, mut control) = (0.0, 0.0);
        for token in (0..p.len() as Token).filter(silent) {
            *if vocabulary.is_end(token) { &mut end } else { &mut control } += mass * p[token as usize];
        }
        self.found.control += control;
        match reader.ended(bytes) {
            Some(next) => *self.found.settled.entry(next).or_default() += end,
            None => self.found.disagree += end,
        }
    }

    fn add_reached(&mut self, path: usize, mass: f64) {
        let mut at = path;
        loop {
            let path = &mut self.paths[at];
            path.reached += mass;
            self.prospects.note(path.n_bytes, path.share_reached());
            if at == 0 {
                return;
            }
            at = self.paths[at].before;
        }
    }

    pub fn answer(mut self) -> Answer {
        let (agreeing, short) = (self.agreeing(), self.worth_of_short());
        let whole = self.whole() + short;
        let mut found = std::mem::take(&mut self.found);
        for Open(_, path) in &self.open {
            let Path { next, mass, .. } = self.paths[*path];
            *self.crumbs.entry(next).or_default() += mass;
        }
        for (next, mass) in &self.crumbs {
            match next {
                Some(token) => *found.open.entry(Next::Token(*token)).or_default() += mass,
                None => found.unread += mass,
            }
        }
        found.unread += short;
        for share in found.settled.values_mut().chain(found.open.values_mut()).chain([&mut found.unread]) {
            *share /= agreeing;
        }
        for share in [&mut found.disagree, &mut found.control] {
            *share /= whole;
        }
        found.changed = self.share_changed();
        found.ln_text = whole.ln();
        found.n_decodes = self.n_decodes;
        found
    }
}

fn probabilities(row: &[f32]) -> Vec<f64> {
    let highest = f64::from(row.iter().copied().fold(f32::NEG_INFINITY, f32::max));
    let mut p: Vec<f64> = row.iter().map(|logit| (f64::from(*logit) - highest).exp()).collect();
    let sum: f64 = p.iter().sum();
    p.iter_mut().for_each(|p| *p /= sum);
    p
}
