//! Everything a training run can be told, from the command line or a YAML recipe, resolved to one checked type.

mod betas;
mod check;
mod data;
mod parm;
mod targets;
mod wire;

pub use betas::Beta;
pub use data::PairsFile;
pub(super) use data::is_objective_name;
pub use parm::{DataFile, ParmSettings};
pub use wire::{Adapt, Column, Keep, ObjectiveName, OutType, Overlong, Wire};

use super::TrainError;
use super::lora::{LoraSettings, Steered};
use super::objective::Objective;
use super::optimizer::AdamWSettings;
use super::schedule::Schedule;
use indexmap::IndexMap;
use std::path::PathBuf;

/// A run's settings, complete and checked.
#[derive(Debug, Clone)]
pub struct Settings {
    /// GGUF model to start from.
    pub backbone: PathBuf,
    /// Training data.
    pub pairs: Vec<DataFile>,
    /// The data's columns by the names that genarm knows.
    pub columns: IndexMap<String, String>,
    /// What decides between responses without `chosen` and `rejected`.
    pub prefer: Option<String>,
    /// GGUF file to write.
    pub out: PathBuf,
    /// The file that some of these settings come from; it must not be written over.
    pub recipe: Option<PathBuf>,
    /// Format of `out`.
    pub out_type: OutType,
    /// What is minimised, for a pair and an objective.
    pub objective: Objective,
    /// The objectives of a preference-conditioned ARM.
    pub parm: Option<ParmSettings>,
    /// Where the adapter acts.
    pub adapt: Adapt,
    /// The adapter to go on from.
    pub init: Option<PathBuf>,
    /// Which weights are written.
    pub keep: Keep,
    /// Adapters, or `None` to train every weight.
    pub lora: Option<LoraSettings>,
    /// The optimiser.
    pub adamw: AdamWSettings,
    /// Peak learning rate.
    pub lr: f64,
    /// How it falls.
    pub schedule: Schedule,
    /// Steps of warm-up; `None` is 100, at most a tenth of the run.
    pub warmup: Option<usize>,
    /// Examples per update.
    pub batch: usize,
    /// Examples per forward pass.
    pub micro_batch: usize,
    /// Passes over the data.
    pub epochs: usize,
    /// Most updates.
    pub max_steps: Option<usize>,
    /// Gradient norm above which gradients are scaled down; infinite when off.
    pub max_grad_norm: f64,
    /// Whether blocks are computed twice to save memory.
    pub grad_checkpoint: bool,
    /// Seed of everything random.
    pub seed: u64,
    /// Longest prompt, in tokens.
    pub max_prompt: usize,
    /// Longest example, in tokens.
    pub max_len: usize,
    /// What becomes of longer ones.
    pub overlong: Overlong,
    /// How prompts are rendered.
    pub template: String,
    /// Whether an end-of-sequence token is scored after each response.
    pub eos: bool,
    /// Whether malformed lines are left out.
    pub skip_bad: bool,
    /// Share of the examples held out.
    pub held_out: f64,
    /// Steps between measurements.
    pub eval_every: usize,
    /// Steps between checkpoints.
    pub checkpoint_every: usize,
    /// Whether to go on from a checkpoint.
    pub resume: bool,
    /// CPU threads, or all.
    pub threads: Option<usize>,
    /// Device name.
    pub device: String,
}

impl TryFrom<Wire> for Settings {
    type Error = TrainError;

    fn try_from(w: Wire) -> Result<Self, TrainError> {
        check::check(&w)?;
        let need = |value: Option<PathBuf>, name: &str| {
            value.ok_or_else(|| TrainError::Setting(format!("--{name} FILE is needed (or `{name}:` in the recipe)")))
        };
        let label_smoothing = w.label_smoothing.unwrap_or(0.0);
        let objective = match w.objective.unwrap_or(ObjectiveName::Arm) {
            ObjectiveName::Arm | ObjectiveName::Parm => Objective::Arm {
                beta_r: w.beta.unwrap_or(0.05),
                gamma: w.gamma.unwrap_or(0.0),
                label_smoothing,
                hinge: w.hinge,
            },
            ObjectiveName::Dpo => Objective::Dpo { beta: w.beta.unwrap_or(0.1), label_smoothing },
            ObjectiveName::Sft => Objective::Sft,
        };
        let (pairs, parm) = parm::resolve(&w, objective)?;
        let own = w.init.as_deref().map(super::lora::particulars).transpose()?;
        let given = [
            ("lora-rank", w.lora_rank.is_some()),
            ("lora-alpha", w.lora_alpha.is_some()),
            ("lora-targets", w.lora_targets.is_some()),
        ];
        if let (Some(init), Some((flag, _))) = (&w.init, given.iter().find(|(_, given)| *given)) {
            return Err(TrainError::Setting(format!("--{flag} has no effect: {} decides it (--init)", init.display())));
        }
        let targets = w.lora_targets.unwrap_or_else(|| ["q", "k", "v"].map(String::from).to_vec());
        let lora = LoraSettings {
            rank: w.lora_rank.unwrap_or(if parm.is_some() { 4 } else { 8 }),
            alpha: w.lora_alpha.unwrap_or(if parm.is_some() { 8.0 } else { 16.0 }),
            steered: parm.as_ref().map(|p| Steered { rank: w.parm_rank.unwrap_or(4), objectives: p.names.len() }),
            dropout: 0.0,
            targets: targets::matrices(&targets)?,
        };
        let lora = LoraSettings { dropout: w.lora_dropout.unwrap_or(0.0), ..own.unwrap_or(lora) };
        let out_type = w.out_type.unwrap_or(if w.full { OutType::F16 } else { OutType::Adapter });
        let norm = w.max_grad_norm.unwrap_or(1.0);
        Ok(Self {
            backbone: need(w.backbone, "backbone")?,
            pairs,
            columns: w.columns.unwrap_or_default().into_iter().map(|Column(ours, theirs)| (ours, theirs)).collect(),
            prefer: w.prefer,
            out: need(w.out, "out")?,
            recipe: None,
            out_type,
            objective,
            parm,
            adapt: w.adapt.unwrap_or_default(),
            init: w.init,
            keep: w.keep.unwrap_or(if w.full { Keep::Last } else { Keep::Best }),
            lora: (!w.full).then_some(lora),
            adamw: AdamWSettings { weight_decay: w.weight_decay.unwrap_or(0.05), ..AdamWSettings::default() },
            lr: w.lr.unwrap_or(5e-4),
            schedule: w.schedule.unwrap_or_default(),
            warmup: w.warmup,
            batch: w.batch.unwrap_or(32),
            micro_batch: w.micro_batch.unwrap_or(8),
            epochs: w.epochs.unwrap_or(1),
            max_steps: w.max_steps,
            max_grad_norm: if norm > 0.0 { norm } else { f64::INFINITY },
            grad_checkpoint: w.grad_checkpoint,
            seed: w.seed.unwrap_or(0),
            max_prompt: w.max_prompt.unwrap_or(512),
            max_len: w.max_len.unwrap_or(1024),
            overlong: w.overlong.unwrap_or_default(),
            template: w.template.unwrap_or_else(|| "auto".into()),
            eos: !w.no_eos,
            skip_bad: w.skip_bad,
            held_out: w.held_out.unwrap_or(0.05),
            eval_every: w.eval_every.unwrap_or(50),
            checkpoint_every: w.checkpoint_every.unwrap_or(100),
            resume: w.resume,
            threads: w.threads,
            device: w.device.unwrap_or_else(|| "cpu".into()),
        })
    }
}

impl Settings {
    /// The objective's name, as the command line and the metadata spell it.
    pub fn objective_name(&self) -> &'static str {
        if self.parm.is_some() { "parm" } else { self.objective.name() }
    }

    /// How many of `n` examples are held out. One at least is left to train on.
    pub fn n_held_out(&self, n: usize) -> usize {
        ((n as f64 * self.held_out).round() as usize).min(n.saturating_sub(1))
    }

    /// Updates of a run on `n` examples.
    pub fn steps(&self, n: usize) -> usize {
        n.div_ceil(self.batch).saturating_mul(self.epochs).min(self.max_steps.unwrap_or(usize::MAX))
    }
}
