//! Models that keep a state of the text beside keys and values, or in their place.

mod checkpoints;
mod share;
mod snapshots;

use std::path::PathBuf;
use std::sync::Arc;

use genarm::engine::llama::Model;
use genarm::engine::share::{apart, together};
use genarm::engine::{Scaled, Sequence};
use genarm::{Expert, Token};
use tempfile::TempDir;

use crate::support::{self, memory, random};

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

/// Reads a history, and says how many tokens that took; the row is that of an expert that has read nothing else.
fn reads(expert: &mut Sequence, fresh: &mut Sequence, history: &[Token], what: &str) -> u64 {
    let before = expert.n_decoded();
    let found = expert.advance(history, 1).expect("a row").to_vec();
    fresh.forget();
    let expected = fresh.advance(history, 1).expect("a row");
    let worst = found.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(worst < 1e-3, "{what}: {worst}");
    expert.n_decoded() - before
}

fn reads_rows(expert: &mut Sequence, fresh: &mut Sequence, history: &[Token], k: usize) {
    let found = expert.advance(history, k).expect("rows").to_vec();
    fresh.forget();
    let expected = fresh.advance(history, k).expect("rows");
    let worst = found.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(worst < 1e-3, "{} tokens: {worst}", history.len());
}
