//! Readings that were left out, and are needed after all.

use super::{Bounds, Cover, MAX_WINDOW, Mark, Reading};
use crate::expert::{ExpertError, Token};
use crate::guidance::translate::lexicon::Translation;
use crate::guidance::translate::paths::ROOT;
use crate::guidance::translate::rows::KeptRows;
use crate::guidance::translate::spellings::Spellings;

/// Tokens of the base that are read once more where no reading is left.
const LOOK_BACK: usize = 4;
/// What is left out then.
const RARE: f64 = 1e-12;
/// ln of the probability of a token that no reading has.
const UNREAD: f64 = -16.0;

impl Cover {
    /// Adds the reading in which the ARM writes the last word as its tokenizer does.
    pub(super) fn add_own_spelling(&mut self, with: &Translation, rows: &mut KeptRows) -> Result<(), ExpertError> {
        let at = self.len();
        let Some(own) = self.own_spelling(with, rows)? else { return Ok(()) };
        if !self.readings(at).iter().any(|known| known.path == own.path) {
            let last = self.marks.remove(at);
            self.found = self.readings.split_off(last.readings);
            self.found.push(own);
            self.settle(last.token, self.bounds);
        }
        Ok(())
    }

    /// Goes on with that reading alone; false, with nothing changed, where there is none.
    pub(super) fn read_own_spelling(
        &mut self,
        with: &Translation,
        rows: &mut KeptRows,
        token: Token,
    ) -> Result<bool, ExpertError> {
        let last = self.marks[self.len()];
        self.bytes.extend_from_slice(with.lexicon.base.get(token));
        if ends_inside_a_character(&self.bytes) {
            self.bytes.truncate(last.n_bytes);
            return Ok(false);
        }
        // The mark is there while the text is looked back on, and stays without readings where that fails.
        self.marks.push(Mark { token, n_bytes: self.bytes.len(), readings: self.readings.len(), ..last });
        let own = self.own_spelling(with, rows)?;
        self.marks.pop();
        match own {
            Some(own) => {
                self.found.clear();
                self.found.push(own);
                self.settle(token, self.bounds);
            }
            None => self.bytes.truncate(last.n_bytes),
        }
        Ok(own.is_some())
    }

    /// The reading in which the ARM writes the last word as its tokenizer does.
    fn own_spelling(&mut self, with: &Translation, rows: &mut KeptRows) -> Result<Option<Reading>, ExpertError> {
        let at = self.len();
        let is_aligned = |from: &usize| self.readings(*from).first().is_some_and(|main| main.pending == 0);
        let added = |from: usize| with.lexicon.base.get(self.marks[from + 1].token);
        // A control token is no part of a word.
        let adds_text = |from: &usize| with.lexicon.base.adds_text(self.marks[from + 1].token);
        let back = (at.saturating_sub(MAX_WINDOW)..at).rev().take_while(adds_text);
        let in_reach = back.filter(is_aligned);
        let start = in_reach.clone().find(|from| !self.goes_on(with, *from, added(*from)));
        let Some(from) = start.or_else(|| in_reach.last()) else { return Ok(None) };
        let (main, word) = (self.readings(from)[0], &self.bytes[self.marks[from].n_bytes..]);
        let (mut bytes, mut tokens) = (Vec::new(), Vec::new());
        let previous = self.paths.last(main.path).filter(|token| with.lexicon.arm.adds_text(*token));
        previous.iter().for_each(|token| bytes.extend_from_slice(with.lexicon.arm.get(*token)));
        bytes.extend_from_slice(word);
        with.lexicon.arm.spell(&*with.arm, &bytes, &mut tokens);
        // The ARM might write the word and what is before it as one token.
        let Some(tokens) = tokens.strip_prefix(previous.as_slice()) else { return Ok(None) };
        let (mut path, mut mass) = (main.path, main.path_mass);
        for token in tokens {
            mass += f64::from(rows.get(&self.paths, path)?.ln_p(*token));
            path = self.paths.child(path, *token);
        }
        Ok((mass > f64::NEG_INFINITY).then_some(Reading { path, pending: 0, path_mass: mass, mass }))
    }

    /// Whether `added` goes on, after `at` tokens, within a word, a number or a run of signs: elsewhere the ARM's tokens
    /// end too, as a rule, and no other reading explains a rare token better. How white space is spelled depends on what
    /// follows.
    pub(super) fn goes_on(&self, with: &Translation, at: usize, added: &[u8]) -> bool {
        if at == 0 || !with.lexicon.base.adds_text(self.marks[at].token) {
            return false;
        }
        let is_of_word = |byte: u8| byte.is_ascii_alphanumeric() || !byte.is_ascii();
        match (self.bytes(at).last(), added.first()) {
            (Some(last), Some(first)) => is_of_word(*last) == is_of_word(*first) && !first.is_ascii_whitespace(),
            _ => false,
        }
    }

    /// Reads the last of the first `before` tokens once more, and then `token`, with less left out. Of what comes out,
    /// the readings after `token` are kept: a row must not depend on what follows it.
    pub(super) fn read_again(
        &mut self,
        with: &Translation,
        rows: &mut KeptRows,
        spellings: &mut Spellings,
        window: &mut Vec<Token>,
        (before, token): (usize, Token),
    ) -> Result<(), ExpertError> {
        let wide = Bounds {
            least: RARE,
            least_odd: RARE,
            least_odd_unread: RARE,
            least_odd_p: RARE,
            n_readings: 2 * self.bounds.n_readings,
            ..self.bounds
        };
        let from = before.saturating_sub(LOOK_BACK);
        let kept_marks = self.marks[from + 1..=before].to_vec();
        let (first, end) = (self.end_of_readings(from), self.end_of_readings(before));
        let kept_readings = self.readings[first..end].to_vec();
        self.marks.truncate(from + 1);
        self.readings.truncate(first);
        self.bytes.truncate(self.marks[from].n_bytes);
        for token in kept_marks.iter().map(|mark| mark.token).chain([token]) {
            if !with.lexicon.base.adds_text(token) {
                self.mark(with, rows, token)?;
            } else if !self.walk(with, rows, spellings, window, (token, wide))? {
                self.begin_anew(with, token);
            }
        }
        let last = self.marks[before + 1];
        let readings = self.readings.split_off(last.readings);
        self.marks.truncate(from + 1);
        self.readings.truncate(first);
        self.marks.extend(kept_marks);
        self.readings.extend(kept_readings);
        self.marks.push(Mark { readings: self.readings.len(), ..last });
        self.readings.extend(readings);
        Ok(())
    }

    /// The ARM gives the text no reading that counts: it goes on from its own spelling of what follows the last control
    /// token.
    fn begin_anew(&mut self, with: &Translation, token: Token) {
        self.bytes.extend_from_slice(with.lexicon.base.get(token));
        let marked = (1..self.marks.len()).rev().find(|at| !with.lexicon.base.adds_text(self.marks[*at].token));
        let main = self.readings(marked.unwrap_or(0)).first().filter(|main| main.pending == 0);
        let (from, path) = main.map_or((0, ROOT), |main| (self.marks[marked.unwrap_or(0)].n_bytes, main.path));
        let mut tokens = Vec::new();
        with.lexicon.arm.spell(&*with.arm, &self.bytes[from..], &mut tokens);
        let path = tokens.into_iter().fold(path, |path, token| self.paths.child(path, token));
        let mass = self.mass(self.len()) + UNREAD;
        self.found.push(Reading { path, pending: 0, path_mass: mass, mass });
        self.settle(token, self.bounds);
    }
}

/// Whether a text is cut within the bytes of a character.
fn ends_inside_a_character(text: &[u8]) -> bool {
    let lead = text.iter().rev().take(4).position(|byte| byte & 0xc0 != 0x80);
    lead.is_some_and(|n_after| text[text.len() - 1 - n_after].leading_ones() as usize > n_after + 1)
}
