//! What the tokens of one vocabulary are in the other.

use std::collections::HashMap;
use std::ops::Range;

use super::token_bytes::{TokenBytes, followers};
use super::words::{WordKind, Words};
use crate::expert::Token;

/// What the tokens of an ARM and a base are to each other. About 20 bytes per token of the base.
pub struct Lexicon {
    pub(super) base: TokenBytes,
    pub(super) arm: TokenBytes,
    /// For each token of the ARM: what the base may say first where the ARM says this.
    openings: Lists,
    /// For each token of the base: the ARM's tokens of the same bytes, as the ARM spells them alone.
    spellings: Lists,
    /// For each token of the base: whether it is an opening of any token of the ARM.
    reachable: Vec<bool>,
    /// The tokens that end a text.
    arm_ends: Vec<Token>,
}

/// Why an ARM cannot guide a base of another vocabulary.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Hopeless {
    /// It cannot spell plain English.
    #[error("it has no token for {0:?}")]
    Ascii(char),
    /// Its texts have no end.
    #[error("it has no token that ends a text")]
    Endless,
}

/// How much two vocabularies have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Overlap {
    /// Tokens of the base that add text.
    pub n_base: usize,
    /// Those that the ARM has with the same bytes.
    pub n_equal: usize,
    /// Tokens of the base, control tokens among them, that the ARM never reaches: they take its row's floor.
    pub n_unreachable: usize,
}

/// A list of tokens for each token: all lists in one, and where each begins.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Lists {
    starts: Vec<u32>,
    tokens: Vec<Token>,
}

impl Lists {
    fn of(lists: impl Iterator<Item = Vec<Token>>) -> Self {
        let mut all = Self { starts: vec![0], tokens: Vec::new() };
        for list in lists {
            all.tokens.extend(list);
            all.starts.push(all.tokens.len() as u32);
        }
        all
    }

    fn get(&self, token: Token) -> &[Token] {
        let at = token as usize;
        &self.tokens[self.starts[at] as usize..self.starts[at + 1] as usize]
    }
}

impl Lexicon {
    /// Compares the vocabularies of a base and an ARM.
    ///
    /// # Errors
    ///
    /// [`Hopeless`].
    ///
    /// # Cost
    ///
    /// Each vocabulary spells every token of the other, on `n_threads` threads.
    pub fn build(base: &dyn Words, arm: &dyn Words, n_threads: usize) -> Result<Self, Hopeless> {
        let (of_base, of_arm) = (TokenBytes::of(base), TokenBytes::of(arm));
        let ascii = (' '..='~').chain(['\n']);
        let mut spelled = Vec::new();
        for character in ascii {
            if !of_arm.spell(arm, character.encode_utf8(&mut [0; 4]).as_bytes(), &mut spelled) {
                return Err(Hopeless::Ascii(character));
            }
        }
        let arm_ends: Vec<_> = (0..arm.n_tokens() as Token).filter(|t| arm.is_end(*t)).collect();
        if arm_ends.is_empty() {
            return Err(Hopeless::Endless);
        }
        let pair = Pair { base, arm, of_base: &of_base, of_arm: &of_arm };
        let from_arm = in_parallel(arm.n_tokens(), n_threads, |token| pair.of_arm_token(token));
        let from_base = in_parallel(base.n_tokens(), n_threads, |token| pair.of_base_token(token));
        let mut openings = from_arm;
        let mut spellings = Vec::with_capacity(from_base.len());
        for (token, (of_arm_tokens, spelling)) in from_base.into_iter().enumerate() {
            of_arm_tokens.into_iter().for_each(|arm| openings[arm as usize].push(token as Token));
            spellings.push(spelling);
        }
        pair.add_marks(&arm_ends, &mut openings);
        for list in &mut openings {
            list.sort_unstable();
            list.dedup();
        }
        Ok(Self::new(of_base, of_arm, arm_ends, Lists::of(openings.into_iter()), Lists::of(spellings.into_iter())))
    }

    fn new(base: TokenBytes, arm: TokenBytes, arm_ends: Vec<Token>, openings: Lists, spellings: Lists) -> Self {
        let mut reachable = vec![false; base.n_tokens()];
        openings.tokens.iter().for_each(|token| reachable[*token as usize] = true);
        Self { base, arm, openings, spellings, reachable, arm_ends }
    }

    /// What it has found, to be kept in a file.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        let mut put = |n: u32| bytes.extend_from_slice(&n.to_le_bytes());
        for lists in [&self.openings, &self.spellings] {
            put(lists.starts.len() as u32);
            put(lists.tokens.len() as u32);
            lists.starts.iter().for_each(|start| put(*start));
            lists.tokens.iter().for_each(|token| put(*token as u32));
        }
        bytes
    }

    /// What [`to_bytes`](Self::to_bytes) wrote for the same two vocabularies; `None` where the bytes are something else.
    pub fn from_bytes(bytes: &[u8], base: &dyn Words, arm: &dyn Words) -> Option<Self> {
        let (n_base, n_arm) = (base.n_tokens(), arm.n_tokens());
        let mut numbers =
            bytes.strip_prefix(MAGIC)?.chunks_exact(4).map(|n| u32::from_le_bytes([n[0], n[1], n[2], n[3]]));
        let mut lists = |n_lists: usize, n_tokens: usize| {
            let (n_starts, n) = (numbers.next()? as usize, numbers.next()? as usize);
            if n_starts != n_lists + 1 || n > bytes.len() / 4 {
                return None;
            }
            let starts: Vec<_> = numbers.by_ref().take(n_starts).collect();
            let tokens: Vec<_> = numbers.by_ref().take(n).map(|t| t as Token).collect();
            let sound = starts.len() == n_starts && tokens.len() == n && starts[0] == 0 && starts.is_sorted();
            let inside = tokens.iter().all(|t| usize::try_from(*t).is_ok_and(|t| t < n_tokens));
            (sound && starts[n_lists] as usize == n && inside).then_some(Lists { starts, tokens })
        };
        let (openings, spellings) = (lists(n_arm, n_base)?, lists(n_base, n_arm)?);
        if numbers.next().is_some() {
            return None;
        }
        let arm_ends = (0..n_arm as Token).filter(|t| arm.is_end(*t)).collect();
        Some(Self::new(TokenBytes::of(base), TokenBytes::of(arm), arm_ends, openings, spellings))
    }

    /// How much the vocabularies have in common.
    pub fn overlap(&self) -> Overlap {
        let of_base = || (0..self.base.n_tokens() as Token).filter(|t| self.base.adds_text(*t));
        Overlap {
            n_base: of_base().count(),
            n_equal: of_base().filter(|t| self.twin(*t).is_some()).count(),
            n_unreachable: self.reachable.iter().filter(|reachable| !**reachable).count(),
        }
    }

    /// The ARM's token with the same bytes, or the same name.
    pub fn twin(&self, base: Token) -> Option<Token> {
        let bytes = self.base.get(base);
        match self.base.kind(base) {
            WordKind::Unused => None,
            WordKind::Control => self.arm.control(bytes),
            kind => self.arm.find_kind(bytes, kind).or_else(|| self.arm.find(bytes)),
        }
    }

    /// The ARM's tokens of a base token's bytes, as it spells them alone.
    pub fn spelling(&self, base: Token) -> &[Token] {
        self.spellings.get(base)
    }

    /// What the base may say first where the ARM says `arm`.
    pub(super) fn openings(&self, arm: Token) -> &[Token] {
        self.openings.get(arm)
    }

    /// Whether any token of the ARM leads to a base token.
    pub(super) fn is_reachable(&self, base: usize) -> bool {
        self.reachable[base]
    }

    /// The ARM's tokens that end a text.
    pub(super) fn arm_ends(&self) -> &[Token] {
        &self.arm_ends
    }
}

/// The kind of file, and how its content was made.
const MAGIC: &[u8] = b"genarm lexicon 1\n\0\0\0";

/// Two vocabularies while they are compared.
struct Pair<'a> {
    base: &'a dyn Words,
    arm: &'a dyn Words,
    of_base: &'a TokenBytes,
    of_arm: &'a TokenBytes,
}

impl Pair<'_> {
    /// What the base says first where the ARM says `token`: the first token of the base's spelling of any text that the
    /// ARM begins with it.
    fn of_arm_token(&self, token: Token) -> Vec<Token> {
        if !self.of_arm.adds_text(token) {
            return Vec::new();
        }
        let bytes = self.of_arm.get(token);
        let (mut text, mut own, mut other, mut found) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for follower in followers(bytes) {
            spell_both(self, bytes, follower, &mut text, &mut own, &mut other);
            if own.first() == Some(&token) {
                found.extend(other.first());
            }
        }
        if found.is_empty() {
            // A token that the ARM's own tokenizer never makes: what the base has of the same kind, else its first token.
            let (twin, kind) = (self.of_base.find(bytes), self.of_arm.kind(token));
            let equal = self.of_base.find_kind(bytes, kind).or(twin);
            other.clear();
            self.of_base.spell(self.base, bytes, &mut other);
            found.extend(equal.or(other.first().copied()));
        }
        found
    }

    /// The tokens of the ARM that begin a text which the base begins with `token`; and its spelling.
    fn of_base_token(&self, token: Token) -> (Vec<Token>, Vec<Token>) {
        if !self.of_base.adds_text(token) {
            return (Vec::new(), Vec::new());
        }
        let bytes = self.of_base.get(token);
        let (mut text, mut own, mut other, mut found) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let mut spelling = Vec::new();
        for follower in followers(bytes) {
            // The first follower is the empty one.
            spell_both(self, bytes, follower, &mut text, &mut other, &mut own);
            if follower.is_empty() {
                spelling.clone_from(&other);
            }
            if own.first() == Some(&token) {
                found.extend(other.first());
            }
        }
        if found.is_empty() {
            found.extend(self.of_arm.find_kind(bytes, self.of_base.kind(token)));
        }
        (found, spelling)
    }

    /// Pairs control tokens of equal names. Every end of the ARM leads to the base's end of that name, and to the base's
    /// ends that the ARM does not have.
    fn add_marks(&self, arm_ends: &[Token], openings: &mut [Vec<Token>]) {
        let names: HashMap<_, _> = (0..self.of_base.n_tokens() as Token)
            .filter(|t| self.of_base.kind(*t) == WordKind::Control)
            .map(|t| (self.of_base.get(t), t))
            .collect();
        for token in (0..self.of_arm.n_tokens() as Token).filter(|t| self.of_arm.kind(*t) == WordKind::Control) {
            openings[token as usize].extend(names.get(self.of_arm.get(token)));
        }
        let ends: Vec<_> = (0..self.base.n_tokens() as Token).filter(|t| self.base.is_end(*t)).collect();
        let paired = |end: &Token| arm_ends.iter().any(|arm| openings[*arm as usize].contains(end));
        let single: Vec<_> = ends.iter().copied().filter(|end| !paired(end)).collect();
        for arm in arm_ends {
            let list = &mut openings[*arm as usize];
            list.extend_from_slice(&single);
            if list.is_empty() {
                list.extend_from_slice(&ends);
            }
        }
    }
}

/// Spells `bytes` and what follows as ARM and base do.
fn spell_both(
    pair: &Pair<'_>,
    bytes: &[u8],
    follower: &str,
    text: &mut Vec<u8>,
    arm: &mut Vec<Token>,
    base: &mut Vec<Token>,
) {
    [&mut *arm, &mut *base].into_iter().for_each(Vec::clear);
    text.clear();
    text.extend_from_slice(bytes);
    text.extend_from_slice(follower.as_bytes());
    pair.of_arm.spell(pair.arm, text, arm);
    pair.of_base.spell(pair.base, text, base);
}

/// `of` of every token, in order, computed on `n_threads` threads.
fn in_parallel<T: Send>(n: usize, n_threads: usize, of: impl Fn(Token) -> T + Sync) -> Vec<T> {
    let share = n.div_ceil(n_threads.max(1)).max(1);
    let ranges: Vec<Range<usize>> = (0..n).step_by(share).map(|from| from..(from + share).min(n)).collect();
    if let [all] = &ranges[..] {
        return all.clone().map(|token| of(token as Token)).collect();
    }
    let each = |range: Range<usize>| range.map(|token| of(token as Token)).collect::<Vec<_>>();
    std::thread::scope(|scope| {
        let running: Vec<_> = ranges.into_iter().map(|range| scope.spawn(|| each(range))).collect();
        let joined =
            running.into_iter().map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        joined.flatten().collect()
    })
}

/// Two vocabularies with their lexicon: what a translated [`Arm`](crate::guidance::Arm) needs. Shared by its sequences.
pub struct Translation {
    /// The base's vocabulary.
    pub base: Box<dyn Words>,
    /// The ARM's vocabulary.
    pub arm: Box<dyn Words>,
    /// What they are to each other.
    pub lexicon: Lexicon,
}
