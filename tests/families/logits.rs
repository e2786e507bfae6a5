//! Logits are those of transformers, and texts those of llama.cpp's own tool.

use genarm::engine::quantize::{FileType, quantize};
use genarm::sampling::params::SamplingParams;
use genarm::session::Detokenizer;
use genarm::{Expert, Token};

use super::family::{Family, distance};
use super::{Check, Found};
use crate::support;

pub static LOGITS: Check = Check::new(logits);
pub static GUIDED: Check = Check::new(guided);

fn logits(family: &Family) -> Found {
    let tokens = &family.golden.tokens;
    for (with_lora, expected) in [false, true].into_iter().zip(&family.rows) {
        let n_vocab = expected[0].len();
        let mut at_once = family.alone(with_lora);
        let rows = at_once.advance(tokens, tokens.len()).expect("rows");
        for (position, expected) in family.golden.positions.iter().zip(expected) {
            let found = distance(&rows[position * n_vocab..][..n_vocab], expected);
            assert!(found < family.noise(), "read at once, LoRA {with_lora}, position {position}: {found:e}");
        }
        let mut by_token = family.alone(with_lora);
        for position in 0..tokens.len() {
            let row = by_token.advance(&tokens[..=position], 1).expect("a row");
            if let Some(at) = family.golden.positions.iter().position(|other| *other == position) {
                let found = distance(row, &expected[at]);
                assert!(found < family.noise(), "read by token, LoRA {with_lora}, position {position}: {found:e}");
            }
        }
    }
    Found::Works
}

#[test]
fn logits_are_those_of_transformers_with_and_without_a_lora() {
    LOGITS.works();
}

fn guided(family: &Family) -> Found {
    let mut session = match family.session(&family.arm(), "speculate: \"off\"\nshare_batch: \"off\"") {
        Ok(session) => session,
        Err(error) => return family.refused(error),
    };
    let weight = 0.7;
    let [base, lora] = &family.rows;
    for ((position, base), lora) in family.golden.positions.iter().zip(base).zip(lora) {
        let history = &family.golden.tokens[..=*position];
        let mut row = session.base().advance(history, 1).expect("a row").to_vec();
        session.hook().with_guide(|guide| guide.add(history, 1, &mut row)).expect("guided");
        let expected: Vec<_> = base.iter().zip(lora).map(|(base, lora)| base + weight * (lora - base)).collect();
        let found = distance(&row, &expected);
        assert!(found < 2.0 * family.noise(), "position {position}: {found:e}");
    }
    Found::Works
}

#[test]
fn a_guided_row_is_the_base_plus_the_weight_times_what_its_lora_changes() {
    GUIDED.works();
}

fn greedy_text(family: &Family) -> Found {
    let mut session = family.session("", "speculate: \"off\"").expect("a session");
    let prompt = session.text_prompt(&family.golden.prompt).expect("a prompt");
    let n_prompt = prompt.base.len();
    assert_eq!(prompt.base, family.golden.tokens[..n_prompt], "the tokenizer");
    let mut sampler = session.sampler(&SamplingParams { temp: 0.0, ..support::open_params() }).expect("a sampler");
    let mut pieces = Detokenizer::new(session.vocab().clone(), Vec::new());
    let generated =
        session.generate(&mut sampler, &prompt, family.golden.n_greedy, &mut |step| pieces.push(step.token));
    let generated = generated.expect("a text");
    let text = pieces.take_text() + &pieces.finish();
    assert_eq!(text, family.golden.greedy);
    let different: std::collections::BTreeSet<Token> = generated.tokens.iter().copied().collect();
    assert!(different.len() > 2, "the text says something: {text:?}");
    Found::Works
}

#[test]
fn greedy_texts_are_those_of_llama_cpps_own_tool() {
    Check::new(greedy_text).works();
}

fn quantised(family: &Family) -> Found {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("q8_0.gguf");
    quantize(&family.path, &path, FileType::Q8_0, 1).expect("quantised");
    let model = support::load(&path);
    let mut sequence =
        genarm::engine::share::apart(&model, &[], &super::family::params(), 1).expect("a context").remove(0);
    let tokens = &family.golden.tokens[..40];
    let rows = sequence.advance(tokens, tokens.len()).expect("rows");
    let (row, expected) = (&rows[rows.len() - family.rows[0][0].len()..], &family.rows[0][8]);
    assert_eq!(family.golden.positions[8], 39);
    // Root mean square of the differences, beside that of the logits.
    let square = |of: &mut dyn Iterator<Item = f32>| of.map(|x| x * x).sum::<f32>().sqrt();
    let error = square(&mut row.iter().zip(expected).map(|(a, b)| a - b)) / square(&mut expected.iter().copied());
    assert!((1e-6..0.3).contains(&error), "{error}");
    Found::Works
}

#[test]
fn a_copy_in_eight_bits_gives_nearly_the_same_logits() {
    Check::new(quantised).works();
}
