//! A training run from settings to a written file.

use super::TrainError;
use super::backbone::{Backbone, Packed};
use super::checkpoint;
use super::export::{self, Metadata};
use super::objective::{Objective, PairLogProbs};
use super::optimizer::{AdamW, gradient_norm};
use super::pairs::{self, Counts, Example};
use super::render;
use super::report::{Record, Report};
use super::settings::Settings;
use super::tokens::{self, vocab_hash};
use crate::chat::ChatTemplate;
use crate::engine::gguf::Value;
use candle_core::{Device, Tensor};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
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
    /// What became of the data.
    pub counts: Counts,
    /// Held-out examples.
    pub held_out: usize,
    /// Mean loss on them at the end.
    pub held_out_loss: Option<f64>,
    /// Share of held-out pairs whose chosen response is preferred at the end.
    pub held_out_accuracy: Option<f64>,
    /// Numbers trained.
    pub trained_parameters: usize,
    /// Tokens read by this call, evaluation left out.
    pub n_tokens: usize,
    /// Tokens read per second over the run, evaluation left out.
    pub tokens_per_s: f64,
}

/// Trains, reports and writes the result. `stop` set (Ctrl-C) ends it with a checkpoint.
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
    held_out: Vec<Example>,
    counts: Counts,
    adam: AdamW,
    checkpoint: PathBuf,
    fingerprint: String,
}

/// Sums over some examples.
#[derive(Debug, Default, Clone, Copy)]
struct Totals {
    loss: f64,
    margin: f64,
    correct: f64,
    /// Examples, or scored tokens for sft.
    weight: f64,
}

impl<'a> Run<'a> {
    fn prepare(settings: &'a Settings, stop: &'a AtomicBool) -> Result<Self, TrainError> {
        let device = device(&settings.device)?;
        let mut backbone = Backbone::load(&settings.backbone, &device, Some(settings.max_len))?;
        let vocab = tokens::vocabulary(&settings.backbone)?;
        let own = backbone.file.chat_template().map(ChatTemplate::of_model);
        let template = render::template(&settings.template, own)?;
        let (mut examples, counts) = pairs::load(settings, &vocab, &template, backbone.shape.n_ctx)?;
        let fingerprint = fingerprint(settings, &examples, &backbone);
        examples.shuffle(&mut ChaCha8Rng::seed_from_u64(settings.seed));
        let n_held_out = (examples.len() as f64 * settings.held_out).round() as usize;
        let train = examples.split_off(n_held_out.min(examples.len() - 1));
        let reference = backbone.clone();
        match &settings.lora {
            Some(lora) => backbone.train_lora(lora.clone(), settings.seed)?,
            None => backbone.train_all()?,
        }
        let adam = AdamW::new(backbone.trainable(), settings.adamw)?;
        let mut checkpoint = settings.out.clone().into_os_string();
        checkpoint.push(".checkpoint");
        Ok(Self {
            settings,
            stop,
            reference,
            backbone,
            template: template.source().to_owned(),
            train,
            held_out: examples,
            counts,
            adam,
            checkpoint: checkpoint.into(),
            fingerprint,
        })
    }

    fn go(mut self) -> Result<Outcome, TrainError> {
        let s = self.settings;
        if s.resume && self.checkpoint.exists() {
            let device = self.backbone.device.clone();
            checkpoint::load(&self.checkpoint, self.backbone.trainable(), &mut self.adam, &self.fingerprint, &device)?;
        }
        let per_epoch = self.train.len().div_ceil(s.batch);
        let total = (per_epoch * s.epochs).min(s.max_steps.unwrap_or(usize::MAX));
        let warmup = s.warmup.unwrap_or_else(|| 100.min(total / 10));
        let mut report = Report::start(&s.out, self.adam.step, total)?;
        let (mut n_tokens, mut seconds) = (0, 0.0);
        let mut order = (usize::MAX, Vec::new());
        while self.adam.step < total {
            let step = self.adam.step;
            let epoch = step / per_epoch;
            if order.0 != epoch {
                order = (epoch, self.order(epoch));
            }
            let first = step % per_epoch * s.batch;
            let batch: Vec<usize> = order.1[first..(first + s.batch).min(order.1.len())].to_vec();
            let started = Instant::now();
            let lr = s.lr * s.schedule.factor(step, warmup, total);
            let (totals, norm) = self.update(&batch, step, lr)?;
            let took = started.elapsed().as_secs_f64();
            let read: usize = batch.iter().map(|i| self.train[*i].n_tokens()).sum();
            (n_tokens, seconds) = (n_tokens + read, seconds + took);
            let mut record = totals.record(s.objective);
            record = Record { step: step + 1, lr, grad_norm: norm, tokens_per_s: read as f64 / took, ..record };
            if (step + 1).is_multiple_of(s.eval_every) && step + 1 < total {
                let held_out = self.evaluate()?;
                (record.held_out_loss, record.held_out_accuracy) = (held_out.loss(), held_out.accuracy(s.objective));
            }
            report.record(record)?;
            self.checkpoint_if_due(step + 1, total)?;
        }
        let held_out = self.evaluate()?;
        report.finish(&s.out)?;
        let outcome = Outcome {
            out: s.out.clone(),
            steps: self.adam.step,
            counts: self.counts.clone(),
            held_out: self.held_out.len(),
            held_out_loss: held_out.loss(),
            held_out_accuracy: held_out.accuracy(s.objective),
            trained_parameters: self.backbone.trainable().values().map(|v| v.elem_count()).sum(),
            n_tokens,
            tokens_per_s: if seconds > 0.0 { n_tokens as f64 / seconds } else { 0.0 },
        };
        export::export(&self.backbone, s.out_type, &s.out, self.about(&outcome))?;
        let _ = std::fs::remove_file(&self.checkpoint);
        Ok(outcome)
    }

    fn checkpoint_if_due(&self, done: usize, total: usize) -> Result<(), TrainError> {
        let stopping = self.stop.load(Ordering::Relaxed);
        if done < total && (stopping || done.is_multiple_of(self.settings.checkpoint_every)) {
            checkpoint::save(&self.checkpoint, self.backbone.trainable(), &self.adam, &self.fingerprint)?;
        }
        if stopping && done < total {
            return Err(TrainError::Interrupted { step: done, checkpoint: self.checkpoint.clone() });
        }
        Ok(())
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
            let packed = pack(micro.iter().map(|i| &self.train[*i]));
            let reference = self.reference_logprobs(&packed)?;
            self.backbone.set_dropout_seed(Some(self.settings.seed ^ ((step * 4096 + i) as u64) << 20));
            let objective = self.settings.objective;
            let mut weigh = |logprobs: &Tensor| {
                let values = logprobs.detach().to_vec1::<f32>()?;
                let coefficients = totals.add(objective, &packed, &values, reference.as_deref(), weight as f64);
                (logprobs * Tensor::new(coefficients, logprobs.device())?)?.sum_all()
            };
            if self.settings.grad_checkpoint {
                for (name, g) in self.backbone.checkpointed_gradients(&packed, weigh)? {
                    let sum = match grads.remove(&name) {
                        Some(old) => (old + g)?,
                        None => g,
                    };
                    grads.insert(name, sum);
                }
            } else {
                let store = weigh(&self.backbone.logprobs(&packed)?)?.backward()?;
                self.backbone.collect(&store, &mut grads)?;
            }
        }
        let norm = gradient_norm(&grads)?;
        if !(totals.loss.is_finite() && norm.is_finite()) {
            let checkpoint = self.checkpoint.clone();
            return Err(TrainError::NotANumber { loss: totals.loss / totals.weight, step: step + 1, checkpoint });
        }
        let scale = (self.settings.max_grad_norm / norm.max(1e-12)).min(1.0);
        self.adam.update(self.backbone.trainable(), &grads, lr, scale)?;
        Ok((totals, norm))
    }

    fn reference_logprobs(&self, packed: &Packed) -> Result<Option<Vec<f32>>, TrainError> {
        match self.settings.objective {
            Objective::Dpo { .. } => Ok(Some(self.reference.logprobs(packed)?.to_vec1()?)),
            _ => Ok(None),
        }
    }

    /// Loss and accuracy on the held-out examples.
    fn evaluate(&mut self) -> Result<Totals, TrainError> {
        self.backbone.set_dropout_seed(None);
        let mut totals = Totals::default();
        let mut sorted: Vec<&Example> = self.held_out.iter().collect();
        sorted.sort_by_key(|e| e.n_tokens());
        for micro in sorted.chunks(self.settings.micro_batch) {
            let packed = pack(micro.iter().copied());
            let reference = self.reference_logprobs(&packed)?;
            let values = self.backbone.logprobs(&packed)?.detach().to_vec1::<f32>()?;
            totals.add(self.settings.objective, &packed, &values, reference.as_deref(), 1.0);
        }
        Ok(totals)
    }

    /// What the written file says of its making.
    fn about(&self, outcome: &Outcome) -> Metadata {
        let s = self.settings;
        let string = |v: String| Value::String(v);
        let file_name = |p: &std::path::Path| p.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let name = self.backbone.file.str("general.name").map(String::from);
        let texts = self.backbone.file.vocabulary().map(|v| v.texts()).into_iter().flatten();
        let mut about: Metadata = [
            ("genarm.version", string(env!("CARGO_PKG_VERSION").into())),
            ("genarm.objective", string(s.objective.name().into())),
            ("genarm.backbone.name", string(name.unwrap_or_else(|| file_name(&s.backbone)))),
            ("genarm.vocab.hash", string(vocab_hash(texts))),
            ("genarm.data.file", string(file_name(&s.pairs))),
            ("genarm.data.examples", Value::U32(self.train.len() as u32)),
            ("genarm.data.held_out", Value::U32(self.held_out.len() as u32)),
            ("genarm.seed", Value::U64(s.seed)),
        ]
        .map(|(k, v)| (k.to_string(), v))
        .into();
        // Where no conversation was rendered, none is to be rendered like that either.
        if self.counts.conversations > 0 {
            about.insert("genarm.template".into(), string(self.template.clone()));
        }
        if s.objective != Objective::Sft {
            about.insert("genarm.beta".into(), Value::F32(s.objective.beta() as f32));
        }
        if matches!(s.objective, Objective::Arm { .. }) {
            about.insert("genarm.suggested_weight".into(), Value::F32(1.0));
        }
        if let Some(accuracy) = outcome.held_out_accuracy {
            about.insert("genarm.held_out.accuracy".into(), Value::F32(accuracy as f32));
        }
        if let Some(loss) = outcome.held_out_loss {
            about.insert("genarm.held_out.loss".into(), Value::F32(loss as f32));
        }
        about
    }
}

impl Totals {
    /// Adds the packed examples and returns ∂(mean loss)/∂(log-probability) of each scored token.
    fn add(
        &mut self,
        objective: Objective,
        packed: &Packed,
        values: &[f32],
        reference: Option<&[f32]>,
        weight: f64,
    ) -> Vec<f32> {
        let sums = |values: &[f32]| -> Vec<f64> {
            let mut rest = values;
            packed
                .scored
                .iter()
                .map(|n| {
                    let (head, tail) = rest.split_at(*n);
                    rest = tail;
                    head.iter().map(|v| f64::from(*v)).sum()
                })
                .collect()
        };
        if objective == Objective::Sft {
            self.loss -= values.iter().map(|v| f64::from(*v)).sum::<f64>();
            self.weight += values.len() as f64;
            return vec![(-1.0 / weight) as f32; values.len()];
        }
        let (policy, reference) = (sums(values), reference.map(sums));
        let mut coefficients = Vec::with_capacity(values.len());
        for i in (0..policy.len()).step_by(2) {
            let of = |sums: &Option<Vec<f64>>, i: usize| sums.as_ref().map_or(0.0, |s| s[i]);
            let loss = objective.pair(PairLogProbs {
                chosen: policy[i],
                rejected: policy[i + 1],
                reference_chosen: of(&reference, i),
                reference_rejected: of(&reference, i + 1),
            });
            self.loss += loss.loss;
            self.margin += loss.margin;
            self.correct += f64::from(u8::from(loss.correct()));
            self.weight += 1.0;
            let d = (loss.d_chosen / weight) as f32;
            coefficients.extend(std::iter::repeat_n(d, packed.scored[i]));
            coefficients.extend(std::iter::repeat_n(-d, packed.scored[i + 1]));
        }
        coefficients
    }

    fn loss(&self) -> Option<f64> {
        (self.weight > 0.0).then(|| self.loss / self.weight)
    }

    fn accuracy(&self, objective: Objective) -> Option<f64> {
        (self.weight > 0.0 && objective != Objective::Sft).then(|| self.correct / self.weight)
    }

    fn record(&self, objective: Objective) -> Record {
        let margin = (objective != Objective::Sft).then(|| self.margin / self.weight);
        Record { loss: self.loss / self.weight, accuracy: self.accuracy(objective), margin, ..Record::default() }
    }
}

/// Lays examples one after another; a pair takes two sequences, chosen first.
fn pack<'a>(examples: impl Iterator<Item = &'a Example>) -> Packed {
    let mut packed = Packed::default();
    for e in examples {
        packed.push(&[e.prompt.as_slice(), &e.chosen].concat(), e.prompt.len());
        if !e.rejected.is_empty() {
            packed.push(&[e.prompt.as_slice(), &e.rejected].concat(), e.prompt.len());
        }
    }
    packed
}

/// Names everything that the weights of a step depend on, so that a checkpoint of another run is refused.
fn fingerprint(s: &Settings, examples: &[Example], backbone: &Backbone) -> String {
    let mut hasher = DefaultHasher::new();
    let settings = (s.objective, &s.lora, s.lr, s.schedule, s.warmup, s.adamw, s.max_grad_norm);
    format!(
        "{settings:?} {:?} {:?}",
        (s.batch, s.micro_batch, s.epochs, s.max_steps, s.seed, s.held_out),
        backbone.shape
    )
    .hash(&mut hasher);
    for e in examples {
        (&e.prompt, &e.chosen, &e.rejected).hash(&mut hasher);
    }
    format!("{:016x}", hasher.finish())
}
