//! A job while it runs in a slot.

use std::cell::Cell;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

use tokio::sync::mpsc::error::TrySendError;

use super::steps::{WeightSteps, n_arms_of, set_first};
use super::{Ended, Event, Job, Piece, Scored, Task, Timings};
use crate::decode::{DecodeError, Finish, Flow, Speculator, Step, Text};
use crate::engine::llama::Vocab;
use crate::expert::{Expert, Token};
use crate::guidance::score::{self, TokenScore};
use crate::guidance::{GuideError, StepReport};
use crate::sampling::params::SamplingParams;
use crate::sampling::{HookState, Sampler};
use crate::server::error::ApiError;
use crate::server::metrics::Metrics;
use crate::session::{Detokenizer, Slot, SlotText, TokenText};

/// Tokens of a response that are scored in one step: few, because others wait meanwhile.
const SCORE_CHUNK: usize = 16;

/// A running job.
pub(super) struct RunningJob {
    pub job: Job,
    /// The number of its slot.
    at: usize,
    text: Text,
    sampler: Sampler,
    weights: WeightSteps,
    work: Work,
    vocab: Vocab,
    n_cached: usize,
    /// Time from the request after which the text ends as it is.
    timeout: Duration,
    begun: Instant,
    first: Option<Instant>,
    counted: Counted,
    /// What the client has not taken yet, and since when.
    unsent: VecDeque<Event>,
    stuck_since: Option<Instant>,
    /// Whether the token that ended the text, which is no part of it, completed a stop string.
    stopped_at_end: bool,
    /// Whether the last event has been made.
    finished: bool,
}

enum Work {
    Generate {
        pieces: Box<Detokenizer>,
        temp: f32,
        n_top: Option<usize>,
        /// What is known of the tokens that wait in `pieces`, where that was asked for.
        reports: VecDeque<StepReport>,
        speculates: bool,
    },
    Score {
        response: Vec<Token>,
        scores: Vec<TokenScore>,
    },
}

/// What the metrics contain of a job.
#[derive(Default)]
struct Counted {
    n_generated: usize,
    n_drafted: u64,
    n_accepted: u64,
    /// Whether the prompt and the time to the first token are counted.
    first: bool,
}

impl RunningJob {
    /// Begins a job in a slot, the one with number `at`. A text ends as it is when `timeout` has passed since its
    /// request.
    pub fn begin(
        mut job: Job,
        at: usize,
        slot: &mut Slot,
        vocab: &Vocab,
        timeout: Duration,
    ) -> Result<Self, Box<(Job, ApiError)>> {
        match Self::parts(&job, slot, vocab) {
            Ok((text, sampler, work, n_cached)) => Ok(Self {
                weights: WeightSteps::new(&mut job, slot.weights().clone()),
                job,
                at,
                text,
                sampler,
                work,
                vocab: vocab.clone(),
                n_cached,
                timeout,
                begun: Instant::now(),
                first: None,
                counted: Counted::default(),
                unsent: VecDeque::new(),
                stuck_since: None,
                stopped_at_end: false,
                finished: false,
            }),
            Err(error) => Err(Box::new((job, error))),
        }
    }

    fn parts(job: &Job, slot: &mut Slot, vocab: &Vocab) -> Result<(Text, Sampler, Work, usize), ApiError> {
        set_first(slot.weights(), &job.weights).map_err(|e| ApiError::invalid("preferences", e))?;
        let greedy = SamplingParams { temp: 0.0, ..SamplingParams::default() };
        let (params, grammar, dry, n_predict, explained) = match &job.task {
            Task::Generate(task) => {
                (&task.params, task.grammar.clone(), task.dry.as_deref(), task.n_predict, task.n_top.is_some())
            }
            Task::Score(_) => (&greedy, None, None, 1, true),
        };
        let mut sampler = slot.constrained_sampler(params, grammar, dry).map_err(|e| ApiError::of_chain(&e))?;
        slot.hook().with_guide(|guide| {
            guide.use_first(n_arms_of(guide.weights(), &job.weights));
            guide.set_limits(job.limits);
            guide.read_all(explained);
        });
        if job.fresh {
            slot.forget();
        }
        // The last token of a prompt is always read: its logits are the next step's.
        let n_cached = slot.base().n_cached(&job.prompt.base).min(job.prompt.base.len().saturating_sub(1));
        let text = slot.begin(&mut sampler, &job.prompt, n_predict).map_err(|e| ApiError::of_decoding(&e))?;
        let work = match &job.task {
            Task::Generate(generate) => Work::Generate {
                pieces: Box::new(
                    Detokenizer::new(vocab.clone(), generate.stop.clone()).spelling(generate.spelled.clone()),
                ),
                temp: params.temp,
                n_top: generate.n_top,
                reports: VecDeque::new(),
                speculates: generate.speculates && sampler.has_distribution(),
            },
            Task::Score(response) => {
                let (n, n_ctx) = (job.prompt.base.len() + response.len(), slot.n_ctx());
                if n > n_ctx {
                    return Err(ApiError::too_long(n, n_ctx));
                }
                Work::Score { response: response.clone(), scores: Vec::new() }
            }
        };
        Ok((text, sampler, work, n_cached))
    }

    /// Hands over what is waiting for the client, but for the last event of all. False where the client does not take
    /// it.
    pub fn flush(&mut self) -> bool {
        let keep = usize::from(self.finished);
        while self.unsent.len() > keep {
            let Some(event) = self.unsent.pop_front() else { break };
            // A client that has gone is found at the next step.
            if let Err(TrySendError::Full((_, event))) = self.job.events.try_send((self.job.choice, event)) {
                self.unsent.push_front(event);
                self.stuck_since.get_or_insert_with(Instant::now);
                return false;
            }
            self.stuck_since = None;
        }
        true
    }

    /// Whether only the last event is left, and the client has room for it.
    pub fn is_over(&mut self) -> bool {
        if !self.finished || !self.flush() {
            return false;
        }
        let has_room = self.job.events.capacity() > 0 || self.job.events.is_closed();
        if !has_room {
            self.stuck_since.get_or_insert_with(Instant::now);
        }
        has_room
    }

    /// The number of its slot.
    pub fn at(&self) -> usize {
        self.at
    }

    /// Hands over the last event. By then the slot is free and all is counted: a client may look at once.
    pub fn hand_over(mut self) {
        for event in self.unsent.drain(..) {
            let _ = self.job.events.try_send((self.job.choice, event));
        }
    }

    /// Since when the client has taken nothing that was there for it.
    pub fn stuck_since(&self) -> Option<Instant> {
        self.stuck_since
    }

    /// Ends the job where a step did: with an error, with the text, or because its time is over.
    fn settle(&mut self, result: Result<(), ApiError>) {
        if let Err(error) = result {
            return self.end(Event::Failed(error));
        }
        match (&mut self.work, self.text.finish()) {
            (_, Some(Finish::Interrupted)) => self.cancel(),
            (Work::Generate { .. }, Some(Finish::Eos)) if self.stopped_at_end => self.conclude(Finish::Stop, false),
            (Work::Generate { .. }, Some(finish)) => self.conclude(finish, false),
            _ if self.job.came.elapsed() > self.timeout => self.conclude(Finish::Length, true),
            _ => {}
        }
    }

    /// Draws a token, or what is kept of a draft and one more.
    fn draw(&mut self, slot: &mut Slot, speculator: Option<&mut Speculator>) -> Result<(), ApiError> {
        let Self { text, sampler, work, vocab, .. } = self;
        let Work::Generate { pieces, temp, n_top, reports, .. } = work else { return Ok(()) };
        let hook = slot.hook().clone();
        let mut fault = None;
        let mut each = |step: Step<'_>| {
            match n_top.map(|n| explain(&hook, &step, *temp, n)).transpose() {
                Ok(report) => reports.extend(report),
                Err(error) => {
                    fault.get_or_insert(error);
                }
            }
            pieces.push(step.token)
        };
        let ended_by = Cell::new(None);
        let is_eog = |token| {
            let is_eog = vocab.is_eog(token);
            ended_by.set(is_eog.then_some(token));
            is_eog
        };
        let mut speculator = speculator;
        if let Some(speculator) = &mut speculator {
            if text.speculation().cycles == 0 {
                speculator.seed(sampler.seed().into());
            }
            if speculator.keeps_arms() {
                hook.with_guide(|guide| guide.keep_rows());
            }
        }
        let result = text.step(slot.base(), sampler, speculator, &is_eog, &mut each);
        result.map_err(|e: DecodeError| ApiError::of_decoding(&e))?;
        if let Some(error) = fault {
            return Err(ApiError::of_guide(&error));
        }
        self.first.get_or_insert_with(Instant::now);
        if let (Some(Finish::Eos), Some(token)) = (text.finish(), ended_by.get()) {
            self.stopped_at_end = pieces.push_end(token) == Flow::Stop;
        }
        self.show();
        Ok(())
    }

    /// Makes events of the tokens that are certain to belong to the text.
    fn show(&mut self) {
        let Work::Generate { pieces, reports, .. } = &mut self.work else { return };
        while let Some(shown) = pieces.next() {
            let TokenText { token, bytes, text, offset } = shown;
            self.unsent.push_back(Event::Piece(Piece { text, token, bytes, offset, report: reports.pop_front() }));
        }
    }

    /// Scores the next tokens of the response. Returns the scores where these were the last.
    fn score(&mut self, slot: &mut Slot) -> Result<Option<Scored>, GuideError> {
        let Work::Score { response, scores } = &mut self.work else { return Ok(None) };
        let prompt = &self.job.prompt;
        let done = scores.len();
        let chunk = &response[done..(done + SCORE_CHUNK).min(response.len())];
        let before = |own: &[Token]| [own, &response[..done]].concat();
        let base = before(&prompt.base);
        let experts: Vec<_> = prompt.experts.iter().map(|own| own.as_deref().map(before)).collect();
        let prompts = score::ScoredPrompts { base: &base, experts: &experts, n_done: done };
        let (hook, weights) = (slot.hook().clone(), slot.weights().get());
        let more = hook.with_guide(|guide| score::score(slot.base(), guide, prompts, chunk, &weights))?;
        scores.extend(more);
        if scores.len() < response.len() {
            return Ok(None);
        }
        Ok(Some(Scored { tokens: std::mem::take(scores), n_prompt: prompt.base.len() }))
    }

    /// Ends the text as it is.
    fn conclude(&mut self, finish: Finish, timed_out: bool) {
        let Work::Generate { pieces, .. } = &mut self.work else {
            return self.end(Event::Failed(ApiError::timed_out()));
        };
        let now = Instant::now();
        let text = pieces.finish();
        let stopped_by = pieces.stopped_by();
        self.show();
        let [n_drafted, n_accepted] = self.drafts();
        let ended = Ended {
            text,
            finish,
            stopped_by,
            slot: self.at,
            timed_out,
            n_prompt: self.job.prompt.base.len(),
            n_cached: self.n_cached,
            n_generated: self.text.response().len(),
            n_drafted,
            n_accepted,
            weights_log: self.weights.take_log(),
            timings: Timings {
                queue: self.begun - self.job.came,
                prompt: self.first.unwrap_or(now) - self.begun,
                generation: self.first.map_or(Duration::ZERO, |first| now - first),
            },
        };
        self.end(Event::Ended(ended));
    }

    /// Ends the job because the server ends.
    pub fn cancel(&mut self) {
        self.end(Event::Failed(ApiError::shutting_down()));
    }

    /// Makes the last event.
    fn end(&mut self, event: Event) {
        self.finished = true;
        // Before the answer: a client that has it may ask for the weights at once.
        self.weights.end();
        self.unsent.push_back(event);
    }

    /// Counts what the metrics do not contain of it yet.
    pub fn count(&mut self, metrics: &Metrics) {
        let [n_drafted, n_accepted] = self.drafts();
        let now =
            Counted { n_generated: self.text.response().len(), n_drafted, n_accepted, first: self.first.is_some() };
        let before = std::mem::replace(&mut self.counted, now);
        metrics.generated_tokens.inc_by((self.counted.n_generated - before.n_generated) as u64);
        metrics.drafted_tokens.inc_by(n_drafted - before.n_drafted);
        metrics.accepted_tokens.inc_by(n_accepted - before.n_accepted);
        if let Some(first) = self.first.filter(|_| !before.first) {
            metrics.prompt_tokens.inc_by(self.job.prompt.base.len() as u64);
            metrics.first_token_seconds.observe((first - self.job.came).as_secs_f64());
        }
    }

    /// Tokens drafted so far, and those of them that were kept.
    fn drafts(&self) -> [u64; 2] {
        let done = self.text.speculation();
        [done.drafted, done.accepted]
    }
}

impl SlotText for RunningJob {
    /// It has not ended, and its client has everything so far.
    fn begin_step(&mut self) -> bool {
        let is_ready = !self.finished && self.flush();
        if is_ready {
            // The step begins: weights change here and nowhere else.
            let n = self.text.response().len();
            self.text.pause_at(self.weights.begin_step(n));
        }
        is_ready
    }

    fn speculates(&self) -> bool {
        matches!(self.work, Work::Generate { speculates: true, .. })
    }

    fn prepare_chunk(&mut self, slot: &mut Slot, max: usize) -> bool {
        self.text.prepare_chunk(slot.base(), &mut self.sampler, max)
    }

    fn read_chunk(&mut self, slot: &mut Slot) {
        let result = self.text.read_chunk(slot.base(), &mut self.sampler);
        self.settle(result.map_err(|e| ApiError::of_decoding(&e)));
        self.weights.end_step(self.text.response().len());
    }

    fn prepare(&mut self, slot: &mut Slot) {
        if matches!(self.work, Work::Generate { .. }) {
            self.text.prepare(slot.base(), &mut self.sampler);
        }
    }

    fn step(&mut self, slot: &mut Slot, speculator: Option<&mut Speculator>) {
        let result = match &self.work {
            Work::Generate { .. } => self.draw(slot, speculator),
            Work::Score { .. } => match self.score(slot) {
                Ok(Some(scored)) => return self.end(Event::Scored(scored)),
                Ok(None) => Ok(()),
                Err(error) => Err(ApiError::of_guide(&error)),
            },
        };
        self.settle(result);
        self.weights.end_step(self.text.response().len());
    }
}

fn explain(hook: &HookState, step: &Step<'_>, temp: f32, n_top: usize) -> Result<StepReport, GuideError> {
    hook.with_guide(|guide| StepReport::explain(guide, step.history, step.logits, step.token, temp, n_top))
}
