//! From a checked request to its answer, whole or in chunks.

use std::sync::Arc;
use std::time::Instant;

use axum::Json;
use axum::response::{IntoResponse, Response};
use tokio::sync::mpsc;

use super::constraint::{calls, constraint, dry};
use crate::config::{Config, Limits};
use crate::sampling::params::SamplingParams;
use crate::server::engine::{Event, Generate, Job, LiveWeights, Task};
use crate::server::error::ApiError;
use crate::server::openai::reply::{Choice, Format, Head, new_id};
use crate::server::openai::request::{Asked, check_n};
use crate::server::openai::steering::Steered;
use crate::server::readers::Purpose;
use crate::server::running::Running;
use crate::server::state::{Server, now};
use crate::server::stream;
use crate::session::{Personas, Prompt};

/// A request, understood.
struct Wanted {
    /// What to continue: one prompt or several.
    prompts: Vec<Prompt>,
    /// Texts of each.
    n: usize,
    /// How.
    generate: Generate,
    /// The weights, one per ARM.
    weights: Vec<f32>,
    /// Bounds on what guidance may do.
    limits: Limits,
    /// What may change the weights while the texts run.
    config: Arc<Config>,
    /// Whether to answer in chunks.
    stream: bool,
    /// Whether the prompt is read anew.
    fresh: bool,
    /// The slot that the texts run in; `None` takes any.
    slot: Option<usize>,
}

/// The prompts of a request in tokens.
pub struct ReadPrompts {
    /// The prompts.
    pub prompts: Vec<Prompt>,
    /// Messages that were left out because the conversation did not fit.
    pub dropped: usize,
}

/// Answers a request: `read` gives the prompts, `id` is the kind of its id.
///
/// # Errors
///
/// [`ApiError`]: a field that is wrong, that of the queue, or the first of any text before its first token.
pub async fn respond(
    server: &Server,
    asked: Asked,
    id: &str,
    format: impl Format,
    read: impl FnOnce(&Personas<'_>) -> Result<ReadPrompts, ApiError> + Send + 'static,
) -> Result<Response, ApiError> {
    let (n_predict, slot) = (n_predict(server, asked.n_predict), server.slot(asked.slot)?);
    let Steered { config, mut weights, limits, systems } = asked.guidance.over(server.defaults(), server.n_personas)?;
    let changes = asked.weights_log.changes(&config, &mut weights)?;
    let format_of = asked.format.as_ref();
    let mut params = asked.sampling.params(&config.sampling, format_of, server.n_ctx)?;
    let n_top = if asked.rewards { Some(asked.logprobs.unwrap_or(0)) } else { asked.logprobs };
    let is_seeded = asked.sampling.is_seeded(&config.sampling);
    // Who drafts how many tokens depends on measured times, and on who else is served: not where a seed is to give the
    // same text again.
    let speculates = !is_seeded;
    // A grammar of calls knows nothing of drafts, and stands alone.
    let speculates = speculates && asked.calls.grammar.is_none();
    let grammar = match asked.calls.grammar {
        Some(grammar) => {
            // The request's tools stand in for what the configuration asks of every text.
            (params.grammar, params.json_schema) = (None, None);
            Some(calls(server, grammar, asked.calls.spelled.clone()).await?)
        }
        None => constraint(server, &asked.sampling, format_of, &mut params).await?,
    };
    let spelled = asked.calls.spelled.into_iter().map(|(token, _)| token).collect();
    let dry = dry(server, &params).await?;
    let mut head = Head {
        id: new_id(id),
        created: now(),
        model: server.model.clone(),
        weights: config.weight_names().into_iter().zip(weights.iter().copied()).collect(),
        profile: asked.guidance.steering.profile,
        seed: params.seed,
        ignored: asked.ignored,
        dropped: 0,
        params: params.clone(),
        stop: asked.stop.clone(),
        n_predict,
        stream: asked.stream,
        prompts: Vec::new(),
        verbose: server.verbose || asked.verbose,
        n_ctx: server.n_ctx,
        n_per_prompt: 1,
        warnings: grammar.as_ref().map(|grammar| grammar.warnings().to_vec()).unwrap_or_default(),
        vocab: server.prompts.vocab().clone(),
        logprobs: asked.logprobs,
        rewards: asked.rewards,
        include_usage: asked.include_usage,
    };
    let readers = Arc::clone(&server.prompts);
    let read = move || {
        let systems: Vec<_> = systems.iter().map(String::as_str).collect();
        read(&readers.with_personas(&systems))
    };
    let ReadPrompts { prompts, dropped } = server.off_thread(Purpose::Prompt, read).await?;
    head.dropped = dropped;
    let n = check_n(asked.n as i64, prompts.len())?;
    head.n_per_prompt = n;
    if format.repeats_prompt() || head.verbose {
        head.prompts = prompts.iter().map(|prompt| prompt.base.clone()).collect();
    }
    let stop = asked.stop.into_iter().chain(asked.calls.stop).collect();
    let generate = Generate { params, grammar, dry, n_predict, stop, spelled, n_top, changes, speculates };
    let fresh = server.reads_anew(is_seeded, asked.cache_prompt);
    let wanted = Wanted { prompts, n, generate, weights, limits, config, stream: asked.stream, fresh, slot };
    answer(server, wanted, head, format).await
}

/// Most tokens of a text that asks for this many; where it does not say, the server may.
pub fn n_predict(server: &Server, asked: Option<usize>) -> usize {
    asked.or(server.n_predict).unwrap_or(usize::MAX)
}

/// Hands the texts of a request to the engine and answers with what comes.
///
/// # Errors
///
/// [`ApiError`]: that of the queue, or the first of any text before its first token.
async fn answer(server: &Server, wanted: Wanted, head: Head, mut format: impl Format) -> Result<Response, ApiError> {
    let Wanted { prompts, n, generate, weights, limits, config, stream, fresh, slot } = wanted;
    let n_choices = prompts.len() * n;
    let live = Arc::new(LiveWeights::new(weights.clone(), n_choices));
    let running = Running { live: Arc::clone(&live), config, replays: !generate.changes.is_empty() };
    // Removes the id when the answer is done or dropped.
    let registered = server.running.add(head.id.clone(), running);
    let came = Instant::now();
    let mut events = server.submit(|sender| {
        let prompts = prompts.into_iter().flat_map(|prompt| {
            let prompt = Arc::new(prompt);
            (0..n).map(move |i| (i, Arc::clone(&prompt)))
        });
        let job = |(choice, (i, prompt)): (usize, (usize, Arc<Prompt>))| {
            let seed = generate.params.seed.wrapping_add(i as u32);
            let params = SamplingParams { seed, ..generate.params.clone() };
            let task = Task::Generate(Box::new(Generate { params, ..generate.clone() }));
            let (live, weights, events) = (Some(live.choice(choice)), weights.clone(), sender.clone());
            Job { choice, task, live, prompt, weights, limits, events, fresh, slot, came }
        };
        prompts.enumerate().map(job).collect()
    })?;
    // What fails before the first token is an answer with a status.
    let first = match events.recv().await {
        Some((_, Event::Failed(error))) => return Err(error),
        Some(first) => first,
        None => return Err(ApiError::shutting_down()),
    };
    if stream {
        return Ok(stream::answer(head, format, n_choices, first, events, registered));
    }
    let choices = collect(n_choices, first, events).await?;
    Ok(Json(format.whole(&head, &choices)).into_response())
}

/// Waits for all texts.
///
/// # Errors
///
/// The first [`ApiError`] of any.
pub(super) async fn collect(
    n_choices: usize,
    first: (usize, Event),
    mut events: mpsc::Receiver<(usize, Event)>,
) -> Result<Vec<Choice>, ApiError> {
    let mut texts: Vec<_> = (0..n_choices).map(|_| (String::new(), Vec::new())).collect();
    let mut choices = Vec::with_capacity(n_choices);
    let mut next = Some(first);
    while choices.len() < n_choices {
        let (index, event) = match next.take() {
            Some(event) => event,
            None => events.recv().await.ok_or_else(ApiError::shutting_down)?,
        };
        match event {
            Event::Piece(piece) => {
                let (text, pieces) = &mut texts[index];
                text.push_str(&piece.text);
                pieces.push(piece);
            }
            Event::Ended(ended) => {
                let (text, pieces) = std::mem::take(&mut texts[index]);
                choices.push(Choice { index, text: text + &ended.text, pieces, ended });
            }
            Event::Failed(error) => return Err(error),
            Event::Scored(_) => {}
        }
    }
    choices.sort_by_key(|choice| choice.index);
    Ok(choices)
}
