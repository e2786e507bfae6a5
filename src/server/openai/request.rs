//! What requests have in common: sampling, stop strings, preferences.

use std::collections::HashSet;
use std::sync::OnceLock;

use indexmap::IndexMap;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::config::{Config, SamplingOptions};
use crate::nearest::nearest;
use crate::sampling::params::{BiasKey, RANDOM_SEED, SamplingParams};
use crate::server::error::ApiError;
use crate::server::options::{MAX_BIAS, MAX_LOGIT_BIAS, MAX_STOP, MAX_STOP_BYTES, MAX_WEIGHT};
use crate::session::with_known_seed;

/// A request's body: the fields of a route's own, and the sampling parameters under the names of the YAML and of OpenAI.
#[derive(Debug)]
pub struct Body<T> {
    /// The route's own fields.
    pub own: T,
    sampling: SamplingOptions,
}

/// The names of the sampling parameters, from the schema of the type that reads them.
fn sampling_names() -> &'static HashSet<String> {
    static NAMES: OnceLock<HashSet<String>> = OnceLock::new();
    NAMES.get_or_init(|| {
        let schema = schemars::schema_for!(SamplingOptions);
        let properties = schema.get("properties").and_then(Value::as_object);
        properties.into_iter().flat_map(Map::keys).cloned().collect()
    })
}

/// OpenAI's and llama.cpp's other names.
const ALIASES: [(&str, &str); 4] = [
    ("temperature", "temp"),
    ("typical_p", "typ_p"),
    ("repeat_last_n", "penalty_last_n"),
    ("dynatemp_exp", "dynatemp_exponent"),
];

impl<T: DeserializeOwned> Body<T> {
    /// Reads a JSON object.
    ///
    /// # Errors
    ///
    /// A 400 that names the field.
    pub fn read(object: Map<String, Value>) -> Result<Self, ApiError> {
        let (mut own, mut sampling) = (Map::new(), Map::new());
        // Official clients send null for what is not set.
        for (key, value) in object.into_iter().filter(|(_, value)| !value.is_null()) {
            let name = ALIASES.iter().find(|(alias, _)| *alias == key).map_or(key.as_str(), |(_, name)| name);
            if sampling_names().contains(name) {
                sampling.insert(name.to_owned(), value);
            } else {
                own.insert(key, value);
            }
        }
        if let Some(seed) = sampling.get("seed")
            && !seed.as_i64().is_some_and(|seed| (-1..=i64::from(u32::MAX)).contains(&seed))
        {
            return Err(ApiError::invalid(
                "seed",
                format!("must be an integer between -1 and {}, got {seed}", u32::MAX),
            ));
        }
        let mut sampling: SamplingOptions = typed(Value::Object(sampling))?;
        for (key, _) in &mut sampling.logit_bias {
            if let BiasKey::Text(text) = key {
                *key = BiasKey::parse(text); // JSON writes ids as texts
            }
        }
        Ok(Self { own: typed(Value::Object(own))?, sampling })
    }
}

impl<T> Body<T> {
    /// Whether the request holds a grammar or a schema under its own name.
    pub fn is_constrained(&self) -> bool {
        self.sampling.grammar.is_some() || self.sampling.json_schema.is_some()
    }

    /// Whether a seed, the request's or the server's, is to give the same text again.
    pub fn is_seeded(&self, defaults: &SamplingParams) -> bool {
        self.sampling.seed.map_or(defaults.seed != RANDOM_SEED, |seed| seed >= 0)
    }

    /// Whether its tokens may be drafted: who drafts how many depends on measured times, and on who else is served.
    pub fn speculates(&self, defaults: &SamplingParams) -> bool {
        !self.is_seeded(defaults)
    }

    /// The parameters over `defaults`, checked, with a known seed.
    ///
    /// # Errors
    ///
    /// A 400 that names the parameter.
    pub fn params(
        &self,
        defaults: &SamplingParams,
        format: Option<&ResponseFormat>,
        n_ctx: usize,
    ) -> Result<SamplingParams, ApiError> {
        let mut params = defaults.clone();
        self.sampling.apply(&mut params);
        if let Some((schema, _)) = format.map(ResponseFormat::schema).transpose()?.flatten() {
            params.grammar = None;
            params.json_schema = Some(schema);
        }
        params.validate().map_err(|e| ApiError::invalid(outside_name(e.field), &e.problem))?;
        for (field, n) in [("penalty_last_n", params.penalty_last_n), ("dry_penalty_last_n", params.dry_penalty_last_n)]
        {
            if usize::try_from(n).is_ok_and(|n| n > n_ctx) {
                return Err(ApiError::invalid(field, format!("must be at most the context, {n_ctx} tokens, got {n}")));
            }
        }
        if params.dry_sequence_breakers.len() > MAX_STOP {
            return Err(ApiError::invalid("dry_sequence_breakers", format!("may hold {MAX_STOP} texts")));
        }
        check_bias(&params)?;
        Ok(with_known_seed(&params))
    }
}

/// A parameter's name as requests write it.
fn outside_name(field: &str) -> &str {
    if field == "temp" { "temperature" } else { field }
}

fn check_bias(params: &SamplingParams) -> Result<(), ApiError> {
    let fail = |message: String| Err(ApiError::invalid("logit_bias", message));
    if params.logit_bias.len() > MAX_LOGIT_BIAS {
        return fail(format!("may name {MAX_LOGIT_BIAS} tokens, this names {}", params.logit_bias.len()));
    }
    match params.logit_bias.iter().find(|(_, bias)| bias.is_finite() && bias.abs() > MAX_BIAS) {
        Some((key, bias)) => fail(format!("of {key} must be between -{MAX_BIAS} and {MAX_BIAS}, got {bias}")),
        None => Ok(()),
    }
}

/// Reads JSON into a type; the error names the path of what is wrong.
fn typed<T: DeserializeOwned>(value: Value) -> Result<T, ApiError> {
    serde_path_to_error::deserialize(value).map_err(|error| {
        let (path, mut message) = (error.path().to_string(), error.inner().to_string());
        if message.contains("untagged enum") {
            message = "has a value of a kind that it cannot take; docs/server.md lists what it can".to_owned();
        }
        let Some(unknown) = message.strip_prefix("unknown field `").and_then(|rest| rest.split('`').next()) else {
            return ApiError::invalid(outside_name(path.trim_matches('.')), message);
        };
        let known: Vec<_> = message.split('`').skip(3).step_by(2).map(str::to_owned).collect();
        let others = sampling_names().iter().map(String::as_str).chain(ALIASES.map(|(alias, _)| alias));
        let names = known.iter().map(String::as_str).chain(others);
        // Where none is near, a list of all fields would help nobody.
        let help = match nearest(unknown, names) {
            Some(name) => format!("did you mean \"{name}\"?"),
            None => "docs/server.md lists what a request may hold".to_owned(),
        };
        ApiError::invalid(unknown, format!("unknown field \"{unknown}\"; {help}"))
    })
}

/// One text or several.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub enum OneOrMany {
    /// One.
    One(String),
    /// Several.
    Many(Vec<String>),
}

/// The stop strings of a request, checked.
///
/// # Errors
///
/// A 400 about `stop`.
pub fn stop_strings(stop: Option<&OneOrMany>) -> Result<Vec<String>, ApiError> {
    let stop = match stop {
        None => Vec::new(),
        Some(OneOrMany::One(one)) => vec![one.clone()],
        Some(OneOrMany::Many(many)) => many.clone(),
    };
    if stop.len() > MAX_STOP {
        return Err(ApiError::invalid("stop", format!("may hold {MAX_STOP} texts, this holds {}", stop.len())));
    }
    if stop.iter().any(|text| text.is_empty() || text.len() > MAX_STOP_BYTES) {
        return Err(ApiError::invalid("stop", format!("a stop text has 1 to {MAX_STOP_BYTES} bytes")));
    }
    Ok(stop)
}

/// OpenAI's `response_format`.
#[derive(Debug, Clone, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ResponseFormat {
    /// Any text.
    Text,
    /// Any JSON object; as llama.cpp has it, also JSON of a schema.
    JsonObject {
        /// The schema.
        schema: Option<Value>,
    },
    /// JSON of a schema.
    JsonSchema {
        /// Name and schema.
        json_schema: NamedSchema,
    },
}

/// A schema with a name, as OpenAI writes it.
#[derive(Debug, Clone, Deserialize)]
pub struct NamedSchema {
    /// The schema.
    pub schema: Option<Value>,
    /// Whether all of it is to be enforced, or else refused.
    pub strict: Option<bool>,
}

/// Where a request holds its schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SchemaSource {
    /// The field.
    pub field: &'static str,
    /// Whether all of it is to be enforced.
    pub strict: bool,
}

impl ResponseFormat {
    /// The schema that is asked for, and where it stands; `None` in place of the latter where any object will do.
    ///
    /// # Errors
    ///
    /// A 400 about a schema that is none.
    pub fn schema(&self) -> Result<Option<(Value, Option<SchemaSource>)>, ApiError> {
        let (schema, field, strict) = match self {
            Self::Text => return Ok(None),
            Self::JsonObject { schema: None } => return Ok(Some((serde_json::json!({ "type": "object" }), None))),
            Self::JsonObject { schema } => (schema, "response_format.schema", false),
            Self::JsonSchema { json_schema } => {
                (&json_schema.schema, "response_format.json_schema.schema", json_schema.strict == Some(true))
            }
        };
        match schema {
            Some(schema) if schema.is_object() || schema.is_boolean() => {
                Ok(Some((schema.clone(), Some(SchemaSource { field, strict }))))
            }
            _ => Err(ApiError::invalid(field, format!("{field}: must be a JSON Schema: an object, true or false"))),
        }
    }
}

/// OpenAI's `stream_options`.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StreamOptions {
    /// Whether the last chunk reports the tokens used.
    pub include_usage: bool,
    /// Accepted and without effect.
    pub include_obfuscation: bool,
}

/// The weights of a request: the defaults, or a profile, under the preferences that it names.
///
/// # Errors
///
/// A 400 about `profile` or `preferences`.
pub fn weights(
    config: &Config,
    profile: Option<&str>,
    preferences: Option<&IndexMap<String, f32>>,
) -> Result<Vec<f32>, ApiError> {
    let mut weights = match profile {
        Some(name) => config.profile(name).map_err(|e| ApiError::invalid("profile", e))?,
        None => config.weights(),
    };
    for (name, weight) in preferences.into_iter().flatten() {
        let param = format!("preferences.{name}");
        let at = config.arm_index(name).map_err(|e| ApiError::invalid(&param, e))?;
        if weight.is_nan() || weight.abs() > MAX_WEIGHT {
            let message = format!("a weight must be between -{MAX_WEIGHT} and {MAX_WEIGHT}, got {weight}");
            return Err(ApiError::invalid(&param, message));
        }
        weights[at] = *weight;
    }
    Ok(weights)
}
