//! A duel on the wire.

use indexmap::IndexMap;
use serde_json::Value;

use super::super::score::Context;
use crate::duel::Choice;
use crate::server::error::ApiError;
use crate::server::fields::{Field, Fields, FromFields, items, wrong};
use crate::server::openai::sampling::Sampling;
use crate::server::openai::steering::Guidance;
use crate::server::options::{MAX_CHOICES, MAX_DUELS, MAX_WEIGHT};

/// Answers per prompt where a request does not say.
const ANSWERS: usize = 4;
/// Most tokens per answer where neither request nor server says.
const MAX_TOKENS: usize = 200;

/// The choices so far, and what to answer next.
pub struct DuelRequest {
    /// Without it only the estimate is asked for.
    pub(in crate::server::routes) context: Option<Context>,
    /// In the order in which they were made.
    pub choices: Vec<Choice>,
    /// Answers, of which two come back.
    pub n_answers: usize,
    /// The sum of the sizes of the weights; `None` is that of the request's weights.
    pub strength: Option<f64>,
    /// Most tokens per answer.
    pub n_predict: Option<usize>,
    /// How tokens are drawn.
    pub sampling: Sampling,
    /// The weights to begin with, personas and limits.
    pub guidance: Guidance,
}

impl FromFields for DuelRequest {
    fn read(fields: &mut Fields) -> Result<Self, ApiError> {
        fields.take::<String>("model")?;
        fields.ignore::<String>(&["user"])?;
        let n_answers = fields.take::<u32>("answers")?.map_or(ANSWERS, |n| n as usize);
        if !(2..=MAX_CHOICES).contains(&n_answers) {
            let message = format!("answers must be between 2 and {MAX_CHOICES}, got {n_answers}");
            return Err(ApiError::invalid("answers", message));
        }
        let strength = fields.take::<f32>("strength")?;
        if let Some(strength) = strength.filter(|x| !(*x > 0.0 && *x <= MAX_WEIGHT)) {
            let message = format!("strength must be above 0 and at most {MAX_WEIGHT}, got {strength}");
            return Err(ApiError::invalid("strength", message));
        }
        let n_predict = fields.take::<u32>("max_tokens")?.map(|n| n as usize);
        if n_predict == Some(0) {
            return Err(ApiError::invalid("max_tokens", "max_tokens must be at least 1, got 0"));
        }
        Ok(Self {
            choices: fields.take::<Made>("choices")?.map_or_else(Vec::new, |made| made.0),
            context: Context::read(fields)?,
            n_answers,
            strength: strength.map(f64::from),
            n_predict,
            sampling: Sampling::read(fields)?,
            guidance: Guidance::read(fields)?,
        })
    }
}

impl DuelRequest {
    /// Most tokens per answer, on a server with this default.
    pub fn n_predict(&self, default: Option<usize>) -> usize {
        self.n_predict.or(default).unwrap_or(MAX_TOKENS)
    }
}

/// The list of choices.
struct Made(Vec<Choice>);

impl Field for Made {
    fn read(value: Value, at: &str) -> Result<Self, ApiError> {
        match value {
            Value::Array(list) => items(list, at, MAX_DUELS).map(Self),
            other => Err(wrong(at, "a list of choices", &other)),
        }
    }
}

impl Field for Choice {
    fn read(value: Value, at: &str) -> Result<Self, ApiError> {
        let mut fields = Fields::read(value, at)?;
        let mut rewards = |name| -> Result<IndexMap<String, f64>, ApiError> {
            let named: IndexMap<String, f32> = fields.need(name)?;
            Ok(named.into_iter().map(|(name, reward)| (name, f64::from(reward))).collect())
        };
        let (chosen_rewards, rejected_rewards) = (rewards("chosen_rewards")?, rewards("rejected_rewards")?);
        let choice = Self { chosen_rewards, rejected_rewards, tie: fields.flag("tie")? };
        fields.finish()?;
        Ok(choice)
    }
}
