//! Tokens of the ARM that several tokens of the base begin with: "goal" of "goal", "goalie" and "goalkeeper".
//!
//! The ARM's row says how likely the first token is, and not how it goes on. Where that matters, the row after it is read
//! too; elsewhere the base's own probabilities divide what the token has.

use super::cover::{Care, Cover};
use super::lexicon::Translation;
use super::paths::Path;
use super::rows::KeptRows;
use super::spellings::Spellings;
use crate::expert::{ExpertError, Token};
use crate::guidance::lanes;

/// A token of the base that may be next, and the ARM's token that it goes on with; `None` where it ends there, or where
/// that is not known.
type Candidate = (Option<Token>, Token);

/// A path of the ARM's tokens that the candidates begin with.
struct Doubt {
    /// The path without its last token, and that token.
    path: Path,
    token: Token,
    /// How many of its tokens lie beyond the reading.
    depth: usize,
    /// Bytes of the reading's text that its first token repeats.
    pending: usize,
    /// The probability that the ARM's text goes on with this path.
    p: f32,
    /// How much of the guided distribution the base divides here; 0 until it was looked at.
    weight: f32,
    candidates: Vec<Candidate>,
}

/// What is left open while the rows of a step are added up.
#[derive(Default)]
pub(super) struct Doubts {
    open: Vec<Doubt>,
    /// Lists to be used again.
    spare: Vec<Vec<Candidate>>,
    /// The share of the ARM's texts that turned out to be none of those that the base would spell as it has.
    lost: f32,
    /// The tokens of a path beyond its reading, the base's last tokens, and what of the ARM's row has been given away.
    tokens: Vec<Token>,
    window: Vec<Token>,
    given: Vec<Token>,
}

/// Where a step is, and what it can ask.
pub(super) struct Place<'a> {
    pub with: &'a Translation,
    pub cover: &'a mut Cover,
    /// Tokens of the text.
    pub at: usize,
    pub rows: &'a mut KeptRows,
    pub spellings: &'a mut Spellings,
    /// The base's probabilities, but for a factor.
    pub base: &'a [f32],
}

/// The probability of a token of the ARM below which it is not worth a look.
pub(super) const LEAST_OPEN: f32 = 0.005;
/// The probability of two tokens of the ARM or more below which it is not asked what the base says first for them.
const LEAST_NEXT: f32 = 1e-4;
/// The base's probability, as a share of its likeliest token's, below which a candidate is not told from others.
const LEAST_OF_BASE: f32 = 1e-5;

impl Doubts {
    /// Forgets what a step that failed has left.
    pub fn clear(&mut self) {
        self.spare.extend(self.open.drain(..).map(|doubt| cleared(doubt.candidates)));
        self.lost = 0.0;
    }

    /// Leaves open to which of `among` the probability `p` of the ARM's token after `path` goes.
    pub fn add(&mut self, (path, pending): (Path, usize), token: Token, p: f32, among: &[Token]) {
        let mut candidates = self.spare.pop().unwrap_or_default();
        candidates.extend(among.iter().map(|token| (None, *token)));
        self.open.push(Doubt { path, token, depth: 1, pending, p, weight: 0.0, candidates });
    }

    /// Gives all that is open to tokens of the base. Returns how much of the ARM's probability is left: what the others
    /// are shares of.
    pub fn settle(&mut self, place: &mut Place<'_>, care: Care, q: &mut [f32]) -> Result<f32, ExpertError> {
        if care.n_rows > 0 && !self.open.is_empty() {
            let settled = lanes::dot(q, place.base);
            let least = care.least * (settled + self.open.iter().map(|doubt| doubt.guided(place.base)).sum::<f32>());
            // Most have so little that it does not matter how it is divided.
            for doubt in self.open.iter_mut().filter(|doubt| doubt.most(place.base) > least) {
                doubt.look(place);
            }
            for _ in 0..care.n_rows {
                let weights = self.open.iter().map(|doubt| doubt.weight);
                let largest = weights.enumerate().max_by(|a, b| a.1.total_cmp(&b.1));
                let Some((worst, _)) = largest.filter(|(_, weight)| *weight > least) else { break };
                let doubt = self.open.swap_remove(worst);
                self.read(doubt, place, q)?;
            }
        }
        for doubt in &self.open {
            divide(&doubt.candidates, doubt.p, place.base, q);
        }
        let left = 1.0 - self.lost;
        self.clear();
        Ok(left)
    }

    /// Reads the row after a doubtful path, and gives each of its tokens to what the base says first for such a text.
    fn read(&mut self, doubt: Doubt, place: &mut Place<'_>, q: &mut [f32]) -> Result<(), ExpertError> {
        let path = place.cover.paths.child(doubt.path, doubt.token);
        if place.rows.prompt.len() + place.cover.paths.depth(path) >= place.rows.expert.n_ctx() {
            divide(&doubt.candidates, doubt.p, place.base, q);
            return Ok(());
        }
        let row = place.rows.get(&place.cover.paths, path)?;
        let Doubt { pending, depth, .. } = doubt;
        self.tokens.clear();
        place.cover.paths.tokens(path, &mut self.tokens);
        self.tokens.drain(..self.tokens.len() - depth);
        self.window.clear();
        if pending > 0 {
            place.cover.write_window(place.with, place.at, pending, &mut self.window);
        }
        self.given.clear();
        let (mut left, first) = (1.0, self.open.len());
        let next = |token, p, candidates| Doubt { path, token, depth: depth + 1, pending, p, weight: 0.0, candidates };
        // What candidates go on with.
        for alike in doubt.candidates.chunk_by(|a, b| a.0 == b.0) {
            let Some(token) = alike[0].0 else { continue };
            let p = row.p(token);
            left -= p;
            self.given.push(token);
            match doubt.p * p {
                p if p < LEAST_NEXT => divide(alike, p, place.base, q),
                p => {
                    let candidates = self.candidates(place.with, place.spellings, token, pending, alike);
                    self.open.push(next(token, p, candidates));
                }
            }
        }
        // What reaches across the end of a candidate.
        let arm = &place.with.lexicon.arm;
        let n_before = self.tokens.iter().map(|token| arm.get(*token).len()).sum::<usize>() - pending;
        let likely = row.lse + (LEAST_NEXT / doubt.p).ln();
        for (token, _) in row.logits.iter().enumerate().filter(|(_, logit)| **logit >= likely) {
            let token = token as Token;
            let across = |(_, candidate): &Candidate| {
                let rest = place.with.lexicon.base.get(*candidate).get(n_before..).unwrap_or_default();
                !rest.is_empty() && arm.get(token).len() > rest.len() && arm.get(token).starts_with(rest)
            };
            if self.given.contains(&token) || !doubt.candidates.iter().any(across) {
                continue;
            }
            let candidates = self.candidates(place.with, place.spellings, token, pending, &[]);
            if candidates.is_empty() {
                continue;
            }
            let p = row.p(token);
            left -= p;
            self.open.push(next(token, doubt.p * p, candidates));
        }
        // All others end the text here, for the base.
        let rest = &doubt.candidates[..doubt.candidates.partition_point(|(next, _)| next.is_none())];
        let p = doubt.p * f32::max(left, f32::EPSILON);
        match rest {
            [] => self.lost += p,
            _ => divide(rest, p, place.base, q),
        }
        self.spare.push(cleared(doubt.candidates));
        for i in (first..self.open.len()).rev() {
            if let [(_, only)] = self.open[i].candidates[..] {
                let done = self.open.swap_remove(i);
                q[only as usize] += done.p;
                self.spare.push(cleared(done.candidates));
            } else {
                self.open[i].look(place);
            }
        }
        Ok(())
    }

    /// What the base may say where the ARM goes on with `token`: of `alike`, or else what it says first for such a text.
    fn candidates(
        &mut self,
        with: &Translation,
        spellings: &mut Spellings,
        token: Token,
        pending: usize,
        alike: &[Candidate],
    ) -> Vec<Candidate> {
        let mut candidates = self.spare.pop().unwrap_or_default();
        candidates.extend(alike.iter().map(|(_, candidate)| (None, *candidate)));
        self.tokens.push(token);
        for candidate in spellings.next(with, &self.window, &self.tokens, pending) {
            if !candidates.contains(&(None, *candidate)) {
                candidates.push((None, *candidate));
            }
        }
        self.tokens.pop();
        candidates
    }
}

impl Doubt {
    /// Finds what the candidates go on with, and puts those that go on alike side by side.
    fn look(&mut self, place: &mut Place<'_>) {
        let Place { with, base, .. } = *place;
        let bytes = place.cover.bytes(place.at);
        let pending = &bytes[bytes.len() - self.pending..];
        for (next, candidate) in &mut self.candidates {
            if base[*candidate as usize] < LEAST_OF_BASE {
                continue;
            }
            let spelling = match pending {
                [] => with.lexicon.spelling(*candidate),
                _ => place.spellings.spelled(with, pending, *candidate),
            };
            // Some begin so only before what may follow them.
            let begins = spelling.get(self.depth - 1) == Some(&self.token);
            *next = spelling.get(self.depth).copied().filter(|_| begins);
        }
        self.candidates.sort_unstable();
        // Σ c·(1 − c / Σ c) over the candidates that go on alike, as if the ARM divided them as the base does.
        let all = sum(&self.candidates, base);
        let alike = self.candidates.chunk_by(|a, b| a.0 == b.0).map(|alike| sum(alike, base));
        self.weight = self.p * alike.map(|c| c * (1.0 - c / all)).sum::<f32>();
    }

    /// The weight, at most.
    fn most(&self, base: &[f32]) -> f32 {
        self.p * sum(&self.candidates, base)
    }

    /// The guided distribution's share, but for a factor, if the base divides the probability.
    fn guided(&self, base: &[f32]) -> f32 {
        let all = sum(&self.candidates, base);
        let squares: f32 = self.candidates.iter().map(|(_, token)| base[*token as usize].powi(2)).sum();
        if all > 0.0 { self.p * squares / all } else { 0.0 }
    }
}

fn sum(candidates: &[Candidate], base: &[f32]) -> f32 {
    candidates.iter().map(|(_, token)| base[*token as usize]).sum()
}

/// Divides `p` among candidates as the base would.
fn divide(among: &[Candidate], p: f32, base: &[f32], q: &mut [f32]) {
    let factor = p / sum(among, base);
    for (_, token) in among {
        // The base may forbid all of them.
        q[*token as usize] += match factor.is_finite() {
            true => factor * base[*token as usize],
            false => p / among.len() as f32,
        };
    }
}

fn cleared(mut candidates: Vec<Candidate>) -> Vec<Candidate> {
    candidates.clear();
    candidates
}
