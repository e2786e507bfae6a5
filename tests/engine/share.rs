//! Base and LoRA ARMs as rows of one batch give what each gives in a context of its own.

use std::path::PathBuf;
use std::sync::Arc;

use genarm::bench::synthetic::{Quantization, Shape, SyntheticModel, SyntheticVocabulary};
use genarm::engine::llama::{Model, ModelParams};
use genarm::engine::share::{Probe, apart, together};
use genarm::engine::{Part, Scaled, Sequence, stack};
use genarm::{Expert, Token};
use tempfile::TempDir;

use crate::support::{self, memory, random, tokens as text};

/// A model and three adapters that differ in rank, targets and scale.
struct Family {
    model: Arc<Model>,
    adapters: Vec<(PathBuf, f32)>,
    _folder: TempDir,
}

impl Family {
    fn new(arch: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("model.gguf");
        random::model(&path, arch);
        let all = ["attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"];
        let kinds: [(u64, &[&str], f32); 3] = [
            (8, &["attn_q", "attn_k", "attn_v"], 1.0),
            (3, &all, 0.7),
            (16, &["attn_v", "ffn_down", "attn_output"], -1.5),
        ];
        let adapters = kinds.iter().enumerate().map(|(i, (rank, targets, scale))| {
            let path = folder.path().join(format!("lora-{i}.gguf"));
            random::lora(&path, arch, *rank, targets, i as u64, None);
            (path, *scale)
        });
        Self { adapters: adapters.collect(), model: support::load(&path), _folder: folder }
    }

    /// The base, then the first `n` ARMs.
    fn experts(&self, n: usize) -> Vec<Vec<Scaled<'_>>> {
        let arms = self.adapters[..n].iter().map(|(path, scale)| vec![(path.as_path(), *scale)]);
        std::iter::once(Vec::new()).chain(arms).collect()
    }

    fn together(&self, n: usize) -> Vec<Sequence> {
        let slots = together(&self.model, &self.experts(n), &support::context_params(), 1).expect("one context");
        slots.into_iter().flatten().collect()
    }

    fn apart(&self, n: usize) -> Vec<Sequence> {
        let one = |adapters: &Vec<Scaled<'_>>| apart(&self.model, adapters, &support::context_params(), 1);
        self.experts(n).iter().map(|adapters| one(adapters).expect("a context").remove(0)).collect()
    }
}

/// The largest difference of the logits of two families, each brought to its member's history.
fn worst(found: &mut [Sequence], expected: &mut [Sequence], histories: &[Vec<Token>], k: usize) -> f32 {
    found.iter_mut().zip(histories).for_each(|(sequence, history)| sequence.prepare(history, k));
    let mut worst: f32 = 0.0;
    for ((found, expected), history) in found.iter_mut().zip(expected).zip(histories) {
        let found = found.advance(history, k).expect("rows");
        let expected = expected.advance(history, k).expect("rows");
        assert_eq!(found.len(), expected.len());
        worst = found.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(worst, f32::max);
    }
    worst
}

#[test]
fn every_row_equals_a_context_of_its_own() {
    for arch in ["llama", "qwen2"] {
        let family = Family::new(arch);
        for n_arms in 1..=3 {
            let (mut rows, mut apart) = (family.together(n_arms), family.apart(n_arms));
            // Prompts of different lengths, some longer than a batch; then steps, drafts, a rejection, another turn.
            let mut histories: Vec<_> = (0..=n_arms).map(|i| text(i as Token, 5 + 41 * i)).collect();
            let mut check = |histories: &[Vec<Token>], k, what: &str| {
                let worst = worst(&mut rows, &mut apart, histories, k);
                assert!(worst < 1e-3, "{arch}, {n_arms} ARMs, {what}: {worst}");
            };
            check(&histories, 1, "the prompts");
            histories.iter_mut().for_each(|h| h.push(77));
            check(&histories, 1, "a step");
            histories.iter_mut().for_each(|h| h.extend([5, 6, 7, 8]));
            check(&histories, 5, "four drafts");
            histories.iter_mut().for_each(|h| h.truncate(h.len() - 2));
            check(&histories, 1, "a rejection");
            histories.iter_mut().for_each(|h| h.push(200));
            check(&histories, 1, "another token");
            histories.iter_mut().for_each(|h| h.splice(3.., text(9, 20)).for_each(drop));
            check(&histories, 2, "an edited turn");
        }
    }
}

/// In a pool llama.cpp gives away cells that lie outside of a sequence's window, which a shorter history needs again.
#[test]
fn rows_with_a_window_equal_contexts_of_their_own_after_every_way_back() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name);
    memory::model(&path("model.gguf"), "cohere2");
    random::lora_on(&path("model.gguf"), &path("lora.gguf"), 3, 0.3, "all");
    let adapters = [(path("lora.gguf"), 1.0)].into();
    let family = Family { model: support::load(&path("model.gguf")), adapters, _folder: folder };
    let (mut rows, mut apart) = (family.together(1), family.apart(1));
    let mut noise = random::Noise(5);
    let mut histories = [text(1, 20), text(2, 30)];
    for step in 0..60 {
        let at = step % 2;
        let history = &mut histories[at];
        let dropped = ((noise.next() + 1.0) * if step % 7 == 0 { 20.0 } else { 3.0 }) as usize;
        history.truncate(history.len().saturating_sub(dropped).max(3));
        history.extend(text(step as Token, 1 + (dropped * 5) % 9));
        let found = rows[at].advance(history, 1).expect("a row");
        let expected = apart[at].advance(history, 1).expect("a row");
        let worst = found.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(worst < 1e-3, "step {step}, {} tokens: {worst}", history.len());
    }
}

#[test]
fn a_row_that_is_masked_as_another_one_is_told_apart() {
    let family = Family::new("llama");
    let adapters: Vec<_> = family.experts(2).split_off(1);
    let histories = vec![text(1, 6); 3];
    let mut apart = family.apart(2);
    for (parts, right) in [
        ([None, Some(0), Some(1)], true),
        ([None, Some(1), Some(0)], false),
        ([Some(0), None, Some(1)], false),
        ([None, Some(0), Some(0)], false),
    ] {
        let stack = stack(&family.model, &adapters).expect("a stack");
        let parts = parts.map(|block| block.map(|block| Part { block, response_only: false }));
        let mut rows =
            Sequence::together(&family.model, stack, &support::context_params(), &parts).expect("one context");
        let worst = worst(&mut rows, &mut apart, &histories, 1);
        assert_eq!(worst < 1e-3, right, "{parts:?}: {worst}");
    }
}

#[test]
fn what_is_announced_is_decoded_in_one_batch() {
    let family = Family::new("llama");
    let mut rows = family.together(3);
    let mut histories: Vec<_> = (0..4).map(|i| text(i, 4 + i as usize)).collect();
    for n in 1..=3 {
        rows.iter_mut().zip(&histories).for_each(|(row, history)| row.prepare(history, 1));
        rows.iter_mut()
            .zip(&histories)
            .for_each(|(row, history)| drop(row.advance(history, 1).expect("a row").to_vec()));
        assert_eq!(rows[0].n_batches(), n);
        histories.iter_mut().for_each(|history| history.push(9));
    }
    assert_eq!(rows.iter().map(Expert::n_decoded).collect::<Vec<_>>(), [6, 7, 8, 9]);
}

#[test]
fn a_row_that_was_announced_and_never_asked_for_harms_nobody() {
    let family = Family::new("llama");
    let (mut rows, mut apart) = (family.together(1), family.apart(1));
    rows[1].prepare(&text(5, 7), 1);
    rows[1].prepare(&text(6, 9), 2);
    let histories = [text(1, 4), text(6, 9)];
    rows[0].advance(&histories[0], 1).expect("a row");
    assert!(worst(&mut rows, &mut apart, &histories, 1) < 1e-3);
}

#[test]
fn slots_of_one_expert_do_not_mix() {
    let family = Family::new("llama");
    let mut slots = together(&family.model, &family.experts(1), &support::context_params(), 3).expect("one context");
    let histories: Vec<_> = (0..3).map(|i| text(10 * i, 5 + 3 * i as usize)).collect();
    for (expert, slots) in slots.iter_mut().enumerate() {
        let mut apart: Vec<_> = (0..3).map(|_| family.apart(1).remove(expert)).collect();
        let worst = worst(slots, &mut apart, &histories, 1);
        assert!(worst < 1e-3, "expert {expert}: {worst}");
    }
}

#[test]
fn a_full_row_is_refused_and_the_others_go_on() {
    let family = Family::new("llama");
    let mut rows = family.together(1);
    let long = text(1, 257);
    rows[1].prepare(&long, 1);
    assert!(rows[0].advance(&long[..256], 1).is_ok(), "each row has the whole context");
    assert!(rows[1].advance(&long, 1).is_err());
    assert!(rows[1].advance(&long[..256], 1).is_ok());
}

#[test]
fn adapters_that_cannot_be_stacked_are_refused_by_name() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("model.gguf");
    random::model(&path, "llama");
    let model = support::load(&path);
    let n_vocab = model.vocab().n_tokens() as u64;
    let lora = folder.path().join("embedding.gguf");
    random::lora(&lora, "llama", 4, &["attn_q"], 1, Some(n_vocab));
    let refused = stack(&model, &[vec![(&lora, 1.0)]]).expect_err("an embedding");
    assert!(refused.to_string().contains("token_embd.weight"), "{refused}");
}

#[test]
fn the_check_at_load_passes_what_is_equal_and_quantised_models_too() {
    let family = Family::new("qwen2");
    Probe::new(&family.model, &family.experts(3), &support::context_params())
        .expect("contexts")
        .check()
        .expect("equal");

    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("q4.gguf");
    let vocabulary = SyntheticVocabulary::byte_level(512);
    let shape = Shape::of_size(20_000_000, 512).expect("a shape");
    let quantization = Quantization::Q4_0;
    let model = SyntheticModel { name: "q4", shape, quantization, vocabulary: &vocabulary, n_ctx_train: 64, seed: 1 };
    model.write(&path).expect("the model is written");
    let model = Model::load(&path, &ModelParams::default(), &mut |_| true).expect("a model");
    let experts = vec![Vec::new(); 3];
    Probe::new(&model, &experts, &support::context_params())
        .expect("contexts")
        .check()
        .expect("equal within the noise");
}
