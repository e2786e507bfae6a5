//! The paths of a search, and what has become of their probability.

use std::collections::{BTreeMap, BinaryHeap};

use anyhow::{Context, Result};
use genarm::Token;

use super::answer::Answer;
use super::question::{Decode, Question};
use super::reading::{Next, Reader, Reading};

/// A path, as its last token and the path before it.
struct Path {
    before: usize,
    token: Token,
    n_bytes: usize,
    mass: f64,
    /// Of its mass, what is known to begin with the text.
    reached: f64,
    /// The base's next token, as far as one can see.
    next: Option<Token>,
}

/// A path that begins with the text and is still open, ordered by its mass.
struct Open(f64, usize);

impl PartialEq for Open {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Open {}

impl PartialOrd for Open {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Open {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.total_cmp(&other.0).then(other.1.cmp(&self.1))
    }
}

pub struct Tree<'a> {
    question: &'a Question<'a>,
    grain: f64,
    paths: Vec<Path>,
    /// The ARM's own tokens of the text, path by path.
    usual: Vec<usize>,
    /// Paths that are a part of the text, and not extended.
    short: Vec<usize>,
    open: BinaryHeap<Open>,
    /// For every position of the text: how probable the rest of the text is after a path that ends there. An estimate.
    prospects: Vec<f64>,
    /// Masses, not shares, until the end.
    found: Answer,
    /// Small children, by their next token.
    crumbs: BTreeMap<Option<Token>, f64>,
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
            prospects: vec![1.0; question.text.len() + 1],
            found: Answer::default(),
            crumbs: BTreeMap::new(),
            kept: 0.0,
            changed: 0.0,
            n_decodes: 0,
        };
        if question.text.is_empty() {
            tree.paths[0].reached = 1.0;
            tree.open.push(Open(1.0, 0));
        } else {
            tree.short.push(0);
        }
        tree
    }

    /// The mass that is known to begin with the text.
    pub fn whole(&self) -> f64 {
        self.paths[0].reached
    }

    /// Extends the ARM's own tokens of the text one by one, and learns from them how probable each part of it is.
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

    /// Estimates anew how probable the rest of the text is from every position.
    fn look_ahead(&mut self) {
        let mut end = self.question.text.len();
        let mut after = 1.0;
        for path in self.usual.iter().rev().map(|path| &self.paths[*path]) {
            // Between two tokens of its own: as if the rest of the token there were certain.
            self.prospects[path.n_bytes + 1..=end].fill(after);
            (end, after) = (path.n_bytes, path.reached / path.mass);
        }
        self.prospects[..=end].fill(after);
    }

    /// What a path that is a part of the text may be worth.
    fn worth(&self, path: usize) -> f64 {
        self.paths[path].mass * self.prospects[self.paths[path].n_bytes]
    }

    fn worth_of_short(&self) -> f64 {
        self.short.iter().map(|path| self.worth(*path)).sum()
    }

    /// The share that is not certain.
    pub fn rest(&self) -> f64 {
        let certain = self.found.settled.values().sum::<f64>() + self.found.disagree + self.found.control;
        let short = self.worth_of_short();
        (self.whole() - certain + short) / (self.whole() + short)
    }

    /// Takes out the paths that are worth most.
    pub fn best(&mut self, n: usize) -> Vec<usize> {
        let mut best = Vec::new();
        let mut short: Vec<_> = self.short.iter().map(|path| (self.worth(*path), *path)).collect();
        short.sort_by(|a, b| a.0.total_cmp(&b.0));
        while best.len() < n {
            let worth = short.last().map_or(0.0, |(worth, _)| *worth);
            match self.open.peek() {
                Some(Open(mass, _)) if *mass >= worth => best.extend(self.open.pop().map(|Open(_, path)| path)),
                _ => match short.pop() {
                    Some((_, path)) => best.push(path),
                    None => break,
                },
            }
        }
        best
    }

    pub fn extend(&mut self, paths: &[usize], reader: &mut Reader, decode: &mut Decode) -> Result<()> {
        let histories: Vec<_> = paths.iter().map(|path| self.history(*path)).collect();
        let rows = decode(&histories)?;
        self.n_decodes += paths.len();
        self.short.retain(|path| !paths.contains(path));
        for (path, row) in paths.iter().zip(rows) {
            self.add_children(*path, &probabilities(&row), reader);
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
        let least = if next_of_path.is_none() { grain / 10.0 } else { grain };
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
                    self.open.push(Open(of(token), self.paths.len()));
                    let n_bytes = bytes.len();
                    self.paths.push(Path { before: path, token, n_bytes, mass: of(token), reached: of(token), next });
                }
            }
        }
        *self.crumbs.entry(next_of_path).or_default() += small;
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
            self.paths[at].reached += mass;
            if at == 0 {
                return;
            }
            at = self.paths[at].before;
        }
    }

    pub fn answer(mut self) -> Answer {
        let short = self.worth_of_short();
        let whole = self.whole() + short;
        let mut found = std::mem::take(&mut self.found);
        for Open(mass, path) in &self.open {
            *self.crumbs.entry(self.paths[*path].next).or_default() += mass;
        }
        for (next, mass) in &self.crumbs {
            match next {
                Some(token) => *found.open.entry(Next::Token(*token)).or_default() += mass,
                None => found.unread += mass,
            }
        }
        found.unread += short;
        for share in found.settled.values_mut().chain(found.open.values_mut()) {
            *share /= whole;
        }
        for share in [&mut found.unread, &mut found.disagree, &mut found.control] {
            *share /= whole;
        }
        found.changed = self.changed / (self.kept + self.changed).max(f64::MIN_POSITIVE);
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
