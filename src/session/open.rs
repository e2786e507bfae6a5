//! Opening everything that a configuration names.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use indicatif::HumanBytes;

use super::{ArmText, SessionError};
use crate::chat::ChatTemplate;
use crate::config::{self, Config, ExpertSpec, GpuLayers, Switch};
use crate::engine::Sequence;
use crate::engine::gguf::GgufFile;
use crate::engine::llama::{CacheType, Context, ContextParams, FlashAttention, Lora, Model, ModelParams};
use crate::engine::memory::{MemoryNeed, available_memory, n_physical_cores};
use crate::guidance::{Arm, Guide, Weights, check_vocabulary};

/// Told the file that is being loaded and the share of it that is read; `false` ends the loading.
pub type Loading<'a> = &'a mut dyn FnMut(&Path, f32) -> bool;

/// Everything, open.
pub(super) struct Opened {
    pub base: Arc<Model>,
    pub base_sequence: Sequence,
    pub base_template: Option<ChatTemplate>,
    pub guide: Guide,
    pub arms: Vec<ArmText>,
}

pub(super) fn open(config: &Config, loading: Loading<'_>) -> Result<Opened, SessionError> {
    check_memory(std::iter::once(&config.base).chain(config.arms.iter().map(|arm| &arm.spec)))?;
    let mut models = Models::new(loading);
    let base = models.get("base", &config.base)?;
    let base_sequence = sequence("base", &base, &config.base)?;
    let base_template = template("base", config.prompt.chat_template.as_deref(), &base)?;
    let (mut arms, mut texts) = (Vec::new(), Vec::new());
    for arm in &config.arms {
        let who = format!("ARM \"{}\"", arm.name);
        let model = models.get(&who, &arm.spec)?;
        let contract = match (base.file().vocabulary(), model.file().vocabulary()) {
            (Some(of_base), Some(of_arm)) => check_vocabulary(&of_base, &of_arm).map_err(|source| {
                let (arm_path, base_path) = (arm.spec.model.clone(), config.base.model.clone());
                SessionError::Vocabulary { arm: arm.name.clone(), arm_path, base_path, source }
            })?,
            // `GgufFile::open_model` refuses a model without a vocabulary.
            _ => unreachable!("a model without a vocabulary was opened"),
        };
        arms.push(Arm::new(&arm.name, Box::new(sequence(&who, &model, &arm.spec)?), contract));
        let template = template(&who, arm.template.as_deref(), &model)?;
        let templated = arm.template.is_some();
        texts.push(ArmText { name: arm.name.clone(), vocab: model.vocab(), template, templated });
    }
    let weights = Weights::new(config.arms.iter().map(|arm| (arm.name.clone(), arm.weight)));
    Ok(Opened { base, base_sequence, base_template, guide: Guide::new(arms, weights), arms: texts })
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

pub(super) fn sequence(who: &str, model: &Arc<Model>, spec: &ExpertSpec) -> Result<Sequence, SessionError> {
    let lora = |lora: &config::LoraSpec| Lora::load(model, &lora.path, lora.scale);
    let loras = spec.lora.iter().map(lora).collect::<Result<Vec<_>, _>>();
    let loras = loras.map_err(|source| SessionError::Lora { who: who.into(), source })?;
    let params = context_params(spec, model.file());
    if params.type_v.is_quantised() && params.flash_attention == FlashAttention::Off {
        let ty = format!("{:?}", params.type_v).to_lowercase();
        return Err(SessionError::QuantisedV { who: who.into(), ty });
    }
    let context = Context::new(model, loras, &params);
    Ok(Sequence::new(context.map_err(|source| SessionError::Context { who: who.into(), source })?))
}

fn template(who: &str, setting: Option<&str>, model: &Model) -> Result<Option<ChatTemplate>, SessionError> {
    let fail = |source| SessionError::Template { who: who.into(), source };
    match (setting, model.file().chat_template()) {
        (Some(setting), _) => ChatTemplate::from_setting(setting).map(Some).map_err(fail),
        // A model's own template that cannot be parsed only matters to those who chat.
        (None, Some(source)) => Ok(ChatTemplate::from_source(source).ok()),
        (None, None) => Ok(None),
    }
}

fn model_params(spec: &ExpertSpec) -> ModelParams {
    let n_gpu_layers = match spec.n_gpu_layers {
        GpuLayers::Auto | GpuLayers::All => None,
        GpuLayers::Count(n) => Some(n),
    };
    ModelParams { n_gpu_layers, use_mmap: spec.use_mmap, use_mlock: spec.use_mlock, device: spec.device.clone() }
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

/// Refuses what would not fit: an allocation that the system grants and cannot keep ends the process without a word.
pub(super) fn check_memory<'a>(experts: impl Iterator<Item = &'a ExpertSpec>) -> Result<(), SessionError> {
    if cfg!(any(feature = "cuda", feature = "vulkan")) {
        return Ok(()); // the weights may lie elsewhere
    }
    let mut total = MemoryNeed { weights: 0, kv: 0, compute: 0 };
    let mut files = HashMap::new();
    for spec in experts {
        // What cannot be read is reported, with its name, when it is loaded.
        let Ok(file) = GgufFile::open_model(&spec.model) else { return Ok(()) };
        let need = MemoryNeed::of(&file, &context_params(spec, &file));
        files.insert(std::fs::canonicalize(&spec.model).unwrap_or_else(|_| spec.model.clone()), need.weights);
        total.kv = total.kv.saturating_add(need.kv);
        total.compute = total.compute.saturating_add(need.compute);
    }
    total.weights = files.values().sum();
    let free = available_memory();
    if total.total() <= free {
        return Ok(());
    }
    let words = |bytes| HumanBytes(bytes).to_string();
    Err(SessionError::Memory {
        need: words(total.total()),
        weights: words(total.weights),
        kv: words(total.kv),
        compute: words(total.compute),
        free: words(free),
    })
}
