//! The small choices that a configuration is made of. Each reads from YAML and from the command line alike.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserializer, Visitor};
use serde::{Deserialize, Serialize, Serializer};

/// Type of the K or V cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
#[cfg_attr(feature = "clap", derive(clap::ValueEnum))]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
#[allow(missing_docs, non_camel_case_types)] // The names of the ggml types say it all.
pub enum CacheType {
    F32,
    #[default]
    F16,
    BF16,
    #[cfg_attr(feature = "clap", value(name = "q8_0"))]
    Q8_0,
    #[cfg_attr(feature = "clap", value(name = "q4_0"))]
    Q4_0,
    #[cfg_attr(feature = "clap", value(name = "q4_1"))]
    Q4_1,
    #[cfg_attr(feature = "clap", value(name = "iq4_nl"))]
    IQ4_NL,
    #[cfg_attr(feature = "clap", value(name = "q5_0"))]
    Q5_0,
    #[cfg_attr(feature = "clap", value(name = "q5_1"))]
    Q5_1,
}

/// A setting that the engine may choose for itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
#[cfg_attr(feature = "clap", derive(clap::ValueEnum))]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum Switch {
    /// The engine chooses.
    #[default]
    Auto,
    /// Always.
    #[cfg_attr(feature = "clap", value(aliases = ["1", "true", "enabled"]))]
    On,
    /// Never.
    #[cfg_attr(feature = "clap", value(aliases = ["0", "false", "disabled"]))]
    Off,
}

/// How several devices share a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
#[cfg_attr(feature = "clap", derive(clap::ValueEnum))]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum SplitMode {
    /// One device has all of it.
    None,
    /// Whole layers go to devices.
    #[default]
    Layer,
    /// Rows of each matrix go to devices, where the backend can.
    Row,
}

/// What generation does when an ARM fails in the middle of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
#[cfg_attr(feature = "clap", derive(clap::ValueEnum))]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum OnError {
    /// Stop with an error.
    Stop,
    /// Go on with the base alone, and say so.
    #[default]
    Base,
}

/// Whether an ARM may have another vocabulary than the base.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum VocabularyUse {
    /// It must be the base's.
    #[default]
    Same,
    /// It may be another: the ARM is then translated. One that is the base's costs nothing.
    Translate,
    /// Translated in any case, to test that this changes nothing where the vocabularies are the same.
    #[schemars(skip)]
    Force,
}

/// How many layers live on the GPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum GpuLayers {
    /// As many as fit.
    #[default]
    Auto,
    /// All of them.
    All,
    /// This many.
    Count(u32),
}

const GPU_LAYERS: &str = "a number of layers, \"auto\" or \"all\"";

impl FromStr for GpuLayers {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        match s {
            "auto" | "-1" => Ok(Self::Auto),
            "all" | "-2" => Ok(Self::All),
            n => n.parse().map(Self::Count).map_err(|_| format!("expected {GPU_LAYERS}, got \"{s}\"")),
        }
    }
}

impl fmt::Display for GpuLayers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::All => f.write_str("all"),
            Self::Count(n) => write!(f, "{n}"),
        }
    }
}

impl Serialize for GpuLayers {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Count(n) => s.serialize_u32(*n),
            word => s.collect_str(word),
        }
    }
}

impl<'de> Deserialize<'de> for GpuLayers {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct LayersVisitor;
        impl Visitor<'_> for LayersVisitor {
            type Value = GpuLayers;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(GPU_LAYERS)
            }
            fn visit_i64<E: serde::de::Error>(self, n: i64) -> Result<GpuLayers, E> {
                self.visit_str(&n.to_string())
            }
            fn visit_u64<E: serde::de::Error>(self, n: u64) -> Result<GpuLayers, E> {
                self.visit_str(&n.to_string())
            }
            fn visit_str<E: serde::de::Error>(self, s: &str) -> Result<GpuLayers, E> {
                s.parse().map_err(E::custom)
            }
        }
        d.deserialize_any(LayersVisitor)
    }
}

impl JsonSchema for GpuLayers {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "GpuLayers".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "anyOf": [{ "type": "integer", "minimum": -2 }, { "enum": ["auto", "all"] }] })
    }
}

/// Drafter for lossless speculation.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub enum Speculate {
    /// Measure, and take what is fastest, plain decoding included.
    #[default]
    Auto,
    /// Plain decoding.
    Off,
    /// An ARM's backbone (its model with the adapter off), with the ARMs' weights.
    Backbone,
    /// A separate draft model.
    Draft(PathBuf),
    /// The base; the ARMs read the draft in one batch.
    Base,
    /// The base's own head for drafting (multi-token prediction).
    Mtp,
    /// An ARM: the named one, or the first.
    Arm(Option<String>),
    /// Repetitions of the prompt and of the text so far.
    Lookup,
}

impl Speculate {
    /// What drafts where a seed is to give the same text again: `auto` goes by measured times, so it drafts nothing
    /// then. The one place where this is decided.
    #[must_use]
    pub fn under_a_seed(self) -> Self {
        match self {
            Self::Auto => Self::Off,
            named => named,
        }
    }
}

/// The words that `speculate` takes, as an error message lists them.
const SPECULATE: [&str; 8] = ["auto", "off", "backbone", "draft:FILE", "base", "mtp", "arm[:NAME]", "lookup"];

impl FromStr for Speculate {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        match s.split_once(':') {
            Some(("draft", file)) if !file.is_empty() => return Ok(Self::Draft(file.into())),
            Some(("arm", name)) if !name.is_empty() => return Ok(Self::Arm(Some(name.to_owned()))),
            _ => {}
        }
        match s {
            "auto" => Ok(Self::Auto),
            "off" => Ok(Self::Off),
            "backbone" => Ok(Self::Backbone),
            "base" => Ok(Self::Base),
            "mtp" => Ok(Self::Mtp),
            "arm" => Ok(Self::Arm(None)),
            "lookup" => Ok(Self::Lookup),
            _ => Err(format!("unknown drafter \"{s}\"{}", crate::nearest::suggestion(s, SPECULATE))),
        }
    }
}

impl fmt::Display for Speculate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Off => f.write_str("off"),
            Self::Backbone => f.write_str("backbone"),
            Self::Draft(file) => write!(f, "draft:{}", file.display()),
            Self::Base => f.write_str("base"),
            Self::Mtp => f.write_str("mtp"),
            Self::Arm(None) => f.write_str("arm"),
            Self::Arm(Some(name)) => write!(f, "arm:{name}"),
            Self::Lookup => f.write_str("lookup"),
        }
    }
}

impl Serialize for Speculate {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Speculate {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for Speculate {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Speculate".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": "^(auto|off|backbone|base|mtp|arm|lookup|draft:.+|arm:.+)$" })
    }
}
