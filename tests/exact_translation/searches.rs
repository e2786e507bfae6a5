use genarm::{Expert, Token};
use proptest::prelude::*;

use super::answer::Answer;
use super::question::{Limits, Question};
use super::reading::{Next, Reader};
use super::search::search;
use super::toy::{Arm, Base, CONTINUATIONS, PROMPT, q_of_texts};

const ARM: [&str; 7] = ["a", "b", " ", "ab", " a", "ba", "  "];

/// To the end, one path at a time.
const ALL: Limits = Limits { rest: 0.0, max_decodes: usize::MAX, batch: 1, grain: 0.0 };

fn ask(arm: &mut Arm, base: &Base, chosen: &[Token], limits: &Limits) -> Answer {
    let text = base.text(chosen);
    let usual = arm.usual(&text);
    let spell = |text: &str| base.spell(text);
    let mut reader = Reader::new(&spell, chosen, &CONTINUATIONS);
    let question = Question { vocabulary: &arm.vocabulary, prompt: &PROMPT, text: text.as_bytes(), usual: &usual };
    let expert = &mut arm.expert;
    let mut rows =
        |histories: &[Vec<Token>]| histories.iter().map(|history| Ok(expert.advance(history, 1)?.to_vec())).collect();
    search(&question, &mut reader, &mut rows, limits).expect("an answer")
}

fn share(answer: &Answer, next: Next) -> f64 {
    answer.q().iter().find(|(other, _)| *other == next).map_or(0.0, |(_, q)| *q)
}

fn bases() -> impl Strategy<Value = Base> {
    let merges: [&[&str]; 4] = [
        &["ab", " a", "ba"],
        &["aa", "bb", " b", " a", "aab"],
        &["ba", " ba", "ab", " ab", "bab"],
        &["  ", " a", "    ", "abb", "ab"],
    ];
    (0..merges.len(), any::<bool>()).prop_map(move |(i, words)| Base::new(merges[i], words))
}

/// The seed of an ARM, a base, and the beginning of a text that the ARM can write, in tokens of the base.
fn questions(n_tokens: usize) -> impl Strategy<Value = (u64, Base, Vec<Token>)> {
    let path = prop::collection::vec(0..ARM.len(), 0..n_tokens);
    (any::<u64>(), bases(), path, any::<prop::sample::Index>()).prop_map(|(arm, base, path, cut)| {
        let text: String = path.into_iter().map(|token| ARM[token]).collect();
        let mut tokens = base.spell(&text).expect("a text of a, b and space");
        tokens.truncate(cut.index(tokens.len() + 1));
        (arm, base, tokens)
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn the_answer_is_that_of_all_texts_that_the_arm_can_write((seed, base, chosen) in questions(4)) {
        let mut arm = Arm::new(&ARM, 4, seed);
        let expected = q_of_texts(&arm.texts(), &base, &chosen);
        let answer = ask(&mut arm, &base, &chosen, &ALL);
        prop_assert!(answer.rest() < 1e-9, "{answer:?}");
        for (next, q) in &expected {
            prop_assert!((share(&answer, *next) - q).abs() < 1e-9, "{next:?}: {q}, not {answer:?}");
        }
        prop_assert_eq!(answer.q().iter().filter(|(_, q)| *q > 1e-9).count(), expected.len());
    }

    #[test]
    fn an_answer_that_stops_early_is_wrong_by_no_more_than_it_reports_as_open((seed, base, chosen) in questions(4)) {
        let mut arm = Arm::new(&ARM, 4, seed);
        let expected = q_of_texts(&arm.texts(), &base, &chosen);
        let answer = ask(&mut arm, &base, &chosen, &Limits { rest: 0.1, batch: 4, grain: 1e-4, ..ALL });
        let agreeing = 1.0 - answer.disagree - answer.rest();
        for (next, q) in &expected {
            let wrong = (share(&answer, *next) - q).abs();
            prop_assert!(wrong <= 2.0 * answer.rest() / agreeing + 1e-9, "{next:?}: {q}, not {answer:?}");
        }
    }

    #[test]
    fn all_of_the_probability_is_accounted_for((seed, base, chosen) in questions(4), max_decodes in 0..60usize) {
        let mut arm = Arm::new(&ARM, 4, seed);
        let answer = ask(&mut arm, &base, &chosen, &Limits { max_decodes, grain: 1e-3, ..ALL });
        let sum = answer.settled.values().sum::<f64>() + answer.rest() + answer.disagree + answer.control;
        prop_assert!((sum - 1.0).abs() < 1e-9, "{sum}: {answer:?}");
    }
}

#[test]
fn with_one_vocabulary_of_characters_the_answer_is_the_arms_own_row() {
    let (mut arm, base) = (Arm::new(&["a", "b", " "], 6, 1), Base::new(&[], false));
    let chosen = [0, 2, 1];
    let p = arm.p(&[PROMPT[0], 0, 2, 1]);
    let answer = ask(&mut arm, &base, &chosen, &ALL);
    for token in 0..3 {
        assert!((share(&answer, Next::Token(token)) - p[token as usize]).abs() < 1e-9);
    }
    assert!((share(&answer, Next::End) - p[3]).abs() < 1e-9, "the end of the ARM's text is that of the base's");
}

#[test]
fn texts_that_the_base_reads_as_other_tokens_are_counted_and_left_out() {
    let (mut arm, base) = (Arm::new(&["a", "b"], 3, 1), Base::new(&["ab"], false));
    // The base has chosen "a" alone, so no b follows: it would have chosen "ab".
    let p = arm.p(&[PROMPT[0], 0]);
    let answer = ask(&mut arm, &base, &[0], &ALL);
    assert!((answer.disagree - p[1]).abs() < 1e-9, "{answer:?}");
    assert!((share(&answer, Next::End) - p[2] / (p[0] + p[2])).abs() < 1e-9);
}

#[test]
fn a_text_that_the_arm_never_writes_is_refused() {
    let (mut arm, base) = (Arm::new(&["a"], 3, 1), Base::new(&[], false));
    let spell = |text: &str| base.spell(text);
    let mut reader = Reader::new(&spell, &[1], &CONTINUATIONS);
    let question = Question { vocabulary: &arm.vocabulary, prompt: &PROMPT, text: b"b", usual: &[] };
    let expert = &mut arm.expert;
    let mut rows = |histories: &[Vec<Token>]| histories.iter().map(|h| Ok(expert.advance(h, 1)?.to_vec())).collect();
    let error = search(&question, &mut reader, &mut rows, &ALL).unwrap_err().to_string();
    assert!(error.contains("no probability"), "{error}");
}
