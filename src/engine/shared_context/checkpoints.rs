//! Earlier states of a recurrent model, to which a sequence can go back.
//!
//! Such a model cannot drop the end of a text from its memory. So a copy of its state is kept where the messages of a
//! text begin: an edited message, or another answer, is read from there. Keys and values need no copy.

use std::ops::Range;

use crate::engine::llama::{Context, SavedState};
use crate::expert::Token;

/// Bytes that the checkpoints of a sequence may take together …
const BUDGET: usize = 256 << 20;
/// … and how many there are at least, and at most.
const COUNT: Range<usize> = 2..32;
/// A message that is shorter is read with the one before it.
const SHORT: usize = 8;

/// How many checkpoints of `n_bytes` bytes a sequence keeps.
pub(in crate::engine) fn most(n_bytes: usize) -> usize {
    (BUDGET / n_bytes.max(1)).clamp(COUNT.start, COUNT.end)
}

/// The checkpoints of a sequence: of prefixes of what it has in memory, the shortest first.
#[derive(Default)]
pub(super) struct Checkpoints {
    all: Vec<(usize, SavedState)>,
}

impl Checkpoints {
    /// The longest, with its tokens.
    pub(super) fn last(&self) -> Option<(usize, &SavedState)> {
        self.all.last().map(|(n_tokens, state)| (*n_tokens, state))
    }

    /// Tokens of the longest that has `n` at most; 0 where there is none.
    pub(super) fn within(&self, n: usize) -> usize {
        self.all.iter().rev().map(|(n_tokens, _)| *n_tokens).find(|n_tokens| *n_tokens <= n).unwrap_or(0)
    }

    /// Drops those of more than `n` tokens.
    pub(super) fn truncate(&mut self, n: usize) {
        self.all.retain(|(n_tokens, _)| *n_tokens <= n);
    }

    /// Adds a state that was saved elsewhere.
    pub(super) fn adopt(&mut self, n_tokens: usize, state: SavedState) {
        self.all = vec![(n_tokens, state)];
    }

    /// Saves the state of a sequence that has `n_tokens` tokens in memory.
    pub(super) fn save(&mut self, ctx: &mut Context, at: usize, n_tokens: usize) {
        if n_tokens == 0 || self.within(n_tokens) == n_tokens {
            return;
        }
        let most = self.last().map_or(usize::MAX, |(_, state)| most(state.n_bytes()));
        let mut state = if self.all.len() < most { SavedState::default() } else { self.remove_closest(n_tokens) };
        if ctx.save(at, &mut state) {
            self.all.push((n_tokens, state));
        }
    }

    /// Takes out the one whose neighbours are closest to each other; after the last comes one of `next` tokens.
    fn remove_closest(&mut self, next: usize) -> SavedState {
        let n_tokens = |i: usize| self.all.get(i).map_or(next, |(n_tokens, _)| *n_tokens);
        let gap = |i: &usize| n_tokens(i + 1) - i.checked_sub(1).map_or(0, n_tokens);
        match (0..self.all.len()).min_by_key(gap) {
            Some(i) => self.all.remove(i).1,
            None => SavedState::default(),
        }
    }

    /// Takes a sequence back to the longest checkpoint within its first `n` tokens. Returns how many it has; 0 and
    /// emptied where there is none.
    pub(super) fn go_back(&mut self, ctx: &mut Context, at: usize, n: usize) -> usize {
        self.truncate(n);
        while let Some((n_tokens, state)) = self.last() {
            if ctx.go_back(at, state, n_tokens) {
                return n_tokens;
            }
            self.all.pop();
        }
        ctx.truncate(at, 0);
        0
    }
}

/// Where checkpoints are worth it in `text`, of which `read` is about to be read: before the control tokens that begin
/// messages, as the last one begins the answer; in a plain text before its end. The last comes first, and that at the
/// beginning of `read` last.
pub(super) fn places(text: &[Token], read: Range<usize>, is_control: impl Fn(Token) -> bool) -> Vec<usize> {
    let last = (1..text.len()).rev().find(|i| is_control(text[*i]));
    let mut all = match last {
        Some(last) => (read.start.max(1)..=read.end).rev().filter(|i| text.get(*i) == Some(&text[last])).collect(),
        None if read.len() >= SHORT => vec![read.end],
        None => Vec::new(),
    };
    // Not more than can be kept.
    let gap = if all.len() > COUNT.end { (read.len() / COUNT.end).max(SHORT) } else { SHORT };
    let mut next = usize::MAX;
    all.retain(|place| {
        let is_far = next - *place >= gap;
        if is_far {
            next = *place;
        }
        is_far
    });
    // What is shorter than a message is read again with it.
    if let Some(first) = all.last_mut().filter(|first| **first - read.start < SHORT) {
        *first = read.start;
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEGIN: Token = 1;

    fn is_control(token: Token) -> bool {
        token < 3
    }

    /// Messages of these lengths.
    fn conversation(messages: &[usize]) -> Vec<Token> {
        let message = |n: &usize| [&[BEGIN], &vec![9; n - 2][..], &[2]].concat();
        let mut text: Vec<_> = messages.iter().flat_map(message).collect();
        text.extend([BEGIN, 9]);
        text
    }

    #[test]
    fn checkpoints_lie_where_messages_begin() {
        let text = conversation(&[20, 30, 40]);
        assert_eq!(places(&text, 0..91, is_control), [90, 50, 20]);
        assert_eq!(places(&text, 45..91, is_control), [90, 45], "where reading begins, rather than a few tokens later");
        assert_eq!(places(&text, 30..91, is_control), [90, 50]);
        assert_eq!(places(&text, 91..91, is_control), [0; 0]);
    }

    #[test]
    fn a_plain_text_has_one_before_its_end() {
        assert_eq!(places(&[9; 50], 0..49, is_control), [49]);
        assert_eq!(places(&[9; 50], 48..49, is_control), [0; 0], "a step of two tokens is no prompt");
    }

    #[test]
    fn many_messages_have_no_more_checkpoints_than_can_be_kept() {
        let text = conversation(&[10; 200]);
        let places = places(&text, 0..text.len() - 1, is_control);
        assert!(places.len() <= COUNT.end + 1, "{}", places.len());
        assert_eq!(places[0], 2000);
    }

    #[test]
    fn those_that_are_kept_are_spread_over_the_text() {
        let mut some = Checkpoints { all: [10, 20, 30, 100].map(|n| (n, SavedState::default())).into() };
        some.remove_closest(200);
        assert_eq!(some.all.iter().map(|(n, _)| *n).collect::<Vec<_>>(), [20, 30, 100]);
        assert_eq!((some.within(99), some.within(19), some.within(100)), (30, 0, 100));
        some.truncate(99);
        assert_eq!(some.last().map(|(n, _)| n), Some(30));
    }
}
