//! What tokenizers answered: questions that come again at many steps.

use std::collections::HashMap;
use std::hash::Hash;

use super::lexicon::Translation;
use super::token_bytes::followers;
use crate::expert::Token;

/// Answers kept of each kind; beyond that all are dropped.
const MAX_ANSWERS: usize = 1 << 16;

/// What may follow a text, as far as it may change how the end of the text is spelled.
const FOLLOWERS: [&str; 6] = ["", "a", " ", "\n", " a", "\na"];

/// Questions to the tokenizers of a pair of vocabularies, and their answers.
#[derive(Default)]
pub(super) struct Spellings {
    next: HashMap<Vec<Token>, Vec<Token>>,
    followers: HashMap<Vec<Token>, u8>,
    written: HashMap<(usize, u8, Vec<u8>), Vec<Token>>,
    spelled: HashMap<Vec<u8>, Vec<Token>>,
    key: Vec<Token>,
    bytes: Vec<u8>,
    tokens: Vec<Token>,
}

impl Spellings {
    /// What the base may say after `window`, its own last tokens, where the text goes on with the bytes of the ARM's
    /// tokens `arm` from the `from`-th on. Nothing where the base spells such a text in other tokens than `window`.
    pub fn next(&mut self, with: &Translation, window: &[Token], arm: &[Token], from: usize) -> &[Token] {
        self.key.clear();
        self.key.extend_from_slice(window);
        self.key.extend_from_slice(arm);
        self.key.extend([arm.len() as Token, from as Token]);
        if !self.next.contains_key(&self.key) {
            let whole: Vec<u8> = arm.iter().flat_map(|token| with.lexicon.arm.get(*token)).copied().collect();
            let rest = &whole[from..];
            let mut found = Vec::new();
            for follower in followers(rest) {
                // Only what the ARM would write so.
                self.bytes.clear();
                self.bytes.extend_from_slice(&whole);
                self.bytes.extend_from_slice(follower.as_bytes());
                self.tokens.clear();
                with.lexicon.arm.spell(&*with.arm, &self.bytes, &mut self.tokens);
                if !self.tokens.starts_with(arm) {
                    continue;
                }
                self.bytes.clear();
                window.iter().for_each(|token| self.bytes.extend_from_slice(with.lexicon.base.get(*token)));
                self.bytes.extend_from_slice(rest);
                self.bytes.extend_from_slice(follower.as_bytes());
                self.tokens.clear();
                with.lexicon.base.spell(&*with.base, &self.bytes, &mut self.tokens);
                if let Some([next, ..]) = self.tokens.strip_prefix(window)
                    && !found.contains(next)
                {
                    found.push(*next);
                }
            }
            make_room(&mut self.next);
            self.next.insert(self.key.clone(), found);
        }
        &self.next[&self.key]
    }

    /// Which of [`FOLLOWERS`] may follow `window`, the base's last tokens, if the base is to write it so: one bit each.
    pub fn followers(&mut self, with: &Translation, window: &[Token]) -> u8 {
        let ends_in_space = |token: &Token| with.lexicon.base.get(*token).last().is_some_and(u8::is_ascii_whitespace);
        if !window.last().is_some_and(ends_in_space) {
            return u8::MAX;
        }
        if let Some(known) = self.followers.get(window) {
            return *known;
        }
        let mut found = 0;
        for (i, follower) in FOLLOWERS.iter().enumerate() {
            self.bytes.clear();
            window.iter().for_each(|token| self.bytes.extend_from_slice(with.lexicon.base.get(*token)));
            self.bytes.extend_from_slice(follower.as_bytes());
            self.tokens.clear();
            with.lexicon.base.spell(&*with.base, &self.bytes, &mut self.tokens);
            found |= u8::from(self.tokens.starts_with(window)) << i;
        }
        // What the base would never write so says nothing.
        let found = if found == 0 { u8::MAX } else { found };
        make_room(&mut self.followers);
        self.followers.insert(window.to_vec(), found);
        found
    }

    /// The tokens that the ARM's tokenizer may write next after `before`, where the text goes on with `bytes` and one of
    /// `followers`. Without `before` the text begins there.
    pub fn written(&mut self, with: &Translation, before: Option<Token>, bytes: &[u8], followers: u8) -> &[Token] {
        let arm = &with.lexicon.arm;
        let before = before.filter(|before| arm.adds_text(*before));
        self.bytes.clear();
        before.iter().for_each(|before| self.bytes.extend_from_slice(arm.get(*before)));
        let n_before = self.bytes.len();
        self.bytes.extend_from_slice(bytes);
        let key = (n_before, followers, std::mem::take(&mut self.bytes));
        if !self.written.contains_key(&key) {
            let mut found = Vec::new();
            for (_, follower) in FOLLOWERS.iter().enumerate().filter(|(i, _)| followers & 1 << i != 0) {
                self.bytes.clear();
                self.bytes.extend_from_slice(&key.2);
                self.bytes.extend_from_slice(follower.as_bytes());
                self.tokens.clear();
                arm.spell(&*with.arm, &self.bytes, &mut self.tokens);
                let next = match (before, &self.tokens[..]) {
                    (Some(before), [first, next, ..]) => (*first == before).then_some(*next),
                    (None, [first, ..]) => Some(*first),
                    _ => None,
                };
                found.extend(next.filter(|next| !found.contains(next)));
            }
            make_room(&mut self.written);
            self.written.insert(key.clone(), found);
        }
        let found = &self.written[&key];
        self.bytes = key.2;
        found
    }

    /// The ARM's tokens of `pending` followed by the bytes of the base's token `base`.
    pub fn spelled(&mut self, with: &Translation, pending: &[u8], base: Token) -> &[Token] {
        self.bytes.clear();
        self.bytes.extend_from_slice(pending);
        self.bytes.extend_from_slice(with.lexicon.base.get(base));
        if !self.spelled.contains_key(&self.bytes) {
            self.tokens.clear();
            with.lexicon.arm.spell(&*with.arm, &self.bytes, &mut self.tokens);
            make_room(&mut self.spelled);
            self.spelled.insert(self.bytes.clone(), self.tokens.clone());
        }
        &self.spelled[&self.bytes]
    }
}

fn make_room<K: Eq + Hash, V>(answers: &mut HashMap<K, V>) {
    if answers.len() >= MAX_ANSWERS {
        answers.clear();
    }
}
