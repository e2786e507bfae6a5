//! Layers with a sliding window that keep the window only: the rows are those of layers that keep all tokens.

use genarm::engine::llama::ContextParams;
use genarm::{Expert, Token};

use super::family::{Family, distance, params};
use super::{Check, Found};

/// The cache of a window has 256 cells at least: beyond them, cells are given to other tokens.
const N_TEXT: usize = 600;

fn forgotten(family: &Family) -> Found {
    let text: Vec<Token> = family.golden.tokens.iter().copied().cycle().take(N_TEXT).collect();
    let params = ContextParams { n_ctx: 1024, n_batch: 64, n_ubatch: 64, ..params() };
    let [mut kept, mut forgotten] =
        [true, false].map(|swa_full| family.with(&ContextParams { swa_full, ..params.clone() }));
    let mut check = |history: &[Token], what: &str| {
        let before = forgotten.n_decoded();
        let found = distance(kept.advance(history, 1).expect("a row"), forgotten.advance(history, 1).expect("a row"));
        assert!(found < family.noise(), "{what}: {found:e}");
        (forgotten.n_decoded() - before) as usize
    };
    assert_eq!(check(&text[..400], "a prompt"), 400);
    for end in 401..=text.len() {
        assert_eq!(check(&text[..end], "a step"), 1);
    }
    for n in [1, 5, 40, 300, N_TEXT] {
        check(&[&text[..N_TEXT - n], &family.other(7)].concat(), &format!("{n} tokens taken back"));
        check(&text, "and forth again");
    }
    Found::Works
}

#[test]
fn windows_that_forget_what_lies_before_them_give_the_same_rows() {
    Check::new(forgotten).works();
}
