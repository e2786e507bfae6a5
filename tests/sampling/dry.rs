//! DRY that is made once, and copied into the chains of texts.

use genarm::decode::Chain;
use genarm::sampling::params::{Mirostat, SamplerKind, SamplingParams};
use genarm::sampling::{Dry, Sampler};

use crate::support;

fn params(breakers: &[&str]) -> SamplingParams {
    SamplingParams {
        dry_multiplier: 0.8,
        dry_allowed_length: 1,
        dry_penalty_last_n: -1,
        dry_sequence_breakers: breakers.iter().map(|text| (*text).to_owned()).collect(),
        ..support::open_params()
    }
}

/// The probabilities after a text that repeats itself, where all logits are equal.
fn distribution(mut sampler: Sampler) -> Vec<f32> {
    let vocab = support::vocab();
    let text = vocab.tokenize("Tom had a red ball. Tom had a red ball. Tom had a red", true, false).expect("tokens");
    text.into_iter().for_each(|token| sampler.accept(token, false));
    let mut out = vec![0.0; vocab.n_tokens()];
    sampler.distribution(&vec![0.0; vocab.n_tokens()], &mut out).expect("a distribution");
    out
}

#[test]
fn a_copy_of_dry_acts_as_one_that_is_made_for_the_text() {
    let vocab = support::vocab();
    let made = |params: &SamplingParams| distribution(Sampler::new(params, &vocab, 256, None).expect("a sampler"));
    let with_breakers = params(&["\n", "."]);
    let expected = made(&with_breakers);
    assert_ne!(expected, made(&SamplingParams { dry_multiplier: 0.0, ..with_breakers.clone() }), "DRY acts");
    assert_ne!(expected, made(&params(&[])), "so do its breakers");
    let dry = Dry::of(&with_breakers, &vocab, 256).expect("breakers").expect("it acts");
    for _ in 0..2 {
        let copied = Sampler::constrained(&with_breakers, &vocab, 256, None, None, Some(&dry)).expect("a sampler");
        assert_eq!(distribution(copied), expected);
    }
}

#[test]
fn where_dry_does_not_act_nothing_is_made() {
    let on = params(&["."]);
    let samplers = vec![SamplerKind::TopK];
    for off in [
        SamplingParams::default(),
        SamplingParams { dry_multiplier: 0.0, ..on.clone() },
        SamplingParams { dry_base: 0.0, ..on.clone() },
        SamplingParams { dry_penalty_last_n: 0, ..on.clone() },
        SamplingParams { mirostat: Mirostat::V2, ..on.clone() },
        SamplingParams { samplers, ..on.clone() },
    ] {
        assert!(!Dry::acts(&off) && Dry::of(&off, &support::vocab(), 256).expect("no error").is_none());
    }
}
