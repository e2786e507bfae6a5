//! The YAML as it is written: every key optional, every name checked, nothing resolved yet.
//!
//! The doc comments here are the descriptions in the JSON Schema that `genarm schema` prints.

use std::path::PathBuf;

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer};

use super::overrides::EngineOptions;
use super::sampling::SamplingOptions;
use super::settings::{CacheType, GpuLayers, OnError, Speculate, SplitMode, Switch, VocabularyUse};
use super::short::{self, Short};
use crate::guidance::Gate;

/// A base model, the autoregressive reward models (ARMs) that steer it, and how to sample.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(title = "genarm preferences")]
pub struct ConfigWire {
    /// The base model, the one whose text is steered: its path, or a mapping. Paths are relative to this file. Names of
    /// models work too: `hf:USER/REPO:QUANT`, `ollama:NAME:TAG`, `lmstudio:PUBLISHER/MODEL`.
    #[schemars(schema_with = "short::path_or::<BaseWire>")]
    pub base: Option<BaseWire>,
    /// The ARMs by name, in the order in which they are reported: the path of a model, or a mapping.
    #[schemars(schema_with = "short::paths_or::<ArmWire>")]
    pub arms: IndexMap<String, ArmWire>,
    /// Sampling parameters, with llama.cpp's names and defaults.
    pub sampling: SamplingOptions,
    /// Named sets of weights: profile name → ARM name → weight. A profile sets the weights that it names and leaves the
    /// others as in `arms:`. `ARM.OBJECTIVE` names a preference.
    pub profiles: IndexMap<String, IndexMap<String, f32>>,
    /// How prompts are rendered for the base.
    pub prompt: PromptWire,
    /// What to do when an ARM fails during a text: `base`: the base alone decides that step, and the log reports it,
    /// `stop` ends with an error. Default: base.
    pub on_error: Option<OnError>,
    /// Drafter for lossless speculation: `auto`, `off`, `backbone`, `draft:FILE`, `base`, `arm`, `arm:NAME` or
    /// `lookup`. Default: auto, which drafts nothing where a seed is given.
    pub speculate: Option<Speculate>,
    /// The largest number of tokens drafted at once.
    #[schemars(range(min = 1))]
    pub draft_max: Option<u32>,
    /// Evaluate base and LoRA ARMs on the same weights as rows of one batch. Default: auto.
    pub share_batch: Option<Switch>,
    /// When the ARMs are evaluated, and how far they may go.
    pub guidance: GuidanceWire,
    /// What guides each model that a program runs under `genarm run`; it leaves other models alone. The model is named
    /// as `ollama:NAME[:TAG]`, by the path of its file, by the file's name, or by a pattern such as `"*.gguf"`. Its
    /// value is the path of another YAML file, or a mapping. The first name that fits counts.
    #[schemars(schema_with = "short::paths_or::<HostWire>")]
    pub hosts: IndexMap<String, HostWire>,
}

/// Makes the structs of base and ARM, which share the settings of their llama.cpp context. A shared inner struct would
/// need serde's `flatten`, which gives up both `deny_unknown_fields` and the positions of errors.
macro_rules! expert_wire {
    ($(#[$meta:meta])* $name:ident { $($(#[$field_meta:meta])* $field:ident: $ty:ty,)* }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
        #[serde(deny_unknown_fields, default, remote = "Self")]
        pub struct $name {
            $($(#[$field_meta])* pub $field: $ty,)*
            /// LoRA adapters on the model: a path, a mapping, or a list of them.
            #[serde(deserialize_with = "short::list")]
            #[schemars(schema_with = "short::list_schema::<LoraWire>")]
            pub lora: Vec<LoraWire>,
            /// Context size in tokens; 0 takes the model's.
            pub n_ctx: Option<u32>,
            /// Layers on the GPU: a number, `auto` (as many as fit) or `all`. Default: auto.
            pub n_gpu_layers: Option<GpuLayers>,
            /// Threads that generate. Default: the physical cores, and fewer while other processes compete for them.
            #[schemars(range(min = 1))]
            pub threads: Option<u32>,
            /// Threads that read prompts. Default: as `threads`.
            #[schemars(range(min = 1))]
            pub threads_batch: Option<u32>,
            /// Largest logical batch, in tokens.
            #[schemars(range(min = 1))]
            pub n_batch: Option<u32>,
            /// Largest physical batch, in tokens.
            #[schemars(range(min = 1))]
            pub n_ubatch: Option<u32>,
            /// Type of the K cache. Default: f16.
            pub cache_type_k: Option<CacheType>,
            /// Type of the V cache. Default: f16.
            pub cache_type_v: Option<CacheType>,
            /// Flash attention. Default: auto.
            pub flash_attn: Option<Switch>,
            /// Whether layers with a sliding window keep all tokens, so that any number can be taken back without reading
            /// anew. `auto`: they do, except in `genarm generate`. Default: auto.
            pub swa_full: Option<Switch>,
            /// Map the file into memory instead of reading it. Default: true.
            pub use_mmap: Option<bool>,
            /// Keep the model in RAM, never swapped. Default: false.
            pub use_mlock: Option<bool>,
            /// Name of the device to run on, as `genarm devices` lists it; several with commas between; `cpu` or `none`
            /// for none.
            pub device: Option<String>,
            /// How several devices share the model: `none` (one has it all), `layer` or `row`. Default: layer.
            pub split_mode: Option<SplitMode>,
            /// The device that has it all under `split_mode: none`, by its place in the list. Default: 0.
            pub main_gpu: Option<u32>,
            /// Shares of the devices, such as [3, 1]. Default: by free memory.
            pub tensor_split: Option<Vec<f32>>,
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                short::read(deserializer)
            }
        }

        impl Short for $name {
            fn of_path(path: PathBuf) -> Self {
                Self { model: Some(path), ..Self::default() }
            }

            // Inherent functions come first: this is the derived one.
            fn of_map<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                Self::deserialize(deserializer)
            }
        }

        impl $name {
            /// The settings of the context, apart from what is loaded into it.
            pub fn engine(&self) -> EngineOptions {
                EngineOptions {
                    n_ctx: self.n_ctx,
                    n_gpu_layers: self.n_gpu_layers,
                    threads: self.threads,
                    threads_batch: self.threads_batch,
                    n_batch: self.n_batch,
                    n_ubatch: self.n_ubatch,
                    cache_type_k: self.cache_type_k,
                    cache_type_v: self.cache_type_v,
                    flash_attn: self.flash_attn,
                    swa_full: self.swa_full,
                    use_mmap: self.use_mmap,
                    use_mlock: self.use_mlock,
                    device: self.device.clone(),
                    split_mode: self.split_mode,
                    main_gpu: self.main_gpu,
                    tensor_split: self.tensor_split.clone(),
                }
            }
        }
    };
}

expert_wire! {
    /// The base model.
    BaseWire {
        /// Path of the GGUF, or its name: `hf:USER/REPO:QUANT`, say.
        model: Option<PathBuf>,
        /// ggml RPC servers that take the layers, as `host:port`. They neither authenticate nor encrypt: reach other
        /// machines through a tunnel.
        rpc: Vec<String>,
        /// Seconds that an RPC server may be silent before it counts as lost. Default: 30.
        #[schemars(range(min = 1))]
        rpc_timeout: Option<u32>,
    }
}

expert_wire! {
    /// An autoregressive reward model. Settings that it leaves out are those of the base.
    ArmWire {
        /// Path of the GGUF, or its name. An ARM that is a LoRA adapter on the base's own model leaves it out.
        model: Option<PathBuf>,
        /// Factor of the ARM's logits. Negative steers away. Default: 1.
        weight: Option<f32>,
        /// How much each objective of the adapter is preferred, where it has several (a PARM): objective → a number from
        /// 0 to 1, or in the range that the adapter's file gives. Objectives that are left out are at 0. Default: all
        /// objectives alike, in sum 1.
        preferences: IndexMap<String, f32>,
        /// Chat template for this ARM: a built-in name, a file, or inline Jinja. Default: the one in its GGUF.
        template: Option<String>,
        /// System prompt that this ARM reads in place of the conversation's. Without `model` and `lora` the ARM is the
        /// base itself under this prompt: a persona.
        system: Option<String>,
        /// Text that this ARM reads before a plain prompt. Default: its `system` and an empty line.
        prefix: Option<String>,
        /// The weights between which the ARM steers without breaking the text, such as [-2, 3]; `genarm calibrate`
        /// finds them. Sliders end there.
        range: Option<[f32; 2]>,
        /// What is subtracted from the ARM's logits: `none` (the paper's law), `base`, or another expert: the path of a
        /// model, or a mapping. Default: none; `base` where `system` or `prefix` is given.
        reference: Option<ReferenceWire>,
        /// Whether the ARM may have another vocabulary than the base: `same` refuses it, `translate` lets it guide across
        /// vocabularies. Default: same.
        vocabulary: Option<VocabularyUse>,
        /// The β_r that the ARM was trained with; rewards are reported in its units.
        beta_r: Option<f32>,
    }
}

expert_wire! {
    /// An expert whose logits are subtracted from an ARM's. Settings that it leaves out are those of the base; what it
    /// reads is as for the ARM.
    ReferenceExpertWire {
        /// Path of the GGUF, or its name. Without it: the base's.
        model: Option<PathBuf>,
        /// Chat template: a built-in name, a file, or inline Jinja.
        template: Option<String>,
        /// System prompt that it reads in place of the conversation's.
        system: Option<String>,
        /// Text that it reads before a plain prompt.
        prefix: Option<String>,
    }
}

/// What is subtracted from an ARM's logits.
#[derive(Debug, Clone, PartialEq)]
pub enum ReferenceWire {
    /// Nothing.
    None,
    /// The base.
    Base,
    /// Another expert.
    Expert(Box<ReferenceExpertWire>),
}

impl<'de> Deserialize<'de> for ReferenceWire {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        short::read(deserializer)
    }
}

impl Short for ReferenceWire {
    fn of_path(path: PathBuf) -> Self {
        match path.to_str() {
            Some("none") => Self::None,
            Some("base") => Self::Base,
            _ => Self::Expert(Box::new(ReferenceExpertWire::of_path(path))),
        }
    }

    fn of_map<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        <ReferenceExpertWire as Short>::of_map(deserializer).map(|expert| Self::Expert(Box::new(expert)))
    }
}

impl JsonSchema for ReferenceWire {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Reference".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        short::path_or::<ReferenceExpertWire>(generator)
    }
}

/// A LoRA adapter.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, remote = "Self")]
pub struct LoraWire {
    /// Path of the adapter's GGUF, or its name.
    pub path: PathBuf,
    /// Factor on the adapter. Default: 1.
    #[serde(default = "one")]
    pub scale: f32,
}

impl<'de> Deserialize<'de> for LoraWire {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        short::read(deserializer)
    }
}

impl Short for LoraWire {
    fn of_path(path: PathBuf) -> Self {
        Self { path, scale: one() }
    }

    // Inherent functions come first: this is the derived one.
    fn of_map<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::deserialize(deserializer)
    }
}

fn one() -> f32 {
    1.0
}

/// How prompts are rendered for the base.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PromptWire {
    /// Chat template for the base: a built-in name, a file, or inline Jinja. Default: the one in its GGUF.
    pub chat_template: Option<String>,
    /// System prompt of every conversation.
    pub system: Option<String>,
}

/// When the ARMs are evaluated, and how far they may go.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct GuidanceWire {
    /// Evaluate the ARMs only where the base is unsure: `{entropy: NATS}` or `{top_p: PROBABILITY}`. Default: always.
    pub gate: Option<Gate>,
    /// Most nats by which a step may leave the base: KL(guided ‖ base) at temperature 1. All weights are multiplied by
    /// the largest factor of at most 1 that keeps to it. Default: no limit.
    #[schemars(range(min = 0.0))]
    pub max_kl: Option<f32>,
    /// Keep only the tokens whose probability under the base is at least this share of the best one's: 0.1, say. It
    /// tames negative weights. Default: keep all.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub plausible: Option<f32>,
}

/// What guides one model of a program under `genarm run`. What it leaves out is as in the file around it.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, remote = "Self")]
pub struct HostWire {
    /// Another YAML file that has all of it; it stands alone.
    pub config: Option<PathBuf>,
    /// The base as genarm reads it. Default: the model that the program runs.
    #[schemars(schema_with = "short::path_or::<BaseWire>")]
    pub base: Option<BaseWire>,
    /// The ARMs of this model, in place of all those of the file.
    #[schemars(schema_with = "short::paths_or::<ArmWire>")]
    pub arms: Option<IndexMap<String, ArmWire>>,
    /// Named sets of weights, in place of those of the file.
    pub profiles: Option<IndexMap<String, IndexMap<String, f32>>>,
    /// The set of weights to begin with.
    pub profile: Option<String>,
    /// Weights over those of `arms` and `profile`: ARM name → weight.
    pub weights: IndexMap<String, f32>,
    /// What to do when an ARM fails during a text.
    pub on_error: Option<OnError>,
    /// When the ARMs are evaluated, and how far they may go.
    pub guidance: Option<GuidanceWire>,
}

impl<'de> Deserialize<'de> for HostWire {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        short::read(deserializer)
    }
}

impl Short for HostWire {
    fn of_path(path: PathBuf) -> Self {
        Self { config: Some(path), ..Self::default() }
    }

    // Inherent functions come first: this is the derived one.
    fn of_map<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::deserialize(deserializer)
    }
}
