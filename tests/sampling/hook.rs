//! The sampler "genarm" as llama.cpp sees it: through the C functions of its vtable.
#![allow(unsafe_code)]

use genarm::decode::Chain;
use genarm::guidance::{Arm, Contract, Direction, Guide, Limits, Source, Tail, Weights};
use genarm::sampling::abi::{llama_sampler, llama_token_data, llama_token_data_array};
use genarm::sampling::params::{BiasKey, SamplerKind, SamplingParams};
use genarm::sampling::vtable::{into_raw, own_init};
use genarm::sampling::{FailurePolicy, Hook, HookState, Sampler};
use genarm::{Expert, TableExpert};
use llama_cpp_sys_2 as sys;

use crate::support;

const N: usize = 4;

/// After a history of n tokens the ARM prefers token n mod 4.
fn table_state(weight: f32, n_ctx: usize, on_error: FailurePolicy) -> HookState {
    let expert = TableExpert::new(N, n_ctx, |history, logits| {
        logits.fill(0.0);
        logits[history.len() % N] = 1.0;
    });
    let arm = Arm::new("a", Box::new(expert), Contract { n_common: N, tail: Tail::None });
    HookState::new(Guide::new(vec![arm], Weights::new([("a".to_owned(), weight)])), on_error)
}

/// A hook in C's hands; freed as C frees it.
struct Raw(*mut sys::llama_sampler);

impl Raw {
    fn new(state: HookState) -> Self {
        // SAFETY: `own_init` is llama.cpp's; so below.
        Self(unsafe { into_raw(Hook::new(state), own_init) }.cast())
    }

    fn accept(&self, token: i32) {
        // SAFETY: a live sampler; so in all functions here.
        unsafe { sys::llama_sampler_accept(self.0, token) }
    }

    /// Applies it to candidates with these ids and logits; returns the logits in the order given, and whether still
    /// "sorted".
    fn apply(&self, candidates: &[(i32, f32)]) -> (Vec<f32>, bool) {
        let mut data: Vec<_> =
            candidates.iter().map(|(id, logit)| sys::llama_token_data { id: *id, logit: *logit, p: 0.0 }).collect();
        let mut array =
            sys::llama_token_data_array { data: data.as_mut_ptr(), size: data.len(), selected: -1, sorted: true };
        // SAFETY: see `accept`.
        unsafe { sys::llama_sampler_apply(self.0, &mut array) };
        (data.iter().map(|c| c.logit).collect(), array.sorted)
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // SAFETY: see `accept`; the last use.
        unsafe { sys::llama_sampler_free(self.0) }
    }
}

const FLAT: [(i32, f32); N] = [(0, 0.0), (1, 0.0), (2, 0.0), (3, 0.0)];

#[test]
fn the_hook_stands_first_and_the_samplers_follow_in_llama_cpps_order() {
    let (sampler, _) = support::sampler(&SamplingParams::default(), [1.0, 0.0]);
    let plain: Vec<_> = sampler.names().iter().map(|n| n.trim_start_matches(['?', '+']).to_owned()).collect();
    assert_eq!(
        plain,
        ["genarm", "penalties", "dry", "top-n-sigma", "top-k", "typical", "top-p", "min-p", "xtc", "temp-ext"]
    );
    let params =
        SamplingParams { samplers: vec![SamplerKind::Temperature, SamplerKind::TopP], ..SamplingParams::default() };
    let (sampler, _) = support::sampler(&params, [1.0, 0.0]);
    let plain: Vec<_> = sampler.names().iter().map(|n| n.trim_start_matches(['?', '+']).to_owned()).collect();
    assert_eq!(plain, ["genarm", "temp-ext", "top-p"]);
}

#[test]
fn apply_is_idempotent_at_a_position_and_reads_no_arm_twice() {
    let state = table_state(1.0, 100, FailurePolicy::Base);
    let raw = Raw::new(state.clone());
    [0, 1, 2].iter().for_each(|t| raw.accept(*t));
    let first = raw.apply(&FLAT);
    assert_eq!(first, (vec![0.0, 0.0, 0.0, 1.0], false));
    assert_eq!(raw.apply(&FLAT), first);
    assert_eq!(state.with_guide(|guide| guide.n_decoded()), 3);
}

#[test]
fn candidates_are_found_by_id_in_any_order_and_number() {
    let raw = Raw::new(table_state(2.0, 100, FailurePolicy::Base));
    [0, 1, 2].iter().for_each(|t| raw.accept(*t));
    assert_eq!(raw.apply(&[(3, 0.5), (1, -1.0)]).0, [2.5, -1.0]);
    assert_eq!(raw.apply(&[]).0, [] as [f32; 0]);
}

#[test]
fn a_clone_shares_the_weights_and_has_its_own_history() {
    let state = table_state(1.0, 100, FailurePolicy::Base);
    let raw = Raw::new(state.clone());
    [0, 1].iter().for_each(|t| raw.accept(*t));
    // SAFETY: a live sampler, whose clone is ours.
    let fork = Raw(unsafe { sys::llama_sampler_clone(raw.0) });
    fork.accept(2);
    assert_eq!(raw.apply(&FLAT).0, [0.0, 0.0, 1.0, 0.0]);
    assert_eq!(fork.apply(&FLAT).0, [0.0, 0.0, 0.0, 1.0]);
    drop(raw);
    state.with_guide(|guide| guide.weights().set("a", -3.0)).expect("a weight");
    assert_eq!(fork.apply(&FLAT).0, [0.0, 0.0, 0.0, -3.0]);
}

#[test]
fn reset_forgets_the_text_and_a_prompt_fed_again_costs_nothing() {
    let state = table_state(1.0, 100, FailurePolicy::Base);
    let raw = Raw::new(state.clone());
    [0, 1, 2, 3].iter().for_each(|t| raw.accept(*t));
    raw.apply(&FLAT);
    // SAFETY: a live sampler.
    unsafe { sys::llama_sampler_reset(raw.0) };
    assert_eq!(raw.apply(&FLAT).0, [0.0; N], "no text, no preference");
    [0, 1, 2, 3].iter().for_each(|t| raw.accept(*t));
    assert_eq!(raw.apply(&FLAT).0, [1.0, 0.0, 0.0, 0.0]);
    assert_eq!(state.with_guide(|guide| guide.n_decoded()), 4);
}

#[test]
fn a_forbidden_token_stays_forbidden_under_a_negative_weight() {
    let raw = Raw::new(table_state(-2.0, 100, FailurePolicy::Base));
    raw.accept(0);
    let (logits, _) = raw.apply(&[(0, 1.0), (1, f32::NEG_INFINITY), (2, f32::NEG_INFINITY), (3, 0.0)]);
    assert_eq!(logits, [1.0, f32::NEG_INFINITY, f32::NEG_INFINITY, 0.0]);
}

#[test]
fn limits_act_where_experts_cancel_each_other() {
    let direction = Direction { arm: Source::Base, reference: Some(Source::Base) };
    let mut guide = Guide::with_references(Vec::new(), vec![direction], Weights::new([("itself".to_owned(), 1.0)]));
    guide.set_limits(Limits { max_kl: None, plausible: Some(0.5) });
    let raw = Raw::new(HookState::new(guide, FailurePolicy::Base));
    raw.accept(0);
    let (logits, _) = raw.apply(&[(0, 1.0), (1, 0.9), (2, -3.0)]);
    assert_eq!(logits, [1.0, 0.9, f32::NEG_INFINITY]);
}

#[test]
fn a_failing_arm_leaves_the_base_alone_or_ends_the_text() {
    let state = table_state(1.0, 2, FailurePolicy::Base);
    let raw = Raw::new(state.clone());
    [0, 1, 2].iter().for_each(|t| raw.accept(*t));
    assert_eq!(raw.apply(&FLAT), (vec![0.0; N], true), "untouched");
    assert!(state.take_error().is_some(), "a full context is reported, whatever the policy");

    let state = table_state(1.0, 2, FailurePolicy::Stop([2].into()));
    let raw = Raw::new(state.clone());
    [0, 1, 2].iter().for_each(|t| raw.accept(*t));
    let forbidden = f32::NEG_INFINITY;
    assert_eq!(raw.apply(&FLAT).0, [forbidden, forbidden, 0.0, forbidden]);
    assert!(state.take_error().is_some() && state.take_error().is_none());
}

/// Two ARMs, of which the second gives these logits.
fn state_with(broken: [f32; N], on_error: FailurePolicy) -> HookState {
    let arm = |name: &str, row: [f32; N]| {
        let expert = TableExpert::new(N, 100, move |_, logits| logits.copy_from_slice(&row));
        Arm::new(name, Box::new(expert), Contract { n_common: N, tail: Tail::None })
    };
    let weights = Weights::new([("sound".to_owned(), 1.0), ("broken".to_owned(), -0.5)]);
    HookState::new(Guide::new(vec![arm("sound", [1.0; N]), arm("broken", broken)], weights), on_error)
}

#[test]
fn an_arm_without_numbers_leaves_the_base_to_the_last_bit_or_ends_the_text() {
    let base = [(2, 0.1), (0, f32::NEG_INFINITY), (3, -7.25), (1, 1e-20)];
    let untouched: Vec<_> = base.iter().map(|(_, logit)| *logit).collect();
    for bad in [f32::NAN, f32::INFINITY] {
        let row = [0.0, 0.0, 0.0, bad];
        let state = state_with(row, FailurePolicy::Base);
        let raw = Raw::new(state.clone());
        raw.accept(0);
        assert_eq!(raw.apply(&base).0, untouched);
        assert!(state.take_error().is_none(), "the text goes on");

        let state = state_with(row, FailurePolicy::Stop([2].into()));
        let raw = Raw::new(state.clone());
        raw.accept(0);
        let forbidden = f32::NEG_INFINITY;
        assert_eq!(raw.apply(&base).0, [0.1, forbidden, forbidden, forbidden]);
        assert_eq!(state.take_error().map(|error| error.arm), Some("broken".to_owned()));
    }
    let state = state_with([0.0, f32::NEG_INFINITY, 0.0, 0.0], FailurePolicy::Base);
    let raw = Raw::new(state.clone());
    raw.accept(0);
    assert_eq!(raw.apply(&FLAT).0, [1.0, f32::NEG_INFINITY, 1.0, 1.0], "a forbidden token is no fault");
}

#[test]
fn a_base_without_numbers_ends_the_text_whatever_the_policy() {
    for on_error in [FailurePolicy::Base, FailurePolicy::Stop([2].into())] {
        let state = state_with([0.0; N], on_error);
        let raw = Raw::new(state.clone());
        raw.accept(0);
        raw.apply(&[(0, 0.0), (1, f32::NAN), (2, 1.0), (3, 0.0)]);
        let error = state.take_error().expect("the text ends");
        assert!(
            error.is_of_base() && error.to_string().starts_with("base: its logits hold NaN (at token 1)"),
            "{error}"
        );
    }
}

#[test]
fn a_panic_in_an_arm_does_not_cross_into_c() {
    let expert = TableExpert::new(N, 10, |_, _| panic!("a broken ARM"));
    let arm = Arm::new("a", Box::new(expert), Contract { n_common: N, tail: Tail::None });
    let guide = Guide::new(vec![arm], Weights::new([("a".to_owned(), 1.0)]));
    let raw = Raw::new(HookState::new(guide, FailurePolicy::Base));
    raw.accept(0);
    assert_eq!(raw.apply(&FLAT).0, [0.0; N]);
    assert_eq!(raw.apply(&FLAT).0, [0.0; N], "and again");
}

#[test]
fn newer_hosts_read_null_where_functions_were_appended() {
    // SAFETY: see `Raw::new`.
    let raw = unsafe { into_raw(Hook::new(table_state(1.0, 10, FailurePolicy::Base)), own_init) };
    // SAFETY: the vtable is padded with 16 words after the members of the pinned version.
    let appended = unsafe { std::slice::from_raw_parts((*raw).iface.add(1).cast::<usize>(), 16) };
    assert_eq!(appended, [0; 16]);
    // SAFETY: ours, and the last use.
    unsafe { sys::llama_sampler_free(raw.cast()) };
    assert_eq!(size_of::<llama_token_data>(), 12);
    assert!(
        size_of::<llama_token_data_array>() >= 32 - size_of::<usize>()
            && size_of::<llama_sampler>() == 2 * size_of::<usize>()
    );
}

/// Draws `n` tokens; the base and the ARMs are models.
fn draw(sampler: &mut Sampler, n: usize) -> Vec<i32> {
    let mut base = support::sequence(support::vocab().model());
    let mut history = support::vocab().tokenize("Once upon a time", true, false).expect("tokens");
    sampler.reset();
    history.iter().for_each(|t| sampler.accept(*t, false));
    let n_prompt = history.len();
    for _ in 0..n {
        let token = sampler.sample(base.advance(&history, 1).expect("a row")).expect("a token");
        sampler.accept(token, true);
        history.push(token);
    }
    history.split_off(n_prompt)
}

#[test]
fn weight_zero_gives_the_bases_tokens_and_evaluates_no_arm() {
    let params = SamplingParams { seed: 7, ..SamplingParams::default() };
    let (mut guided, state) = support::sampler(&params, [0.0, 0.0]);
    let mut alone = Sampler::new(&params, &support::vocab(), 256, None).expect("a sampler");
    assert_eq!(draw(&mut guided, 30), draw(&mut alone, 30));
    assert_eq!(state.with_guide(|guide| guide.n_decoded()), 0);
    state.with_guide(|guide| guide.weights().set("a", 2.0)).expect("a weight");
    assert_ne!(draw(&mut guided, 30), draw(&mut alone, 30));
}

#[test]
fn a_seed_gives_one_text_and_another_seed_another() {
    let with_seed =
        |seed| draw(&mut support::sampler(&SamplingParams { seed, ..SamplingParams::default() }, [0.5, 0.0]).0, 20);
    assert_eq!(with_seed(1), with_seed(1));
    assert_ne!(with_seed(1), with_seed(2));
}

#[test]
fn a_grammar_holds_under_negative_weights() {
    let params =
        SamplingParams { grammar: Some("root ::= \"yes\" | \"no\"".into()), seed: 3, ..SamplingParams::default() };
    let vocab = support::vocab();
    for weights in [[0.0, 0.0], [-1.5, 0.0], [2.0, -0.5]] {
        let (mut sampler, _) = support::sampler(&params, weights);
        let mut tokens = draw(&mut sampler, 8);
        let end = tokens.iter().position(|t| vocab.is_eog(*t)).expect("the grammar ends");
        tokens.truncate(end);
        let text = vocab.text(&tokens, false);
        assert!(matches!(text.trim(), "yes" | "no"), "{weights:?}: {text:?}");
    }
}

#[test]
fn a_json_schema_makes_json() {
    let schema = serde_json::json!({"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"], "additionalProperties": false});
    let params = SamplingParams { json_schema: Some(schema), seed: 3, temp: 0.5, ..SamplingParams::default() };
    let (mut sampler, _) = support::sampler(&params, [-0.5, 0.0]);
    let vocab = support::vocab();
    let mut tokens = draw(&mut sampler, 48);
    let ended = tokens.iter().position(|t| vocab.is_eog(*t));
    tokens.truncate(ended.unwrap_or(tokens.len()));
    let text = vocab.text(&tokens, false);
    assert!(text.trim_start().starts_with('{'), "{text}");
    if ended.is_some() {
        let value: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        assert!(value["n"].is_number(), "{text}");
    }
}

#[test]
fn a_bad_grammar_is_an_error_and_not_the_end_of_the_process() {
    for grammar in ["root ::= (", "start ::= \"a\"", "root ::= root \"a\"", "root ::= other"] {
        let params = SamplingParams { grammar: Some(grammar.into()), ..SamplingParams::default() };
        assert!(Sampler::new(&params, &support::vocab(), 256, None).is_err(), "{grammar}");
    }
}

#[test]
fn biases_forbid_and_force_tokens() {
    let params = SamplingParams { logit_bias: vec![(BiasKey::Token(9), 1000.0)], ..SamplingParams::default() };
    assert_eq!(draw(&mut support::sampler(&params, [1.0, 0.0]).0, 3), [9, 9, 9]);
    let outside = SamplingParams { logit_bias: vec![(BiasKey::Token(1 << 20), 1.0)], ..SamplingParams::default() };
    let error = Sampler::new(&outside, &support::vocab(), 256, None).err().expect("an error");
    assert!(error.to_string().contains("outside the vocabulary"), "{error}");
}

#[test]
fn every_sampler_runs_behind_the_hook() {
    let on = SamplingParams {
        seed: 5,
        penalty_last_n: -1,
        repeat_penalty: 1.1,
        frequency_penalty: 0.1,
        presence_penalty: 0.1,
        dry_multiplier: 0.8,
        dry_penalty_last_n: -1,
        top_n_sigma: 2.0,
        typ_p: 0.9,
        xtc_probability: 0.5,
        dynatemp_range: 0.3,
        ignore_eos: true,
        ..SamplingParams::default()
    };
    assert_eq!(draw(&mut support::sampler(&on, [0.5, 0.1]).0, 20).len(), 20);
    for mirostat in [genarm::sampling::params::Mirostat::V1, genarm::sampling::params::Mirostat::V2] {
        let params = SamplingParams { mirostat, ..on.clone() };
        assert_eq!(draw(&mut support::sampler(&params, [0.5, 0.1]).0, 20).len(), 20);
    }
}
