//! The sampling parameters of a request, under their names in the YAML and their other names.

use serde_json::Value;

use super::format::ResponseFormat;
use crate::config::{SamplerOrder, SamplingOptions};
use crate::sampling::params::{BiasKey, Mirostat, RANDOM_SEED, SamplerKind, SamplingParams};
use crate::server::error::ApiError;
use crate::server::fields::{Field, Fields, FromFields, items, shown, wrong};
use crate::server::options::{MAX_BIAS, MAX_LOGIT_BIAS, MAX_SAMPLERS, MAX_STOP};
use crate::session::with_known_seed;

/// The parameters that a request gives.
#[derive(Debug, Default)]
pub struct Sampling {
    options: SamplingOptions,
    /// The names that the request used where a parameter has several.
    renamed: Vec<(&'static str, &'static str)>,
}

impl FromFields for Sampling {
    fn read(fields: &mut Fields) -> Result<Self, ApiError> {
        let options = SamplingOptions {
            seed: seed(fields)?,
            temp: fields.take_as(&["temperature", "temp"])?,
            dynatemp_range: fields.take("dynatemp_range")?,
            dynatemp_exponent: fields.take_as(&["dynatemp_exponent", "dynatemp_exp"])?,
            top_k: fields.take("top_k")?,
            top_p: fields.take("top_p")?,
            min_p: fields.take("min_p")?,
            xtc_probability: fields.take("xtc_probability")?,
            xtc_threshold: fields.take("xtc_threshold")?,
            typ_p: fields.take_as(&["typ_p", "typical_p"])?,
            top_n_sigma: fields.take("top_n_sigma")?,
            penalty_last_n: fields.take_as(&["penalty_last_n", "repeat_last_n"])?,
            repeat_penalty: fields.take_as(&["repeat_penalty", "repetition_penalty"])?,
            frequency_penalty: fields.take("frequency_penalty")?,
            presence_penalty: fields.take("presence_penalty")?,
            dry_multiplier: fields.take("dry_multiplier")?,
            dry_base: fields.take("dry_base")?,
            dry_allowed_length: fields.take("dry_allowed_length")?,
            dry_penalty_last_n: fields.take("dry_penalty_last_n")?,
            dry_sequence_breakers: fields.take::<Breakers>("dry_sequence_breakers")?.map(|list| list.0),
            mirostat: fields.take("mirostat")?,
            mirostat_tau: fields.take("mirostat_tau")?,
            mirostat_eta: fields.take("mirostat_eta")?,
            min_keep: fields.take("min_keep")?,
            ignore_eos: fields.take("ignore_eos")?,
            logit_bias: fields.take::<Biases>("logit_bias")?.unwrap_or_default().0,
            // Some clients send an empty grammar for none.
            grammar: fields.take::<String>("grammar")?.filter(|grammar| !grammar.is_empty()),
            json_schema: fields.take::<Schema>("json_schema")?.map(|schema| schema.0),
            samplers: fields.take("samplers")?,
        };
        Ok(Self { options, renamed: fields.renamed().to_vec() })
    }
}

impl Sampling {
    /// Whether the request holds a grammar or a schema under its own name.
    pub fn is_constrained(&self) -> bool {
        self.options.grammar.is_some() || self.options.json_schema.is_some()
    }

    /// Whether a seed, the request's or the server's, is to give the same text again.
    pub fn is_seeded(&self, defaults: &SamplingParams) -> bool {
        self.options.seed.map_or(defaults.seed != RANDOM_SEED, |seed| seed >= 0)
    }

    /// The parameters over `defaults`, checked, with a known seed.
    ///
    /// # Errors
    ///
    /// A 400 that names the parameter as the request does.
    pub fn params(
        &self,
        defaults: &SamplingParams,
        format: Option<&ResponseFormat>,
        n_ctx: usize,
    ) -> Result<SamplingParams, ApiError> {
        let mut params = defaults.clone();
        self.options.apply(&mut params);
        if let Some((schema, _)) = format.map(ResponseFormat::schema).transpose()?.flatten() {
            self.check_alone()?;
            params.grammar = None;
            params.json_schema = Some(schema);
        }
        params.validate().map_err(|e| self.wrong(e.field, &e.problem))?;
        // More than a context can hold is all of it.
        let n_ctx = i32::try_from(n_ctx).unwrap_or(i32::MAX);
        params.penalty_last_n = params.penalty_last_n.min(n_ctx);
        params.dry_penalty_last_n = params.dry_penalty_last_n.min(n_ctx);
        check_bias(&params)?;
        Ok(with_known_seed(&params))
    }

    /// Refuses a second constraint beside `response_format`.
    fn check_alone(&self) -> Result<(), ApiError> {
        let given = [("grammar", self.options.grammar.is_some()), ("json_schema", self.options.json_schema.is_some())];
        match given.iter().find(|(_, given)| *given) {
            Some((name, _)) => {
                let message = format!("{name} and response_format both constrain the text; give one of them");
                Err(ApiError::invalid(name, message))
            }
            None => Ok(()),
        }
    }

    fn wrong(&self, field: &str, problem: &str) -> ApiError {
        let name = self.renamed.iter().find(|(first, _)| *first == first_name(field)).map(|(_, used)| *used);
        let name = name.unwrap_or(first_name(field));
        ApiError::invalid(name, format!("{name} {problem}"))
    }
}

/// The first of a parameter's names in requests.
fn first_name(field: &str) -> &str {
    if field == "temp" { "temperature" } else { field }
}

fn seed(fields: &mut Fields) -> Result<Option<i64>, ApiError> {
    let seed: Option<i64> = fields.take("seed")?;
    match seed {
        Some(seed) if seed < -1 => {
            let message = format!("seed must be an integer of at least -1, got {seed}");
            Err(ApiError::invalid("seed", message))
        }
        // This one asks for a random seed.
        Some(seed) if seed == i64::from(RANDOM_SEED) => Ok(Some(-1)),
        // Of longer seeds, as OpenAI takes them, the lower half counts.
        Some(seed) if seed > i64::from(u32::MAX) => Ok(Some(seed % i64::from(u32::MAX))),
        seed => Ok(seed),
    }
}

fn check_bias(params: &SamplingParams) -> Result<(), ApiError> {
    match params.logit_bias.iter().find(|(_, bias)| bias.is_finite() && bias.abs() > MAX_BIAS) {
        Some((key, bias)) => {
            let message = format!("logit_bias of {key} must be between -{MAX_BIAS} and {MAX_BIAS}, got {bias}");
            Err(ApiError::invalid("logit_bias", message))
        }
        None => Ok(()),
    }
}

struct Breakers(Vec<String>);

impl Field for Breakers {
    fn read(value: Value, at: &str) -> Result<Self, ApiError> {
        match value {
            Value::Array(list) => items(list, at, MAX_STOP).map(Self),
            other => Err(wrong(at, "a list of strings", &other)),
        }
    }
}

/// Biases by token, as OpenAI writes them, or llama.cpp's list of pairs. JSON writes ids as texts.
#[derive(Default)]
struct Biases(Vec<(BiasKey, f32)>);

impl Field for Biases {
    fn read(value: Value, at: &str) -> Result<Self, ApiError> {
        let n = value.as_object().map_or(0, serde_json::Map::len).max(value.as_array().map_or(0, Vec::len));
        if n > MAX_LOGIT_BIAS {
            return Err(ApiError::invalid(at, format!("{at} may name {MAX_LOGIT_BIAS} tokens, this names {n}")));
        }
        let named = |(key, value): (String, Value)| {
            let bias = bias(value, &format!("{at}.{}", shown(&key)))?;
            Ok((BiasKey::parse(&key), bias))
        };
        match value {
            Value::Object(object) => object.into_iter().map(named).collect::<Result<_, _>>().map(Self),
            Value::Array(list) => {
                let pair = |(i, value)| pair(value, &format!("{at}[{i}]"));
                list.into_iter().enumerate().map(pair).collect::<Result<_, _>>().map(Self)
            }
            other => Err(wrong(at, "an object of biases by token", &other)),
        }
    }
}

fn pair(value: Value, at: &str) -> Result<(BiasKey, f32), ApiError> {
    let kind = "a pair of a token and its bias";
    match value {
        Value::Array(list) if list.len() != 2 => Err(ApiError::invalid(at, format!("{at} must be {kind}"))),
        Value::Array(mut list) => {
            let bias = bias(list.pop().unwrap_or_default(), at)?;
            match list.pop().unwrap_or_default() {
                Value::String(text) => Ok((BiasKey::Text(text), bias)),
                id => Ok((BiasKey::Token(i32::read(id, at)?), bias)),
            }
        }
        other => Err(wrong(at, kind, &other)),
    }
}

/// A number, or false for a token that must not be drawn.
fn bias(value: Value, at: &str) -> Result<f32, ApiError> {
    if value == Value::Bool(false) { Ok(f32::NEG_INFINITY) } else { f32::read(value, at) }
}

impl Field for Mirostat {
    fn read(value: Value, at: &str) -> Result<Self, ApiError> {
        match i64::read(value, at)? {
            0 => Ok(Self::Off),
            1 => Ok(Self::V1),
            2 => Ok(Self::V2),
            n => Err(ApiError::invalid(at, format!("{at} must be 0 (off), 1 or 2, got {n}"))),
        }
    }
}

/// llama.cpp's letters of samplers (`common_sampler_type_to_chr`).
const LETTERS: [(char, &str); 9] = [
    ('d', "dry"),
    ('k', "top_k"),
    ('y', "typ_p"),
    ('p', "top_p"),
    ('s', "top_n_sigma"),
    ('m', "min_p"),
    ('t', "temperature"),
    ('x', "xtc"),
    ('e', "penalties"),
];

/// Whether a text names samplers by letters; "temp" is a name.
fn is_letters(text: &str) -> bool {
    let is_letter = |c| LETTERS.iter().any(|(letter, _)| *letter == c);
    text.parse::<SamplerKind>().is_err() && text.chars().all(is_letter)
}

impl Field for SamplerOrder {
    fn read(value: Value, at: &str) -> Result<Self, ApiError> {
        let names: Vec<String> = match value {
            Value::Array(list) => items(list, at, MAX_SAMPLERS)?,
            // llama.cpp's letters, one a sampler.
            Value::String(text) if is_letters(&text) => {
                let name = |c| LETTERS.iter().find(|(letter, _)| *letter == c).map(|(_, name)| (*name).to_owned());
                text.chars().filter_map(name).collect()
            }
            Value::String(text) => {
                let names = text.split([';', ',']).filter(|name| !name.trim().is_empty()).map(str::to_owned);
                names.take(MAX_SAMPLERS + 1).collect()
            }
            other => return Err(wrong(at, "a list of names", &other)),
        };
        if names.len() > MAX_SAMPLERS {
            return Err(ApiError::invalid(at, format!("{at} may hold {MAX_SAMPLERS} names")));
        }
        let kind = |name: &String| shown(name).parse::<SamplerKind>().map_err(|e| ApiError::invalid(at, e));
        names.iter().map(kind).collect::<Result<_, _>>().map(Self)
    }
}

/// A schema, or its text.
struct Schema(Value);

impl Field for Schema {
    fn read(value: Value, at: &str) -> Result<Self, ApiError> {
        match value {
            Value::String(text) => serde_json::from_str(&text)
                .map(Self)
                .map_err(|error| ApiError::invalid(at, format!("{at} is a string that is not JSON: {error}"))),
            schema @ (Value::Object(_) | Value::Bool(_)) => Ok(Self(schema)),
            other => Err(wrong(at, "a JSON Schema: an object, true or false", &other)),
        }
    }
}
