//! The adapters on a backbone's matrices.

use super::Backbone;
use crate::train::TrainError;
use crate::train::lora::{self, LoraSettings, Steered};
use crate::train::parm::Factors;
use candle_core::{DType, Result, Tensor, Var};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::path::Path;

impl Backbone {
    /// Adds LoRA adapters to the target matrices: A uniform as in PEFT (Kaiming, a = √5), B zero.
    ///
    /// # Errors
    ///
    /// [`TrainError::Setting`] when a target names no matrix.
    pub fn train_lora(&mut self, settings: LoraSettings, seed: u64) -> std::result::Result<(), TrainError> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        for target in &settings.targets {
            for i in 0..self.shape.n_layer {
                let name = format!("blk.{i}.{target}.weight");
                let Some(weight) = self.weights.get(&name) else {
                    return Err(TrainError::Setting(format!("--lora-targets: the backbone has no matrix `{target}`")));
                };
                if target.starts_with("ffn_") && self.weights.contains_key(&format!("blk.{i}.{target}.scale")) {
                    // llama.cpp scales the adapter's part of some of these too.
                    let message = format!("--lora-targets: {target} has a scale of its own and cannot be adapted");
                    return Err(TrainError::Setting(message));
                }
                let (n_out, n_in) = weight.dims2()?;
                let (most, rows) = (n_in.max(n_out), settings.rows());
                if rows > most {
                    let flag = if settings.steered.is_some() {
                        "--lora-rank and --parm-rank together,"
                    } else {
                        "--lora-rank"
                    };
                    let message = format!("{flag} {rows}: more than {target} can have; give {most} at most");
                    return Err(TrainError::Setting(message));
                }
                let mut add = |part: &str, start: &Tensor| {
                    self.trainable.insert(format!("{name}.{part}"), Var::from_tensor(start)?);
                    Ok::<(), candle_core::Error>(())
                };
                if let Some(Steered { rank, objectives }) = settings.steered {
                    let ranks = (settings.rank, rank, objectives);
                    let Factors { a, b, w1, w2 } = Factors::start((n_out, n_in), ranks, &mut rng, &self.device)?;
                    add("lora_a", &a)?;
                    add("lora_b", &b)?;
                    add("parm_w1", &w1)?;
                    add("parm_w2", &w2)?;
                    continue;
                }
                let bound = 1.0 / (n_in as f32).sqrt();
                let a: Vec<f32> = (0..rows * n_in).map(|_| rng.random_range(-bound..bound)).collect();
                add("lora_a", &Tensor::from_vec(a, (rows, n_in), &self.device)?)?;
                add("lora_b", &Tensor::zeros((n_out, rows), DType::F32, &self.device)?)?;
            }
        }
        if let Some(Steered { objectives, .. }) = settings.steered {
            self.preferences = vec![1.0 / objectives as f32; objectives];
        }
        self.lora = Some(settings);
        Ok(())
    }

    /// Adds the adapters of a GGUF file; they are trained on from there.
    ///
    /// # Errors
    ///
    /// [`TrainError::Setting`] for a file that is no adapter of this model, or one with matrices of different ranks.
    pub fn load_lora(&mut self, path: &Path) -> std::result::Result<(), TrainError> {
        self.train_lora(lora::particulars(path)?, 0)?;
        lora::load(path, &self.trainable)
    }

    /// The LoRA settings, when adapters are trained.
    pub fn lora(&self) -> Option<&LoraSettings> {
        self.lora.as_ref()
    }

    /// Sets what a preference-conditioned adapter reads: α, a number for each objective.
    pub fn set_preferences(&mut self, preferences: &[f64]) {
        self.preferences = preferences.iter().map(|x| *x as f32).collect();
    }

    /// A, B and scale of a matrix, B as the preferences have it.
    pub(super) fn adapter(&self, name: &str) -> Result<Option<(Tensor, Tensor, f64)>> {
        let trained = |part: &str| self.trainable.get(&format!("{name}.{part}")).map(|var| var.as_tensor().clone());
        let (Some(lora), Some(a), Some(b)) = (&self.lora, trained("lora_a"), trained("lora_b")) else {
            return Ok(None);
        };
        let b = match self.factors(name) {
            Some(factors) => factors.folded(&self.preferences)?,
            None => b,
        };
        Ok(Some((a, b, lora.scale())))
    }

    /// The factors of a matrix with a preference-conditioned adapter.
    pub fn factors(&self, name: &str) -> Option<Factors> {
        let trained = |part: &str| self.trainable.get(&format!("{name}.{part}")).map(|var| var.as_tensor().clone());
        Some(Factors { a: trained("lora_a")?, b: trained("lora_b")?, w1: trained("parm_w1")?, w2: trained("parm_w2")? })
    }
}
