//! Answers: as a whole, or in chunks. What is common to the formats.

use indexmap::IndexMap;
use serde_json::{Map, Value, json};

use crate::decode::Finish;
use crate::engine::llama::Vocab;
use crate::expert::Token;
use crate::guidance::{ArmReward, StepReport};
use crate::sampling::params::SamplingParams;
use crate::server::engine::{Ended, Piece, WeightChange};
use crate::server::error::ApiError;

/// OpenAI's name of what made an answer; clients of llama.cpp's server expect the "b" of its builds.
pub const FINGERPRINT: &str = concat!("b0-genarm-", env!("CARGO_PKG_VERSION"));

/// What every part of an answer repeats.
pub struct Head {
    /// The answer's id.
    pub id: String,
    /// Seconds since 1970.
    pub created: u64,
    /// The base's name.
    pub model: String,
    /// The weights that the texts begin with, of ARMs and personas.
    pub weights: IndexMap<String, f32>,
    /// The profile that they come from, if one was asked for.
    pub profile: Option<String>,
    /// The seed of the first choice.
    pub seed: u32,
    /// What of the request is not followed.
    pub warnings: Vec<String>,
    /// Fields of the request that have no effect.
    pub ignored: Vec<String>,
    /// Messages that were left out because the conversation did not fit.
    pub dropped: usize,
    /// How tokens are drawn.
    pub params: SamplingParams,
    /// Strings that end a text.
    pub stop: Vec<String>,
    /// Most tokens per text.
    pub n_predict: usize,
    /// Whether the answer comes in chunks.
    pub stream: bool,
    /// The prompts, where the format repeats them.
    pub prompts: Vec<Vec<Token>>,
    /// Texts of each prompt.
    pub n_per_prompt: usize,
    /// Whether the answer repeats the prompt that the model read.
    pub verbose: bool,
    /// Tokens of a context.
    pub n_ctx: usize,
    /// To write tokens as text.
    pub vocab: Vocab,
    /// Alternatives to list beside each token, if log-probabilities are wanted.
    pub logprobs: Option<usize>,
    /// Whether each token is reported with the log-probabilities of base, guidance and ARMs.
    pub rewards: bool,
    /// Whether the last chunk reports the tokens used.
    pub include_usage: bool,
}

/// A text that has ended.
pub struct Choice {
    /// Its number.
    pub index: usize,
    /// The text.
    pub text: String,
    /// Its tokens.
    pub pieces: Vec<Piece>,
    /// Its end.
    pub ended: Ended,
}

/// One route's way of writing answers.
pub trait Format: Send + 'static {
    /// The chunks before the first token of a choice.
    fn open(&mut self, head: &Head, index: usize) -> Vec<Value>;
    /// The chunks of a token.
    fn piece(&mut self, head: &Head, index: usize, piece: &Piece) -> Vec<Value>;
    /// The last chunks of a choice; the very last one has its finish reason and no text.
    fn ended(&mut self, head: &Head, index: usize, ended: &Ended) -> Vec<Value>;
    /// The chunks after all choices.
    fn usage(&mut self, head: &Head, ended: &[Ended]) -> Vec<Value>;
    /// The chunks of a text that ends with an error.
    fn failed(&mut self, _: &Head, error: &ApiError) -> Vec<Value> {
        vec![error.body()]
    }
    /// The whole answer.
    fn whole(&mut self, head: &Head, choices: &[Choice]) -> Value;
    /// Whether a chunk lists its tokens, so that one without a text says something.
    fn lists_tokens(&self) -> bool {
        false
    }
    /// Whether the prompt is part of an answer.
    fn repeats_prompt(&self) -> bool {
        false
    }
    /// Whether a stream ends with `[DONE]`.
    fn says_done(&self) -> bool {
        true
    }
    /// Whether each chunk is an event of the name that its `type` says.
    fn names_events(&self) -> bool {
        false
    }
}

/// The object that every part of an answer is, of this kind.
pub fn frame(head: &Head, object: &str, choices: Value) -> Value {
    json!({
        "id": head.id, "object": object, "created": head.created, "model": head.model,
        "system_fingerprint": FINGERPRINT, "choices": choices,
    })
}

/// The chunk of a token, with what is wanted to be known about the token.
pub fn explained(mut chunk: Value, head: &Head, piece: &Piece, logprobs: Option<Value>) -> Value {
    let choice = chunk["choices"][0].take();
    let choice = with(with(choice, "logprobs", logprobs), "rewards", rewards(head, std::iter::once(piece)));
    chunk["choices"][0] = choice;
    chunk
}

/// The chunk that reports the tokens used, if that is wanted.
pub fn usage_chunk(head: &Head, object: &str, ended: &[Ended]) -> Vec<Value> {
    let chunk = || {
        let chunk = with(frame(head, object, json!([])), "usage", Some(usage(ended.iter())));
        with(chunk, "timings", ended.first().map(timings))
    };
    head.include_usage.then(chunk).into_iter().collect()
}

/// Where the time went, as llama.cpp's server says it. Its rates leave out the first token, which the prompt's last
/// step gives.
pub fn timings(ended: &Ended) -> Value {
    let rates = |n: usize, d: std::time::Duration| {
        let ms = d.as_secs_f64() * 1e3;
        let is_known = n > 0 && ms > 0.0;
        (ms, if is_known { ms / n as f64 } else { 0.0 }, if is_known { 1e3 / ms * n as f64 } else { 0.0 })
    };
    let n_read = ended.n_prompt - ended.n_cached;
    let (prompt_ms, prompt_each, prompt_rate) = rates(n_read, ended.timings.prompt);
    let (ms, each, rate) = rates(ended.n_generated.saturating_sub(1), ended.timings.generation);
    let mut timings = json!({
        "cache_n": ended.n_cached,
        "prompt_n": n_read,
        "prompt_ms": prompt_ms,
        "prompt_per_token_ms": prompt_each,
        "prompt_per_second": prompt_rate,
        "predicted_n": ended.n_generated,
        "predicted_ms": ms,
        "predicted_per_token_ms": each,
        "predicted_per_second": rate,
    });
    if ended.n_drafted > 0 {
        timings["draft_n"] = ended.n_drafted.into();
        timings["draft_n_accepted"] = ended.n_accepted.into();
    }
    timings
}

/// The whole answer, with each choice as `one` writes it.
pub fn whole(head: &Head, object: &str, choices: &[Choice], mut one: impl FnMut(&Choice) -> Value) -> Value {
    let several = choices.len() > 1;
    let mut one = |choice: &Choice| {
        let object = with(one(choice), "rewards", rewards(head, choice.pieces.iter()));
        with(object, "weights_log", weights_log(head, &choice.ended.weights_log).filter(|_| several))
    };
    let answer = frame(head, object, choices.iter().map(&mut one).collect());
    let answer = with(answer, "usage", Some(usage(choices.iter().map(|choice| &choice.ended))));
    let answer = with(answer, "timings", choices.first().map(|choice| timings(&choice.ended)));
    let prompt = head.prompts.first().filter(|_| head.verbose).map(|tokens| head.vocab.text(tokens, true));
    let answer = with(answer, "__verbose", prompt.map(|prompt| json!({ "prompt": prompt })));
    with(answer, "genarm", Some(additions(head, choices.first().map(|choice| &choice.ended))))
}

/// OpenAI's name for an end.
pub fn finish_reason(finish: Finish) -> &'static str {
    match finish {
        Finish::Stop | Finish::Eos => "stop",
        Finish::Length | Finish::Interrupted => "length",
    }
}

/// The tokens used.
pub fn usage<'a>(ended: impl Iterator<Item = &'a Ended> + Clone) -> Value {
    // Choices of one prompt share it, so it counts once.
    let prompt = ended.clone().map(|e| e.n_prompt).max().unwrap_or(0);
    let cached = ended.clone().map(|e| e.n_cached).max().unwrap_or(0);
    let completion: usize = ended.map(|e| e.n_generated).sum();
    json!({
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": { "cached_tokens": cached },
    })
}

/// What genarm adds to an answer: the weights, the seed, and with the end the times.
pub fn additions(head: &Head, ended: Option<&Ended>) -> Value {
    let added = json!({ "weights": head.weights, "profile": head.profile, "seed": head.seed });
    let warnings = (!head.warnings.is_empty()).then(|| head.warnings.clone().into());
    let ignored = (!head.ignored.is_empty()).then(|| head.ignored.clone().into());
    let added = with(with(added, "warnings", warnings), "ignored", ignored);
    let mut added = with(added, "dropped_messages", (head.dropped > 0).then(|| head.dropped.into()));
    if let (Some(ended), Some(added)) = (ended, added.as_object_mut()) {
        let ms = |d: std::time::Duration| (d.as_secs_f64() * 1e6).round() / 1e3;
        let seconds = ended.timings.generation.as_secs_f64();
        // The first token is the prompt's work.
        let per_second = if seconds > 0.0 { (ended.n_generated.saturating_sub(1)) as f64 / seconds } else { 0.0 };
        added.insert("timed_out".into(), ended.timed_out.into());
        if let Some(log) = weights_log(head, &ended.weights_log) {
            added.insert("weights_log".into(), log);
        }
        let timings = json!({
            "queue_ms": ms(ended.timings.queue),
            "prompt_ms": ms(ended.timings.prompt),
            "generation_ms": ms(ended.timings.generation),
            "tokens_per_second": (per_second * 1e3).round() / 1e3,
            "drafted": ended.n_drafted,
            "accepted": ended.n_accepted,
        });
        let acceptance = (ended.n_drafted > 0).then(|| (ended.n_accepted as f64 / ended.n_drafted as f64).into());
        added.insert("timings".into(), with(timings, "acceptance", acceptance));
    }
    added
}

/// The weights of a text and their changes, where there were any.
fn weights_log(head: &Head, changes: &[WeightChange]) -> Option<Value> {
    let named = |weights: &[f32]| head.weights.keys().cloned().zip(weights.iter().copied()).collect::<IndexMap<_, _>>();
    let list = changes.iter().map(|change| json!({ "token": change.token, "weights": named(&change.weights) }));
    (!changes.is_empty()).then(|| list.collect())
}

/// A log-probability for JSON, which has no infinity: OpenAI's figure for what is out of reach.
pub fn number(logprob: f32) -> f64 {
    if logprob.is_finite() { f64::from(logprob) } else { -9999.0 }
}

/// A token's name, and the bytes that it has in a text: a control token has a name and no bytes.
pub fn token_text(vocab: &Vocab, token: crate::Token) -> (String, Vec<u8>) {
    let mut bytes = Vec::new();
    vocab.piece(token, false, &mut bytes);
    (vocab.text(&[token], true), bytes)
}

/// The log-probabilities of a token under all models, as `rewards` lists it.
pub fn reward(head: &Head, piece: &Piece, report: &StepReport) -> Value {
    // A persona's place has a name of its own: to the outside it has the request's.
    let named = || head.weights.keys().cloned().zip(&report.chosen.arms);
    let arms: Map<String, Value> = named().map(|(name, a)| (name, number(a.logprob).into())).collect();
    let reference = |(name, a): (String, &ArmReward)| Some((name, number(a.reference?).into()));
    let references: Map<String, Value> = named().filter_map(reference).collect();
    let reward = json!({
        "token": token_text(&head.vocab, piece.token).0,
        "id": piece.token,
        "bytes": piece.bytes,
        "guided": number(report.chosen.logprob),
        "base": number(report.chosen.base),
        "arms": arms,
        "kl": number(report.kl),
        "flipped": report.flipped,
    });
    let reward = with(reward, "references", (!references.is_empty()).then(|| references.into()));
    with(reward, "lambda", report.lambda.map(Value::from))
}

/// The rewards of some tokens, if they are wanted.
fn rewards<'a>(head: &Head, pieces: impl Iterator<Item = &'a Piece>) -> Option<Value> {
    let list = || pieces.filter_map(|piece| piece.report.as_ref().map(|report| reward(head, piece, report))).collect();
    head.rewards.then(list)
}

/// An id that cannot be guessed; `kind` begins it.
pub fn new_id(kind: &str) -> String {
    format!("{kind}{:016x}{:016x}", rand::random::<u64>(), rand::random::<u64>())
}

/// Sets a field if there is a value for it.
pub fn with(mut object: Value, key: &str, value: Option<Value>) -> Value {
    if let (Some(value), Some(object)) = (value, object.as_object_mut()) {
        object.insert(key.to_owned(), value);
    }
    object
}
