//! The tokens that are found in a text by their names, before it is read: control tokens and those that a user has
//! defined.
//!
//! llama.cpp finds them too (`tokenizer_st_partition`), in time that grows with the square of their number. This finds
//! the same: the longest names first, each from the left.

use std::collections::BTreeMap;
use std::ops::Range;

use aho_corasick::AhoCorasick;

use super::TokenizeError;
use super::bound::Count;
use crate::expert::Token;

/// A token with a name.
#[derive(Debug)]
pub(super) struct Special {
    pub id: Token,
    pub text: String,
    /// Whether it is found only where the text may name control tokens.
    pub is_control: bool,
    /// Whether it takes the white space before it away.
    pub strips_left: bool,
    /// The same behind it.
    pub strips_right: bool,
}

/// All of a vocabulary.
#[derive(Debug)]
pub(super) struct Specials {
    /// The longest first.
    tokens: Vec<Special>,
    /// Finds which of them a text holds.
    finder: Option<AhoCorasick>,
}

/// A part of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part<'a> {
    Token(Token),
    Text(&'a str),
}

/// C's `isspace`.
fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t'..='\r')
}

impl Specials {
    pub fn new(mut tokens: Vec<Special>) -> Self {
        tokens.sort_by_key(|special| std::cmp::Reverse(special.text.len()));
        let finder = AhoCorasick::new(tokens.iter().map(|special| &special.text)).ok();
        Self { tokens, finder }
    }

    /// Whether any of them takes a part of the text away.
    pub fn strip(&self) -> bool {
        self.tokens.iter().any(|special| special.strips_left || special.strips_right)
    }

    /// Splits a text at the tokens that it names: at control tokens only where no byte of theirs lies in `literal`,
    /// which is in order; `None` reads no control token at all.
    pub fn split<'a>(
        &self,
        text: &'a str,
        literal: Option<&[Range<usize>]>,
        count: &mut Count,
    ) -> Result<Vec<Part<'a>>, TokenizeError> {
        // Ends by their beginnings.
        let mut rest: BTreeMap<usize, usize> = BTreeMap::new();
        if !text.is_empty() {
            rest.insert(0, text.len());
        }
        let mut found: BTreeMap<usize, Token> = BTreeMap::new();
        for special in self.within(text).filter(|special| literal.is_some() || !special.is_control) {
            count.check()?;
            let before = found.len();
            let spans: Vec<_> = rest.iter().map(|(start, end)| (*start, *end)).collect();
            for (start, end) in spans.into_iter().filter(|(start, end)| end - start >= special.text.len()) {
                special.take((text, literal.unwrap_or_default()), start..end, &mut rest, &mut found);
            }
            count.add(found.len() - before)?;
        }
        let texts = rest.into_iter().map(|(start, end)| (start, Part::Text(&text[start..end])));
        let mut parts: Vec<_> = found.into_iter().map(|(at, id)| (at, Part::Token(id))).chain(texts).collect();
        parts.sort_by_key(|(at, _)| *at);
        Ok(parts.into_iter().map(|(_, part)| part).collect())
    }

    /// Where a text names control tokens; the places may overlap.
    pub fn control(&self, text: &str) -> Vec<Range<usize>> {
        let control = |found: &aho_corasick::Match| self.tokens[found.pattern().as_usize()].is_control;
        let finder = self.finder.iter();
        finder
            .flat_map(|finder| finder.find_overlapping_iter(text))
            .filter(control)
            .map(|found| found.range())
            .collect()
    }

    /// Those that occur somewhere in a text, the longest first.
    fn within(&self, text: &str) -> impl Iterator<Item = &Special> {
        let mut occurs = vec![self.finder.is_none(); self.tokens.len()];
        if let Some(finder) = &self.finder {
            finder.find_overlapping_iter(text).for_each(|found| occurs[found.pattern().as_usize()] = true);
        }
        self.tokens.iter().zip(occurs).filter(|(_, occurs)| *occurs).map(|(special, _)| special)
    }
}

impl Special {
    /// Takes the token out of a stretch of the text, wherever it is named there.
    fn take(
        &self,
        (text, literal): (&str, &[Range<usize>]),
        Range { mut start, end }: Range<usize>,
        rest: &mut BTreeMap<usize, usize>,
        found: &mut BTreeMap<usize, Token>,
    ) {
        while let Some(at) = self.find(text, literal, start..end) {
            let behind = at + self.text.len();
            let before = &text[start..at];
            let left = if self.strips_left { before.trim_end_matches(is_space).len() } else { before.len() };
            rest.remove(&start);
            if left > 0 {
                rest.insert(start, start + left);
            }
            found.insert(at, self.id);
            let after = &text[behind..end];
            start = if self.strips_right { end - after.trim_start_matches(is_space).len() } else { behind };
            if start >= end {
                return;
            }
            rest.insert(start, end);
        }
    }

    /// Where it is named first.
    fn find(&self, text: &str, literal: &[Range<usize>], Range { mut start, end }: Range<usize>) -> Option<usize> {
        loop {
            let at = start + text[start..end].find(&self.text)?;
            if !self.is_control || !touches(literal, at..at + self.text.len()) {
                return Some(at);
            }
            start = at + text[at..].chars().next().map_or(1, char::len_utf8);
        }
    }
}

/// Whether a range shares a byte with one of `literal`.
fn touches(literal: &[Range<usize>], range: Range<usize>) -> bool {
    let next = literal.partition_point(|place| place.end <= range.start);
    literal.get(next).is_some_and(|place| place.start < range.end)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn specials(texts: &[&str]) -> Specials {
        let special = |(id, text): (usize, &&str)| Special {
            id: id as Token,
            text: (*text).into(),
            is_control: text.starts_with('<'),
            strips_left: text.contains('L'),
            strips_right: text.contains('R'),
        };
        Specials::new(texts.iter().enumerate().map(special).collect())
    }

    fn split<'a>(specials: &Specials, text: &'a str) -> Vec<Part<'a>> {
        specials.split(text, Some(&[]), &mut Count::new()).expect("no bound")
    }

    use Part::{Text, Token as Id};

    #[test]
    fn the_longest_name_wins_wherever_it_stands() {
        let specials = specials(&["ab", "bcd", "\n", "\n\n"]);
        assert_eq!(split(&specials, "xabcdx"), [Text("xa"), Id(1), Text("x")]);
        assert_eq!(split(&specials, "ababc"), [Id(0), Id(0), Text("c")]);
        assert_eq!(split(&specials, "\n\n\n"), [Id(3), Id(2)]);
        assert!(split(&specials, "").is_empty());
    }

    #[test]
    fn white_space_goes_with_the_token_that_strips_it() {
        let specials = specials(&["<L>", "<R>"]);
        assert_eq!(split(&specials, "a \n<L> b <R>\t c<R> "), [Text("a"), Id(0), Text(" b "), Id(1), Text("c"), Id(1)]);
    }

    #[test]
    fn control_tokens_are_text_where_they_are_not_to_be_read() {
        let specials = specials(&["<s>", "##"]);
        let parts = specials.split("<s>##", None, &mut Count::new()).expect("no bound");
        assert_eq!(parts, [Text("<s>"), Id(1)]);
    }

    #[test]
    fn a_control_token_with_a_literal_byte_is_text() {
        let specials = specials(&["<s>", "##", "<s>!"]);
        let split =
            |literal: &[Range<usize>]| specials.split("<s><s>!##", Some(literal), &mut Count::new()).expect("parts");
        assert_eq!(split(&[]), [Id(0), Id(2), Id(1)]);
        assert_eq!(split(&[Range { start: 0, end: 9 }]), [Text("<s><s>!"), Id(1)]);
        assert_eq!(split(&[Range { start: 6, end: 7 }]), [Id(0), Id(0), Text("!"), Id(1)]);
        assert_eq!(split(&[Range { start: 2, end: 3 }]), [Text("<s>"), Id(2), Id(1)]);
        assert_eq!(specials.control("a<s>!##").len(), 2);
    }
}
