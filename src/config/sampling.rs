//! Sampling parameters as they are given: some of them, over defaults.

use std::str::FromStr;

use indexmap::IndexMap;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::Deserializer;
use serde::{Deserialize, Serialize};

use crate::sampling::params::{BiasKey, Mirostat, RANDOM_SEED, SamplerKind, SamplingParams};

/// Sampling parameters, each with llama.cpp's name and default
///
/// The same struct reads the YAML's `sampling:`, the command line and requests; what is absent keeps its value.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[cfg_attr(feature = "clap", derive(clap::Args))]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "clap", command(next_help_heading = "Sampling"))]
pub struct SamplingOptions {
    /// Seed of the random draws, -1 for a random one [default: -1]
    #[cfg_attr(feature = "clap", arg(long, value_name = "N", allow_negative_numbers = true, value_parser = clap::value_parser!(i64).range(-1..=0xFFFF_FFFF)))]
    #[schemars(range(min = -1, max = 4_294_967_295_i64))]
    pub seed: Option<i64>,
    /// Temperature, 0 for greedy [default: 0.8]
    #[cfg_attr(feature = "clap", arg(long, value_name = "T", alias = "temperature"))]
    #[schemars(range(min = 0))]
    #[serde(alias = "temperature")]
    pub temp: Option<f32>,
    /// Half width of the dynamic temperature range, 0 for off [default: 0]
    #[cfg_attr(feature = "clap", arg(long, value_name = "T"))]
    #[schemars(range(min = 0))]
    pub dynatemp_range: Option<f32>,
    /// Exponent from entropy to dynamic temperature [default: 1]
    #[cfg_attr(feature = "clap", arg(long, value_name = "X", alias = "dynatemp-exp"))]
    #[schemars(range(min = 0))]
    #[serde(alias = "dynatemp_exp")]
    pub dynatemp_exponent: Option<f32>,
    /// Keep the N most probable tokens, 0 for all [default: 40]
    #[cfg_attr(feature = "clap", arg(long, value_name = "N", allow_negative_numbers = true))]
    pub top_k: Option<i32>,
    /// Keep the smallest set of tokens of at least this probability, 1 for off [default: 0.95]
    #[cfg_attr(feature = "clap", arg(long, value_name = "P"))]
    #[schemars(extend("minimum" = 0, "maximum" = 1))]
    pub top_p: Option<f32>,
    /// Drop tokens below this fraction of the best one's probability, 0 for off [default: 0.05]
    #[cfg_attr(feature = "clap", arg(long, value_name = "P"))]
    #[schemars(range(min = 0, max = 1))]
    pub min_p: Option<f32>,
    /// Chance that XTC removes the top choices at a step, 0 for off [default: 0]
    #[cfg_attr(feature = "clap", arg(long, value_name = "P"))]
    #[schemars(range(min = 0, max = 1))]
    pub xtc_probability: Option<f32>,
    /// Probability from which a token is a top choice for XTC, above 0.5 for off [default: 0.1]
    #[cfg_attr(feature = "clap", arg(long, value_name = "P"))]
    #[schemars(range(min = 0, max = 1))]
    pub xtc_threshold: Option<f32>,
    /// Locally typical mass to keep, 1 for off [default: 1]
    #[cfg_attr(feature = "clap", arg(long, value_name = "P", aliases = ["typical", "typical-p"]))]
    #[schemars(extend("exclusiveMinimum" = 0, "maximum" = 1))]
    #[serde(alias = "typical", alias = "typical_p")]
    pub typ_p: Option<f32>,
    /// Keep logits within N standard deviations of the largest, negative for off [default: -1]
    #[cfg_attr(feature = "clap", arg(long, value_name = "N", alias = "top-nsigma", allow_negative_numbers = true))]
    #[serde(alias = "top_nsigma")]
    pub top_n_sigma: Option<f32>,
    /// Tokens that the penalties look back on, 0 for off, -1 for all [default: 64]
    #[cfg_attr(feature = "clap", arg(long, value_name = "N", alias = "repeat-last-n", allow_negative_numbers = true))]
    #[schemars(range(min = -1))]
    #[serde(alias = "repeat_last_n")]
    pub penalty_last_n: Option<i32>,
    /// Divide the logits of repeated tokens, 1 for off [default: 1]
    #[cfg_attr(feature = "clap", arg(long, value_name = "X"))]
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub repeat_penalty: Option<f32>,
    /// Subtract from a token's logit at each occurrence, 0 for off [default: 0]
    #[cfg_attr(feature = "clap", arg(long, value_name = "X", allow_negative_numbers = true))]
    pub frequency_penalty: Option<f32>,
    /// Subtract once from the logit of a token that occurred, 0 for off [default: 0]
    #[cfg_attr(feature = "clap", arg(long, value_name = "X", allow_negative_numbers = true))]
    pub presence_penalty: Option<f32>,
    /// Strength of the DRY repetition penalty, 0 for off [default: 0]
    #[cfg_attr(feature = "clap", arg(long, value_name = "X"))]
    #[schemars(range(min = 0))]
    pub dry_multiplier: Option<f32>,
    /// Base of DRY's exponential growth, 0 for off [default: 1.75]
    #[cfg_attr(feature = "clap", arg(long, value_name = "X"))]
    #[schemars(range(min = 0))]
    pub dry_base: Option<f32>,
    /// Longest repetition, in tokens, that DRY lets pass [default: 2]
    #[cfg_attr(feature = "clap", arg(long, value_name = "N"))]
    #[schemars(range(min = 0))]
    pub dry_allowed_length: Option<i32>,
    /// Tokens that DRY scans, 0 for off, -1 for all [default: 64]
    #[cfg_attr(feature = "clap", arg(long, value_name = "N", allow_negative_numbers = true))]
    #[schemars(range(min = -1))]
    pub dry_penalty_last_n: Option<i32>,
    /// Text at which DRY breaks a sequence; repeatable [default: newline : " *]
    #[cfg_attr(feature = "clap", arg(long = "dry-sequence-breaker", value_name = "TEXT", allow_hyphen_values = true))]
    pub dry_sequence_breakers: Option<Vec<String>>,
    /// Mirostat instead of the truncating samplers: 0 for off, 1 or 2 [default: 0]
    #[cfg_attr(feature = "clap", arg(long, value_name = "N"))]
    #[schemars(with = "Option<u8>", range(max = 2))]
    pub mirostat: Option<Mirostat>,
    /// Mirostat's target surprise, in bits [default: 5]
    #[cfg_attr(feature = "clap", arg(long, value_name = "X", alias = "mirostat-ent"))]
    #[schemars(range(min = 0))]
    #[serde(alias = "mirostat_ent")]
    pub mirostat_tau: Option<f32>,
    /// Mirostat's learning rate [default: 0.1]
    #[cfg_attr(feature = "clap", arg(long, value_name = "X", alias = "mirostat-lr"))]
    #[schemars(range(min = 0))]
    #[serde(alias = "mirostat_lr")]
    pub mirostat_eta: Option<f32>,
    /// Fewest tokens that a truncating sampler keeps [default: 0]
    #[cfg_attr(feature = "clap", arg(long, value_name = "N"))]
    pub min_keep: Option<u32>,
    /// Ignore end-of-generation tokens [default: false]
    #[cfg_attr(feature = "clap", arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true"))]
    pub ignore_eos: Option<bool>,
    /// Add to the logit of a token, given by id or by text (-inf forbids it); repeatable
    #[cfg_attr(feature = "clap", arg(long, value_name = "TOKEN=BIAS", value_parser = parse_logit_bias, allow_hyphen_values = true))]
    #[serde(deserialize_with = "ordered_pairs")]
    #[schemars(schema_with = "logit_bias_schema")]
    pub logit_bias: Vec<(BiasKey, f32)>,
    /// GBNF grammar that the text must follow
    #[cfg_attr(feature = "clap", arg(long, value_name = "GBNF"))]
    pub grammar: Option<String>,
    /// JSON Schema that the text must follow
    #[cfg_attr(feature = "clap", arg(long, value_name = "JSON", value_parser = parse_json))]
    #[serde(deserialize_with = "schema_or_its_text")]
    #[schemars(with = "Option<serde_json::Map<String, serde_json::Value>>")]
    pub json_schema: Option<serde_json::Value>,
    /// Samplers in the order they act, such as "temperature;top_k;top_p" [default: llama.cpp's order]
    #[cfg_attr(feature = "clap", arg(long, value_name = "NAMES"))]
    pub samplers: Option<SamplerOrder>,
}

impl SamplingOptions {
    /// Lays what is given over `params`. Biases are added to those that are there; the rest replaces.
    pub fn apply(&self, params: &mut SamplingParams) {
        macro_rules! replace {
            ($($field:ident)*) => { $( if let Some(value) = &self.$field { params.$field = value.clone(); } )* };
        }
        replace!(temp dynatemp_range dynatemp_exponent top_k top_p min_p xtc_probability xtc_threshold typ_p);
        replace!(top_n_sigma penalty_last_n repeat_penalty frequency_penalty presence_penalty dry_multiplier);
        replace!(dry_base dry_allowed_length dry_penalty_last_n dry_sequence_breakers mirostat mirostat_tau);
        replace!(mirostat_eta min_keep ignore_eos);
        if let Some(seed) = self.seed {
            params.seed = u32::try_from(seed).unwrap_or(RANDOM_SEED);
        }
        // Of two biases on one token the later one holds.
        let biases: IndexMap<_, _> = self.logit_bias.iter().cloned().collect();
        params.logit_bias.retain(|(key, _)| !biases.contains_key(key));
        params.logit_bias.extend(biases);
        // One constraint takes the place of another, so that a flag can replace what the file asks for.
        if self.grammar.is_some() || self.json_schema.is_some() {
            params.grammar = self.grammar.clone();
            params.json_schema = self.json_schema.clone();
        }
        if let Some(SamplerOrder(order)) = &self.samplers {
            params.samplers = order.clone();
        }
    }
}

/// A list of samplers; as one text its names are separated by `;` or `,`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SamplerOrder(pub Vec<SamplerKind>);

impl FromStr for SamplerOrder {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        s.split([';', ',']).filter(|name| !name.trim().is_empty()).map(str::parse).collect::<Result<_, _>>().map(Self)
    }
}

impl JsonSchema for SamplerOrder {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "SamplerOrder".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let names: Vec<_> = SamplerKind::all_names().collect();
        json_schema!({ "type": "array", "items": { "type": "string", "enum": names } })
    }
}

/// Reads `TOKEN=BIAS`, and llama.cpp's `TOKEN_ID(+/-)BIAS`.
#[cfg(feature = "clap")]
fn parse_logit_bias(s: &str) -> Result<(BiasKey, f32), String> {
    let split = s.rsplit_once('=').or_else(|| {
        let sign = s.find(['+', '-']).filter(|at| s[..*at].parse::<i32>().is_ok())?;
        Some(s.split_at(sign))
    });
    let (key, bias) = split.ok_or_else(|| format!("expected TOKEN=BIAS, got \"{s}\""))?;
    let bias = bias.parse().map_err(|_| format!("expected TOKEN=BIAS with a number, got \"{s}\""))?;
    Ok((BiasKey::parse(key), bias))
}

fn parse_json(s: &str) -> Result<serde_json::Value, String> {
    serde_json::from_str(s).map_err(|e| format!("not JSON: {e}"))
}

fn ordered_pairs<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<(BiasKey, f32)>, D::Error> {
    IndexMap::<BiasKey, f32>::deserialize(d).map(|map| map.into_iter().collect())
}

/// Takes a schema as YAML, or as a text of JSON.
fn schema_or_its_text<'de, D: Deserializer<'de>>(d: D) -> Result<Option<serde_json::Value>, D::Error> {
    match Option::deserialize(d)? {
        Some(serde_json::Value::String(text)) => parse_json(&text).map(Some).map_err(serde::de::Error::custom),
        schema => Ok(schema),
    }
}

fn logit_bias_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "object", "additionalProperties": { "type": "number" } })
}
