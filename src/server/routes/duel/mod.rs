//! `POST /v1/duel`: what choices say of the weights, and the next two answers to choose between. The choices come with
//! the request: the server keeps none.

mod request;

use std::sync::Arc;
use std::time::Instant;

use axum::Json;
use axum::extract::State;
use indexmap::IndexMap;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

pub use request::DuelRequest;

use super::answer::collect;
use super::body::Body;
use super::constraint::{constraint, dry};
use crate::config::{Config, Limits};
use crate::duel::{Choices, Objectives};
use crate::expert::Token;
use crate::guidance::score::TokenScore;
use crate::sampling::params::SamplingParams;
use crate::server::engine::{Event, Generate, Job, Task};
use crate::server::error::ApiError;
use crate::server::openai::reply::{Choice, finish_reason};
use crate::server::openai::steering::Steered;
use crate::server::readers::Purpose;
use crate::server::state::Server;
use crate::session::Prompt;

/// Learns from the choices, and answers the prompt under weights between which the next choice tells most.
pub async fn duel(State(server): State<Arc<Server>>, body: Body<DuelRequest>) -> Result<Json<Value>, ApiError> {
    let request = body.0;
    let steered = request.guidance.over(server.defaults(), server.n_personas)?;
    let choices = learned(&request, &steered)?;
    let mut params = request.sampling.params(&steered.config.sampling, None, server.n_ctx)?;
    let grammar = constraint(&server, &request.sampling, None, &mut params).await?;
    let dry = dry(&server, &params).await?;
    let n_predict = request.n_predict(server.n_predict);
    let (seed, n_answers) = (params.seed, request.n_answers);
    let mut reply = json!({"object": "duel", "model": server.model, "estimate": choices.estimate(), "seed": seed});
    let Some(context) = request.context else { return Ok(Json(reply)) };
    let (prompts, systems) = (Arc::clone(&server.prompts), steered.systems);
    let read = move || context.prompt(&prompts.with_personas(&systems.iter().map(String::as_str).collect::<Vec<_>>()));
    let prompt = Arc::new(server.off_thread(Purpose::Prompt, read).await?);
    if prompt.base.is_empty() {
        return Err(ApiError::invalid("prompt", "prompt is empty; give at least one token"));
    }
    let mut rng = ChaCha8Rng::seed_from_u64(u64::from(seed) << 32 | choices.len() as u64);
    let numbers: Vec<_> =
        choices.proposals(n_answers, &mut rng).iter().map(|of| choices.objectives().numbers(of)).collect();
    let generate = Generate {
        params,
        grammar,
        dry,
        n_predict,
        stop: Vec::new(),
        spelled: Vec::new(),
        n_top: None,
        changes: Vec::new(),
        speculates: false,
    };
    let asked = Asked { server: &server, prompt, limits: steered.limits };
    let texts = asked.answers(&generate, &numbers).await?;
    let rewards = asked.rewards(&texts, choices.objectives()).await?;
    let shown = choices.pair(&rewards).map(|(a, b)| if rng.random() { [a, b] } else { [b, a] });
    let names: Vec<_> = choices.objectives().names().collect();
    let answer = |i: usize| {
        let rewards = rewards[i].iter().flatten();
        json!({
            "text": texts[i].text,
            "finish_reason": finish_reason(texts[i].ended.finish),
            "weights": choices.objectives().named(&numbers[i]),
            "rewards": names.iter().zip(rewards).collect::<IndexMap<_, _>>(),
        })
    };
    reply["answers"] = shown.into_iter().flatten().map(answer).collect();
    Ok(Json(reply))
}

/// The choices of a request.
fn learned(request: &DuelRequest, steered: &Steered) -> Result<Choices, ApiError> {
    if steered.config.arms.is_empty() {
        return Err(ApiError::not_supported("this server has no ARM, so there are no weights to learn"));
    }
    let mut config = Config::clone(&steered.config);
    config.start_with(&steered.weights);
    let mut choices = Choices::new(Objectives::of(&config.steering()), request.strength);
    for (i, choice) in request.choices.iter().enumerate() {
        let at = format!("choices[{i}]");
        choices.add(choice).map_err(|problem| ApiError::invalid(&at, format!("{at}: {problem}")))?;
    }
    Ok(choices)
}

/// A prompt that is answered several times.
struct Asked<'a> {
    server: &'a Server,
    prompt: Arc<Prompt>,
    limits: Limits,
}

impl Asked<'_> {
    /// Hands jobs to the engine, each under its own weights.
    fn submit(&self, tasks: Vec<(Task, Vec<f32>)>) -> Result<tokio::sync::mpsc::Receiver<(usize, Event)>, ApiError> {
        let came = Instant::now();
        self.server.submit(|sender| {
            let job = |(choice, (task, weights))| Job {
                choice,
                task,
                live: None,
                prompt: Arc::clone(&self.prompt),
                weights,
                limits: self.limits,
                events: sender.clone(),
                fresh: false,
                slot: None,
                came,
            };
            tasks.into_iter().enumerate().map(job).collect()
        })
    }

    /// An answer under each of these numbers.
    async fn answers(&self, generate: &Generate, numbers: &[Vec<f32>]) -> Result<Vec<Choice>, ApiError> {
        let task = |(i, numbers): (u32, &Vec<f32>)| {
            let params = SamplingParams { seed: generate.params.seed.wrapping_add(i), ..generate.params.clone() };
            (Task::Generate(Box::new(Generate { params, ..generate.clone() })), numbers.clone())
        };
        let mut events = self.submit((0..).zip(numbers).map(task).collect())?;
        let first = events.recv().await.ok_or_else(ApiError::shutting_down)?;
        if let (_, Event::Failed(error)) = first {
            return Err(error);
        }
        collect(numbers.len(), first, events).await
    }

    /// The rewards of each answer; `None` for an empty one.
    async fn rewards(&self, texts: &[Choice], objectives: &Objectives) -> Result<Vec<Option<Vec<f64>>>, ApiError> {
        let scorings = objectives.scorings();
        let mut scored: Vec<Vec<Vec<TokenScore>>> = vec![vec![Vec::new(); scorings.len()]; texts.len()];
        let said = texts.iter().enumerate().filter(|(_, text)| !text.text.trim().is_empty());
        let with_scoring = said.flat_map(|(i, text)| (0..scorings.len()).map(move |turn| (i, turn, text)));
        let places: Vec<_> = with_scoring.clone().map(|(i, turn, _)| (i, turn)).collect();
        if places.is_empty() {
            return Ok(vec![None; texts.len()]);
        }
        let tokens = |text: &Choice| text.pieces.iter().map(|piece| piece.token).collect::<Vec<Token>>();
        let tasks = with_scoring.map(|(_, turn, text)| (Task::Score(tokens(text)), scorings[turn].clone()));
        let mut events = self.submit(tasks.collect())?;
        for _ in 0..places.len() {
            match events.recv().await {
                Some((choice, Event::Scored(of))) => {
                    let (i, turn) = places[choice];
                    scored[i][turn] = of.tokens;
                }
                Some((_, Event::Failed(error))) => return Err(error),
                _ => return Err(ApiError::shutting_down()),
            }
        }
        Ok(scored.iter().map(|of| objectives.rewards(of)).collect())
    }
}
