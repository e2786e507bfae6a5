//! Preference-conditioned ARMs: one adapter, whose blocks act as often as each text prefers their objectives.

use std::path::PathBuf;
use std::sync::Arc;

use genarm::engine::llama::Model;
use genarm::engine::share::{Probe, apart, together};
use genarm::engine::{Scaled, Sequence};
use genarm::{Expert, Token};
use tempfile::TempDir;

use crate::support::parm::{Order, RandomParm};
use crate::support::{self, random, tokens as text};

const OBJECTIVES: [&str; 3] = ["helpful", "harmless", "brief"];
/// Four slots' preferences.
const ALPHAS: [[f32; 3]; 4] = [[1.0, 0.0, 0.0], [0.2, 0.3, 0.5], [0.0, 0.7, 0.3], [1.0, 1.0, 1.0]];
const TOLERANCE: f32 = 1e-3;

struct Family {
    folder: TempDir,
    model: Arc<Model>,
    parm: RandomParm,
    path: PathBuf,
    /// An ordinary adapter.
    other: PathBuf,
}

impl Family {
    fn new(arch: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let [model, path, other] = ["model.gguf", "parm.gguf", "other.gguf"].map(|name| folder.path().join(name));
        random::model(&model, arch);
        random::lora(&other, arch, 8, &["attn_q", "ffn_up"], 5, None);
        let parm = RandomParm::on(&model, &OBJECTIVES, 3, 0.3);
        parm.write(&path);
        Self { model: support::load(&model), parm, path, other, folder }
    }

    /// The PARM in `n_slots` slots, beside the base and an ordinary ARM.
    fn shared(&self, n_slots: usize) -> Vec<Sequence> {
        let experts = [vec![], vec![(self.path.as_path(), 1.0)], vec![(self.other.as_path(), 1.0)]];
        together(&self.model, &experts, &support::context_params(), n_slots).expect("one context").swap_remove(1)
    }

    fn apart(&self, adapters: &[Scaled<'_>], n_slots: usize) -> Vec<Sequence> {
        apart(&self.model, adapters, &support::context_params(), n_slots).expect("a context")
    }

    fn alone(&self) -> Sequence {
        self.apart(&[(&self.path, 1.0)], 1).remove(0)
    }

    /// An ordinary adapter made for these preferences.
    fn folded(&self, alpha: &[f32], order: Order) -> Sequence {
        let path = self.folder.path().join("folded.gguf");
        self.parm.write_folded(&path, alpha, order);
        self.apart(&[(&path, 1.0)], 1).remove(0)
    }
}

fn rows(sequence: &mut Sequence, history: &[Token], k: usize) -> Vec<f32> {
    sequence.advance(history, k).expect("rows").to_vec()
}

fn distance(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

/// Announces a history of its own to each of the slots, then returns what each gives.
fn step(slots: &mut [Sequence], histories: &[Vec<Token>], k: usize) -> Vec<Vec<f32>> {
    slots.iter_mut().zip(histories).for_each(|(slot, history)| slot.prepare(history, k));
    slots.iter_mut().zip(histories).map(|(slot, history)| rows(slot, history, k)).collect()
}

#[test]
fn four_preferences_in_one_batch_equal_four_folded_adapters() {
    for arch in ["llama", "qwen2"] {
        let family = Family::new(arch);
        let mut slots = family.shared(4);
        for (slot, alpha) in slots.iter_mut().zip(ALPHAS) {
            slot.set_coefficients(&alpha);
        }
        let mut folded: Vec<_> = ALPHAS.iter().map(|alpha| family.folded(alpha, Order::RowMajor)).collect();
        let mut histories: Vec<_> = (0..4).map(|i| text(7 * i, 5 + 9 * i as usize)).collect();
        for (more, k) in [(&[][..], 1), (&[40, 41, 42], 3), (&[43], 1)] {
            histories.iter_mut().for_each(|history| history.extend_from_slice(more));
            let n_batches = slots[0].n_batches();
            let found = step(&mut slots, &histories, k);
            assert!(more.is_empty() || slots[0].n_batches() == n_batches + 1, "one batch for all");
            for (i, (found, folded)) in found.iter().zip(&mut folded).enumerate() {
                let worst = distance(found, &rows(folded, &histories[i], k));
                assert!(worst < TOLERANCE, "{arch}, {:?}: {worst}", ALPHAS[i]);
            }
        }
        // The tolerance tells right from wrong.
        for (slot, history, alpha) in [(0, 0, ALPHAS[0]), (1, 1, ALPHAS[1])] {
            let found = rows(&mut slots[slot], &histories[history], 1);
            let mutant =
                distance(&found, &rows(&mut family.folded(&alpha, Order::ColumnMajor), &histories[history], 1));
            assert!(mutant > 10.0 * TOLERANCE, "{arch}: matrices read column by column differ by {mutant} only");
            let other =
                distance(&found, &rows(&mut family.folded(&ALPHAS[2], Order::RowMajor), &histories[history], 1));
            assert!(other > 10.0 * TOLERANCE, "{arch}: other preferences differ by {other} only");
        }
    }
}

#[test]
fn coefficients_of_1_give_the_bits_of_an_adapter_without_objectives() {
    let family = Family::new("llama");
    let silent = family.folder.path().join("silent.gguf");
    family.parm.write_silent(&silent);
    let bits = |path: &PathBuf, alpha: Option<&[f32]>| {
        let experts = [vec![], vec![(path.as_path(), 1.0)]];
        let rows_of = together(&family.model, &experts, &support::context_params(), 1).expect("one context");
        let mut both: Vec<_> = rows_of.into_iter().flatten().collect();
        if let Some(alpha) = alpha {
            both[1].set_coefficients(alpha);
        }
        let found = step(&mut both, &[text(1, 9), text(1, 9)], 2).concat();
        found.iter().map(|logit| logit.to_bits()).collect::<Vec<_>>()
    };
    let expected = bits(&silent, None);
    assert_eq!(bits(&family.path, None), expected, "a coefficient that is not set is 1");
    assert_eq!(bits(&family.path, Some(&[1.0; 3])), expected);
    assert_eq!(bits(&silent, Some(&[0.5; 3])), expected, "an adapter without objectives has no coefficients");
    assert_ne!(bits(&family.path, Some(&[1.0, 1.0, 0.5])), expected);
}

#[test]
fn contexts_of_their_own_give_what_a_shared_batch_gives() {
    let family = Family::new("llama");
    let mut shared = family.shared(4);
    let mut alone: Vec<_> = (0..4).map(|_| family.alone()).collect();
    let mut slots = family.apart(&[(&family.path, 1.0)], 4);
    let mut histories: Vec<_> = (0..4).map(|i| text(11 * i, 6 + i as usize)).collect();
    // Preferences are exchanged on the way.
    for turn in 0..3 {
        for sequences in [&mut shared, &mut alone, &mut slots] {
            for (i, sequence) in sequences.iter_mut().enumerate() {
                sequence.set_coefficients(&ALPHAS[(i + turn) % 4]);
            }
        }
        let expected = step(&mut shared, &histories, 1);
        for (others, what) in [(&mut alone, "alone"), (&mut slots, "in slots")] {
            for (found, expected) in step(others, &histories, 1).iter().zip(&expected) {
                let worst = distance(found, expected);
                assert!(worst < TOLERANCE, "{what}, turn {turn}: {worst}");
            }
        }
        histories.iter_mut().for_each(|history| history.push(60 + turn as Token));
    }
    let experts = [vec![], vec![(family.path.as_path(), 1.0)], vec![(family.other.as_path(), 0.5)]];
    Probe::new(&family.model, &experts, &support::context_params()).expect("contexts").check().expect("equal");
}

#[test]
fn a_change_of_preferences_acts_on_the_next_token_and_leaves_what_was_read() {
    let family = Family::new("llama");
    let mut shared = family.shared(1);
    for sequence in [&mut shared[0], &mut family.alone()] {
        let mut history = text(2, 12);
        sequence.set_prompt_len(history.len());
        sequence.set_coefficients(&ALPHAS[0]);
        let before = rows(sequence, &history, 1);
        let n_decoded = sequence.n_decoded();
        history.push(50);
        sequence.advance(&history, 1).expect("a row");
        assert!(sequence.set_coefficients(&ALPHAS[2]), "logits may be others now");
        assert!(!sequence.set_coefficients(&ALPHAS[2]));
        history.push(51);
        let after = rows(sequence, &history, 1);
        assert_eq!(sequence.n_decoded(), n_decoded + 2, "nothing is read again");
        let differs = |alpha: &[f32]| distance(&after, &rows(&mut family.folded(alpha, Order::RowMajor), &history, 1));
        assert!(differs(&ALPHAS[0]) > 10.0 * TOLERANCE, "the new preferences act");
        assert!(differs(&ALPHAS[2]) > 10.0 * TOLERANCE, "earlier keys and values stay");
        // Rows that are held are of the preferences of before.
        sequence.set_coefficients(&ALPHAS[0]);
        assert!(distance(&after, &rows(sequence, &history, 1)) > 10.0 * TOLERANCE);
        assert_eq!(before.len(), after.len());
    }
}

#[test]
fn a_text_does_not_depend_on_the_preferences_of_the_text_before() {
    let family = Family::new("llama");
    let mut shared = family.shared(1);
    for sequence in [&mut shared[0], &mut family.alone()] {
        let prompt = text(4, 20);
        let begin = |sequence: &mut Sequence, alpha: &[f32], history: &[Token]| {
            let n_decoded = sequence.n_decoded();
            sequence.set_prompt_len(prompt.len());
            sequence.set_coefficients(alpha);
            let worst =
                distance(&rows(sequence, history, 1), &rows(&mut family.folded(alpha, Order::RowMajor), history, 1));
            assert!(worst < TOLERANCE, "{alpha:?}: {worst}");
            sequence.n_decoded() - n_decoded
        };
        let more = [&prompt[..], &[70, 71]].concat();
        assert_eq!(begin(sequence, &ALPHAS[0], &prompt), 20);
        assert_eq!(begin(sequence, &ALPHAS[0], &more), 2, "the same preferences: the prefix is kept");
        assert_eq!(begin(sequence, &ALPHAS[1], &more), 22, "other preferences: the prompt is read again");
        // Another change in the middle: what follows it is not kept for a text that begins.
        sequence.set_coefficients(&ALPHAS[2]);
        let longer = [&more[..], &[72, 73]].concat();
        rows(sequence, &longer, 1);
        assert_eq!(begin(sequence, &ALPHAS[1], &longer), 2, "tokens of other preferences are read again");
        // Also where the first call is a part of the prompt, as long prompts are read.
        assert_eq!(begin(sequence, &ALPHAS[3], &prompt[..8]), 8);
        assert_eq!(begin(sequence, &ALPHAS[3], &prompt), 12);
    }
}

#[test]
fn saved_memory_remembers_the_preferences_that_it_was_read_with() {
    let family = Family::new("llama");
    let prompt = text(4, 20);
    let mut first = family.alone();
    first.set_prompt_len(prompt.len());
    first.set_coefficients(&ALPHAS[0]);
    rows(&mut first, &prompt, 1);
    let state = first.save().expect("a state");
    for (alpha, n_read) in [(ALPHAS[0], 1), (ALPHAS[1], 20)] {
        let mut second = family.alone();
        second.restore(&state).expect("restored");
        second.set_prompt_len(prompt.len());
        second.set_coefficients(&alpha);
        let worst =
            distance(&rows(&mut second, &prompt, 1), &rows(&mut family.folded(&alpha, Order::RowMajor), &prompt, 1));
        assert!(worst < TOLERANCE, "{worst}");
        assert_eq!(second.n_decoded(), n_read);
    }
}

#[test]
fn an_adapter_with_objectives_that_acts_on_responses_alone_reads_the_prompt_as_the_base() {
    let family = Family::new("llama");
    let path = family.folder.path().join("response.gguf");
    random::copy_with(&family.path, &path, &[(genarm::engine::ADAPT, "response".into())]);
    let mut sequence = family.apart(&[(&path, 1.0)], 1).remove(0);
    let prompt = text(4, 20);
    let answer = [&prompt[..], &[70, 71]].concat();
    sequence.set_prompt_len(prompt.len());
    sequence.set_coefficients(&ALPHAS[0]);
    let first = rows(&mut sequence, &answer, 1);
    let n_decoded = sequence.n_decoded();
    sequence.set_prompt_len(prompt.len());
    sequence.set_coefficients(&ALPHAS[1]);
    let second = rows(&mut sequence, &answer, 1);
    assert!(distance(&first, &second) > 10.0 * TOLERANCE);
    assert!(sequence.n_decoded() - n_decoded < 20, "the prompt has no preferences, so it is kept");
}
