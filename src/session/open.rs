//! Opening everything that a configuration names.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::experts::{ExpertSetup, Experts};
use super::share::{self, Member, Shared};
use super::{ExpertText, SessionError, plan, template};
use crate::chat::ChatTemplate;
use crate::config::{self, Config, ExpertSpec, GpuLayers, SplitMode, Switch};
use crate::engine::Sequence;
use crate::engine::gguf::GgufFile;
use crate::engine::llama::{self, CacheType, ContextParams, FlashAttention, Model, ModelParams};
use crate::engine::memory::n_physical_cores;
use crate::guidance::{Arm, Contract, Direction, Guide, Source, Weights, check_vocabulary};

/// Told the file that is being loaded and the share of it that is read; `false` ends the loading.
pub type Loading<'a> = &'a mut dyn FnMut(&Path, f32) -> bool;

/// Everything, open.
pub(super) struct Opened {
    pub base: Arc<Model>,
    pub base_template: Option<ChatTemplate>,
    /// The base's sequence and the ARMs' guide, of each slot.
    pub slots: Vec<(Sequence, Guide)>,
    pub experts: Vec<ExpertText>,
    /// The expert of each ARM; `None` is the base itself.
    pub of_arms: Vec<Option<usize>>,
    pub shared: Vec<Shared>,
}

pub(super) fn open(config: &Config, n_slots: usize, loading: Loading<'_>) -> Result<Opened, SessionError> {
    let config = &plan::resolve(config, n_slots)?;
    let mut models = Models::new(loading);
    let base = models.get("base", &config.base)?;
    let base_template = template::of_base(config, base.file())?;
    let mut members = vec![member("base".into(), &base, &config.base)?];
    let (mut contracts, mut texts) = (Vec::new(), Vec::new());
    let experts = Experts::of(config, true);
    for setup in &experts.setups {
        let model = models.get(&setup.who(), &setup.spec)?;
        contracts.push(contract(config, setup, &base, &model)?);
        let on_base = Arc::ptr_eq(&model, &base);
        let (template, templated) = template::of_expert(config, setup, model.file(), on_base, base_template.as_ref())?;
        let (who, spec, reading) = (setup.who(), setup.spec.clone(), setup.reading.clone());
        texts.push(ExpertText { who, vocab: model.vocab(), template, templated, spec, reading, spare: setup.spare });
        members.push(member(setup.who(), &model, &setup.spec)?);
    }
    let (sequences, shared) = share::sequences(&members, config.share_batch, n_slots)?;
    let mut sequences: Vec<_> = sequences.into_iter().map(Vec::into_iter).collect();
    let mut slots = Vec::with_capacity(n_slots);
    for _ in 0..n_slots {
        let mut row = sequences.iter_mut().flat_map(Iterator::next);
        let Some(base) = row.next() else { break };
        let arm = |((setup, contract), expert): ((&ExpertSetup, &Contract), _)| {
            Arm::new(&setup.arm, Box::new(expert), *contract)
        };
        let row = experts.setups.iter().zip(&contracts).zip(row).map(arm).collect();
        let weights = Weights::new(config.arms.iter().map(|arm| (arm.name.clone(), arm.weight)));
        let mut guide = Guide::with_references(row, experts.directions.clone(), weights);
        guide.set_limits(config.guidance.limits);
        slots.push((base, guide));
    }
    let of_arm = |direction: &Direction| match direction.arm {
        Source::Base => None,
        Source::Expert(at) => Some(at),
    };
    let of_arms = experts.directions.iter().map(of_arm).collect();
    Ok(Opened { base, base_template, slots, experts: texts, of_arms, shared })
}

/// What an expert's vocabulary has to do with the base's.
fn contract(
    config: &Config,
    expert: &ExpertSetup,
    base: &Arc<Model>,
    model: &Arc<Model>,
) -> Result<Contract, SessionError> {
    match (base.file().vocabulary(), model.file().vocabulary()) {
        (Some(of_base), Some(of_arm)) => check_vocabulary(&of_base, &of_arm).map_err(|source| {
            let (arm_path, base_path) = (expert.spec.model.clone(), config.base.model.clone());
            SessionError::Vocabulary { arm: expert.arm.clone(), arm_path, base_path, source }
        }),
        // `GgufFile::open_model` refuses a model without a vocabulary.
        _ => unreachable!("a model without a vocabulary was opened"),
    }
}

/// One copy of the weights of each file, however many experts stand on it.
pub(super) struct Models<'a> {
    loaded: HashMap<(PathBuf, ModelParams), Arc<Model>>,
    loading: Loading<'a>,
}

impl<'a> Models<'a> {
    pub(super) fn new(loading: Loading<'a>) -> Self {
        Self { loaded: HashMap::new(), loading }
    }

    pub(super) fn get(&mut self, who: &str, spec: &ExpertSpec) -> Result<Arc<Model>, SessionError> {
        let params = model_params(spec);
        // Two names of one file are one file; a path that does not exist is reported by the loader.
        let path = std::fs::canonicalize(&spec.model).unwrap_or_else(|_| spec.model.clone());
        if let Some(model) = self.loaded.get(&(path.clone(), params.clone())) {
            return Ok(Arc::clone(model));
        }
        let loading = &mut self.loading;
        let model = Model::load(&spec.model, &params, &mut |share| loading(&spec.model, share))
            .map_err(|source| SessionError::Load { who: who.into(), source })?;
        self.loaded.insert((path, params), Arc::clone(&model));
        Ok(model)
    }
}

pub(super) fn member<'a>(who: String, model: &Arc<Model>, spec: &'a ExpertSpec) -> Result<Member<'a>, SessionError> {
    let params = context_params(spec, model.file());
    if params.type_v.is_quantised() && params.flash_attention == FlashAttention::Off {
        let ty = format!("{:?}", params.type_v).to_lowercase();
        return Err(SessionError::QuantisedV { who, ty });
    }
    Ok(Member { who, model: Arc::clone(model), spec, params })
}

pub(super) fn model_params(spec: &ExpertSpec) -> ModelParams {
    let n_gpu_layers = match spec.n_gpu_layers {
        GpuLayers::Auto | GpuLayers::All => None,
        GpuLayers::Count(n) => Some(n),
    };
    ModelParams {
        n_gpu_layers,
        use_mmap: spec.use_mmap,
        use_mlock: spec.use_mlock,
        device: spec.device.clone(),
        split_mode: match spec.split_mode {
            SplitMode::None => llama::SplitMode::None,
            SplitMode::Layer => llama::SplitMode::Layer,
            SplitMode::Row => llama::SplitMode::Row,
        },
        main_gpu: spec.main_gpu,
        tensor_split: llama::TensorSplit(spec.tensor_split.clone()),
        rpc: spec.rpc.clone(),
    }
}

/// Where a configuration names no context size: the model's own, but not above this.
const DEFAULT_N_CTX: u32 = 4096;

/// The settings of a context, with everything filled in that the configuration leaves open.
pub fn context_params(spec: &ExpertSpec, file: &GgufFile) -> ContextParams {
    let trained = u32::try_from(file.n_ctx_train().unwrap_or(0)).unwrap_or(u32::MAX).max(1);
    let n_ctx = match spec.n_ctx {
        Some(0) => trained,
        Some(n) => n,
        None => trained.min(DEFAULT_N_CTX),
    };
    let n_batch = spec.n_batch.unwrap_or(512).min(n_ctx);
    let n_threads = spec.threads.unwrap_or_else(n_physical_cores);
    ContextParams {
        n_ctx,
        n_seq: 1,
        n_batch,
        n_ubatch: spec.n_ubatch.unwrap_or(512).min(n_batch),
        n_threads,
        n_threads_batch: spec.threads_batch.unwrap_or(n_threads),
        type_k: cache_type(spec.cache_type_k),
        type_v: cache_type(spec.cache_type_v),
        flash_attention: match spec.flash_attn {
            Switch::Auto => FlashAttention::Auto,
            Switch::On => FlashAttention::On,
            Switch::Off => FlashAttention::Off,
        },
    }
}

fn cache_type(ty: config::CacheType) -> CacheType {
    match ty {
        config::CacheType::F32 => CacheType::F32,
        config::CacheType::F16 => CacheType::F16,
        config::CacheType::BF16 => CacheType::BF16,
        config::CacheType::Q8_0 => CacheType::Q8_0,
        config::CacheType::Q4_0 => CacheType::Q4_0,
        config::CacheType::Q4_1 => CacheType::Q4_1,
        config::CacheType::IQ4_NL => CacheType::IQ4_NL,
        config::CacheType::Q5_0 => CacheType::Q5_0,
        config::CacheType::Q5_1 => CacheType::Q5_1,
    }
}
