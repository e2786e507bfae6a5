//! What a written file says of its making.

use super::backbone::Backbone;
use super::export::Metadata;
use super::lora::LoraSettings;
use super::objective::Objective;
use super::pairs::Counts;
use super::settings::{Adapt, ParmSettings, Settings};
use super::tokens::vocab_hash;
use crate::engine::ADAPT;
use crate::engine::gguf::{Array, Value, parm};
use std::path::Path;

/// What a file is made of, whatever the step.
pub(super) struct About<'a> {
    pub settings: &'a Settings,
    pub backbone: &'a Backbone,
    pub counts: &'a Counts,
    pub template: &'a str,
    pub n_train: usize,
    pub n_held_out: usize,
}

impl About<'_> {
    /// The metadata after `step` updates, with loss and accuracy on the held-out examples.
    pub fn at(&self, step: usize, (loss, accuracy): (Option<f64>, Option<f64>)) -> Metadata {
        let s = self.settings;
        let string = |v: String| Value::String(v);
        let file_name = |p: &Path| p.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let files: Vec<String> = s.pairs.iter().map(|file| file_name(&file.path)).collect();
        let name = self.backbone.file.str("general.name").map(String::from);
        let texts = self.backbone.file.vocabulary().map(|v| v.texts()).into_iter().flatten();
        let mut about: Metadata = [
            ("genarm.version", string(env!("CARGO_PKG_VERSION").into())),
            ("genarm.objective", string(s.objective_name().into())),
            ("genarm.backbone.name", string(name.unwrap_or_else(|| file_name(&s.backbone)))),
            ("genarm.vocab.hash", string(vocab_hash(texts))),
            ("genarm.data.file", string(files.join(", "))),
            ("genarm.data.examples", Value::U32(self.n_train as u32)),
            ("genarm.data.held_out", Value::U32(self.n_held_out as u32)),
            ("genarm.seed", Value::U64(s.seed)),
            ("genarm.steps", Value::U64(step as u64)),
        ]
        .map(|(k, v)| (k.to_string(), v))
        .into();
        if s.adapt == Adapt::Response {
            about.insert(ADAPT.into(), string("response".into()));
        }
        // Where no conversation was rendered, none is to be rendered like that either.
        if self.counts.conversations > 0 {
            about.insert("genarm.template".into(), string(self.template.to_owned()));
        }
        if let (Some(parm), Some(lora)) = (&s.parm, self.backbone.lora()) {
            about.extend(conditioned(parm, lora));
        } else if s.objective != Objective::Sft {
            about.insert("genarm.beta".into(), Value::F32(s.objective.beta() as f32));
        }
        if matches!(s.objective, Objective::Arm { .. }) {
            about.insert("genarm.suggested_weight".into(), Value::F32(1.0));
        }
        if let Some(accuracy) = accuracy {
            about.insert("genarm.held_out.accuracy".into(), Value::F32(accuracy as f32));
        }
        if let Some(loss) = loss {
            about.insert("genarm.held_out.loss".into(), Value::F32(loss as f32));
        }
        about
    }
}

/// What only a preference-conditioned ARM has: its objectives in the order of α, the ranks of its blocks, and the range
/// of α that it was trained with.
fn conditioned(settings: &ParmSettings, lora: &LoraSettings) -> Metadata {
    let betas: Vec<f32> = settings.losses.iter().map(|loss| loss.beta() as f32).collect();
    let mut about = parm_metadata(&settings.names, lora.rank, lora.steered.map_or(0, |steered| steered.rank));
    match betas.iter().all(|beta| *beta == betas[0]) {
        true => about.insert("genarm.beta".into(), Value::F32(betas[0])),
        false => about.insert("genarm.parm.betas".into(), Value::Array(Array::F32(betas))),
    };
    about
}

/// The keys that make an adapter a preference-conditioned ARM: its blocks are the shared one of rank `r1`, then one of
/// rank `r2` for each objective.
pub(super) fn parm_metadata(names: &[String], r1: usize, r2: usize) -> Metadata {
    let ranks = std::iter::once(r1).chain(names.iter().map(|_| r2)).map(|rank| rank as u32).collect();
    [
        (parm::OBJECTIVES, Value::Array(Array::Strings(names.iter().map(String::as_str).collect()))),
        (parm::RANKS, Value::Array(Array::U32(ranks))),
        (parm::ALPHA_MIN, Value::F32(0.0)),
        (parm::ALPHA_MAX, Value::F32(1.0)),
    ]
    .map(|(key, value)| (key.to_owned(), value))
    .into()
}
