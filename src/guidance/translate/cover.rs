//! The ARM's readings of the text so far.
//!
//! A reading is a path of ARM tokens whose bytes are the text, or the text but for some pending bytes at its end. It
//! stands for all of the ARM's texts that begin with this path and, where bytes are pending, go on with one token that
//! begins with them and reaches further. Readings that overlap do not exist: a path and its pending bytes follow from
//! the ARM's text. So the masses of the readings add up to the probability that the ARM's text begins with this one.

mod left_out;

use super::lexicon::Translation;
use super::paths::{Path, Paths, ROOT};
use super::rows::KeptRows;
use super::spellings::Spellings;
use crate::expert::{ExpertError, Token};

/// A reading of the text.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Reading {
    pub path: Path,
    /// Bytes at the end of the text that no token of the path has.
    pub pending: usize,
    /// ln of the probability of the path.
    pub path_mass: f64,
    /// ln of the probability of all texts that it stands for.
    pub mass: f64,
}

/// What is left out of a cover.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// Readings whose share of the best one's mass is below this.
    pub least: f64,
    /// The same for readings that the ARM's tokenizer would not write.
    pub least_odd: f64,
    /// The same for those whose row would have to be read first.
    pub least_odd_unread: f64,
    /// Also the probability of a token that the ARM's tokenizer would not write, for the row after it to be read: after
    /// such a token the rest of the text is hardly likelier than in the usual spelling.
    pub least_odd_p: f64,
    /// Tokens that reach across the end of the text, whose share of the likeliest one's is below this.
    pub least_token: f32,
    /// Readings at most.
    pub n_readings: usize,
    /// Tokens at the end of two readings that make them one, if they are the same. Whatever lies before them the ARM has
    /// all but forgotten, and it would have to read one reading after the other anew at every step.
    pub n_alike: usize,
}

impl Bounds {
    pub const DEFAULT: Self = Self {
        least: 1e-3,
        least_odd: 0.02,
        least_odd_unread: 1.0,
        least_odd_p: 0.1,
        least_token: 1e-3,
        n_readings: 6,
        n_alike: 4,
    };
}

/// When a step reads the row after a token of the ARM that several tokens of the base begin with.
#[derive(Debug, Clone, Copy)]
pub(super) struct Care {
    /// The share of the guided distribution that the base's own probabilities may divide.
    pub least: f32,
    /// Rows that a step reads at most.
    pub n_rows: usize,
}

impl Care {
    pub const DEFAULT: Self = Self { least: 0.02, n_rows: 4 };
}

/// The readings after one token of the base.
#[derive(Debug, Clone, Copy)]
struct Mark {
    /// The base's token; −1 before the first.
    token: Token,
    /// Where its readings begin.
    readings: usize,
    /// Bytes of the text.
    n_bytes: usize,
    /// Readings that there were in the tree.
    n_paths: usize,
    /// ln of the probability that the ARM's text begins with this one.
    mass: f64,
}

/// The readings after every token of a text, from the end of the prompt on.
pub(super) struct Cover {
    pub paths: Paths,
    pub bounds: Bounds,
    pub care: Care,
    bytes: Vec<u8>,
    marks: Vec<Mark>,
    readings: Vec<Reading>,
    /// What a walk has still to look at, and what it has found; kept to be reused.
    open: Vec<Open>,
    found: Vec<Reading>,
    /// Tokens that end within the text, with their lengths and the mass with them.
    children: Vec<(Token, usize, f64)>,
}

/// A path that a walk has reached.
#[derive(Debug, Clone, Copy)]
struct Open {
    path: Path,
    /// The next token must reach beyond so many of the pending bytes.
    beyond: usize,
    pending: usize,
    mass: f64,
}

impl Cover {
    pub fn new(bounds: Bounds, care: Care) -> Self {
        let root = Reading { path: ROOT, pending: 0, path_mass: 0.0, mass: 0.0 };
        Self {
            paths: Paths::new(),
            bounds,
            care,
            bytes: Vec::new(),
            marks: vec![Mark { token: -1, readings: 0, n_bytes: 0, n_paths: 1, mass: 0.0 }],
            readings: vec![root],
            open: Vec::new(),
            found: Vec::new(),
            children: Vec::new(),
        }
    }

    /// The base's tokens that have been read.
    pub fn len(&self) -> usize {
        self.marks.len() - 1
    }

    /// How many of `tokens` have been read in this order.
    pub fn common(&self, tokens: &[Token]) -> usize {
        // A walk that failed has left a mark without readings.
        let whole = self.len() - usize::from(self.readings(self.len()).is_empty());
        self.marks[1..=whole].iter().zip(tokens).take_while(|(mark, token)| mark.token == **token).count()
    }

    /// Takes back all but the first `len` tokens. The tree may have paths that were asked for ahead; they stay below.
    pub fn truncate(&mut self, len: usize) {
        let mark = self.marks[len];
        self.readings.truncate(self.end_of_readings(len));
        self.marks.truncate(len + 1);
        self.bytes.truncate(mark.n_bytes);
        self.paths.truncate(mark.n_paths);
    }

    fn end_of_readings(&self, at: usize) -> usize {
        self.marks.get(at + 1).map_or(self.readings.len(), |next| next.readings)
    }

    /// The readings after the first `at` tokens, that of the largest mass first.
    pub fn readings(&self, at: usize) -> &[Reading] {
        &self.readings[self.marks[at].readings..self.end_of_readings(at)]
    }

    /// ln of the probability that the ARM's text begins with the first `at` tokens.
    pub fn mass(&self, at: usize) -> f64 {
        self.marks[at].mass
    }

    /// The bytes of the text after the first `at` tokens.
    pub fn bytes(&self, at: usize) -> &[u8] {
        &self.bytes[..self.marks[at].n_bytes]
    }

    /// The base's last tokens from the beginning of the word on in which the last `pending` bytes begin: what follows
    /// may change how the base spells them.
    pub fn write_window(&self, with: &Translation, at: usize, pending: usize, out: &mut Vec<Token>) {
        out.clear();
        let border = self.marks[at].n_bytes - pending;
        let mut from = at;
        while from > 0 {
            let bytes = with.lexicon.base.get(self.marks[from].token);
            let covers = self.marks[from].n_bytes > border;
            if !with.lexicon.base.adds_text(self.marks[from].token) || (!covers && at - from >= MAX_WINDOW) {
                break;
            }
            from -= 1;
            let begins_word = bytes.first().is_some_and(u8::is_ascii_whitespace);
            if begins_word && self.marks[from].n_bytes <= border {
                break;
            }
        }
        out.extend(self.marks[from + 1..=at].iter().map(|mark| mark.token));
    }

    /// Reads a token of the base that adds no text: an end, or a marker that the ARM has by the same name.
    pub fn mark(&mut self, with: &Translation, rows: &mut KeptRows, token: Token) -> Result<(), ExpertError> {
        let at = self.len();
        self.found.clear();
        if let Some(twin) = with.lexicon.twin(token) {
            for i in self.marks[at].readings..self.readings.len() {
                let reading = self.readings[i];
                if reading.pending == 0 {
                    let mass = reading.mass + f64::from(rows.get(&self.paths, reading.path)?.ln_p(twin));
                    if mass == f64::NEG_INFINITY {
                        continue;
                    }
                    let path = self.paths.child(reading.path, twin);
                    self.found.push(Reading { path, pending: 0, path_mass: mass, mass });
                }
            }
        }
        if self.found.is_empty() {
            // The ARM does not see it.
            self.found.extend_from_slice(&self.readings[self.marks[at].readings..]);
        }
        self.settle(token, self.bounds);
        Ok(())
    }

    /// Reads a token of the base that adds text: every reading of the text before it, continued.
    ///
    /// A reading that was left out may turn out to be the likeliest, where a word goes on as no other reading expects
    /// ("gratis" after "gr"), or the only one. As a rule it is the tokenizer's own. Inside a character there is none: then
    /// the last tokens are read once more, with less left out.
    pub fn read(
        &mut self,
        with: &Translation,
        rows: &mut KeptRows,
        spellings: &mut Spellings,
        window: &mut Vec<Token>,
        token: Token,
    ) -> Result<(), ExpertError> {
        let before = self.len();
        let in_word = self.goes_on(with, before, with.lexicon.base.get(token));
        if self.walk(with, rows, spellings, window, (token, self.bounds))? {
            let ln_p = self.mass(before + 1) - self.mass(before);
            return if in_word && ln_p < UNEXPECTED.ln() { self.add_own_spelling(with, rows) } else { Ok(()) };
        }
        if self.read_own_spelling(with, rows, token)? {
            return Ok(());
        }
        self.read_again(with, rows, spellings, window, (before, token))
    }

    /// Continues every reading with `token`. False, with nothing changed, where none is left.
    fn walk(
        &mut self,
        with: &Translation,
        rows: &mut KeptRows,
        spellings: &mut Spellings,
        window: &mut Vec<Token>,
        (token, bounds): (Token, Bounds),
    ) -> Result<bool, ExpertError> {
        let (arm, added) = (&with.lexicon.arm, with.lexicon.base.get(token));
        let before = self.len();
        self.bytes.extend_from_slice(added);
        // The mark is there while the walk looks back at the text.
        let last = self.marks[before];
        self.marks.push(Mark { token, n_bytes: self.bytes.len(), readings: self.readings.len(), ..last });
        let twin = with.lexicon.twin(token);
        self.found.clear();
        self.open.clear();
        let continued =
            |r: &Reading| Open { path: r.path, beyond: r.pending, pending: r.pending + added.len(), mass: r.path_mass };
        self.open.extend(self.readings[last.readings..].iter().map(continued));
        self.write_window(with, before + 1, 0, window);
        let followers = spellings.followers(with, window);
        let (least, least_odd, unread) = (bounds.least.ln(), bounds.least_odd.ln(), bounds.least_odd_unread.ln());
        let least_odd_p = bounds.least_odd_p.ln();
        let (mut best, mut n_read) = (f64::NEG_INFINITY, 0);
        while let Some(next) = (0..self.open.len()).max_by(|a, b| self.open[*a].mass.total_cmp(&self.open[*b].mass)) {
            let open = self.open.swap_remove(next);
            if open.mass < best + least {
                break;
            }
            n_read += usize::from(!rows.has(open.path));
            let row = rows.get(&self.paths, open.path)?;
            let pending = &self.bytes[self.bytes.len() - open.pending..];
            // Tokens that end within the text.
            self.children.clear();
            for len in open.beyond + 1..=open.pending {
                if let Some(token) = arm.find(&pending[..len]) {
                    self.children.push((token, len, open.mass + f64::from(row.ln_p(token))));
                }
            }
            // Tokens that reach beyond it.
            let across = arm.extending(pending);
            let largest = across.iter().map(|t| row.ln_p(*t)).fold(f32::NEG_INFINITY, f32::max);
            let share: f32 = across.iter().map(|t| row.p(*t)).sum();
            best =
                self.children.iter().filter(|(_, len, _)| *len == open.pending).map(|(.., m)| *m).fold(best, f64::max);
            if share > 0.0 && open.mass + f64::from(share).ln() >= best + least {
                self.write_window(with, before + 1, open.pending, window);
                let likely = largest + bounds.least_token.ln();
                let agree = across.iter().filter(|t| row.ln_p(**t) >= likely);
                let agree = agree.filter(|t| !spellings.next(with, window, &[**t], open.pending).is_empty());
                let share: f64 = agree.map(|t| f64::from(row.p(*t))).sum();
                if share > 0.0 {
                    let mass = open.mass + share.ln();
                    best = best.max(mass);
                    self.found.push(Reading { path: open.path, pending: open.pending, path_mass: open.mass, mass });
                }
            }
            let previous = self.paths.last(open.path);
            let written = match self.children[..] {
                [] => &[],
                _ => spellings.written(with, previous, &self.bytes[self.bytes.len() - open.pending..], followers),
            };
            for i in 0..self.children.len() {
                let (token, len, mass) = self.children[i];
                let aligned = open.beyond == 0 && len == open.pending && twin == Some(token);
                let odd = !aligned && !written.contains(&token);
                let inside = len < open.pending;
                let share = match odd {
                    true if inside => unread,
                    true => least_odd,
                    false => least,
                };
                let too_much = odd && (n_read > MAX_READ || inside && mass < open.mass + least_odd_p);
                if mass == f64::NEG_INFINITY || too_much || mass < best + share {
                    continue;
                }
                let path = self.paths.child(open.path, token);
                if len == open.pending {
                    best = best.max(mass);
                    self.found.push(Reading { path, pending: 0, path_mass: mass, mass });
                } else {
                    self.open.push(Open { path, beyond: 0, pending: open.pending - len, mass });
                }
            }
        }
        self.marks.pop();
        if self.found.is_empty() {
            self.bytes.truncate(last.n_bytes);
            return Ok(false);
        }
        self.settle(token, bounds);
        Ok(true)
    }

    /// Adds a reading to a likelier one that ends in the same `n_alike` tokens.
    fn join_alike(&mut self, n_alike: usize) {
        let mut at = 1;
        while at < self.found.len() {
            let reading = self.found[at];
            let is_alike = |other: &Reading| {
                other.pending == reading.pending && self.paths.end_alike(other.path, reading.path, n_alike)
            };
            let Some(like) = self.found[..at].iter().position(is_alike) else {
                at += 1;
                continue;
            };
            let joined = &mut self.found[like];
            let more = (reading.mass - joined.mass).exp().ln_1p();
            joined.mass += more;
            joined.path_mass += more;
            self.found.remove(at);
        }
    }

    /// Keeps the readings that were found after `token`.
    fn settle(&mut self, token: Token, bounds: Bounds) {
        self.found.sort_unstable_by(|a, b| b.mass.total_cmp(&a.mass));
        self.join_alike(bounds.n_alike);
        let best = self.found.first().map_or(0.0, |reading| reading.mass);
        let least = best + bounds.least.ln();
        self.found.truncate(bounds.n_readings);
        self.found.retain(|reading| reading.mass >= least);
        let mass = best + self.found.iter().map(|reading| (reading.mass - best).exp()).sum::<f64>().ln();
        let readings = self.readings.len();
        self.readings.append(&mut self.found);
        self.marks.push(Mark { token, readings, n_bytes: self.bytes.len(), n_paths: self.paths.len(), mass });
    }
}

/// Tokens that a window goes back at most, before the one in which its bytes begin.
const MAX_WINDOW: usize = 8;

/// The probability below which a token that goes on with a word makes the tokenizer's own spelling a reading.
const UNEXPECTED: f64 = 0.05;

/// KeptRows that a walk reads before it follows only what the ARM's tokenizer would write.
const MAX_READ: usize = 32;
