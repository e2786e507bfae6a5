//! From a checked request to its answer, whole or in chunks.

use std::sync::Arc;
use std::time::Instant;

use axum::Json;
use axum::response::{IntoResponse, Response};
use tokio::sync::mpsc;

use crate::config::Config;
use crate::sampling::params::SamplingParams;
use crate::server::engine::{Event, Generate, Job, Task};
use crate::server::error::ApiError;
use crate::server::openai::reply::{Choice, Format, Head};
use crate::server::state::{Server, now};
use crate::server::stream;
use crate::session::Prompt;

/// A request, understood.
pub struct Wanted {
    /// What to continue: one prompt or several.
    pub prompts: Vec<Prompt>,
    /// Texts of each.
    pub n: usize,
    /// How.
    pub generate: Generate,
    /// The weights, one an ARM.
    pub weights: Vec<f32>,
    /// Whether to answer in chunks.
    pub stream: bool,
    /// Whether the prompt is read anew.
    pub fresh: bool,
}

/// What the parts of an answer repeat: nothing more than asked for about its tokens.
pub fn head(
    server: &Server,
    config: &Config,
    id: String,
    weights: &[f32],
    profile: Option<&str>,
    generate: &Generate,
) -> Head {
    Head {
        id,
        created: now(),
        model: server.model.clone(),
        weights: config.arms.iter().map(|arm| arm.name.clone()).zip(weights.iter().copied()).collect(),
        profile: profile.map(str::to_owned),
        seed: generate.params.seed,
        warnings: generate.grammar.as_ref().map(|grammar| grammar.warnings().to_vec()).unwrap_or_default(),
        vocab: server.prompts.vocab().clone(),
        logprobs: None,
        rewards: false,
        include_usage: false,
    }
}

/// Hands the texts of a request to the engine and answers with what comes.
///
/// # Errors
///
/// [`ApiError`]: that of the queue, or the first of any text before its first token.
pub async fn answer(server: &Server, wanted: Wanted, head: Head, format: impl Format) -> Result<Response, ApiError> {
    let Wanted { prompts, n, generate, weights, stream, fresh } = wanted;
    let n_choices = prompts.len() * n;
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
            Job { choice, task, prompt, weights: weights.clone(), events: sender.clone(), fresh, came }
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
        return Ok(stream::answer(head, format, n_choices, first, events));
    }
    let choices = collect(n_choices, first, events).await?;
    Ok(Json(format.whole(&head, &choices)).into_response())
}

/// Waits for all texts.
async fn collect(
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

/// An id that nobody else has.
pub fn new_id(kind: &str) -> String {
    format!("{kind}-{:016x}{:016x}", rand::random::<u64>(), rand::random::<u64>())
}

/// Checks how many texts a request asks for.
///
/// # Errors
///
/// A 400 about `n`.
pub fn check_n(n: Option<usize>, n_prompts: usize) -> Result<usize, ApiError> {
    let max = crate::server::options::MAX_CHOICES;
    match n.unwrap_or(1) {
        n if n >= 1 && n.saturating_mul(n_prompts) <= max => Ok(n),
        n => Err(ApiError::invalid("n", format!("must be at least 1, and give {max} texts at most, got {n}"))),
    }
}

/// Checks how many tokens a request asks for.
///
/// # Errors
///
/// A 400 about `param`.
pub fn check_max_tokens(param: &str, n: Option<usize>, default: usize) -> Result<usize, ApiError> {
    match n.unwrap_or(default) {
        0 => Err(ApiError::invalid(param, "must be at least 1")),
        n => Ok(n),
    }
}

/// Checks how many alternatives are to be listed.
///
/// # Errors
///
/// A 400 about `param`.
pub fn check_top(param: &str, n: usize) -> Result<usize, ApiError> {
    let max = crate::server::options::MAX_TOP_LOGPROBS;
    if n <= max { Ok(n) } else { Err(ApiError::invalid(param, format!("must be at most {max}, got {n}"))) }
}
