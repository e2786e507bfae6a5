//! What all requests for a text have in common.

use serde_json::Value;

use super::format::ResponseFormat;
use super::sampling::Sampling;
use super::steering::{Guidance, WeightsLog};
use crate::expert::Token;
use crate::sampling::grammar::CallGrammar;
use crate::server::error::ApiError;
use crate::server::fields::{Field, Fields, FromFields, items, wrong};
use crate::server::options::{MAX_CHOICES, MAX_STOP, MAX_STOP_BYTES, MAX_TOP_LOGPROBS};

/// What a request asks of its texts, whatever they continue.
#[derive(Debug)]
pub struct Asked {
    /// Weights, personas and limits.
    pub guidance: Guidance,
    /// Changes of the weights at given tokens.
    pub weights_log: WeightsLog,
    /// How tokens are drawn.
    pub sampling: Sampling,
    /// Text or JSON.
    pub format: Option<ResponseFormat>,
    /// Strings that end a text.
    pub stop: Vec<String>,
    /// Most tokens per text, where it says.
    pub n_predict: Option<usize>,
    /// Texts of each prompt.
    pub n: usize,
    /// Whether tokens are sent as they come.
    pub stream: bool,
    /// Whether the last chunk reports the tokens used.
    pub include_usage: bool,
    /// Alternatives to list beside each token, if log-probabilities are wanted.
    pub logprobs: Option<usize>,
    /// Whether each token is reported with the log-probabilities of base, guidance and ARMs.
    pub rewards: bool,
    /// Whether the prompt may come from a slot's memory.
    pub cache_prompt: Option<bool>,
    /// The slot that the request names; `None` takes any.
    pub slot: Option<usize>,
    /// Fields that have no effect.
    pub ignored: Vec<String>,
    /// How calls of tools are written.
    pub calls: Calls,
    /// Whether the answer repeats the prompt that the model read.
    pub verbose: bool,
}

/// How calls of tools are written in a text.
#[derive(Debug, Default)]
pub struct Calls {
    /// The grammar that they follow.
    pub grammar: Option<CallGrammar>,
    /// Control tokens that are part of the text, with their names.
    pub spelled: Vec<(Token, String)>,
    /// Strings that end an answer under the template.
    pub stop: Vec<String>,
}

impl Asked {
    /// Reads what all routes know. `n_predict` is the route's default, if it has one.
    ///
    /// # Errors
    ///
    /// A 400 that names the field.
    pub fn read(fields: &mut Fields, n_predict: Option<usize>) -> Result<Self, ApiError> {
        // Any model is answered by the one that is loaded.
        fields.take::<String>("model")?;
        Ok(Self {
            guidance: Guidance::read(fields)?,
            weights_log: fields.take("weights_log")?.unwrap_or_default(),
            sampling: Sampling::read(fields)?,
            format: None,
            stop: fields.take::<StopTexts>("stop")?.map_or_else(Vec::new, |stop| stop.0),
            n_predict: n_predict_of(fields)?.or(n_predict),
            n: 1,
            stream: fields.flag("stream")?,
            include_usage: false,
            logprobs: None,
            rewards: false,
            cache_prompt: fields.take("cache_prompt")?,
            slot: slot(fields)?,
            ignored: Vec::new(),
            calls: Calls::default(),
            verbose: fields.flag("verbose")?,
        })
    }

    /// As [`read`](Self::read), with what OpenAI's routes have beside that.
    ///
    /// # Errors
    ///
    /// A 400 that names the field.
    pub fn read_openai(fields: &mut Fields, n_predict: Option<usize>) -> Result<Self, ApiError> {
        Ok(Self {
            format: fields.take("response_format")?,
            n: n(fields)?,
            include_usage: fields.take::<StreamOptions>("stream_options")?.is_some_and(|options| options.include_usage),
            rewards: fields.flag("return_rewards")?,
            ..Self::read(fields, n_predict)?
        })
    }
}

/// Most tokens per text: the smallest of the names that are given. -1 is as many as fit.
fn n_predict_of(fields: &mut Fields) -> Result<Option<usize>, ApiError> {
    let mut least = None;
    for name in ["max_tokens", "max_completion_tokens", "n_predict"] {
        let n = match fields.take::<i64>(name)? {
            None => continue,
            // -2 is llama.cpp's for as many as fit.
            Some(-1 | -2) => usize::MAX,
            Some(n) => usize::try_from(n).ok().filter(|n| *n > 0).ok_or_else(|| {
                let path = fields.path(name);
                ApiError::invalid(&path, format!("{path} must be at least 1, or -1 for as many as fit, got {n}"))
            })?,
        };
        least = Some(least.map_or(n, |least: usize| least.min(n)));
    }
    Ok(least)
}

/// The number of a slot; -1 is any, as in llama.cpp.
fn slot(fields: &mut Fields) -> Result<Option<usize>, ApiError> {
    match fields.take::<i64>("id_slot")? {
        None | Some(-1) => Ok(None),
        Some(slot) => match usize::try_from(slot) {
            Ok(slot) => Ok(Some(slot)),
            Err(_) => Err(ApiError::invalid("id_slot", format!("id_slot must be a slot's number, or -1, got {slot}"))),
        },
    }
}

fn n(fields: &mut Fields) -> Result<usize, ApiError> {
    let n: i64 = fields.take("n")?.unwrap_or(1);
    check_n(n, 1)
}

/// Checks how many texts a request asks for.
///
/// # Errors
///
/// A 400 about `n`.
pub fn check_n(n: i64, n_prompts: usize) -> Result<usize, ApiError> {
    let texts = usize::try_from(n).ok().filter(|n| *n >= 1 && n.saturating_mul(n_prompts) <= MAX_CHOICES);
    texts.ok_or_else(|| {
        let prompts = if n_prompts > 1 { format!(" for each of {n_prompts} prompts") } else { String::new() };
        let message = format!("n must be at least 1, and give {MAX_CHOICES} texts at most, got {n}{prompts}");
        ApiError::invalid("n", message)
    })
}

/// How many alternatives are to be listed.
///
/// # Errors
///
/// A 400 about the field.
pub fn n_top(fields: &mut Fields, name: &'static str) -> Result<Option<usize>, ApiError> {
    let Some(n) = fields.take::<i64>(name)? else { return Ok(None) };
    match usize::try_from(n) {
        Ok(n) if n <= MAX_TOP_LOGPROBS => Ok(Some(n)),
        _ => {
            let message = format!("{name} must be at least 0 and at most {MAX_TOP_LOGPROBS}, got {n}");
            Err(ApiError::invalid(name, message))
        }
    }
}

/// The stop strings of a request: one or several. An empty one ends nothing.
struct StopTexts(Vec<String>);

impl Field for StopTexts {
    fn read(value: Value, at: &str) -> Result<Self, ApiError> {
        let mut texts: Vec<String> = match value {
            Value::String(text) => vec![text],
            Value::Array(list) => items(list, at, MAX_STOP)?,
            other => return Err(wrong(at, "a string or a list of strings", &other)),
        };
        if texts.iter().any(|text| text.len() > MAX_STOP_BYTES) {
            return Err(ApiError::invalid(at, format!("{at} may hold strings of {MAX_STOP_BYTES} bytes at most")));
        }
        texts.retain(|text| !text.is_empty());
        Ok(Self(texts))
    }
}

/// OpenAI's `stream_options`.
struct StreamOptions {
    /// Whether the last chunk reports the tokens used.
    include_usage: bool,
}

impl Field for StreamOptions {
    fn read(value: Value, at: &str) -> Result<Self, ApiError> {
        let mut fields = Fields::read(value, at)?;
        fields.ignore::<bool>(&["include_obfuscation"])?;
        let help = "is not supported; the last chunk reports the tokens used";
        fields.only("continuous_usage_stats", &[false.into()], help)?;
        let options = Self { include_usage: fields.flag("include_usage")? };
        fields.finish()?;
        Ok(options)
    }
}
