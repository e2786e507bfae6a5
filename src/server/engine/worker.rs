//! The loop of the engine's thread: admit, prepare, step.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::queue::{Queue, Taken};
use super::running_job::{JobState, RunningJob};
use super::{Event, Job};
use crate::engine::llama::Vocab;
use crate::expert::Expert;
use crate::server::error::ApiError;
use crate::server::metrics::Metrics;
use crate::server::options::Limits;
use crate::session::Session;

/// Tokens of prompts that are read in a step beside texts that are being generated: a step then takes a few times as long, no more.
const CHUNK_BESIDE: usize = 64;
/// The same when no text is being generated.
const CHUNK_ALONE: usize = 512;
/// How long to wait where all clients are slow.
const PAUSE: Duration = Duration::from_millis(5);

/// The engine's state.
pub(super) struct Worker {
    session: Session,
    vocab: Vocab,
    /// One place a slot.
    jobs: Vec<Option<RunningJob>>,
    /// When each slot was last given away.
    used: Vec<u64>,
    n_given: u64,
    queue: Arc<Queue>,
    limits: Limits,
    metrics: Metrics,
}

impl Worker {
    pub fn new(mut session: Session, queue: Arc<Queue>, limits: Limits, metrics: Metrics) -> Self {
        let (vocab, n) = (session.vocab().clone(), session.slots().len());
        let jobs = (0..n).map(|_| None).collect();
        Self { session, vocab, jobs, used: vec![0; n], n_given: 0, queue, limits, metrics }
    }

    /// Works until the queue is closed and what runs has ended.
    pub fn run(mut self) {
        loop {
            self.drop_gone();
            let n_running = self.jobs.iter().flatten().count();
            self.metrics.lanes_busy.set(n_running as i64);
            let (now, timeout) = (Instant::now(), self.limits.queue_timeout);
            let gone = |job: &Job| job.events.is_closed() || now.duration_since(job.came) > timeout;
            let Some(taken) = self.queue.take(n_running, self.jobs.len() - n_running, gone) else { return };
            let stop_at = taken.stop_at;
            self.admit(taken);
            self.count_running();
            if stop_at.is_some_and(|at| Instant::now() >= at) {
                self.jobs.iter_mut().for_each(|running_job| {
                    if let Some(mut running_job) = running_job.take() {
                        running_job.cancel();
                        running_job.hand_over();
                    }
                });
                continue;
            }
            self.step();
        }
    }

    /// Begins the jobs that were taken, and answers those that are not to be run.
    fn admit(&mut self, taken: Taken) {
        for job in taken.gone {
            let error = if taken.closed { ApiError::shutting_down() } else { ApiError::queued_too_long() };
            let _ = job.events.try_send((job.choice, Event::Failed(error)));
        }
        let mut failed = Vec::new();
        for job in taken.jobs {
            self.metrics.queue_seconds.observe(job.came.elapsed().as_secs_f64());
            failed.extend(self.begin(job));
        }
        // Before the answers: a client that has one may look at once.
        self.count_running();
        for (job, error) in failed {
            let _ = job.events.try_send((job.choice, Event::Failed(error)));
        }
    }

    /// States how many jobs run.
    fn count_running(&self) {
        let n_running = self.jobs.iter().flatten().count();
        self.metrics.lanes_busy.set(n_running as i64);
        self.queue.set_running(n_running);
    }

    /// Begins a job in the free slot whose base knows most of the prompt; of equal ones, the one that was given away longest ago.
    /// Returns the job with an error where it cannot begin.
    fn begin(&mut self, job: Job) -> Option<(Job, ApiError)> {
        let Self { session, jobs, used, .. } = self;
        let slots = session.slots();
        let free = (0..jobs.len()).filter(|i| jobs[*i].is_none());
        let best = free.max_by_key(|i| (slots[*i].base().n_cached(&job.prompt.base), std::cmp::Reverse(used[*i])));
        let Some(at) = best else { unreachable!("as many jobs were taken as slots are free") };
        self.n_given += 1;
        used[at] = self.n_given;
        match RunningJob::begin(job, &mut slots[at], &self.vocab) {
            Ok(running_job) => {
                jobs[at] = Some(running_job);
                None
            }
            Err(failed) => Some(*failed),
        }
    }

    /// Frees the slots of clients that have gone, or have taken nothing for too long.
    fn drop_gone(&mut self) {
        for running_job in &mut self.jobs {
            let Some(running) = running_job else { continue };
            let stuck = running.stuck_since().is_some_and(|since| since.elapsed() > self.limits.idle_timeout);
            if running.job.events.is_closed() || stuck {
                self.metrics.cancelled.inc();
                *running_job = None;
            }
        }
    }

    /// Hands events to clients, and frees the slots of texts that have ended. Everything is counted before an answer goes out.
    fn deliver(&mut self) {
        let mut over = Vec::new();
        for running_job in &mut self.jobs {
            if running_job.as_mut().is_some_and(RunningJob::is_over) {
                over.extend(running_job.take());
            }
        }
        if !over.is_empty() {
            self.count_running();
        }
        over.into_iter().for_each(RunningJob::hand_over);
        for running_job in self.jobs.iter_mut().flatten() {
            running_job.flush();
        }
    }

    /// One step of every text whose client keeps up.
    fn step(&mut self) {
        let start = Instant::now();
        self.deliver();
        let active: Vec<_> =
            (0..self.jobs.len()).filter(|i| self.jobs[*i].as_mut().is_some_and(RunningJob::is_ready)).collect();
        if active.is_empty() {
            if self.jobs.iter().any(Option::is_some) {
                std::thread::sleep(PAUSE);
            }
            return;
        }
        let reading =
            |running_job: &Option<RunningJob>| running_job.as_ref().is_some_and(|running_job| running_job.reading);
        let n_reading = active.iter().filter(|i| reading(&self.jobs[**i])).count();
        // A text that is alone may draft. Where several are read in one batch, drafts would only make it longer.
        let alone = matches!(active[..], [i] if self.jobs[i].as_ref().is_some_and(RunningJob::speculates));
        let budget = if n_reading == active.len() { CHUNK_ALONE } else { CHUNK_BESIDE };
        let chunk = (budget / n_reading.max(1)).max(1);
        let (slots, speculator) = self.session.slots_and_speculator();
        let mut speculator = speculator.filter(|_| alone);
        for &i in &active {
            if let Some(running_job) = &mut self.jobs[i]
                && speculator.is_none()
            {
                running_job.prepare(&mut slots[i], chunk);
            }
        }
        for &i in &active {
            let Some(running_job) = &mut self.jobs[i] else { continue };
            let (before, waited) = (running_job.n_generated(), running_job.to_first_token());
            let drafted = running_job.drafts();
            let state = running_job.step(&mut slots[i], &self.vocab, speculator.as_deref_mut());
            self.metrics.generated_tokens.inc_by((running_job.n_generated() - before) as u64);
            let more = running_job.drafts();
            self.metrics.drafted_tokens.inc_by(more[0] - drafted[0]);
            self.metrics.accepted_tokens.inc_by(more[1] - drafted[1]);
            if let (None, Some(first)) = (waited, running_job.to_first_token()) {
                self.metrics.prompt_tokens.inc_by(running_job.job.prompt.base.len() as u64);
                self.metrics.first_token_seconds.observe(first.as_secs_f64());
            }
            if state == JobState::Running && running_job.job.came.elapsed() > self.limits.request_timeout {
                running_job.conclude(crate::decode::Finish::Length, true);
            }
        }
        self.metrics.step_seconds.observe(start.elapsed().as_secs_f64());
        self.deliver();
    }
}
