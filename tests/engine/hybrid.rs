//! Models that keep a state of the text beside keys and values, or in their place.

use std::path::PathBuf;
use std::sync::Arc;

use genarm::engine::llama::{ContextParams, Model};
use genarm::engine::share::{Probe, ShareError, apart, together};
use genarm::engine::{Scaled, Sequence, StackError};
use genarm::{Expert, Token};
use tempfile::TempDir;

use crate::support::{self, memory, random, tokens as text};

/// A model and two adapters: one on every matrix of its layers, one on the first of them alone.
struct Family {
    model: Arc<Model>,
    adapters: Vec<PathBuf>,
    _folder: TempDir,
}

impl Family {
    fn new(arch: &str) -> Self {
        Self::adapted(arch, "all")
    }

    fn adapted(arch: &str, adapt: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("model.gguf");
        memory::model(&path, arch);
        let state: &[&str] = match arch {
            "lfm2" => &["shortconv.in_proj", "shortconv.out_proj"],
            _ => &["ssm_in", "ssm_x", "ssm_dt", "ssm_out"],
        };
        let all = [state, &["attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_down"]].concat();
        let adapters = [&all[..], &state[..1]].into_iter().enumerate().map(|(i, matrices)| {
            let path = folder.path().join(format!("lora-{i}.gguf"));
            random::lora_on_matrices(&folder.path().join("model.gguf"), &path, i as u64, 0.1, adapt, matrices);
            path
        });
        Self { adapters: adapters.collect(), model: support::load(&path), _folder: folder }
    }

    fn experts(&self) -> Vec<Vec<Scaled<'_>>> {
        let arms = self.adapters.iter().map(|path| vec![(path.as_path(), 1.0)]);
        std::iter::once(Vec::new()).chain(arms).collect()
    }

    fn together(&self, n_slots: usize) -> Vec<Vec<Sequence>> {
        together(&self.model, &self.experts(), &support::context_params(), n_slots).expect("one context")
    }

    fn apart(&self) -> Vec<Sequence> {
        let one = |adapters: &Vec<Scaled<'_>>| apart(&self.model, adapters, &support::context_params(), 1);
        self.experts().iter().map(|adapters| one(adapters).expect("a context").remove(0)).collect()
    }
}

const FAMILIES: [&str; 3] = ["mamba", "jamba", "lfm2"];

/// The largest difference of the logits of sequences that are prepared together from those of contexts of their own.
fn worst(found: &mut [&mut Sequence], expected: &mut [Sequence], histories: &[Vec<Token>], k: usize) -> f32 {
    found.iter_mut().zip(histories).for_each(|(sequence, history)| sequence.prepare(history, k));
    let mut worst: f32 = 0.0;
    for ((found, expected), history) in found.iter_mut().zip(expected).zip(histories) {
        let found = found.advance(history, k).expect("rows");
        let expected = expected.advance(history, k).expect("rows");
        worst = found.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(worst, f32::max);
    }
    worst
}

#[test]
fn every_row_of_a_shared_batch_equals_a_context_of_its_own() {
    for arch in FAMILIES {
        let family = Family::new(arch);
        let (mut rows, mut apart) = (family.together(1), family.apart());
        let mut rows: Vec<_> = rows.iter_mut().map(|slots| &mut slots[0]).collect();
        // Prompts of different lengths, some longer than a batch; then steps, drafts, a rejection, another turn.
        let mut histories: Vec<_> = (0..3).map(|i| text(i as Token, 5 + 57 * i)).collect();
        let mut check = |histories: &[Vec<Token>], k, what: &str| {
            let worst = worst(&mut rows, &mut apart, histories, k);
            assert!(worst < 1e-3, "{arch}, {what}: {worst}");
        };
        check(&histories, 1, "the prompts");
        for token in 70..75 {
            histories.iter_mut().for_each(|h| h.push(token));
            check(&histories, 1, "a step");
        }
        histories[0].extend([1, 2]);
        histories.iter_mut().for_each(|h| h.extend([5, 6, 7, 8]));
        check(&histories, 5, "four drafts, one history longer than the others");
        histories.iter_mut().for_each(|h| h.truncate(h.len() - 2));
        check(&histories, 1, "a rejection");
        histories.iter_mut().for_each(|h| h.splice(3.., text(9, 20)).for_each(drop));
        check(&histories, 2, "an edited turn");
    }
}

#[test]
fn a_step_of_a_slot_is_one_batch() {
    for arch in FAMILIES {
        let family = Family::new(arch);
        let mut slots = family.together(3);
        let mut rows: Vec<_> = slots.iter_mut().map(|slots| &mut slots[1]).collect();
        let mut history = text(4, 9);
        for n in 1..=4 {
            rows.iter_mut().for_each(|row| row.prepare(&history, 1));
            rows.iter_mut().for_each(|row| _ = row.advance(&history, 1).expect("a row"));
            assert_eq!(rows[0].n_batches(), n, "{arch}");
            history.push(9);
        }
    }
}

#[test]
fn slots_of_a_shared_batch_do_not_mix() {
    for arch in FAMILIES {
        let family = Family::new(arch);
        let mut slots = family.together(3);
        let histories: Vec<_> = (0..3).map(|i| text(10 * i, 5 + 30 * i as usize)).collect();
        for expert in 0..3 {
            let mut apart: Vec<_> = (0..3).map(|_| family.apart().remove(expert)).collect();
            let mut rows: Vec<_> = slots[expert].iter_mut().collect();
            let worst = worst(&mut rows, &mut apart, &histories, 1);
            assert!(worst < 1e-3, "{arch}, expert {expert}: {worst}");
        }
    }
}

#[test]
fn the_check_at_load_passes_what_is_equal() {
    for arch in FAMILIES {
        let family = Family::new(arch);
        let mut probe = Probe::new(&family.model, &family.experts(), &support::context_params()).expect("contexts");
        probe.check().unwrap_or_else(|error| panic!("{arch}: {error}"));
    }
}

#[test]
fn an_adapter_on_responses_alone_is_refused_by_name() {
    for arch in FAMILIES {
        let family = Family::adapted(arch, "response");
        let params: ContextParams = support::context_params();
        for refused in [
            together(&family.model, &family.experts(), &params, 1).err(),
            apart(&family.model, &family.experts()[1], &params, 1).err(),
        ] {
            let error = refused.expect("no keys and values of which a part could be another's");
            assert!(matches!(error, ShareError::Stack(StackError::Recurrent { .. })), "{arch}: {error}");
        }
    }
}
