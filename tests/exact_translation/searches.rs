use genarm::{Expert, Token};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

use super::answer::Answer;
use super::question::{Limits, Question};
use super::reading::{Next, Reader};
use super::search::search;
use super::toy::{Arm, Base, CONTINUATIONS, PROMPT, q_of_texts};

const ARM: [&str; 7] = ["a", "b", " ", "ab", " a", "ba", "  "];

/// To the end, one path at a time.
const ALL: Limits =
    Limits { rest: 0.0, doubt: 0.0, min_decodes: usize::MAX, max_decodes: usize::MAX, batch: 1, grain: 0.0 };

fn ask(arm: &mut Arm, base: &Base, chosen: &[Token], limits: &Limits) -> Answer {
    let text = base.text(chosen);
    let usual = arm.usual(&text);
    let spell = |text: &str| base.spell(text);
    let base_vocabulary = base.vocabulary();
    let mut reader = Reader::new(&base_vocabulary, &spell, chosen, &CONTINUATIONS);
    let question = Question {
        vocabulary: &arm.vocabulary,
        prompt: &PROMPT,
        text: text.as_bytes(),
        usual: &usual,
        base: &|bytes| if bytes.starts_with(b" ") { 0.5 } else { 0.0 },
    };
    let expert = &mut arm.expert;
    let mut decode = |history: &[Token]| Ok(expert.advance(history, 1)?.to_vec());
    search(&question, &mut reader, &mut decode, limits).expect("an answer")
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
    fn all_of_the_probability_is_accounted_for((seed, base, chosen) in questions(4), max_decodes in 0..60usize) {
        let mut arm = Arm::new(&ARM, 4, seed);
        let answer = ask(&mut arm, &base, &chosen, &Limits { max_decodes, grain: 1e-3, ..ALL });
        let sum = answer.settled.values().sum::<f64>() + answer.rest();
        prop_assert!((sum - 1.0).abs() < 1e-9, "{sum}: {answer:?}");
    }
}

/// The open share is an estimate where the text is unlikely, so the questions are always the same.
#[test]
fn an_answer_that_stops_early_is_wrong_by_no_more_than_it_reports_as_open() {
    let mut runner = TestRunner::deterministic();
    for _ in 0..40 {
        let (seed, base, chosen) = questions(4).new_tree(&mut runner).expect("a question").current();
        let mut arm = Arm::new(&ARM, 4, seed);
        let expected = q_of_texts(&arm.texts(), &base, &chosen);
        let answer = ask(&mut arm, &base, &chosen, &Limits { rest: 0.1, batch: 4, grain: 1e-4, ..ALL });
        for (next, q) in &expected {
            let wrong = (share(&answer, *next) - q).abs();
            assert!(wrong <= 2.0 * answer.rest() / (1.0 - answer.rest()) + 1e-9, "{next:?}: {q}, not {answer:?}");
        }
    }
}

#[test]
fn an_answer_that_doubts_little_is_right() {
    let mut runner = TestRunner::deterministic();
    for _ in 0..40 {
        let (seed, base, chosen) = questions(4).new_tree(&mut runner).expect("a question").current();
        let mut arm = Arm::new(&ARM, 4, seed);
        let expected = q_of_texts(&arm.texts(), &base, &chosen);
        let answer = ask(&mut arm, &base, &chosen, &Limits { doubt: 0.01, min_decodes: 20, ..ALL });
        let wrong: f64 = expected.iter().map(|(next, q)| (share(&answer, *next) - q).abs()).sum();
        assert!(wrong < 0.05, "{wrong}, {}: {answer:?}", answer.doubt());
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
    let base_vocabulary = base.vocabulary();
    let mut reader = Reader::new(&base_vocabulary, &spell, &[1], &CONTINUATIONS);
    let question = Question { vocabulary: &arm.vocabulary, prompt: &PROMPT, text: b"b", usual: &[], base: &|_| 0.0 };
    let expert = &mut arm.expert;
    let mut decode = |history: &[Token]| Ok(expert.advance(history, 1)?.to_vec());
    let error = search(&question, &mut reader, &mut decode, &ALL).unwrap_err().to_string();
    assert!(error.contains("no probability"), "{error}");
}
