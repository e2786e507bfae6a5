//! What the sampling parameters promise.

use super::*;

#[test]
fn the_defaults_are_those_of_llama_cpp_and_valid() {
    let p = SamplingParams::default();
    p.validate().expect("defaults");
    assert_eq!((p.temp, p.top_k, p.top_p, p.min_p), (0.8, 40, 0.95, 0.05));
    assert_eq!((p.penalty_last_n, p.repeat_penalty, p.seed), (64, 1.0, u32::MAX));
    let order: Vec<_> = p.samplers.iter().map(|s| s.name()).collect();
    let wanted = ["penalties", "dry", "top_n_sigma", "top_k", "typ_p", "top_p", "min_p", "xtc", "temperature"];
    assert_eq!(order, wanted);
}

#[test]
fn every_out_of_range_parameter_is_refused_by_name() {
    type Break = fn(&mut SamplingParams);
    let cases: [(&str, Break); 25] = [
        ("temp", |p| p.temp = -0.1),
        ("temp", |p| p.temp = f32::NAN),
        ("temp", |p| p.temp = f32::INFINITY),
        ("dynatemp_range", |p| p.dynatemp_range = -1.0),
        ("top_p", |p| p.top_p = -0.1),
        ("top_p", |p| p.top_p = 1.01),
        ("min_p", |p| p.min_p = f32::NAN),
        ("xtc_probability", |p| p.xtc_probability = 2.0),
        ("typ_p", |p| p.typ_p = 0.0),
        ("penalty_last_n", |p| p.penalty_last_n = -2),
        ("repeat_penalty", |p| p.repeat_penalty = 0.0),
        ("dry_base", |p| p.dry_base = 0.5),
        ("dry_allowed_length", |p| p.dry_allowed_length = -1),
        ("dry_sequence_breakers", |p| p.dry_sequence_breakers.push(String::new())),
        ("mirostat_tau", |p| p.mirostat_tau = -1.0),
        ("logit_bias", |p| p.logit_bias.push((BiasKey::Token(3), f32::NAN))),
        ("logit_bias", |p| p.logit_bias.push((BiasKey::Token(-3), 1.0))),
        ("logit_bias", |p| p.logit_bias.push((BiasKey::Text("a".repeat(513)), 1.0))),
        ("dry_sequence_breakers", |p| p.dry_sequence_breakers = (0..9).map(|i| i.to_string()).collect()),
        ("logit_bias", |p| p.logit_bias = (0..65).map(|i| (BiasKey::Text(format!("t{i}")), 1.0)).collect()),
        ("dry_sequence_breakers", |p| p.dry_sequence_breakers.push("a".repeat(513))),
        ("dry_sequence_breakers", |p| p.dry_sequence_breakers = vec!["a".into(); 65]),
        ("samplers", |p| p.samplers = vec![SamplerKind::Dry; 120_000]),
        ("samplers", |p| p.samplers.push(SamplerKind::TopK)),
        ("grammar", |p| p.grammar = Some("  ".into())),
    ];
    for (field, break_it) in cases {
        let mut p = SamplingParams::default();
        break_it(&mut p);
        let error = p.validate().expect_err(field);
        assert_eq!(error.field, field, "{error}");
        assert!(!error.to_string().contains('\n'));
    }
}

#[test]
fn a_grammar_and_a_json_schema_contradict_each_other() {
    let p = SamplingParams {
        grammar: Some("root ::= \"a\"".into()),
        json_schema: Some(serde_json::json!({"type": "object"})),
        ..Default::default()
    };
    assert!(p.validate().expect_err("both").to_string().contains("contradicts grammar"));
}

#[test]
fn a_token_may_be_forbidden_by_an_infinite_bias() {
    let p = SamplingParams { logit_bias: vec![(BiasKey::Token(13), f32::NEG_INFINITY)], ..Default::default() };
    p.validate().expect("-inf forbids");
}

#[test]
fn samplers_are_known_by_their_aliases() {
    for (alias, kind) in [
        ("temp", SamplerKind::Temperature),
        ("Typical", SamplerKind::TypP),
        ("nucleus", SamplerKind::TopP),
        ("top-n-sigma", SamplerKind::TopNSigma),
        ("minp", SamplerKind::MinP),
    ] {
        assert_eq!(alias.parse::<SamplerKind>(), Ok(kind));
    }
    assert!("top_pp".parse::<SamplerKind>().expect_err("unknown").contains("top_p"));
}
