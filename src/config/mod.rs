//! Preferences: a YAML file and a command line, resolved into one [`Config`] that is always valid.
//!
//! ```yaml
//! base: {model: base.gguf, n_ctx: 4096}
//! arms:
//!   helpful:  {model: helpful.gguf, weight: 1.0}
//!   harmless: {lora: [{path: harmless-lora.gguf}], weight: 0.5}   # no model: LoRA on the base's own
//!   friendly: {system: "You are warm and encouraging."}           # a persona: the base under this prompt, less the base
//! sampling: {temp: 0.7, top_p: 0.9}
//! profiles:
//!   careful: {harmless: 1.5}
//! ```
//!
//! The text becomes a `ConfigWire`, whose keys are checked; [`Config::load`] lays the [`Overrides`] of the command line
//! over it and resolves both. Three rules decide who wins:
//!
//! - Weights: `--weight` beats the chosen profile, which beats `arms:`. A profile sets the weights that it names and
//!   leaves the others as in `arms:`.
//! - What an ARM leaves out of its context's settings is as in `base:`; a setting on the command line holds for base
//!   and all ARMs.
//! - Paths in a file are relative to the file; paths on the command line to the working directory.
//!
//! `hosts:` holds such configurations for the models that another program runs ([`Overrides::host`] chooses one). What
//! an entry leaves out is as in the file around it.
//!
//! Every error is one line with file, line, column, key and the nearest valid name:
//!
//! ```text
//! prefs.yaml:7:5: unknown key "wieght" in arms.cheerful; did you mean "weight"?
//! ```

mod edit;
mod error;
mod overrides;
mod positions;
mod resolve;
mod sampling;
mod schema;
mod settings;
mod short;
mod steering;
mod types;
pub(crate) mod wire;

pub use crate::guidance::{Gate, Limits};
#[doc(hidden)]
pub use edit::{set_ranges, set_weights};
#[cfg(feature = "cli")]
pub(crate) use error::decimal_point;
pub use error::{ConfigError, Place, Problem};
#[cfg(feature = "server")]
pub(crate) use overrides::check_arm_name;
#[cfg(feature = "cli")]
pub(crate) use overrides::check_endpoint;
#[cfg(feature = "cli")]
pub(crate) use overrides::parse_threads;
pub use overrides::{ArmOverride, EngineOptions, HostModel, LoraOverride, Overrides, PersonaOverride, Variables};
#[doc(hidden)]
pub use overrides::{parse_arm, parse_weight};
#[doc(hidden)]
pub use resolve::{HostName, host_names, host_source, pattern_spellings};
pub use sampling::{SamplerOrder, SamplingOptions};
pub use schema::json_schema;
pub use settings::{CacheType, GpuLayers, OnError, Speculate, SplitMode, Switch, VocabularyUse};
pub use types::{
    ArmSpec, Config, ExpertSpec, GuidanceSpec, LoraSpec, PreferenceSpec, PromptSpec, ReadingSpec, Reference,
    ReferenceSpec,
};

#[cfg(test)]
mod tests;
