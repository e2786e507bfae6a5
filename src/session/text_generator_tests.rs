//! Texts for evaluation in several slots, on the demo models.

use std::path::Path;

use super::*;
use crate::config::{Config, Overrides, Switch};

const N_PREDICT: usize = 12;

/// A generator with this many slots. Its texts have [`N_PREDICT`] tokens, the likeliest ones.
fn generator(n_slots: usize, prompts: &[&str]) -> SessionGenerator {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/demo.yaml");
    let mut config = Config::load(Some(&file), &Overrides::default()).unwrap();
    // The base then has a context for itself, and its batches are those of the steps.
    config.share_batch = Switch::Off;
    let params = SamplingParams { temp: 0.0, ignore_eos: true, ..SamplingParams::default() };
    let session = Session::open_slots(config, n_slots, &mut |_, _| true).unwrap();
    let prompts = prompts.iter().map(|text| session.text_prompt(text).unwrap()).collect();
    SessionGenerator::new(session, params, prompts, N_PREDICT)
}

fn requests(prompts: &[usize]) -> Vec<TextRequest> {
    let request =
        |prompt: &usize| TextRequest { prompt: *prompt, weights: vec![1.0, 0.5, 0.0], seed: 1, candidates: None };
    prompts.iter().map(request).collect()
}

fn n_decoded(generator: &SessionGenerator) -> u64 {
    generator.session.slots.iter().map(Slot::n_decoded).sum()
}

#[test]
fn a_long_prompt_is_read_in_chunks_beside_other_texts_and_changes_none() {
    let long = "It was a sunny day and the birds were happy. ".repeat(40);
    let prompts = ["Tom had a red ball.", &long];
    let mut two = generator(2, &prompts);
    let n_long = two.prompts[1].base.len();
    assert!((257..512).contains(&n_long), "{n_long} tokens");
    let before = two.session.base().n_batches();
    let together = two.generate(&requests(&[0, 1]), &mut || {}).unwrap();
    // At first both read, 256 tokens each; then the long prompt has 64 tokens of each step. Its text begins with the
    // last of them.
    let n_chunks = 1 + (n_long - 256).div_ceil(64) - 1;
    assert_eq!(two.session.base().n_batches() - before, (n_chunks + N_PREDICT) as u64);
    // Each alone, and so in one batch.
    let mut one = generator(1, &prompts);
    let before = one.session.base().n_batches();
    assert_eq!(one.generate(&requests(&[0, 1]), &mut || {}).unwrap(), together);
    assert_eq!(one.session.base().n_batches() - before, 2 * N_PREDICT as u64);
}

#[test]
fn a_text_takes_the_slot_that_has_its_prompt_and_nothing_of_earlier_calls() {
    let mut generator = generator(2, &["Tom had a red ball.", "One day, Lily saw a big whale."]);
    let n_prompts: usize = generator.prompts.iter().map(|prompt| prompt.base.len()).sum();
    let mut decoded = Vec::new();
    let mut texts = Vec::new();
    for _ in 0..2 {
        let before = n_decoded(&generator);
        texts.push(generator.generate(&requests(&[0, 1, 1, 0]), &mut || {}).unwrap());
        decoded.push((n_decoded(&generator) - before) as usize);
    }
    // The last token of a prompt is read again for its logits, and that of a text is not read.
    let n = n_prompts + 2 + 4 * (N_PREDICT - 1);
    assert_eq!(decoded, [n, n]);
    assert_eq!(texts[0], texts[1]);
    assert_eq!((&texts[0][0], &texts[0][1]), (&texts[0][3], &texts[0][2]));
}
