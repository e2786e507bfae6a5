use genarm::Token;

use super::reading::{CONTINUATIONS, Next, Reader, Reading};
use super::token_bytes::TokenBytes;
use super::toy::{self, Base};

fn read(base: &Base, chosen: &[Token], bytes: &[u8]) -> Reading {
    let spell = |text: &str| base.spell(text);
    Reader::new(&base.vocabulary(), &spell, chosen, &toy::CONTINUATIONS).read(bytes)
}

#[test]
fn a_token_that_may_still_grow_is_open() {
    let base = Base::new(&["ab"], false);
    assert_eq!(read(&base, &[], b"a"), Reading::Open(Some(0)));
    assert_eq!(read(&base, &[], b"ab"), Reading::Open(Some(3)));
    assert_eq!(read(&base, &[], b""), Reading::Open(None));
}

#[test]
fn a_token_is_settled_once_another_stands_behind_it_under_every_continuation() {
    let base = Base::new(&["ab"], false);
    assert_eq!(read(&base, &[], b"aa"), Reading::Settled(Next::Token(0)));
    assert_eq!(read(&base, &[0], b"aab"), Reading::Open(Some(3)));
    assert_eq!(read(&base, &[0], b"aaba"), Reading::Settled(Next::Token(3)));
}

#[test]
fn a_text_that_begins_with_other_tokens_than_the_chosen_ones_disagrees() {
    let base = Base::new(&["ab"], false);
    assert_eq!(read(&base, &[0], b"aba"), Reading::Disagrees);
    assert_eq!(read(&base, &[0], b"\xFF"), Reading::Disagrees, "bytes that begin no text");
}

/// A base with one token for each character.
fn characters(text: &str) -> Option<Vec<Token>> {
    Some(text.chars().map(|c| c as Token).collect())
}

#[test]
fn an_incomplete_character_is_open_and_the_one_before_it_settled() {
    let vocabulary = TokenBytes::new((0..128u8).map(|byte| vec![byte]).collect(), &[]);
    for cut in ["é", "的", "🙂", "\u{900}", "\u{10000}", "\u{D000}", "\u{10FFFF}"] {
        for n in 1..cut.len() {
            let bytes = [&b"x"[..], &cut.as_bytes()[..n]].concat();
            let reading = |chosen: &[Token]| Reader::new(&vocabulary, &characters, chosen, &CONTINUATIONS).read(&bytes);
            assert_eq!(reading(&[]), Reading::Settled(Next::Token('x' as Token)), "{cut:?} {n}");
            assert!(matches!(reading(&['x' as Token]), Reading::Open(Some(_))), "{cut:?} {n}");
            assert_eq!(reading(&['y' as Token]), Reading::Disagrees, "{cut:?} {n}");
        }
    }
}

#[test]
fn a_text_that_has_ended_gives_its_next_token_or_its_end() {
    let base = Base::new(&["ab"], false);
    let spell = |text: &str| base.spell(text);
    let vocabulary = base.vocabulary();
    let reader = Reader::new(&vocabulary, &spell, &[0], &toy::CONTINUATIONS);
    assert_eq!(reader.ended(b"aab"), Some(Next::Token(3)));
    assert_eq!(reader.ended(b"a"), Some(Next::End));
    assert_eq!(reader.ended(b"ab"), None);
}
