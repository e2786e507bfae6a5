//! `POST /v1/score`: the reward of every token of a given response.

use std::sync::Arc;
use std::time::Instant;

use axum::Json;
use axum::extract::State;
use indexmap::IndexMap;
use serde_json::{Map, Value, json};

use super::body::Body;
use crate::chat::Message;
use crate::config::Config;
use crate::guidance::score::{TokenScore, Totals};
use crate::server::engine::{Event, Job, Scored, Task};
use crate::server::error::ApiError;
use crate::server::fields::{Fields, FromFields};
use crate::server::openai::chat::ChatMessage;
use crate::server::openai::reply::{number, token_text, with};
use crate::server::openai::steering::{Guidance, Steered};
use crate::server::readers::Purpose;
use crate::server::state::Server;
use crate::session::{ChatInput, Personas, Prompt, PromptError};

/// A prompt or a conversation, and the response to it.
pub struct ScoreRequest {
    context: Context,
    response: String,
    guidance: Guidance,
}

/// What a response follows.
pub(super) enum Context {
    Prompt(String),
    Messages(Vec<Message>),
}

impl Context {
    /// `prompt` or `messages`, if one of them is there.
    pub fn read(fields: &mut Fields) -> Result<Option<Self>, ApiError> {
        let prompt: Option<String> = fields.take("prompt")?;
        let messages: Option<Vec<ChatMessage>> = fields.take("messages")?;
        match (prompt, messages) {
            (Some(text), None) => Ok(Some(Self::Prompt(text))),
            (None, Some(messages)) => Ok(Some(Self::Messages(messages.into_iter().map(|message| message.0).collect()))),
            (None, None) => Ok(None),
            (Some(_), Some(_)) => {
                Err(ApiError::invalid("messages", "messages and prompt are both given; give one of them"))
            }
        }
    }

    /// Its tokens.
    pub fn prompt(&self, prompts: &Personas<'_>) -> Result<Prompt, ApiError> {
        let (field, prompt) = match self {
            Self::Prompt(text) => ("prompt", prompts.text(text)),
            Self::Messages(messages) => {
                let input = ChatInput { messages, variables: &Map::new(), closing: "", begun: "" };
                ("messages", prompts.chat(&input))
            }
        };
        prompt.map_err(|error| ApiError::of_prompt(field, &error))
    }
}

impl FromFields for ScoreRequest {
    fn read(fields: &mut Fields) -> Result<Self, ApiError> {
        fields.take::<String>("model")?;
        fields.ignore::<String>(&["user"])?;
        let guidance = Guidance::read(fields)?;
        let context = Context::read(fields)?;
        let response: String = fields.need_last("response")?;
        if response.is_empty() {
            return Err(ApiError::invalid("response", "response is empty"));
        }
        let missing = || ApiError::invalid("prompt", "prompt is missing; give prompt or messages");
        let context = context.ok_or_else(missing)?;
        Ok(Self { context, response, guidance })
    }
}

/// Scores a response.
pub async fn score(State(server): State<Arc<Server>>, body: Body<ScoreRequest>) -> Result<Json<Value>, ApiError> {
    let ScoreRequest { context, response, guidance } = body.0;
    let Steered { config, weights, limits, systems } = guidance.over(server.defaults(), server.n_personas)?;
    let prompts = Arc::clone(&server.prompts);
    let (prompt, response) = server
        .off_thread(Purpose::Prompt, move || {
            let systems: Vec<_> = systems.iter().map(String::as_str).collect();
            let prompts = prompts.with_personas(&systems);
            let (prompt, response) = match &context {
                Context::Prompt(text) => prompts.text_response(text, &response),
                Context::Messages(messages) => prompts.chat_response(messages, &response),
            }
            .map_err(|error| of_field(&prompts, &context, &error))?;
            if response.is_empty() {
                return Err(ApiError::invalid("response", "response has no tokens"));
            }
            Ok((prompt, response))
        })
        .await?;
    let (prompt, given, came) = (Arc::new(prompt), weights.clone(), Instant::now());
    let mut events = server.submit(|sender| {
        let (task, events) = (Task::Score(response), sender.clone());
        vec![Job { choice: 0, task, live: None, prompt, weights, limits, events, fresh: false, slot: None, came }]
    })?;
    match events.recv().await {
        Some((_, Event::Scored(scored))) => Ok(Json(report(&server, &config, &given, &scored))),
        Some((_, Event::Failed(error))) => Err(error),
        _ => Err(ApiError::shutting_down()),
    }
}

/// The error under the field that it is about: what cannot be read without the response is not the response's fault.
fn of_field(prompts: &Personas<'_>, context: &Context, error: &PromptError) -> ApiError {
    context.prompt(prompts).err().unwrap_or_else(|| ApiError::of_prompt("response", error))
}

fn report(server: &Server, config: &Config, weights: &[f32], scored: &Scored) -> Value {
    let by_arm = |values: &mut dyn Iterator<Item = Value>| -> Value {
        config.arms.iter().map(|arm| arm.name.clone()).zip(values).collect::<Map<_, _>>().into()
    };
    let token = |t: &TokenScore| {
        let (text, bytes) = token_text(server.prompts.vocab(), t.token);
        let token = json!({
            "token": text, "id": t.token, "bytes": bytes, "base": number(t.base), "guided": number(t.guided),
            "arms": by_arm(&mut t.arms.iter().map(|x| number(*x).into())), "kl": number(t.kl), "flipped": t.flipped(),
        });
        let named = config.arms.iter().zip(&t.references);
        let of_arm = |(arm, x): (&crate::config::ArmSpec, &Option<f32>)| Some((arm.name.clone(), number((*x)?).into()));
        let references: Map<_, Value> = named.filter_map(of_arm).collect();
        with(token, "references", (!references.is_empty()).then(|| references.into()))
    };
    let totals = Totals::of(&scored.tokens, config.arms.len());
    // A reward in the units of its training needs the β_r of that.
    let rewards = config.arms.iter().zip(&totals.arms).map(|(arm, sum)| arm.beta_r.map(|beta| f64::from(beta) * sum));
    json!({
        "object": "score",
        "model": server.model,
        "tokens": scored.tokens.iter().map(token).collect::<Vec<_>>(),
        "totals": {
            "n_tokens": totals.n_tokens, "base": totals.base, "guided": totals.guided, "kl": totals.kl,
            "n_flipped": totals.n_flipped, "arms": by_arm(&mut totals.arms.iter().map(|x| (*x).into())),
            "rewards": by_arm(&mut rewards.map(|reward| reward.into())),
        },
        "usage": {
            "prompt_tokens": scored.n_prompt, "completion_tokens": totals.n_tokens,
            "total_tokens": scored.n_prompt + totals.n_tokens,
        },
        "genarm": { "weights": config.weight_names().into_iter().zip(weights.to_vec()).collect::<IndexMap<_, _>>() },
    })
}
