//! The resolved configuration: nothing optional that has a default, every path ready to open, every name known.

use std::path::PathBuf;

use indexmap::IndexMap;
use serde::Serialize;

use super::error::{ConfigError, Problem};
use super::settings::{CacheType, GpuLayers, OnError, Speculate, SplitMode, Switch, VocabularyUse};
use crate::guidance::{Gate, Limits};
use crate::nearest::suggestion;
use crate::sampling::params::SamplingParams;

/// Everything that a run needs to know. See [`Config::load`].
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Config {
    /// The base model.
    pub base: ExpertSpec,
    /// The ARMs, in the order of the file, then of the command line.
    pub arms: Vec<ArmSpec>,
    /// How to sample.
    pub sampling: SamplingParams,
    /// Profile name → name of an ARM, or `ARM.OBJECTIVE` → its weight or preference.
    pub profiles: IndexMap<String, IndexMap<String, f32>>,
    /// How prompts are rendered for the base.
    pub prompt: PromptSpec,
    /// What to do when an ARM fails during a text.
    pub on_error: OnError,
    /// Who drafts for lossless speculation.
    pub speculate: Speculate,
    /// The largest number of tokens drafted at once, if set.
    pub draft_max: Option<u32>,
    /// Whether base and LoRA ARMs share batches.
    pub share_batch: Switch,
    /// When the ARMs are evaluated.
    pub guidance: GuidanceSpec,
    /// The file that this comes from.
    pub path: Option<PathBuf>,
}

/// A model, its adapters, and the settings of its llama.cpp context.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ExpertSpec {
    /// Path of the GGUF: absolute, or relative to the working directory.
    pub model: PathBuf,
    /// LoRA adapters on it.
    pub lora: Vec<LoraSpec>,
    /// Context size in tokens; 0 is the model's own, `None` the model's own but at most 4096.
    pub n_ctx: Option<u32>,
    /// Layers on the GPU.
    pub n_gpu_layers: GpuLayers,
    /// Threads that generate; `None` is the engine's choice.
    pub threads: Option<u32>,
    /// Threads that read prompts; `None` is as `threads`.
    pub threads_batch: Option<u32>,
    /// Largest logical batch, in tokens; `None` is the engine's choice.
    pub n_batch: Option<u32>,
    /// Largest physical batch, in tokens; `None` is the engine's choice.
    pub n_ubatch: Option<u32>,
    /// Type of the K cache.
    pub cache_type_k: CacheType,
    /// Type of the V cache.
    pub cache_type_v: CacheType,
    /// Flash attention.
    pub flash_attn: Switch,
    /// Whether layers with a sliding window keep all tokens; `auto`: unless [no text takes many back](Config::goes_on).
    pub swa_full: Switch,
    /// Map the file into memory.
    pub use_mmap: bool,
    /// Keep the model in RAM.
    pub use_mlock: bool,
    /// Devices to run on, as llama.cpp names them, with commas between.
    pub device: Option<String>,
    /// How several devices share the model.
    pub split_mode: SplitMode,
    /// The device that has it all under [`SplitMode::None`].
    pub main_gpu: u32,
    /// Shares of the devices; empty goes by free memory.
    pub tensor_split: Vec<f32>,
    /// RPC servers that take the layers, as `host:port`: the base's, and those of adapters on it.
    pub rpc: Vec<String>,
    /// Seconds that an RPC server may be silent.
    pub rpc_timeout: Option<u32>,
}

/// A LoRA adapter.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LoraSpec {
    /// Path of the adapter's GGUF.
    pub path: PathBuf,
    /// Factor on the adapter.
    pub scale: f32,
}

/// An autoregressive reward model.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ArmSpec {
    /// Its name.
    pub name: String,
    /// What to load.
    pub spec: ExpertSpec,
    /// The weight to start with: after profile and `--weight`.
    pub weight: f32,
    /// The weight that `arms:` (or `--arm`) gives, to which a profile that does not name the ARM returns.
    pub default_weight: f32,
    /// What is preferred of the objectives of its adapter, where that has several.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub preferences: Vec<PreferenceSpec>,
    /// What it reads where the base reads the prompt.
    pub reading: ReadingSpec,
    /// The β_r of its training.
    pub beta_r: Option<f32>,
    /// What is subtracted from its logits.
    pub reference: Reference,
    /// Whether it, and its reference, may have another vocabulary than the base.
    #[serde(skip_serializing_if = "is_same")]
    pub vocabulary: VocabularyUse,
    /// The weights between which it steers without breaking the text, lowest first: what `genarm calibrate` found.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub range: Option<[f32; 2]>,
    /// A persona that is yet to come: requests say what it reads.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub spare: bool,
}

fn is_same(vocabulary: &VocabularyUse) -> bool {
    *vocabulary == VocabularyUse::Same
}

/// An objective of a preference-conditioned ARM (PARM), and how much it is preferred.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PreferenceSpec {
    /// The objective, as the adapter's file names it.
    pub objective: String,
    /// The preference to start with: after profile and `--weight`.
    pub value: f32,
    /// The preference that `arms:` gives, to which a profile that does not name it returns.
    pub default_value: f32,
    /// The least and the greatest, as the file says.
    pub range: [f32; 2],
}

/// What an expert reads where the base reads the prompt.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct ReadingSpec {
    /// Chat template: a built-in name, inline Jinja, or the path of a file; `None` is the GGUF's own.
    pub template: Option<String>,
    /// System prompt that it reads in place of the conversation's.
    pub system: Option<String>,
    /// Text that it reads before a plain prompt; `None` is its system prompt and an empty line.
    pub prefix: Option<String>,
}

/// What is subtracted from an ARM's logits.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Reference {
    /// Nothing: the paper's law.
    #[default]
    None,
    /// The base. It costs no evaluation.
    Base,
    /// Another expert.
    Expert(Box<ReferenceSpec>),
}

/// An expert that is only subtracted.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ReferenceSpec {
    /// What to load.
    pub spec: ExpertSpec,
    /// What it reads; where nothing is said, as its ARM.
    pub reading: ReadingSpec,
}

impl ArmSpec {
    /// An ARM by the paper's law, which reads as its model's file says.
    pub fn new(name: impl Into<String>, spec: ExpertSpec, weight: f32) -> Self {
        Self {
            name: name.into(),
            spec,
            weight,
            default_weight: weight,
            preferences: Vec::new(),
            reading: ReadingSpec::default(),
            beta_r: None,
            reference: Reference::None,
            vocabulary: VocabularyUse::Same,
            range: None,
            spare: false,
        }
    }

    /// What is to be loaded for it: itself, and its reference.
    pub fn specs(&self) -> impl Iterator<Item = &ExpertSpec> {
        let reference = match &self.reference {
            Reference::Expert(reference) => Some(&reference.spec),
            Reference::None | Reference::Base => None,
        };
        std::iter::once(&self.spec).chain(reference)
    }

    /// The same, to be changed.
    pub fn specs_mut(&mut self) -> impl Iterator<Item = &mut ExpertSpec> {
        let reference = match &mut self.reference {
            Reference::Expert(reference) => Some(&mut reference.spec),
            Reference::None | Reference::Base => None,
        };
        std::iter::once(&mut self.spec).chain(reference)
    }

    /// The base under another prompt, less the base.
    pub fn persona(name: impl Into<String>, base: &ExpertSpec, reading: ReadingSpec, weight: f32) -> Self {
        Self { reading, reference: Reference::Base, ..Self::new(name, base.clone(), weight) }
    }
}

impl ReadingSpec {
    /// Whether it reads under another system prompt or after another text than the base: a persona.
    pub fn is_persona(&self) -> bool {
        self.system.is_some() || self.prefix.is_some()
    }
}

/// How prompts are rendered for the base.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct PromptSpec {
    /// Chat template: a built-in name, inline Jinja, or the path of a file; `None` is the GGUF's own.
    pub chat_template: Option<String>,
    /// System prompt of every conversation.
    pub system: Option<String>,
    /// Variables for the chat templates, such as `enable_thinking`.
    #[serde(skip_serializing_if = "serde_json::Map::is_empty")]
    pub variables: serde_json::Map<String, serde_json::Value>,
}

/// When the ARMs are evaluated, and how far they may go.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct GuidanceSpec {
    /// Ask them only where the base is unsure; `None` asks always.
    pub gate: Option<Gate>,
    /// Bounds on what they may do at a step.
    pub limits: Limits,
}

impl Config {
    /// Everything that is to be loaded: the base, the ARMs, their references.
    pub fn specs(&self) -> impl Iterator<Item = &ExpertSpec> {
        std::iter::once(&self.base).chain(self.arms.iter().flat_map(ArmSpec::specs))
    }

    /// The same, to be changed.
    pub fn specs_mut(&mut self) -> impl Iterator<Item = &mut ExpertSpec> {
        std::iter::once(&mut self.base).chain(self.arms.iter_mut().flat_map(ArmSpec::specs_mut))
    }

    /// Lets sliding windows keep what a text needs that only goes on, where nothing else is asked for.
    pub fn goes_on(&mut self) {
        // A translated ARM reads what it has read in another way.
        if self.arms.iter().all(|arm| arm.vocabulary == VocabularyUse::Same) {
            let undecided = self.specs_mut().filter(|spec| spec.swa_full == Switch::Auto);
            undecided.for_each(|spec| spec.swa_full = Switch::Off);
        }
    }

    /// Adds room for `n` personas that come with requests.
    pub fn with_spare_personas(mut self, n: usize) -> Self {
        let names = (1..).map(|i| format!("persona {i}"));
        let free = names.filter(|name| !self.arms.iter().any(|arm| arm.name == *name)).take(n).collect::<Vec<_>>();
        for name in free {
            let arm = ArmSpec::persona(name, &self.base, ReadingSpec::default(), 0.0);
            self.arms.push(ArmSpec { spare: true, ..arm });
        }
        self
    }

    /// The index in `arms` of the ARM called `name`.
    ///
    /// # Errors
    ///
    /// [`Problem::UnknownName`] with the nearest ARM.
    pub fn arm_index(&self, name: &str) -> Result<usize, ConfigError> {
        self.arms.iter().position(|arm| arm.name == name).ok_or_else(|| {
            let suggestion = suggestion(name, self.arms.iter().map(|arm| arm.name.as_str()));
            let (key, name) = (String::new(), name.to_owned());
            ConfigError::usage(Problem::UnknownName { key, what: "ARM", name, suggestion })
        })
    }
}
