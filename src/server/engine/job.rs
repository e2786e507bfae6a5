//! What a request asks of the engine, and what the engine answers.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use super::{LiveChoice, WeightChange};
use crate::decode::Finish;
use crate::expert::Token;
use crate::guidance::score::TokenScore;
use crate::guidance::{Limits, StepReport};
use crate::sampling::Dry;
use crate::sampling::grammar::Compiled;
use crate::sampling::params::SamplingParams;
use crate::server::error::ApiError;
use crate::session::Prompt;

/// One text to generate or to score.
pub struct Job {
    /// Its number within the request.
    pub choice: usize,
    /// What is to be done.
    pub task: Task,
    /// Changes of its weights while it runs.
    pub live: Option<LiveChoice>,
    /// What comes before.
    pub prompt: Arc<Prompt>,
    /// The weights, one per ARM in use, then the preferences; ARMs beyond them are left out.
    pub weights: Vec<f32>,
    /// Bounds on what guidance may do.
    pub limits: Limits,
    /// Where answers go. Closed by the other side, it ends the job.
    pub events: mpsc::Sender<(usize, Event)>,
    /// Whether the prompt is read anew, not from what a slot has in memory.
    pub fresh: bool,
    /// The slot that the request asks for; `None` takes any.
    pub slot: Option<usize>,
    /// When the request came.
    pub came: Instant,
}

/// What is to be done with a prompt.
pub enum Task {
    /// Continue it.
    Generate(Box<Generate>),
    /// Score this response to it.
    Score(Vec<Token>),
}

/// How to continue a prompt.
#[derive(Clone)]
pub struct Generate {
    /// Sampling, with a known seed and without a grammar of its own.
    pub params: SamplingParams,
    /// What the text must look like.
    pub grammar: Option<Arc<Compiled>>,
    /// DRY with these parameters, where it acts.
    pub dry: Option<Arc<Dry>>,
    /// Max tokens.
    pub n_predict: usize,
    /// Strings that end the text.
    pub stop: Vec<String>,
    /// Control tokens whose names are part of the text.
    pub spelled: Vec<Token>,
    /// Whether every token is explained, with how many of the likeliest ones.
    pub n_top: Option<usize>,
    /// Changes of the weights at tokens to come, in order.
    pub changes: Vec<WeightChange>,
    /// Whether tokens may be drafted where that pays. Who drafts how many follows measured times, so not where a seed
    /// is to give the same text again.
    pub speculates: bool,
}

/// An answer of the engine.
pub enum Event {
    /// A token.
    Piece(Piece),
    /// The text has ended; the last event.
    Ended(Ended),
    /// The scores are there; the last event.
    Scored(Scored),
    /// It failed; the last event.
    Failed(ApiError),
}

/// A token, and the text that can be shown with it.
#[derive(Debug, Clone)]
pub struct Piece {
    /// What can be shown now: without what may become a stop string, and in whole characters.
    pub text: String,
    /// The token.
    pub token: Token,
    /// Its own bytes.
    pub bytes: Vec<u8>,
    /// Where its own text begins in the response, in characters.
    pub offset: usize,
    /// Its log-probabilities under all models.
    pub report: Option<StepReport>,
}

/// The end of a text.
#[derive(Debug, Clone)]
pub struct Ended {
    /// What was held back.
    pub text: String,
    /// Why it ended.
    pub finish: Finish,
    /// The stop string that ended it, if one did.
    pub stopped_by: Option<String>,
    /// The slot that it ran in.
    pub slot: usize,
    /// Whether the time limit of requests ended it.
    pub timed_out: bool,
    /// Tokens of the prompt.
    pub n_prompt: usize,
    /// Tokens of the prompt that the base had in memory.
    pub n_cached: usize,
    /// Tokens generated.
    pub n_generated: usize,
    /// Tokens that were drafted for it.
    pub n_drafted: u64,
    /// Of them, those that were kept.
    pub n_accepted: u64,
    /// The weights from token 0 on and their changes; empty where nothing has changed.
    pub weights_log: Vec<WeightChange>,
    /// Where the time went.
    pub timings: Timings,
}

/// The scores of a response.
#[derive(Debug, Clone)]
pub struct Scored {
    /// One a token.
    pub tokens: Vec<TokenScore>,
    /// Tokens of the prompt.
    pub n_prompt: usize,
}

/// Where the time of a text went.
#[derive(Debug, Clone, Copy, Default)]
pub struct Timings {
    /// Waiting for a slot.
    pub queue: Duration,
    /// From there to the first token.
    pub prompt: Duration,
    /// From the first token to the last.
    pub generation: Duration,
}
