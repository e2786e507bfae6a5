//! Sampling parameters: llama.cpp's names, defaults and order (`common_params_sampling`).
//!
//! [`SamplingParams`] is complete and, after [`validate`](SamplingParams::validate), correct. What a file, a command
//! line or a request gives is partial: see [`SamplingOptions`](crate::config::SamplingOptions), which is laid over it.

use std::fmt;
use std::str::FromStr;

use serde::de::{Deserializer, Visitor};
use serde::{Deserialize, Serialize, Serializer};

use crate::brief::Short;

/// The seed that asks for a random one (llama.cpp's `LLAMA_DEFAULT_SEED`).
pub const RANDOM_SEED: u32 = 0xFFFF_FFFF;

/// Bytes of a text that stands for tokens: every sampler reads it anew.
const MAX_TEXT_BYTES: usize = 512;
/// Sequence breakers of DRY: llama.cpp looks through the whole vocabulary for each.
const MAX_BREAKERS: usize = 8;
/// Biases that are given by text: each is tokenised for each text.
const MAX_BIAS_TEXTS: usize = 64;

/// Every parameter of the sampler chain, resolved.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SamplingParams {
    /// Seed of the final draw; [`RANDOM_SEED`] takes a random one.
    pub seed: u32,
    /// Temperature, at least 0; 0 is greedy.
    pub temp: f32,
    /// Half width of the dynamic temperature range, in units of temperature; 0 is off.
    pub dynatemp_range: f32,
    /// How the entropy maps to the dynamic temperature.
    pub dynatemp_exponent: f32,
    /// Keep the k most probable tokens; 0 or less keeps all.
    pub top_k: i32,
    /// Keep the smallest set of tokens with at least this probability, in [0, 1]; 1 is off, 0 keeps one.
    pub top_p: f32,
    /// Drop tokens below this fraction of the best token's probability, in [0, 1]; 0 is off.
    pub min_p: f32,
    /// Chance of XTC acting at a step, in [0, 1]; 0 is off.
    pub xtc_probability: f32,
    /// XTC removes all but the least probable of the tokens above this probability; above 0.5 is off.
    pub xtc_threshold: f32,
    /// Locally typical mass, in (0, 1]; 1 is off.
    pub typ_p: f32,
    /// Keep logits within this many standard deviations of the largest; negative is off.
    pub top_n_sigma: f32,
    /// Tokens that the penalties look back on; 0 is off, -1 the whole context.
    pub penalty_last_n: i32,
    /// Divides the logits of repeated tokens, above 0; 1 is off.
    pub repeat_penalty: f32,
    /// Subtracted once per occurrence of a token; 0 is off.
    pub frequency_penalty: f32,
    /// Subtracted once for a token that occurred; 0 is off.
    pub presence_penalty: f32,
    /// Strength of the DRY penalty, at least 0; 0 is off.
    pub dry_multiplier: f32,
    /// Base of DRY's exponential growth: 0 (off) or at least 1.
    pub dry_base: f32,
    /// Repeated sequences up to this many tokens go unpunished.
    pub dry_allowed_length: i32,
    /// Tokens that DRY scans; 0 is off, -1 the whole context.
    pub dry_penalty_last_n: i32,
    /// Texts that a DRY sequence does not reach across.
    pub dry_sequence_breakers: Vec<String>,
    /// Mirostat, which takes the place of the truncating samplers.
    pub mirostat: Mirostat,
    /// Mirostat's target surprise, in bits, at least 0.
    pub mirostat_tau: f32,
    /// Mirostat's learning rate, at least 0.
    pub mirostat_eta: f32,
    /// Fewest tokens that a truncating sampler keeps; 0 is off.
    pub min_keep: u32,
    /// Never draw an end-of-generation token.
    pub ignore_eos: bool,
    /// Added to the logits of single tokens; negative infinity forbids one.
    pub logit_bias: Vec<(BiasKey, f32)>,
    /// A GBNF grammar that the text must follow.
    pub grammar: Option<String>,
    /// A JSON schema that the text must follow.
    pub json_schema: Option<serde_json::Value>,
    /// The samplers in the order they act; one that is not named does not act.
    pub samplers: Vec<SamplerKind>,
}

impl Default for SamplingParams {
    fn default() -> Self {
        Self {
            seed: RANDOM_SEED,
            temp: 0.8,
            dynatemp_range: 0.0,
            dynatemp_exponent: 1.0,
            top_k: 40,
            top_p: 0.95,
            min_p: 0.05,
            xtc_probability: 0.0,
            xtc_threshold: 0.1,
            typ_p: 1.0,
            top_n_sigma: -1.0,
            penalty_last_n: 64,
            repeat_penalty: 1.0,
            frequency_penalty: 0.0,
            presence_penalty: 0.0,
            dry_multiplier: 0.0,
            dry_base: 1.75,
            dry_allowed_length: 2,
            dry_penalty_last_n: 64,
            dry_sequence_breakers: ["\n", ":", "\"", "*"].map(String::from).to_vec(),
            mirostat: Mirostat::Off,
            mirostat_tau: 5.0,
            mirostat_eta: 0.1,
            min_keep: 0,
            ignore_eos: false,
            logit_bias: Vec::new(),
            grammar: None,
            json_schema: None,
            samplers: SamplerKind::DEFAULT_ORDER.to_vec(),
        }
    }
}

/// A parameter with a value that it cannot have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field} {problem}")]
pub struct ParamError {
    /// The parameter's name, as in [`SamplingParams`] and in the YAML.
    pub field: &'static str,
    /// What is wrong, in words that follow the name: "must be …, got …".
    pub problem: String,
}

impl SamplingParams {
    /// Checks every parameter's range, and that the parameters do not contradict each other.
    ///
    /// # Errors
    ///
    /// The first parameter, in the order of the struct, that is out of its range.
    pub fn validate(&self) -> Result<(), ParamError> {
        at_least("temp", self.temp, 0.0)?;
        at_least("dynatemp_range", self.dynatemp_range, 0.0)?;
        at_least("dynatemp_exponent", self.dynatemp_exponent, 0.0)?;
        fraction("top_p", self.top_p)?;
        fraction("min_p", self.min_p)?;
        fraction("xtc_probability", self.xtc_probability)?;
        fraction("xtc_threshold", self.xtc_threshold)?;
        fraction_above_zero("typ_p", self.typ_p)?;
        finite("top_n_sigma", self.top_n_sigma)?;
        look_back("penalty_last_n", self.penalty_last_n)?;
        check("repeat_penalty", self.repeat_penalty, "a number above 0", |x| x > 0.0)?;
        finite("frequency_penalty", self.frequency_penalty)?;
        finite("presence_penalty", self.presence_penalty)?;
        at_least("dry_multiplier", self.dry_multiplier, 0.0)?;
        check("dry_base", self.dry_base, "0 (off) or at least 1", |x| x == 0.0 || x >= 1.0)?;
        if self.dry_allowed_length < 0 {
            return Err(out_of_range("dry_allowed_length", "at least 0", self.dry_allowed_length));
        }
        look_back("dry_penalty_last_n", self.dry_penalty_last_n)?;
        self.validate_breakers()?;
        at_least("mirostat_tau", self.mirostat_tau, 0.0)?;
        at_least("mirostat_eta", self.mirostat_eta, 0.0)?;
        self.validate_samplers()?;
        self.validate_bias()?;
        self.validate_constraint()
    }

    /// llama.cpp looks through the whole vocabulary for each of them.
    fn validate_breakers(&self) -> Result<(), ParamError> {
        let fail = |problem: String| Err(ParamError { field: "dry_sequence_breakers", problem });
        if self.dry_sequence_breakers.len() > MAX_BREAKERS {
            return fail(format!("may hold {MAX_BREAKERS} texts, got {}", self.dry_sequence_breakers.len()));
        }
        if self.dry_sequence_breakers.iter().any(String::is_empty) {
            return fail("must not hold an empty text".into());
        }
        match self.dry_sequence_breakers.iter().map(String::len).find(|n| *n > MAX_TEXT_BYTES) {
            Some(n) => fail(format!("may hold texts of {MAX_TEXT_BYTES} bytes, got one of {n}")),
            None => Ok(()),
        }
    }

    /// A sampler that acts twice is a slip: its second turn has the same parameters.
    fn validate_samplers(&self) -> Result<(), ParamError> {
        let twice = |(i, kind): &(usize, &SamplerKind)| self.samplers[..*i].contains(kind);
        // With every kind once the list is at an end, so the search is short.
        match self.samplers.iter().enumerate().find(twice) {
            Some((_, kind)) => {
                Err(ParamError { field: "samplers", problem: format!("name \"{kind}\" twice; name each one once") })
            }
            None => Ok(()),
        }
    }

    fn validate_bias(&self) -> Result<(), ParamError> {
        let n = self.logit_bias.iter().filter(|(key, _)| matches!(key, BiasKey::Text(_))).count();
        if n > MAX_BIAS_TEXTS {
            let problem = format!("may name {MAX_BIAS_TEXTS} texts, got {n}; name tokens by their ids");
            return Err(ParamError { field: "logit_bias", problem });
        }
        for (key, bias) in &self.logit_bias {
            if let BiasKey::Text(text) = key
                && text.len() > MAX_TEXT_BYTES
            {
                return Err(ParamError {
                    field: "logit_bias",
                    problem: format!("may name texts of {MAX_TEXT_BYTES} bytes, got one of {}", text.len()),
                });
            }
            if bias.is_nan() || *bias == f32::INFINITY {
                return Err(ParamError {
                    field: "logit_bias",
                    problem: format!("of {key} must be a number, or -inf to forbid the token, got {bias}"),
                });
            }
            if matches!(key, BiasKey::Token(id) if *id < 0) || matches!(key, BiasKey::Text(t) if t.is_empty()) {
                return Err(ParamError {
                    field: "logit_bias",
                    problem: format!("must name a token id of at least 0 or a text, got {key}"),
                });
            }
        }
        Ok(())
    }

    fn validate_constraint(&self) -> Result<(), ParamError> {
        if self.grammar.as_deref().is_some_and(|g| g.trim().is_empty()) {
            return Err(ParamError { field: "grammar", problem: "must not be empty".into() });
        }
        match &self.json_schema {
            Some(_) if self.grammar.is_some() => Err(ParamError {
                field: "json_schema",
                problem: "contradicts grammar: both constrain the same text, keep one of them".into(),
            }),
            Some(schema) if !schema.is_object() && !schema.is_boolean() => Err(ParamError {
                field: "json_schema",
                problem: "must be a JSON Schema, that is an object, true or false".into(),
            }),
            _ => Ok(()),
        }
    }
}

fn out_of_range(field: &'static str, range: &str, got: impl fmt::Display) -> ParamError {
    ParamError { field, problem: format!("must be {range}, got {got}") }
}

/// Refuses NaN and infinities whatever the range: every comparison with NaN is false, so a range alone is not enough
/// where it is written as what is wrong.
fn check(field: &'static str, x: f32, range: &str, ok: impl Fn(f32) -> bool) -> Result<(), ParamError> {
    if x.is_finite() && ok(x) { Ok(()) } else { Err(out_of_range(field, range, x)) }
}

fn finite(field: &'static str, x: f32) -> Result<(), ParamError> {
    check(field, x, "a finite number", |_| true)
}

fn at_least(field: &'static str, x: f32, least: f32) -> Result<(), ParamError> {
    check(field, x, &format!("at least {least}"), |x| x >= least)
}

fn fraction(field: &'static str, x: f32) -> Result<(), ParamError> {
    check(field, x, "between 0 and 1", |x| (0.0..=1.0).contains(&x))
}

fn fraction_above_zero(field: &'static str, x: f32) -> Result<(), ParamError> {
    check(field, x, "above 0 and at most 1", |x| x > 0.0 && x <= 1.0)
}

fn look_back(field: &'static str, n: i32) -> Result<(), ParamError> {
    if n < -1 { Err(out_of_range(field, "at least -1", n)) } else { Ok(()) }
}

/// One stage of the sampler chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SamplerKind {
    /// Repeat, frequency and presence penalties.
    Penalties,
    /// The DRY repetition penalty.
    Dry,
    /// Top-nσ.
    TopNSigma,
    /// Top-k.
    TopK,
    /// Locally typical sampling.
    TypP,
    /// Nucleus sampling.
    TopP,
    /// Min-p.
    MinP,
    /// Exclude top choices.
    Xtc,
    /// Temperature, fixed or dynamic.
    Temperature,
}

/// Names of one sampler: the canonical one first, then llama.cpp's aliases.
type SamplerNames = (SamplerKind, &'static [&'static str]);

const SAMPLER_NAMES: [SamplerNames; 9] = [
    (SamplerKind::Penalties, &["penalties"]),
    (SamplerKind::Dry, &["dry"]),
    (SamplerKind::TopNSigma, &["top_n_sigma", "top-n-sigma", "topnsigma"]),
    (SamplerKind::TopK, &["top_k", "top-k", "topk"]),
    (SamplerKind::TypP, &["typ_p", "typ-p", "typp", "typ", "typical", "typical_p", "typical-p"]),
    (SamplerKind::TopP, &["top_p", "top-p", "topp", "nucleus"]),
    (SamplerKind::MinP, &["min_p", "min-p", "minp"]),
    (SamplerKind::Xtc, &["xtc"]),
    (SamplerKind::Temperature, &["temperature", "temp"]),
];

impl SamplerKind {
    /// llama.cpp's default order.
    pub const DEFAULT_ORDER: [Self; 9] = [
        Self::Penalties,
        Self::Dry,
        Self::TopNSigma,
        Self::TopK,
        Self::TypP,
        Self::TopP,
        Self::MinP,
        Self::Xtc,
        Self::Temperature,
    ];

    /// llama.cpp's name of the sampler.
    pub fn name(self) -> &'static str {
        SAMPLER_NAMES.iter().find(|(kind, _)| *kind == self).map_or("", |(_, names)| names[0])
    }

    /// Every name that [`from_str`](FromStr::from_str) takes, canonical ones and aliases.
    pub fn all_names() -> impl Iterator<Item = &'static str> + Clone {
        SAMPLER_NAMES.iter().flat_map(|(_, names)| names.iter().copied())
    }
}

impl fmt::Display for SamplerKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for SamplerKind {
    type Err = String;

    /// Takes a name or an alias of llama.cpp, in any case.
    fn from_str(s: &str) -> Result<Self, Self::Err> {
        let wanted = s.trim().to_ascii_lowercase();
        SAMPLER_NAMES.iter().find(|(_, names)| names.contains(&wanted.as_str())).map(|(kind, _)| *kind).ok_or_else(
            || {
                let did_you_mean = crate::nearest::suggestion(s, Self::all_names());
                format!("unknown sampler \"{}\"{did_you_mean}", Short(s))
            },
        )
    }
}

impl Serialize for SamplerKind {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(self.name())
    }
}

impl<'de> Deserialize<'de> for SamplerKind {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
    }
}

/// Which mirostat, if any. Written as llama.cpp writes it: 0, 1 or 2.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mirostat {
    /// No mirostat: the chain of [`SamplerKind`]s.
    #[default]
    Off,
    /// Mirostat 1.
    V1,
    /// Mirostat 2.0.
    V2,
}

impl TryFrom<u8> for Mirostat {
    type Error = String;

    fn try_from(n: u8) -> Result<Self, String> {
        match n {
            0 => Ok(Self::Off),
            1 => Ok(Self::V1),
            2 => Ok(Self::V2),
            _ => Err(format!("mirostat must be 0 (off), 1 or 2, got {n}")),
        }
    }
}

impl FromStr for Mirostat {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        s.parse::<u8>().map_err(|_| format!("mirostat must be 0 (off), 1 or 2, got {s}"))?.try_into()
    }
}

impl Serialize for Mirostat {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_u8(*self as u8)
    }
}

impl<'de> Deserialize<'de> for Mirostat {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        u8::deserialize(d)?.try_into().map_err(serde::de::Error::custom)
    }
}

/// What a logit bias is put on.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum BiasKey {
    /// One token, by its id.
    Token(i32),
    /// Every token that the text is made of when it is tokenized alone.
    Text(String),
}

impl BiasKey {
    /// Reads a key where ids and texts are both written as text (the command line, a JSON object): digits are an id.
    pub fn parse(s: &str) -> Self {
        s.parse().map_or_else(|_| Self::Text(s.to_owned()), Self::Token)
    }
}

impl fmt::Display for BiasKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Token(id) => write!(f, "token {id}"),
            Self::Text(text) => write!(f, "\"{}\"", Short(text)),
        }
    }
}

impl Serialize for BiasKey {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Token(id) => s.serialize_i32(*id),
            Self::Text(text) => s.serialize_str(text),
        }
    }
}

impl<'de> Deserialize<'de> for BiasKey {
    /// A number is a token id; a quoted text is a text, digits or not.
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct KeyVisitor;
        impl Visitor<'_> for KeyVisitor {
            type Value = BiasKey;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a token id or a text")
            }
            fn visit_i64<E: serde::de::Error>(self, n: i64) -> Result<BiasKey, E> {
                let id = i32::try_from(n).map_err(|_| E::custom(format!("{n} is not a token id")))?;
                Ok(BiasKey::Token(id))
            }
            fn visit_u64<E: serde::de::Error>(self, n: u64) -> Result<BiasKey, E> {
                let id = i32::try_from(n).map_err(|_| E::custom(format!("{n} is not a token id")))?;
                Ok(BiasKey::Token(id))
            }
            fn visit_str<E: serde::de::Error>(self, s: &str) -> Result<BiasKey, E> {
                Ok(BiasKey::Text(s.to_owned()))
            }
        }
        d.deserialize_any(KeyVisitor)
    }
}

#[cfg(test)]
#[path = "params_tests.rs"]
mod tests;
