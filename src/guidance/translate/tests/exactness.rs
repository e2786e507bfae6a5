//! q against the enumeration of all of the ARM's texts.

use proptest::prelude::*;

use super::toys::{END, Splitter, Toy, careful, careful_with, exact, log_prob, log_probs};
use crate::expert::Token;
use crate::guidance::translate::Words;
use crate::guidance::translate::token_bytes::without_followers;

fn fine() -> Toy {
    Toy::new(Splitter::None, &["a", "b", " "])
}

fn words() -> Toy {
    Toy::new(Splitter::None, &["a", "b", " ", "ab", " a", "ba"])
}

fn gpt2() -> Toy {
    Toy::new(Splitter::Gpt2, &["a", "b", " ", "  ", " a", " b", "ab", " ab"])
}

fn runs() -> Toy {
    Toy::new(Splitter::None, &["a", "b", " ", "  ", "   ", "ab", " ab"])
}

/// The largest difference of a probability from the exact one, over the tokens that the base writes there. The base's
/// own row is exact too: so what is left to it is divided as it should be.
fn worst(base: &Toy, arm: &Toy, chosen: &[Token]) -> f64 {
    worst_of(base, arm, chosen, |row| {
        let history = [&[END], chosen].concat();
        careful(base, arm).rows(&history, 1, row).expect("a row").to_vec()
    })
}

fn worst_of(base: &Toy, arm: &Toy, chosen: &[Token], ln_q: impl FnOnce(&[f32]) -> Vec<f32>) -> f64 {
    let q = exact(base, arm, chosen, 3);
    let mut row = vec![-80.0f32; base.n_tokens()];
    q.iter().for_each(|(token, p)| row[*token as usize] = p.ln() as f32);
    let found = ln_q(&row);
    let written = |token: &Token| *token == END || base.writes(&[chosen, &[*token]].concat());
    let off = |token: Token| f64::from(found[token as usize].exp()) - q.get(&token).copied().unwrap_or(0.0);
    (0..row.len() as Token).filter(written).map(|token| off(token).abs()).fold(0.0, f64::max)
}

/// What the tests below allow: groups of tokens that overlap are divided by the base's row alone.
const ALLOWED: f64 = 0.025;

const TEXTS: [&str; 9] = ["", "a", " ", "ab", "a ", "  ", "b a", " ab", "ab "];

#[test]
fn a_base_of_single_letters_is_exact() {
    for arm in [words(), gpt2(), runs()] {
        for text in TEXTS {
            let off = worst(&fine(), &arm, &fine().tokens(text.as_bytes()));
            assert!(off < 2e-3, "{text:?} {off}");
        }
    }
}

#[test]
fn a_base_of_longer_tokens_is_exact_where_its_own_row_is() {
    let pairs = [(words(), fine()), (words(), gpt2()), (gpt2(), words()), (runs(), gpt2()), (gpt2(), runs())];
    for (pair, (base, arm)) in pairs.into_iter().enumerate() {
        for text in TEXTS {
            let off = worst(&base, &arm, &base.tokens(text.as_bytes()));
            assert!(off < ALLOWED, "{text:?} {off} {pair}");
        }
    }
}

/// The same where the base's row says nothing, so that what is left to it is divided wrongly.
fn worst_of_flat(base: &Toy, arm: &Toy, chosen: &[Token], n_rows: usize) -> f64 {
    worst_of(base, arm, chosen, |row| {
        let history = [&[END], chosen].concat();
        let flat: Vec<f32> = row.iter().map(|logit| if *logit > -80.0 { 0.0 } else { -80.0 }).collect();
        careful_with(base, arm, n_rows).rows(&history, 1, &flat).expect("a row").to_vec()
    })
}

#[test]
fn what_the_arm_writes_as_several_tokens_is_asked_of_the_arm() {
    // The base has words of two letters, the ARM has letters. Whether a space is GPT-2's next word's takes one more look.
    for (base, allowed) in [(words(), 2e-3), (gpt2(), 0.03)] {
        let worst = |n_rows| {
            let off = TEXTS.map(|text| worst_of_flat(&base, &fine(), &base.tokens(text.as_bytes()), n_rows));
            off.into_iter().fold(0.0, f64::max)
        };
        let (asked, divided) = (worst(64), worst(0));
        assert!(asked < allowed, "{asked}");
        assert!(divided > 0.1, "{divided}");
    }
}

#[test]
fn without_one_token_of_the_base_the_rest_stays_exact() {
    for missing in ["ab", " a", "ba"] {
        let base = words().without(missing);
        for text in TEXTS {
            let off = worst(&base, &words(), &base.tokens(text.as_bytes()));
            assert!(off < ALLOWED, "without {missing:?}, {text:?}: {off}");
        }
    }
}

/// The worst that a shortcut does over all texts and pairs.
fn worst_of_all(ln_q: impl Fn(&Toy, &Toy, &[Token], &[f32]) -> Vec<f32>) -> f64 {
    let pairs = [(words(), fine()), (words(), gpt2()), (gpt2(), words()), (runs(), gpt2()), (gpt2(), runs())];
    let all = pairs.iter().flat_map(|pair| TEXTS.iter().map(move |text| (pair, text)));
    let off = all.map(|((base, arm), text)| {
        let chosen = base.tokens(text.as_bytes());
        worst_of(base, arm, &chosen, |row| ln_q(base, arm, &chosen, row))
    });
    off.fold(0.0, f64::max)
}

#[test]
fn the_probability_of_the_bytes_of_a_token_is_noticed_to_be_another() {
    let prefix_sums = |base: &Toy, arm: &Toy, chosen: &[Token], _: &[f32]| {
        let history = [vec![END], arm.tokens(&base.text(chosen))].concat();
        let row = log_probs(arm, &history);
        let begins = |token: Token, with: &[u8]| token != END && arm.text(&[token]).starts_with(with);
        let sum = |bytes: Vec<u8>| {
            let tokens = (0..arm.n_tokens() as Token).filter(|t| begins(*t, &bytes));
            tokens.map(|t| row[t as usize].exp()).sum::<f64>().ln() as f32
        };
        (0..base.n_tokens() as Token).map(|v| if v == END { row[0] as f32 } else { sum(base.text(&[v])) }).collect()
    };
    assert!(worst_of_all(prefix_sums) > 12.0 * ALLOWED);
}

#[test]
fn a_single_tokenisation_of_the_history_is_noticed() {
    let single = |base: &Toy, arm: &Toy, chosen: &[Token], row: &[f32]| {
        let mut translator = careful(base, arm);
        let own = [vec![END], arm.tokens(&base.text(chosen))].concat();
        translator.begin(Some(own), 1);
        translator.rows(&[END], 1, row).expect("a row").to_vec()
    };
    assert!(worst_of_all(single) > 12.0 * ALLOWED);
}

#[test]
fn spellings_that_ignore_what_follows_a_space_are_noticed() {
    let ignorant = |base: &Toy, arm: &Toy, chosen: &[Token], row: &[f32]| {
        let history = [&[END], chosen].concat();
        without_followers(|| careful(base, arm).rows(&history, 1, row).expect("a row").to_vec())
    };
    assert!(worst_of_all(ignorant) > 5.0 * ALLOWED);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn rewards_add_up_to_the_probability_of_any_text(text in "[ab ]{0,9}", pair in 0..4usize) {
        let (base, arm) = [(words(), gpt2()), (gpt2(), words()), (fine(), runs()), (runs(), gpt2())][pair].clone();
        let chosen = [base.tokens(text.as_bytes()), vec![END]].concat();
        let mut rewards = Vec::new();
        let mut translator = careful(&base, &arm);
        translator.rewards(&[&[END], &chosen[..]].concat(), chosen.len(), &mut rewards).expect("rewards");
        let sum: f64 = rewards.iter().map(|r| f64::from(*r)).sum();
        let exact = log_prob(&arm, text.as_bytes());
        prop_assert!((sum - exact).abs() < 0.05, "{} {} {:?}", sum, exact, text);
    }
}
