//! Repetitions: what followed the same words before.

use super::{Draft, Drafter, Offer, Work};
use crate::decode::ChainFault;
use crate::expert::Token;

/// Fewer equal tokens in a row say nothing.
const MIN_MATCH: usize = 2;
/// More equal tokens in a row say no more.
const MAX_MATCH: usize = 12;
/// After so many equal tokens, one that differs is taken for a replacement: what is rewritten goes on behind it.
const REPLACED: usize = 8;

/// Continues the text as it went on after the longest earlier occurrence of its last tokens (prompt lookup decoding).
///
/// Costs no model: one pass over the text. Copies from the prompt, quotations, lists and code come out several tokens
/// at a time.
#[derive(Debug, Default)]
pub struct LookupDrafter;

impl LookupDrafter {
    /// Where the continuation begins and how many tokens before it match; the latest of the longest. Where nothing
    /// matches, the last token may stand in the place of another one: that counts as the shortest match.
    fn find(history: &[Token]) -> Option<(usize, usize)> {
        let exact = Self::longest(history).filter(|(_, n)| *n >= MIN_MATCH);
        exact.or_else(|| {
            let (_, before) = history.split_last()?;
            let (end, n) = Self::longest(before)?;
            (n >= REPLACED).then_some((end + 1, MIN_MATCH))
        })
    }

    /// The latest of the longest earlier occurrences of the last tokens: where it ends, and its length.
    fn longest(history: &[Token]) -> Option<(usize, usize)> {
        let last = *history.last()?;
        let mut best: Option<(usize, usize)> = None;
        for end in (1..history.len()).rev() {
            if history[end - 1] != last {
                continue;
            }
            let pairs = history[..end].iter().rev().zip(history.iter().rev()).take(MAX_MATCH);
            let n = pairs.take_while(|(a, b)| a == b).count();
            if best.is_none_or(|(_, longest)| n > longest) {
                best = Some((end, n));
                if n == MAX_MATCH {
                    break;
                }
            }
        }
        best
    }
}

impl Drafter for LookupDrafter {
    fn name(&self) -> &str {
        "lookup"
    }

    fn offer(&mut self, history: &[Token]) -> Offer {
        match Self::find(history) {
            // What has matched for long goes on for long.
            Some((_, n)) if n >= 8 => Offer { class: 2, ..Offer::default() },
            Some((_, n)) if n >= 4 => Offer { class: 1, max: 7, ..Offer::default() },
            Some(_) => Offer { max: 3, ..Offer::default() },
            None => Offer::NOTHING,
        }
    }

    fn draft(&mut self, work: &mut Work<'_>, k: usize, draft: &mut Draft) -> Result<(), ChainFault> {
        let Some((start, _)) = Self::find(work.history) else { return Ok(()) };
        for at in start..start + k {
            // Beyond its end the text goes on with its own draft: a period.
            let token = work.history[at];
            draft.push(token).set([(token, 1.0)]);
            work.history.push(token);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_earlier_occurrence_is_continued() {
        let text = [1, 2, 3, 9, 7, 2, 3, 8, 1, 2, 3];
        assert_eq!(LookupDrafter::find(&text), Some((3, 3)), "1 2 3 and not the later 2 3");
        assert_eq!(LookupDrafter::find(&[1, 2, 3, 4]), None);
        assert_eq!(LookupDrafter::find(&[1, 3, 2, 3]), None, "one token is no repetition");
        assert_eq!(LookupDrafter::find(&[]), None);
        assert_eq!(LookupDrafter::find(&[1]), None);
        assert_eq!(LookupDrafter::find(&[5, 5, 5, 5]), Some((3, 3)), "the latest of the longest");
    }

    #[test]
    fn a_copy_goes_on_behind_a_token_that_was_replaced() {
        let text: Vec<Token> = (1..=8).chain([20, 30, 40]).chain([99]).chain(1..=8).collect();
        assert_eq!(LookupDrafter::find(&text), Some((8, 8)), "20 comes next");
        let replaced = [&text[..], &[21]].concat();
        assert_eq!(LookupDrafter::find(&replaced), Some((9, 2)), "21 stands for 20, so 30 comes next");
        let short: Vec<Token> = (1..=7).chain([20, 30, 40]).chain([99]).chain(1..=7).chain([21]).collect();
        assert_eq!(LookupDrafter::find(&short), None, "seven equal tokens are no copy");
        assert_eq!(
            LookupDrafter::find(&[&(1..=8).collect::<Vec<_>>()[..], &(1..=8).collect::<Vec<_>>(), &[9]].concat()),
            Some((9, 2))
        );
    }
}
