//! Adapters that act on responses alone: the prompt is read as the base reads it, once.

use std::path::PathBuf;
use std::sync::Arc;

use candle_core::Device;
use genarm::engine::llama::Model;
use genarm::engine::share::{apart, together};
use genarm::engine::{Scaled, Sequence};
use genarm::train::backbone::{Backbone, Packed};
use genarm::{Expert, Token};
use tempfile::TempDir;

use crate::support::{self, random, tokens as text};

const MATRICES: [&str; 7] = ["attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"];
/// A control token of the vocabulary.
const MARK: Token = 1;

struct Family {
    folder: TempDir,
    model: Arc<Model>,
    path: PathBuf,
    adapters: Vec<PathBuf>,
}

impl Family {
    /// A base, an adapter on responses, and one on everything.
    fn new(arch: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("model.gguf");
        random::model(&path, arch);
        let adapters = ["response", "all"].map(|adapt| folder.path().join(format!("{adapt}.gguf")));
        for (i, (adapter, adapt)) in adapters.iter().zip(["response", "all"]).enumerate() {
            random::response_lora(adapter, arch, 4, &MATRICES, i as u64, adapt);
        }
        Self { model: support::load(&path), path, adapters: adapters.to_vec(), folder }
    }

    fn experts(&self) -> [Vec<Scaled<'_>>; 3] {
        let arm = |i: usize| vec![(self.adapters[i].as_path(), 1.0)];
        [Vec::new(), arm(0), arm(1)]
    }

    /// Base, response-only ARM and ordinary ARM in one context.
    fn together(&self) -> Vec<Sequence> {
        let rows = together(&self.model, &self.experts(), &support::context_params(), 1).expect("one context");
        rows.into_iter().flatten().collect()
    }

    /// The last `k` rows of the response-only ARM by an independent computation: the graph that training uses.
    fn expected(&self, history: &[Token], adapted_from: usize, k: usize) -> Vec<f32> {
        let mut backbone = Backbone::load(&self.path, &Device::Cpu, Some(256)).expect("a backbone");
        backbone.load_lora(&self.adapters[0]).expect("an adapter");
        let mut packed = Packed::default();
        // The last token is not read, so one more is appended.
        let tokens: Vec<u32> = history.iter().map(|token| *token as u32).chain([0]).collect();
        packed.push_adapted(&tokens, tokens.len() - k, adapted_from);
        backbone.logits(&packed).expect("logits").flatten_all().expect("rows").to_vec1().expect("numbers")
    }
}

/// A prompt of `n` tokens whose last three are the header of an answer: a control token and two more.
fn prompt(n: usize) -> Vec<Token> {
    let mut prompt = text(5, n);
    prompt[n - 3] = MARK;
    prompt
}

fn worst(found: &[f32], expected: &[f32]) -> f32 {
    assert_eq!(found.len(), expected.len());
    found.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

/// Announces a history to all, and asks all for their last `k` rows; returns those of the response-only ARM.
fn step(rows: &mut [Sequence], history: &[Token], n_prompt: usize, k: usize) -> Vec<f32> {
    for row in rows.iter_mut() {
        row.set_prompt_len(n_prompt);
        row.prepare(history, k);
    }
    let mut found = rows.iter_mut().map(|row| row.advance(history, k).expect("rows").to_vec()).collect::<Vec<_>>();
    found.swap_remove(1)
}

#[test]
fn the_logits_are_those_of_a_prompt_read_without_the_adapter_and_a_response_with_it() {
    for arch in ["llama", "qwen2"] {
        let family = Family::new(arch);
        let alone = apart(&family.model, &family.experts()[1], &support::context_params(), 1).expect("a context");
        for (mut rows, what) in [(family.together(), "beside the base"), (alone, "alone")] {
            let own = usize::from(rows.len() > 1);
            let mut step = |history: &[Token], n_prompt: usize, k: usize| {
                for row in rows.iter_mut() {
                    row.set_prompt_len(n_prompt);
                    row.prepare(history, k);
                }
                rows[own].advance(history, k).expect("rows").to_vec()
            };
            // Longer than a batch of 64.
            let (mut history, n) = (prompt(90), 90);
            for (more, k, cut, case) in [
                (&[][..], 1, 0, "the prompt"),
                (&[70, 71, 72], 3, 0, "three tokens"),
                (&[73], 2, 2, "a rejected draft"),
            ] {
                history.truncate(history.len() - cut);
                history.extend_from_slice(more);
                let worst = worst(&step(&history, n, k), &family.expected(&history, n - 3, k));
                assert!(worst < 1e-3, "{arch}, {what}, {case}: {worst}");
            }
            // The next turn: what was an answer is read as the base reads it.
            history.extend(prompt(20));
            let n = history.len();
            history.push(99);
            let found = step(&history, n, 1);
            assert!(worst(&found, &family.expected(&history, n - 3, 1)) < 1e-3, "{arch}, {what}, the next turn");
            // The same tokens as a shorter prompt and a longer answer are read otherwise.
            let found = step(&history, 90, 1);
            assert!(worst(&found, &family.expected(&history, 87, 1)) < 1e-3, "{arch}, {what}, a shorter prompt");
            assert!(worst(&found, &family.expected(&history, n - 3, 1)) > 1e-2, "it must matter");
        }
    }
}

#[test]
fn beside_the_base_only_the_header_of_the_answer_is_decoded() {
    let family = Family::new("llama");
    let mut rows = family.together();
    let n_decoded = |rows: &[Sequence]| rows.iter().map(Expert::n_decoded).collect::<Vec<_>>();
    let mut history = prompt(90);
    step(&mut rows, &history, 90, 1);
    assert_eq!(n_decoded(&rows), [90, 3, 90]);
    history.push(7);
    step(&mut rows, &history, 90, 1);
    assert_eq!(n_decoded(&rows), [91, 4, 91]);
    // The next turn: the base has read its own answer, too.
    history.extend(prompt(20));
    let n = history.len();
    step(&mut rows, &history, n, 1);
    assert_eq!(n_decoded(&rows), [111, 7, 111]);
    // Another answer to the same prompt.
    history.truncate(n);
    history.extend([8, 9]);
    step(&mut rows, &history, n, 2);
    assert_eq!(n_decoded(&rows), [113, 9, 113]);
}

#[test]
fn a_prompt_may_be_read_in_chunks_and_the_base_may_be_ahead() {
    let family = Family::new("llama");
    let history = prompt(90);
    let expected = family.expected(&history, 87, 1);
    let mut rows = family.together();
    for end in [30, 60, 89] {
        for row in rows.iter_mut() {
            row.set_prompt_len(90);
            row.prepare(&history[..end], 1);
            row.read().expect("a chunk");
        }
    }
    assert!(worst(&step(&mut rows, &history, 90, 1), &expected) < 1e-3);
    assert!(rows[1].n_decoded() <= 3 + 2 * 3, "{}", rows[1].n_decoded());
    // The base alone has read everything before the ARM is asked first.
    let mut rows = family.together();
    rows[0].advance(&history, 1).expect("rows");
    rows[1].set_prompt_len(90);
    assert_eq!(rows[1].n_cached(&history), 0);
    assert!(worst(rows[1].advance(&history, 1).expect("rows"), &expected) < 1e-3);
    assert_eq!(rows[1].n_decoded(), 3);
}

#[test]
fn without_a_control_token_the_last_token_of_the_prompt_is_adapted() {
    let family = Family::new("llama");
    let mut rows = family.together();
    let history = text(5, 40);
    assert!(worst(&step(&mut rows, &history, 40, 1), &family.expected(&history, 39, 1)) < 1e-3);
    assert_eq!(rows[1].n_decoded(), 1);
    // A text without a prompt is a response as a whole.
    let mut rows = family.together();
    assert!(worst(&step(&mut rows, &history, 0, 1), &family.expected(&history, 0, 1)) < 1e-3);
}

#[test]
fn adapters_of_one_expert_act_alike_and_say_so_in_known_words() {
    let family = Family::new("llama");
    let both = vec![(family.adapters[0].as_path(), 1.0), (family.adapters[1].as_path(), 1.0)];
    let odd = family.folder.path().join("odd.gguf");
    random::response_lora(&odd, "llama", 4, &["attn_q"], 3, "sometimes");
    for (adapters, part) in [(both, "all act on responses alone"), (vec![(odd.as_path(), 1.0)], "is \"sometimes\"")] {
        let error = apart(&family.model, &adapters, &support::context_params(), 1).err().expect("a refusal");
        assert!(error.to_string().contains(part), "{error}");
    }
}

#[test]
fn a_text_with_another_prompt_of_the_same_length_has_a_border_of_its_own() {
    let family = Family::new("llama");
    let mut rows = family.together();
    let first = prompt(40);
    step(&mut rows, &first, 40, 1);
    // The header is longer here.
    let mut second = text(9, 40);
    second[30] = MARK;
    let found = step(&mut rows, &second, 40, 1);
    assert!(worst(&found, &family.expected(&second, 30, 1)) < 1e-3);
}
