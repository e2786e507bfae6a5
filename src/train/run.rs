//! A training run from settings to a written file.

mod measure;

use super::TrainError;
use super::about::About;
use super::backbone::Backbone;
use super::checkpoint::{self, Best};
use super::data::Data;
use super::export;
use super::objective::Objective;
use super::optimizer::{AdamW, gradient_norm};
use super::outputs::Outputs;
use super::pairs::{Counts, Example};
use super::parm::{self, ObjectiveAccuracy};
use super::report::{Record, TrainingReport};
use super::settings::{Keep, Settings};
use super::totals::{Totals, pack};
use super::{fingerprint, lora};
use candle_core::{Device, Tensor, Var};
use measure::HeldOut;
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

/// What a run came to.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Outcome {
    /// The file written.
    pub out: PathBuf,
    /// Updates done in all.
    pub steps: usize,
    /// The update whose weights were written.
    pub kept_step: usize,
    /// What became of the data.
    pub counts: Counts,
    /// Held-out examples.
    pub held_out: usize,
    /// Mean loss on them under the weights that were written.
    pub held_out_loss: Option<f64>,
    /// Share of held-out pairs whose chosen response is preferred under these weights; of a preference-conditioned ARM
    /// the mean over its objectives, each at its own corner.
    pub held_out_accuracy: Option<f64>,
    /// Both before the first update.
    pub start_loss: Option<f64>,
    /// Both before the first update.
    pub start_accuracy: Option<f64>,
    /// The held-out accuracy of each objective of a preference-conditioned ARM.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub objectives: Vec<ObjectiveAccuracy>,
    /// Numbers trained.
    pub trained_parameters: usize,
    /// Tokens read by this call, evaluation left out.
    pub n_tokens: usize,
    /// Tokens read per second over the run, evaluation left out.
    pub tokens_per_s: f64,
}

/// Trains, reports and writes the result. `stop` set (Ctrl-C) ends it with a checkpoint and the result so far.
///
/// # Errors
///
/// Everything that [`TrainError`] lists.
pub fn train(settings: &Settings, stop: &AtomicBool) -> Result<Outcome, TrainError> {
    let mut pool = rayon::ThreadPoolBuilder::new();
    if let Some(threads) = settings.threads {
        pool = pool.num_threads(threads);
    }
    let pool = pool.build().map_err(|e| TrainError::Setting(format!("no threads: {e}")))?;
    pool.install(|| Run::prepare(settings, stop)?.go())
}

/// Opens the device a setting names.
///
/// # Errors
///
/// [`TrainError::Setting`] for an unknown or absent device.
pub fn device(name: &str) -> Result<Device, TrainError> {
    let absent = |e| TrainError::Setting(format!("device `{name}` cannot be used ({e}); use --device cpu"));
    match name {
        "cpu" => Ok(Device::Cpu),
        "cuda" => Device::new_cuda(0).map_err(absent),
        "metal" => Device::new_metal(0).map_err(absent),
        _ => Err(TrainError::Setting(format!("unknown device `{name}`; known: cpu, cuda, metal"))),
    }
}

struct Run<'a> {
    settings: &'a Settings,
    stop: &'a AtomicBool,
    backbone: Backbone,
    /// The frozen backbone, for dpo.
    reference: Backbone,
    template: String,
    train: Vec<Example>,
    /// By how much the examples of each objective weigh, of a preference-conditioned ARM.
    shares: Vec<f64>,
    held_out: Vec<Example>,
    counts: Counts,
    adam: AdamW,
    best: Option<Best>,
    files: Outputs,
    /// Whether the checkpoint on disk is one of this run.
    saved: bool,
    fingerprint: String,
}

impl<'a> Run<'a> {
    fn prepare(settings: &'a Settings, stop: &'a AtomicBool) -> Result<Self, TrainError> {
        let files = Outputs::of(&settings.out);
        files.check(settings)?;
        let device = device(&settings.device)?;
        let mut backbone = Backbone::load(&settings.backbone, &device, Some(settings.max_len))?;
        let Data { mut examples, counts, template, .. } = Data::read(settings, &backbone.file, backbone.shape.n_ctx)?;
        let fingerprint = fingerprint::of(settings, &examples, &backbone)?;
        examples.shuffle(&mut ChaCha8Rng::seed_from_u64(settings.seed));
        let train = examples.split_off(settings.n_held_out(examples.len()));
        let reference = backbone.clone();
        match &settings.lora {
            Some(lora) => backbone.train_lora(lora.clone(), settings.seed)?,
            None => backbone.train_all()?,
        }
        if let Some(init) = &settings.init {
            lora::load(init, backbone.trainable())?;
        }
        let names = settings.parm.as_ref().map_or(&[][..], |parm| &parm.names);
        let shares = parm::shares(&train, names.len());
        if let Some((name, _)) = names.iter().zip(&shares).find(|(_, share)| **share == 0.0) {
            let message = format!("all examples of the objective {name} are held out; give more, or lower --held-out");
            return Err(TrainError::Setting(message));
        }
        let adam = AdamW::new(backbone.trainable(), settings.adamw)?;
        Ok(Self {
            settings,
            stop,
            reference,
            backbone,
            template: template.source().to_owned(),
            train,
            shares,
            held_out: examples,
            counts,
            adam,
            best: None,
            files,
            saved: false,
            fingerprint,
        })
    }

    fn go(mut self) -> Result<Outcome, TrainError> {
        let s = self.settings;
        self.resume()?;
        let per_epoch = self.train.len().div_ceil(s.batch);
        let total = s.steps(self.train.len());
        let warmup = s.warmup.unwrap_or_else(|| 100.min(total / 10));
        if warmup > total {
            tracing::warn!(
                "--warmup {warmup} is more than the run's {total} steps: the learning rate never reaches --lr"
            );
        }
        let mut report = TrainingReport::start(&self.files, self.adam.step, total)?;
        if self.adam.step == 0 && !self.held_out.is_empty() {
            report.record(self.evaluate()?.record(Record::default()))?;
        }
        if self.adam.step > 0 && self.adam.step.is_multiple_of(s.eval_every) {
            // Ctrl-C may have cut the measurement of this step short.
            let held_out = self.evaluate()?;
            self.keep_best(self.adam.step, &held_out)?;
        }
        let (mut n_tokens, mut seconds) = (0, 0.0);
        let mut order = (usize::MAX, Vec::new());
        while self.adam.step < total {
            let step = self.adam.step;
            let epoch = step / per_epoch;
            if order.0 != epoch {
                order = (epoch, self.order(epoch));
            }
            let first = step % per_epoch * s.batch;
            let batch: Vec<usize> = order.1[first..first.saturating_add(s.batch).min(order.1.len())].to_vec();
            let started = Instant::now();
            let lr = s.lr * s.schedule.factor(step, warmup, total);
            let (totals, norm) = self.update(&batch, step, lr)?;
            let took = started.elapsed().as_secs_f64();
            let read: usize = batch.iter().map(|i| self.train[*i].n_tokens()).sum();
            (n_tokens, seconds) = (n_tokens + read, seconds + took);
            let mut record = totals.record(s.objective);
            record = Record {
                step: step + 1,
                lr: Some(lr),
                grad_norm: Some(norm),
                tokens_per_s: Some(read as f64 / took),
                ..record
            };
            if (step + 1).is_multiple_of(s.eval_every) && step + 1 < total {
                let held_out = self.evaluate()?;
                self.keep_best(step + 1, &held_out)?;
                record = held_out.record(record);
            }
            report.record(record)?;
            self.checkpoint_if_due(step + 1, total)?;
        }
        let end = self.evaluate()?;
        self.check_numbers(end.loss)?;
        self.keep_best(self.adam.step, &end)?;
        let (mut held_out, mut grid) = ((end.loss, end.accuracy), end.grid);
        let mut kept = self.adam.step;
        if let Some(best) = self.best.take() {
            for (name, var) in self.backbone.trainable() {
                var.set(&best.weights[name])?;
            }
            if s.parm.is_some() && best.step != kept {
                grid = self.evaluate()?.grid;
            }
            (kept, held_out) = (best.step, (Some(best.loss), best.accuracy));
        }
        let start_record = report.start_record();
        let start = start_record.map(|start| (start.held_out_loss, start.held_out_accuracy)).unwrap_or_default();
        let start_grid = start_record.map_or(&[][..], |start| &start.held_out_grid);
        let objectives = s.parm.as_ref().map_or_else(Vec::new, |p| parm::accuracies(&p.names, &grid, start_grid));
        if let ((Some(before), Some(after)), true) = ((start.0, held_out.0), start.0 <= held_out.0) {
            tracing::warn!(
                "training has not helped: the held-out loss was {before:.4} before it, and is {after:.4} now"
            );
        }
        let outcome = Outcome {
            out: s.out.clone(),
            steps: self.adam.step,
            kept_step: kept,
            counts: self.counts.clone(),
            held_out: self.held_out.len(),
            held_out_loss: held_out.0,
            held_out_accuracy: held_out.1,
            start_loss: start.0,
            start_accuracy: start.1,
            objectives,
            trained_parameters: self.backbone.trainable().values().map(|v| v.elem_count()).sum(),
            n_tokens,
            tokens_per_s: if seconds > 0.0 { n_tokens as f64 / seconds } else { 0.0 },
        };
        export::export(&self.backbone, s.out_type, &s.out, self.about().at(kept, held_out))?;
        report.finish()?;
        let _ = std::fs::remove_file(&self.files.checkpoint);
        let _ = std::fs::remove_file(&self.files.interrupted);
        Ok(outcome)
    }

    /// Goes on from the checkpoint, where that is wanted and there is one.
    fn resume(&mut self) -> Result<(), TrainError> {
        let path = &self.files.checkpoint;
        if !path.exists() {
            return Ok(());
        }
        if !self.settings.resume {
            tracing::warn!(
                "{} is left of an earlier run and will be replaced; --resume goes on from it",
                path.display()
            );
            return Ok(());
        }
        let device = self.backbone.device.clone();
        self.best = checkpoint::load(path, self.backbone.trainable(), &mut self.adam, &self.fingerprint, &device)?;
        self.saved = true;
        Ok(())
    }

    /// Keeps the weights where none before had a lower held-out loss, if the best ones are to be written.
    fn keep_best(&mut self, step: usize, held_out: &HeldOut) -> Result<(), TrainError> {
        let wanted = |loss: &f64| loss.is_finite() && self.settings.keep == Keep::Best;
        let Some(loss) = held_out.loss.filter(wanted) else { return Ok(()) };
        if self.best.as_ref().is_none_or(|best| loss < best.loss) {
            // Copies: the optimiser sets the weights in place.
            let copy = |(name, var): (&String, &Var)| Ok((name.clone(), var.as_tensor().copy()?.detach()));
            let weights = self.backbone.trainable().iter().map(copy).collect::<Result<_, TrainError>>()?;
            self.best = Some(Best { step, loss, accuracy: held_out.accuracy, weights });
        }
        Ok(())
    }

    /// Saves the state when it is time, and ends the run with its result so far after Ctrl-C.
    fn checkpoint_if_due(&mut self, done: usize, total: usize) -> Result<(), TrainError> {
        let stopping = self.stop.load(Ordering::Relaxed);
        if done == total || !(stopping || done.is_multiple_of(self.settings.checkpoint_every)) {
            return Ok(());
        }
        self.check_numbers(None)?;
        let best = self.best.as_ref();
        checkpoint::save(&self.files.checkpoint, self.backbone.trainable(), &self.adam, best, &self.fingerprint)?;
        self.saved = true;
        if !stopping {
            return Ok(());
        }
        // The result of an earlier run stays: only a finished run replaces it.
        let another = self.files.out.exists() && (!self.settings.resume || self.files.interrupted.exists());
        let out = if another { self.files.interrupted.clone() } else { self.files.out.clone() };
        let checkpoint = self.files.checkpoint.clone();
        export::export(&self.backbone, self.settings.out_type, &out, self.about().at(done, (None, None)))?;
        Err(TrainError::Interrupted { step: done, total, out, checkpoint })
    }

    /// Refuses to write weights that give no numbers: the last update may have spoilt them, and no later loss would
    /// show it.
    fn check_numbers(&mut self, held_out_loss: Option<f64>) -> Result<(), TrainError> {
        let step = self.adam.step;
        for var in self.backbone.trainable().values() {
            let sum = f64::from(var.as_tensor().detach().abs()?.sum_all()?.to_scalar::<f32>()?);
            if !sum.is_finite() {
                return Err(self.not_a_number("sum of a trained matrix", sum, step));
            }
        }
        let loss = match held_out_loss {
            Some(loss) => loss,
            None => self.measure(&self.train[..1], None)?.iter().filter_map(Totals::loss).sum(),
        };
        if loss.is_finite() { Ok(()) } else { Err(self.not_a_number("loss after the update", loss, step)) }
    }

    fn not_a_number(&self, what: &'static str, value: f64, step: usize) -> TrainError {
        let checkpoint = self.saved.then(|| self.files.checkpoint.clone());
        TrainError::NotANumber { what, value, step, checkpoint }
    }

    /// The order of the training examples in an epoch; follows from seed and epoch alone.
    fn order(&self, epoch: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.train.len()).collect();
        let seed = self.settings.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(epoch as u64 + 1);
        order.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
        order
    }

    /// One update from the examples of `batch`, in micro-batches of like lengths.
    fn update(&mut self, batch: &[usize], step: usize, lr: f64) -> Result<(Totals, f64), TrainError> {
        let mut sorted = batch.to_vec();
        sorted.sort_by_key(|i| (self.train[*i].n_tokens(), *i));
        let weight: usize = match self.settings.objective {
            Objective::Sft => batch.iter().map(|i| self.train[*i].chosen.len()).sum(),
            _ => batch.len(),
        };
        let mut grads = BTreeMap::new();
        let mut totals = Totals::default();
        for (i, micro) in sorted.chunks(self.settings.micro_batch).enumerate() {
            let examples: Vec<&Example> = micro.iter().map(|i| &self.train[*i]).collect();
            let packed = pack(examples.iter().copied());
            let mut backbone = self.backbone.clone();
            backbone.set_dropout_seed(Some(self.settings.seed ^ ((step * 4096 + i) as u64) << 20));
            let weights = self.settings.parm.as_ref().map(|parm| {
                let [read, weighs] = parm::preferences(parm, self.settings.seed, step, i);
                backbone.set_preferences(&read);
                weighs.iter().zip(&self.shares).map(|(alpha, share)| alpha * share).collect()
            });
            let judge = self.judge(&examples, &packed, weights)?;
            let mut weigh = |logprobs: &Tensor| {
                let values = logprobs.detach().to_vec1::<f32>()?;
                let coefficients = totals.add(&judge, &packed, &values, weight as f64);
                (logprobs * Tensor::new(coefficients, logprobs.device())?)?.sum_all()
            };
            if self.settings.grad_checkpoint {
                for (name, g) in backbone.checkpointed_gradients(&packed, weigh)? {
                    let sum = match grads.remove(&name) {
                        Some(old) => (old + g)?,
                        None => g,
                    };
                    grads.insert(name, sum);
                }
            } else {
                let store = weigh(&backbone.logprobs(&packed)?)?.backward()?;
                backbone.collect(&store, &mut grads)?;
            }
        }
        let norm = gradient_norm(&grads)?;
        if !totals.loss.is_finite() {
            return Err(self.not_a_number("loss", totals.loss / totals.weight, step + 1));
        }
        if !norm.is_finite() {
            return Err(self.not_a_number("gradient's norm", norm, step + 1));
        }
        let scale = (self.settings.max_grad_norm / norm.max(1e-12)).min(1.0);
        self.adam.update(self.backbone.trainable(), &grads, lr, scale)?;
        Ok((totals, norm))
    }

    fn about(&self) -> About<'_> {
        About {
            settings: self.settings,
            backbone: &self.backbone,
            counts: &self.counts,
            template: &self.template,
            n_train: self.train.len(),
            n_held_out: self.held_out.len(),
        }
    }
}
