//! The memory of a sequence, taken out and put back: what follows is what would have followed, to the last bit.

use std::path::PathBuf;
use std::sync::Arc;

use genarm::engine::llama::{ContextParams, FlashAttention, Model};
use genarm::engine::share::{apart, together};
use genarm::engine::{Scaled, Sequence};
use genarm::expert::{ExpertState, StateError};
use genarm::{Expert, Token};
use tempfile::TempDir;

use crate::support::{self, memory, random, tokens as text};

const ATTENTION: [&str; 4] = ["attn_q", "attn_k", "attn_v", "attn_output"];

fn params(flash_attention: FlashAttention) -> ContextParams {
    ContextParams { flash_attention, ..support::context_params() }
}

/// A model with an adapter on everything and one on responses.
struct Family {
    _folder: TempDir,
    model: Arc<Model>,
    adapters: [PathBuf; 2],
}

impl Family {
    fn new(arch: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("model.gguf");
        let adapters = ["all", "response"].map(|adapt| folder.path().join(format!("{adapt}.gguf")));
        match arch {
            "llama" | "qwen2" => {
                random::model(&path, arch);
                for (adapter, adapt) in adapters.iter().zip(["all", "response"]) {
                    random::response_lora(adapter, arch, 4, &ATTENTION, 3, adapt);
                }
            }
            _ => memory::model(&path, arch),
        }
        if arch == "cohere2" {
            for (adapter, adapt) in adapters.iter().zip(["all", "response"]) {
                random::lora_on(&path, adapter, 3, 0.3, adapt);
            }
        }
        Self { model: support::load(&path), adapters, _folder: folder }
    }

    fn alone(&self, n_slots: usize, params: &ContextParams) -> Vec<Sequence> {
        apart(&self.model, &[], params, n_slots).expect("a context")
    }

    fn adapters(&self) -> Vec<Vec<Scaled<'_>>> {
        let of_arms = self.adapters.iter().map(|path| vec![(path.as_path(), 1.0)]);
        std::iter::once(Vec::new()).chain(of_arms).collect()
    }

    /// Base, ordinary ARM and response-only ARM as rows of one batch.
    fn together(&self, n_slots: usize) -> Vec<Vec<Sequence>> {
        together(&self.model, &self.adapters(), &support::context_params(), n_slots).expect("one context")
    }
}

/// Rows after a prompt, steps, a draft that is cut off and another turn.
fn go_on(experts: &mut [&mut Sequence], history: &mut Vec<Token>) -> Vec<f32> {
    let mut found = Vec::new();
    let mut read = |experts: &mut [&mut Sequence], history: &[Token], k| {
        experts.iter_mut().for_each(|expert| expert.prepare(history, k));
        for expert in experts {
            found.extend_from_slice(expert.advance(history, k).expect("rows"));
        }
    };
    for token in 0..3 {
        history.push(50 + token);
        read(experts, history, 1);
    }
    history.extend([9, 8, 7]);
    read(experts, history, 3);
    history.truncate(history.len() - 2);
    history.extend(text(1, 20));
    read(experts, history, 1);
    found
}

fn worst(found: &[f32], expected: &[f32]) -> f32 {
    assert_eq!(found.len(), expected.len());
    found.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

fn read(experts: &mut [&mut Sequence], history: &[Token]) {
    experts.iter_mut().for_each(|expert| expert.prepare(history, 1));
    for expert in experts {
        expert.advance(history, 1).expect("a row");
    }
}

fn prompt_of(experts: &mut [&mut Sequence], n: usize) {
    for expert in experts {
        expert.set_prompt_len(n);
    }
}

fn saved(experts: &mut [&mut Sequence]) -> Vec<ExpertState> {
    experts.iter_mut().map(|expert| expert.save().expect("a state")).collect()
}

fn restore(experts: &mut [&mut Sequence], states: &[ExpertState]) {
    experts.iter_mut().zip(states).for_each(|(expert, state)| expert.restore(state).expect("it fits"));
}

#[test]
fn a_restored_sequence_goes_on_as_one_that_was_never_interrupted() {
    for arch in ["llama", "qwen2", "mamba", "jamba", "cohere2"] {
        let family = Family::new(arch);
        for flash_attention in [FlashAttention::Off, FlashAttention::On] {
            let params = params(flash_attention);
            let mut history = text(5, 150);
            let mut first = family.alone(1, &params).remove(0);
            read(&mut [&mut first], &history);
            let state = first.save().expect("a state");
            assert_eq!(state.tokens, history);
            // Into one of several sequences, each with cells of its own.
            let mut second = family.alone(3, &params).remove(1);
            second.restore(&state).expect("it fits");
            assert_eq!(second.n_cached(&history), 150, "{arch}");
            let mut same = history.clone();
            let expected = go_on(&mut [&mut first], &mut history);
            let before = second.n_decoded();
            let worst = worst(&go_on(&mut [&mut second], &mut same), &expected);
            // A cache of a window is put together anew, and its sums are rounded otherwise.
            let bound = if arch == "cohere2" { 1e-3 } else { 0.0 };
            assert!(worst <= bound, "{arch}, {flash_attention:?}: {worst}");
            if arch == "llama" {
                assert_eq!(second.n_decoded() - before, 3 + 3 + 20, "only what is new is decoded");
            }
        }
    }
}

#[test]
fn rows_of_one_batch_are_restored_each_with_its_own_memory() {
    let family = Family::new("llama");
    let mut rows = family.together(2);
    let mut first: Vec<_> = rows.iter_mut().map(|slots| &mut slots[1]).collect();
    let mut history = text(5, 120);
    // The last 20 tokens are a response: before them one ARM has the base's own keys and values.
    prompt_of(&mut first, 100);
    read(&mut first, &history);
    let states = saved(&mut first);
    let mut others = family.together(1);
    let mut second: Vec<_> = others.iter_mut().map(|slots| &mut slots[0]).collect();
    prompt_of(&mut second, 100);
    restore(&mut second, &states);
    let mut same = history.clone();
    let expected = go_on(&mut first, &mut history);
    // In a pool of cells they lie elsewhere, and sums are rounded otherwise.
    let worst = worst(&go_on(&mut second, &mut same), &expected);
    assert!(worst < 1e-3, "{worst}");
    assert_eq!(second.iter().map(|expert| expert.n_decoded()).collect::<Vec<_>>(), [26; 3]);
}

#[test]
fn a_state_goes_from_a_shared_batch_into_a_context_of_its_own_and_back() {
    let family = Family::new("llama");
    let mut rows = family.together(1);
    let history = text(5, 120);
    let arm = &mut rows[1][0];
    let expected = arm.advance(&history, 1).expect("a row").to_vec();
    let state = arm.save().expect("a state");
    let mut alone = apart(&family.model, &family.adapters()[1], &support::context_params(), 4).expect("a context");
    alone[2].restore(&state).expect("it fits");
    let found = alone[2].advance(&history, 1).expect("a row").to_vec();
    assert_eq!(alone[2].n_decoded(), 1);
    assert!(worst(&found, &expected) < 1e-3);
    let back = alone[2].save().expect("a state");
    rows[1][0].restore(&back).expect("it fits");
    assert_eq!(rows[1][0].n_cached(&history), 120);
}

#[test]
fn a_memory_without_what_a_window_left_out_is_read_again_from_the_beginning() {
    let family = Family::new("cohere2");
    let params = support::context_params();
    let history = text(5, 150);
    let mut first = family.alone(1, &params).remove(0);
    read(&mut [&mut first], &history);
    let mut second = family.alone(1, &params).remove(0);
    second.restore(&first.save().expect("a state")).expect("it fits");
    let edited = [&history[..100], &text(9, 30)].concat();
    assert_eq!(second.n_cached(&edited), 0);
    let mut fresh = family.alone(1, &params).remove(0);
    assert_eq!(second.advance(&edited, 1).expect("a row"), fresh.advance(&edited, 1).expect("a row"));
    assert_eq!(second.n_cached(&edited[..60]), 60, "from here on all is there");
}

#[test]
fn what_a_window_left_out_is_missing_too_where_the_base_s_memory_is_taken_over() {
    let family = Family::new("cohere2");
    let history = text(5, 150);
    let mut first = family.together(1);
    read(&mut [&mut first[0][0]], &history);
    let state = first[0][0].save().expect("a state");
    let mut second = family.together(1);
    second[0][0].restore(&state).expect("it fits");
    // The prompt is the base's own memory; of it the last tokens alone are there in every layer.
    let arm = &mut second[2][0];
    arm.set_prompt_len(150);
    let longer = [&history[..], &text(9, 5)].concat();
    read(&mut [arm], &longer);
    let edited = [&history[..100], &text(9, 30)].concat();
    arm.set_prompt_len(130);
    let found = arm.advance(&edited, 1).expect("a row").to_vec();
    let mut fresh = family.together(1);
    let fresh = &mut fresh[2][0];
    fresh.set_prompt_len(130);
    let worst = worst(&found, fresh.advance(&edited, 1).expect("a row"));
    assert!(worst < 1e-3, "{worst}");
}

#[test]
fn a_recurrent_model_goes_back_to_its_last_prompt() {
    for arch in ["mamba", "jamba", "lfm2"] {
        goes_back(&Family::new(arch));
    }
}

fn goes_back(family: &Family) {
    let params = support::context_params();
    let (prompt, mut history) = (text(5, 100), text(5, 100));
    let mut first = family.alone(1, &params).remove(0);
    read(&mut [&mut first], &history);
    for token in 0..5 {
        history.push(50 + token);
        read(&mut [&mut first], &history);
    }
    let mut second = family.alone(2, &params).remove(1);
    second.restore(&first.save().expect("a state")).expect("it fits");
    let other = [&prompt[..], &text(9, 4)].concat();
    assert_eq!(second.n_cached(&other), 99, "its last token was read by itself, to go back before it");
    assert_eq!(second.advance(&other, 1).expect("a row"), first.advance(&other, 1).expect("a row"));
}

#[test]
fn a_state_that_was_tampered_with_is_refused_or_harmless() {
    for arch in ["llama", "mamba", "jamba", "cohere2"] {
        let family = Family::new(arch);
        let params = ContextParams { n_ctx: 64, ..support::context_params() };
        let history = text(5, 20);
        let mut expert = family.alone(2, &params).remove(0);
        let expected = expert.advance(&history, 1).expect("a row").to_vec();
        let state = expert.save().expect("a state");
        let mut check = |tampered: ExpertState, what: &str| {
            let taken = expert.restore(&tampered);
            if taken.is_ok() {
                expert.forget();
            }
            // Whatever happened, the expert works.
            let found = expert.advance(&history, 1).expect("a row").to_vec();
            assert!(found == expected, "{arch}, {what}: {taken:?}");
            taken
        };
        let with = |memory: Vec<u8>| ExpertState { memory: memory.into(), ..state.clone() };
        for at in (0..state.memory.len() - 3).step_by(4).take(160) {
            for lie in [0, 1, 2, 21, 1 << 16, i32::MAX as u32, u32::MAX] {
                let mut memory = state.memory.to_vec();
                memory[at..at + 4].copy_from_slice(&u32::to_le_bytes(lie));
                let _ = check(with(memory), &format!("{lie} at {at}"));
            }
        }
        for n in [0, 7, 100, state.memory.len() - 1] {
            check(with(state.memory[..n].to_vec()), "cut off").expect_err("too short");
        }
        check(with([&state.memory[..], &[0; 4]].concat()), "longer").expect_err("too long");
        let other = ExpertState { tokens: text(5, 19), ..state.clone() };
        check(other, "fewer tokens").expect_err("other positions");
        let foreign = ExpertState { tokens: vec![1 << 20; 20], ..state.clone() };
        check(foreign, "foreign tokens").expect_err("no such tokens");
    }
    let [small, large] = [16, 64].map(|n_ctx| {
        let params = ContextParams { n_ctx, ..support::context_params() };
        Family::new("llama").alone(1, &params).remove(0)
    });
    let (mut small, mut large) = (small, large);
    read(&mut [&mut large], &text(5, 40));
    let error = small.restore(&large.save().expect("a state")).expect_err("no room");
    assert_eq!(error, StateError::TooLong { n_tokens: 40, n_ctx: 16 });
}

#[test]
fn a_state_that_another_expert_has_checked_is_checked_again() {
    let params = |n_ctx| ContextParams { n_ctx, ..support::context_params() };
    let (llama, mamba) = (Family::new("llama"), Family::new("mamba"));
    let mut large = llama.alone(1, &params(64)).remove(0);
    let mut recurrent = mamba.alone(1, &params(64)).remove(0);
    read(&mut [&mut large], &text(5, 40));
    read(&mut [&mut recurrent], &text(5, 40));
    let state = large.save().expect("a state");
    let checked = large.check(&state).expect("sound");
    let history = text(5, 10);
    let mut small = llama.alone(1, &params(16)).remove(0);
    for (expert, expected) in [
        (&mut small, StateError::TooLong { n_tokens: 40, n_ctx: 16 }),
        (&mut recurrent, StateError::Broken { what: "a position is wrong" }),
    ] {
        read(&mut [&mut *expert], &history);
        assert_eq!(expert.restore_checked(&checked), Err(expected));
        assert_eq!(expert.n_held(), 10, "what is there stays");
    }
    large.forget();
    large.restore_checked(&checked).expect("its own");
    assert_eq!(large.n_held(), 40);
    let state = recurrent.save().expect("a state");
    recurrent.restore_checked(&recurrent.check(&state).expect("sound")).expect("its own");
}

#[test]
fn a_state_without_tokens_is_refused_and_what_is_there_stays() {
    for arch in ["llama", "mamba", "jamba"] {
        let family = Family::new(arch);
        let history = text(5, 20);
        let mut expert = family.alone(1, &support::context_params()).remove(0);
        read(&mut [&mut expert], &history);
        let state = expert.save().expect("a state");
        let earlier = |earlier: ExpertState| ExpertState { earlier: Some(Box::new(earlier)), ..state.clone() };
        let none = ExpertState::default();
        for forged in [
            earlier(none.clone()),
            earlier(ExpertState { memory: state.memory.clone(), ..none.clone() }),
            ExpertState { memory: state.memory.clone(), ..none.clone() },
            ExpertState { earlier: Some(Box::new(state.clone())), ..none.clone() },
        ] {
            let refused = expert.restore(&forged);
            assert!(matches!(refused, Err(StateError::Broken { .. })), "{arch}: {refused:?}");
            assert_eq!(expert.n_cached(&history), 20, "{arch}");
        }
        expert.restore(&none).expect("an expert that held nothing");
        assert_eq!(expert.n_held(), 0);
    }
}

#[test]
fn a_context_that_computes_with_other_rope_factors_is_of_another_origin() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name);
    random::model(&path("one.gguf"), "llama");
    random::with_two_sets_of_rope_factors(&path("one.gguf"), &path("two.gguf"), 300);
    let settings = |name: &str, n_ctx| {
        let params = ContextParams { n_ctx, ..support::context_params() };
        let model = support::load(&path(name));
        apart(&model, &[], &params, 1).expect("a context")[0].origin().expect("an origin").settings
    };
    assert_eq!(settings("one.gguf", 200), settings("one.gguf", 500));
    assert_eq!(settings("two.gguf", 200), settings("two.gguf", 250));
    assert_ne!(settings("two.gguf", 200), settings("two.gguf", 500));
    assert!(settings("two.gguf", 500).contains(&("n-ctx".to_owned(), "more than 300".to_owned())));
}

#[test]
fn an_expert_is_recognised_by_its_files_and_not_by_their_paths() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name);
    random::model(&path("a.gguf"), "llama");
    std::fs::copy(path("a.gguf"), path("b.gguf")).expect("a copy");
    std::fs::copy(path("a.gguf"), path("c.gguf")).expect("a copy");
    random::poison(&path("c.gguf"), "blk.1.ffn_up.weight", 0..1, 0.25);
    let origin = |name: &str| {
        let model = support::load(&path(name));
        apart(&model, &[], &support::context_params(), 1).expect("a context").remove(0)
    };
    let [a, b, c] = ["a.gguf", "b.gguf", "c.gguf"].map(origin);
    let of = |expert: &Sequence| expert.origin().expect("a fingerprint");
    assert_eq!(of(&a), of(&b));
    assert_ne!(of(&a).model, of(&c).model, "one weight is another");
    // The model in memory is not that of the file any more.
    random::model(&path("b.gguf"), "qwen2");
    assert!(matches!(b.origin(), Err(StateError::Changed { .. })));
    assert!(a.origin().is_ok());
}
