//! What tokenizers answered: questions that come again at many steps.

use std::collections::HashMap;
use std::hash::Hash;

use super::lexicon::Translation;
use super::pieces::followers;
use crate::expert::Token;

/// Answers kept of each kind; beyond that all are dropped.
const MAX_ANSWERS: usize = 1 << 16;

/// Questions to the tokenizers of a pair of vocabularies, and their answers.
#[derive(Default)]
pub(super) struct Spellings {
    next: HashMap<Vec<Token>, Vec<Token>>,
    follows: HashMap<(Token, Token), bool>,
    first: HashMap<Vec<u8>, Option<Token>>,
    key: Vec<Token>,
    bytes: Vec<u8>,
    tokens: Vec<Token>,
}

impl Spellings {
    /// What the base may say after `window`, its own last tokens, where the text goes on with the bytes of the ARM's
    /// token `arm` from the `from`-th on. Nothing where the base spells such a text in other tokens than `window`.
    pub fn next(&mut self, with: &Translation, window: &[Token], arm: Token, from: usize) -> &[Token] {
        self.key.clear();
        self.key.extend_from_slice(window);
        self.key.extend([arm, from as Token]);
        if !self.next.contains_key(&self.key) {
            let rest = &with.lexicon.arm.get(arm)[from..];
            let mut found = Vec::new();
            for follower in followers(rest) {
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

    /// Whether the ARM's tokenizer ever writes `token` after `before`.
    pub fn follows(&mut self, with: &Translation, before: Token, token: Token) -> bool {
        if let Some(known) = self.follows.get(&(before, token)) {
            return *known;
        }
        let arm = &with.lexicon.arm;
        let follows = !arm.adds_text(before) || !arm.adds_text(token) || ["", "a", " ", "\n", " a"].iter().any(|follower| {
            self.bytes.clear();
            self.bytes.extend_from_slice(arm.get(before));
            self.bytes.extend_from_slice(arm.get(token));
            self.bytes.extend_from_slice(follower.as_bytes());
            self.tokens.clear();
            arm.spell(&*with.arm, &self.bytes, &mut self.tokens);
            self.tokens.starts_with(&[before, token])
        });
        make_room(&mut self.follows);
        self.follows.insert((before, token), follows);
        follows
    }

    /// The ARM's first token of `pending` followed by the bytes of the base's token `base`.
    pub fn first(&mut self, with: &Translation, pending: &[u8], base: Token) -> Option<Token> {
        self.bytes.clear();
        self.bytes.extend_from_slice(pending);
        self.bytes.extend_from_slice(with.lexicon.base.get(base));
        if let Some(known) = self.first.get(&self.bytes) {
            return *known;
        }
        self.tokens.clear();
        with.lexicon.arm.spell(&*with.arm, &self.bytes, &mut self.tokens);
        let first = self.tokens.first().copied();
        make_room(&mut self.first);
        self.first.insert(self.bytes.clone(), first);
        first
    }
}

fn make_room<K: Eq + Hash, V>(answers: &mut HashMap<K, V>) {
    if answers.len() >= MAX_ANSWERS {
        answers.clear();
    }
}
